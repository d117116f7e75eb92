//! A desktop's session: a bus of its own, with GNOME's keyring on it, and nobody before
//! a screen.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::user::User;

const DEADLINE: Duration = Duration::from_secs(30);
const PASSWORD: &[u8] = b"the password of the login keyring";

/// The session. Ends with the test.
#[derive(Debug)]
pub struct Desktop {
    folder: TempDir,
    address: String,
    _bus: Child,
    keyring: Child,
}

impl Desktop {
    /// Somebody has logged in, so their keyring is open.
    pub async fn start() -> Self {
        let folder = TempDir::with_prefix("desktop-").expect("a folder");
        for name in ["run", "data"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let mut bus = within(&folder, "dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon starts: packaging/test installs it");
        let mut said = BufReader::new(bus.stdout.take().expect("piped")).lines();
        let line = timeout(DEADLINE, said.next_line()).await.expect("the bus is ready in time").expect("text");
        let address = line.expect("its address");
        let mut keyring = within(&folder, "gnome-keyring-daemon")
            .args(["--foreground", "--unlock", "--components=secrets"])
            .env("DBUS_SESSION_BUS_ADDRESS", &address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("gnome-keyring-daemon starts: packaging/test installs it");
        let mut stdin = keyring.stdin.take().expect("piped");
        stdin.write_all(PASSWORD).await.expect("it reads");
        drop(stdin);
        let desktop = Self { folder, address, _bus: bus, keyring };
        let owned = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.NameHasOwner"];
        let waiting = async {
            while !desktop.call(owned, "string:org.freedesktop.secrets").await.contains("boolean true") {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, waiting).await.expect("the keyring is on the bus in time");
        desktop
    }

    /// What is started from this desktop knows of it.
    pub fn holds(&self, user: &mut User) {
        user.set("DBUS_SESSION_BUS_ADDRESS", &self.address);
        user.set("XDG_RUNTIME_DIR", self.folder.path().join("run").to_str().expect("a plain path"));
    }

    /// Locks the keyring, as a screen saver may.
    pub async fn lock(&self) {
        let lock = ["org.freedesktop.secrets", "/org/freedesktop/secrets", "org.freedesktop.Secret.Service.Lock"];
        let login = "array:objpath:/org/freedesktop/secrets/collection/login";
        assert!(self.call(lock, login).await.contains("collection/login"), "it is not locked");
    }

    /// It goes on to stand on the bus, and answers nobody.
    pub fn pause(&self) {
        let pid = self.keyring.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("our child");
    }

    /// What it has of ours, as `secret-tool` shows it.
    pub async fn secrets(&self) -> Vec<String> {
        let output = self.run("secret-tool", &["search", "--all", "application", "scistream"]).await;
        output.lines().filter_map(|line| line.strip_prefix("secret = ")).map(ToOwned::to_owned).collect()
    }

    async fn call(&self, [whom, object, method]: [&str; 3], argument: &str) -> String {
        let whom = format!("--dest={whom}");
        self.run("dbus-send", &["--session", "--print-reply", &whom, object, method, argument]).await
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = within(&self.folder, program);
        let run = command.args(arguments).env("DBUS_SESSION_BUS_ADDRESS", &self.address).output();
        let output = timeout(DEADLINE, run).await.expect("it answers").expect("it runs");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// A program with the desktop's home.
fn within(folder: &TempDir, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", folder.path())
        .env("XDG_RUNTIME_DIR", folder.path().join("run"))
        .env("XDG_DATA_HOME", folder.path().join("data"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

//! A host of a test's own, as far as its network goes: loopback, a firewall that
//! drops, and the helper that opens it.

use std::fs;
use std::future::Future;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use command_fds::{CommandFdExt as _, FdMapping};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::wait::eventually;

pub const S2FW: &str = env!("CARGO_BIN_EXE_s2fw");
/// The name of its socket.
pub const SOCKET: &str = "s2fw.sock";
const NFT: &str = "/usr/sbin/nft";
const FIREWALL_CMD: &str = "/usr/bin/firewall-cmd";

/// A firewalld of a test's own, with the bus that it needs. Killed, by id, when dropped.
#[derive(Debug)]
pub struct Firewalld {
    bus: Child,
    daemon: Child,
}

impl Firewalld {
    /// In a mount namespace of this thread's own, where the bus's socket is.
    pub async fn start() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need CAP_SYS_ADMIN: run them as root");
        output("mount", &["--make-rprivate", "/"], "");
        for folder in ["/run", "/var/log"] {
            output("mount", &["-t", "tmpfs", "none", folder], "");
        }
        fs::create_dir("/run/dbus").expect("a folder");
        let quiet = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap_or_else(|e| panic!("{program} cannot be started: {e}"))
        };
        let bus = quiet("dbus-daemon", &["--system", "--nofork", "--nopidfile"]);
        eventually("the bus is there", || Path::new("/run/dbus/system_bus_socket").exists()).await;
        let firewalld = Self { bus, daemon: quiet("firewalld", &["--nofork", "--nopid"]) };
        let running = || Command::new(FIREWALL_CMD).arg("--state").stderr(Stdio::null()).output().expect("it runs");
        eventually("firewalld is there", || running().stdout.starts_with(b"running")).await;
        firewalld
    }

    /// Its rich rules in this world, or in the next.
    pub fn rules(&self, flags: &[&str]) -> Vec<String> {
        let listed = output(FIREWALL_CMD, &[flags, &["--list-rich-rules"]].concat(), "");
        listed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// What the kernel has of its rules for this port.
    pub fn in_force(&self, port: u16) -> Vec<String> {
        let all = output(NFT, &["list", "table", "inet", "firewalld"], "");
        let of_port = all.lines().filter(|line| line.contains(&format!("tcp dport {port} accept")));
        of_port.map(|line| line.trim().to_owned()).collect()
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.bus] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Runs a test, with all that it starts, in a network namespace that has loopback
/// alone and ends with it.
pub fn in_own_network<T: Future<Output = ()>>(test: impl FnOnce() -> T + Send + 'static) {
    let run = move || {
        // Of this thread only; what is started from it inherits it.
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need CAP_SYS_ADMIN: run them as root");
        output("ip", &["link", "set", "lo", "up"], "");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    };
    if let Err(panic) = thread::spawn(run).join() {
        resume_unwind(panic);
    }
}

/// What a program prints that succeeds.
fn output(program: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{program} cannot be started: {e}"));
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let ended = child.wait_with_output().expect("our child");
    assert!(ended.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("text")
}

/// Drops whatever is not open on these ports, and lets all else in.
pub fn drop_on(ports: &RangeInclusive<u16>) {
    let (first, last) = (ports.start(), ports.end());
    let chain = "type filter hook input priority 0; policy drop; ct state established accept;";
    let others = format!("tcp dport != {first}-{last} accept");
    output(NFT, &["-f", "-"], &format!("table inet filter {{ chain input {{\n{chain}\n{others}\n}}\n}}\n"));
}

/// Adds what the helper tells an operator to add.
pub fn refer_to_the_sets() {
    output(NFT, &["-f", "-"], &output(S2FW, &["--print-ruleset"], ""));
}

/// The elements that the kernel has, as `from > to port`, each with what is left of its time.
pub fn elements() -> Vec<(String, u64)> {
    let network = |value: &Value| match value.as_str() {
        Some(ip) => ip.to_owned(),
        None => format!("{}/{}", value["prefix"]["addr"].as_str().expect("an address"), value["prefix"]["len"]),
    };
    let read = |item: &Value| {
        let (key, left) = (&item["elem"]["val"]["concat"], &item["elem"]["expires"]);
        (format!("{} > {} {}", network(&key[1]), network(&key[2]), key[3]), left.as_u64().expect("it expires"))
    };
    let of = |set: &str| {
        let all = output(NFT, &["-j", "list", "set", "inet", "filter", set], "");
        let all: Value = serde_json::from_str(&all).expect("JSON");
        let elements =
            all["nftables"].as_array().expect("a list").iter().filter_map(|item| item["set"]["elem"].as_array());
        elements.flatten().map(read).collect::<Vec<_>>()
    };
    [of("scistream4"), of("scistream6")].concat()
}

/// A helper that runs. Killed, by id, when dropped.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    socket: PathBuf,
    flags: Vec<String>,
}

impl Helper {
    /// Opens these ports only, for whoever asks in this folder.
    pub async fn start(folder: &Path, ports: &RangeInclusive<u16>) -> Self {
        Self::start_with(folder, ports, &[]).await
    }

    /// The same, with these flags besides.
    pub async fn start_with(folder: &Path, ports: &RangeInclusive<u16>, flags: &[&str]) -> Self {
        let socket = folder.join(SOCKET);
        let ours = ["--ports".to_owned(), format!("{}-{}", ports.start(), ports.end())];
        let flags: Vec<_> = ours.into_iter().chain(flags.iter().map(ToString::to_string)).collect();
        let helper = Self { child: spawn(&socket, &flags), socket, flags };
        helper.ready().await;
        helper
    }

    /// Started by whoever listens already, as systemd does (`sd_listen_fds(3)`).
    pub async fn activated(folder: &Path) -> Self {
        let socket = folder.join("activated.sock");
        let parent_fd = UnixListener::bind(&socket).expect("a socket").into();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\"", S2FW]).env("LISTEN_FDS", "1");
        command.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }]).expect("one descriptor");
        let helper = Self { child: begin(command, &socket), socket, flags: vec![] };
        helper.ready().await;
        helper
    }

    /// Starts it again at the same place.
    pub async fn again(&mut self) {
        self.child = spawn(&self.socket, &self.flags);
        self.ready().await;
    }

    async fn ready(&self) {
        let output = self.socket.with_extension("out");
        let said = || fs::read_to_string(&output).unwrap_or_default();
        eventually("s2fw is ready", || said().contains("s2fw: ready")).await;
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Its log.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.socket.with_extension("err")).unwrap_or_default()
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        kill(self.pid(), Signal::SIGKILL).expect("our child");
        self.child.wait().expect("our child");
    }

    /// Says one line to it, and answers with the line that comes back.
    pub fn ask(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("it listens");
        writeln!(stream, "{line}").expect("it reads");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("it answers");
        answer
    }
}

fn spawn(socket: &Path, flags: &[String]) -> Child {
    let mut command = Command::new(S2FW);
    command.arg("--socket").arg(socket).args(flags);
    begin(command, socket)
}

fn begin(mut command: Command, socket: &Path) -> Child {
    let file = |kind: &str| fs::File::create(socket.with_extension(kind)).expect("a file");
    command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn().expect("s2fw starts")
}

impl Drop for Helper {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- s2fw {}\n{}", self.flags.join(" "), self.stderr());
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

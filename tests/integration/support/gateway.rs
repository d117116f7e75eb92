//! A control server of a test's own.

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, chown};
use scistream::client::{Gateway, Security};
use scistream::session::Endpoint;
use tempfile::TempDir;

use super::leftovers::{files_under, listening, processes_in};
use super::ports::PortBlock;
use super::wait::eventually;

pub const S2CS: &str = env!("CARGO_BIN_EXE_s2cs");
pub const S2UC: &str = env!("CARGO_BIN_EXE_s2uc");
pub const APPCTRL: &str = env!("CARGO_BIN_EXE_appctrl");

/// A control server to come: what it is told, and what its folder holds when it starts.
#[derive(Debug)]
pub struct GatewayPlan {
    flags: Vec<String>,
    ports: Option<u16>,
    user: Option<Uid>,
    through: Vec<String>,
    folder: TempDir,
}

impl GatewayPlan {
    /// Where it will work.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Started by a program that is given these arguments, then s2cs and its own, and becomes it.
    pub fn through(mut self, command: &[&str]) -> Self {
        self.through = command.iter().map(ToString::to_string).collect();
        self
    }

    /// As few ports as that for its listeners.
    pub fn ports(mut self, number: u16) -> Self {
        self.ports = Some(number);
        self
    }

    /// A path in the site's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs it as another user, from copies of the programs that this user can reach.
    pub fn user(mut self, user: Uid) -> Self {
        for program in ["s2cs", "s2ds"] {
            let original = Path::new(S2CS).with_file_name(program);
            fs::copy(original, self.folder.path().join(program)).expect("copied");
        }
        self.user = Some(user);
        self
    }

    /// A file in the site's folder, which is also where s2cs works.
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
        fs::write(&path, text).expect("written");
        self
    }

    /// A backend of the site's: manifest and template of the built-in `like`, each changed.
    pub fn backend(
        self,
        name: &str,
        like: &str,
        manifest: impl FnOnce(String) -> String,
        template: impl FnOnce(String) -> String,
    ) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: PathBuf| fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let theirs = read(root.join("backends").join(like).join("backend.toml"));
        let value = |key: &str| {
            let line = theirs.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
            line.and_then(|rest| rest.strip_suffix('"')).expect("the manifest has it").to_owned()
        };
        let file = value("template");
        let ours = theirs
            .replace(&format!("name = \"{}\"", value("name")), &format!("name = \"{name}\""))
            .replace(&format!("template = \"{file}\""), &format!("template = \"{name}.tera\""));
        let text = template(read(root.join("templates").join(file)));
        self.file(&format!("backends/{name}/backend.toml"), &manifest(ours))
            .file(&format!("templates/{name}.tera"), &text)
    }

    /// Makes the certificate and starts it.
    pub async fn start(self) -> TestGateway {
        let made = Command::new(S2CS)
            .args(["cert", "--host", "localhost", "--ip", "127.0.0.1", "--ip", "::1"])
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .status()
            .expect("s2cs runs");
        assert!(made.success(), "s2cs cert failed");
        for path in files_under(self.folder.path()).iter().map(PathBuf::as_path).chain([self.folder.path()]) {
            chown(path, self.user, None).expect("given to its user");
        }
        let mut gateway = TestGateway {
            child: None,
            folder: self.folder,
            block: PortBlock::claim(),
            ports: self.ports,
            user: self.user,
            through: self.through,
            flags: self.flags,
            address: "localhost:1".parse().expect("an endpoint"),
        };
        gateway.run().await;
        gateway
    }
}

/// A running s2cs with its folder, certificate and ports. Ends, with all that it started, when dropped.
#[derive(Debug)]
pub struct TestGateway {
    child: Option<Child>,
    folder: TempDir,
    block: PortBlock,
    ports: Option<u16>,
    user: Option<Uid>,
    through: Vec<String>,
    flags: Vec<String>,
    address: Endpoint,
}

impl TestGateway {
    /// What it is to be told; nothing runs yet.
    pub fn plan(flags: &[&str]) -> GatewayPlan {
        let folder = TempDir::with_prefix("s2cs-").expect("a folder");
        let flags = flags.iter().map(ToString::to_string).collect();
        GatewayPlan { flags, ports: None, user: None, through: vec![], folder }
    }

    /// Starts s2cs with TLS, and with these flags besides.
    pub async fn start(flags: &[&str]) -> Self {
        Self::plan(flags).start().await
    }

    /// Starts s2cs (again) with the same folder and ports.
    pub async fn run(&mut self) {
        self.run_in(&[]).await;
    }

    /// The same, with these variables in its environment.
    pub async fn run_in(&mut self, environment: &[(&str, &str)]) {
        let out = File::create(self.folder.path().join("out")).expect("a file");
        let err = File::options().create(true).append(true).open(self.log_file()).expect("a file");
        let child = self
            .command()
            .args(self.arguments(0))
            .envs(environment.iter().copied())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("s2cs starts");
        self.child = Some(child);
        let mut ready = None;
        let what = format!("s2cs is ready; it said {}", self.stderr());
        eventually(&what, || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("our child")) {
                panic!("s2cs ended with {status}: {}", self.stderr());
            }
            let said = self.stdout();
            let line = said.lines().find_map(|line| line.strip_prefix("s2cs: ready on "));
            ready = line.and_then(|rest| rest.split(' ').next()).map(str::to_owned);
            ready.is_some()
        })
        .await;
        // Every address of this host is also this one.
        let ready = ready.expect("just seen").replace("0.0.0.0:", "127.0.0.1:");
        self.address = ready.parse().expect("an address");
    }

    /// What it is told, but with this port.
    pub fn arguments(&self, port: u16) -> Vec<String> {
        let range = self.port_range();
        let own = [
            ("--port", port.to_string()),
            ("--port-range", format!("{}-{}", range.start(), range.end())),
            ("--state-dir", self.state_dir().display().to_string()),
            ("--site-dir", self.folder.path().display().to_string()),
        ];
        let own = own.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        own.chain(self.flags.iter().cloned()).collect()
    }

    /// Has it read another configuration file, and waits until that is in force or refused.
    pub async fn reread(&self, configuration: &str) {
        fs::write(self.folder.path().join("s2cs.toml"), configuration).expect("written");
        let before = self.reloads();
        kill(self.pid(), Signal::SIGHUP).expect("our child");
        eventually("the configuration is read", || self.reloads() != before).await;
    }

    /// How many reloads were taken by its log, and how many faults of others were told.
    pub fn reloads(&self) -> (usize, usize) {
        let log = self.stderr();
        let told = |what: &str| log.matches(what).count();
        (told("the configuration is in force"), told("the configuration is not taken"))
    }

    /// The program, as its user, by way of what becomes it.
    fn command(&self) -> Command {
        let mut words = self.through.clone();
        match self.user {
            Some(user) => {
                let own = self.folder.path().join("s2cs").display().to_string();
                let ids = [format!("--reuid={user}"), format!("--regid={user}")];
                words.push("setpriv".into());
                words.extend(ids.into_iter().chain(["--clear-groups".into(), "--".into(), own]));
            }
            None => words.push(S2CS.into()),
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// Where its control server is.
    pub fn address(&self) -> &Endpoint {
        &self.address
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.as_ref().expect("it runs").id()).expect("a pid"))
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn sessions_dir(&self) -> PathBuf {
        self.state_dir().join("sessions")
    }

    pub fn port_range(&self) -> RangeInclusive<u16> {
        let all = self.block.range();
        match self.ports {
            Some(number) => *all.start()..=*all.start() + number - 1,
            None => all,
        }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("err")
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).unwrap_or_default()
    }

    /// Its log.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// How many REQs it has taken in so far, by its log.
    pub fn reservations(&self) -> usize {
        self.stderr().matches("reserved session=").count()
    }

    /// A client of it.
    pub async fn client(&self) -> Gateway {
        let security = match self.flags.iter().any(|flag| flag == "--ssl=False") {
            true => Security::Plain,
            false => Security::Tls(Some(self.certificate())),
        };
        Gateway::connect(&self.address, &security).await.expect("the gateway answers")
    }

    /// Signals it and waits for its end.
    pub async fn end(&mut self, signal: Signal) -> ExitStatus {
        kill(self.pid(), signal).expect("our child");
        let mut child = self.child.take().expect("it runs");
        let mut status = None;
        eventually("s2cs ends", || {
            status = child.try_wait().expect("our child");
            status.is_some()
        })
        .await;
        status.expect("just seen")
    }

    /// Its proxies.
    pub fn processes(&self) -> Vec<(i32, String)> {
        processes_in(&self.state_dir())
    }

    /// The ports of its range on which anybody listens.
    pub fn listening(&self) -> Vec<u16> {
        listening(&self.port_range())
    }

    /// Nothing of any session: processes, ports, files and with them keys.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), vec![], "processes are left");
        assert_eq!(self.listening(), Vec::<u16>::new(), "ports are left");
        assert_eq!(files_under(&self.sessions_dir()), Vec::<PathBuf>::new(), "files are left");
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if std::thread::panicking() {
            eprintln!("--- s2cs {}\n{}", self.flags.join(" "), self.stderr());
            for log in
                files_under(&self.sessions_dir()).iter().filter(|path| path.extension().is_some_and(|e| e == "log"))
            {
                eprintln!("--- {}\n{}", log.display(), fs::read_to_string(log).unwrap_or_default());
            }
        }
        // Ours alone, by id; it ends its proxies.
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, Signal::SIGTERM).ok();
        let deadline = Instant::now() + Duration::from_secs(10);
        while child.try_wait().ok().flatten().is_none() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        drop(child.kill());
        drop(child.wait());
        for (pid, _) in self.processes() {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

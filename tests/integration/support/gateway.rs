//! A control server of a test's own.

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scistream::client::{Gateway, Security};
use scistream::session::Endpoint;
use tempfile::TempDir;

use super::leftovers::{files_under, listening, processes_in};
use super::ports::PortBlock;
use super::wait::eventually;

pub const S2CS: &str = env!("CARGO_BIN_EXE_s2cs");
pub const S2UC: &str = env!("CARGO_BIN_EXE_s2uc");
pub const APPCTRL: &str = env!("CARGO_BIN_EXE_appctrl");

/// A running s2cs with its folder, certificate and ports. Ends, with all that it started, when dropped.
#[derive(Debug)]
pub struct TestGateway {
    child: Option<Child>,
    folder: TempDir,
    block: PortBlock,
    flags: Vec<String>,
    address: Endpoint,
}

impl TestGateway {
    /// Starts s2cs with TLS, and with these flags besides.
    pub async fn start(flags: &[&str]) -> Self {
        let folder = TempDir::with_prefix("s2cs-").expect("a folder");
        let made = Command::new(S2CS)
            .args(["cert", "--host", "localhost", "--ip", "127.0.0.1", "--ip", "::1"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .status()
            .expect("s2cs runs");
        assert!(made.success(), "s2cs cert failed");
        let mut gateway = Self {
            child: None,
            folder,
            block: PortBlock::claim(),
            flags: flags.iter().map(ToString::to_string).collect(),
            address: "localhost:1".parse().expect("an endpoint"),
        };
        gateway.run().await;
        gateway
    }

    /// Starts s2cs (again) with the same folder and ports.
    pub async fn run(&mut self) {
        self.run_in(&[]).await;
    }

    /// The same, with these variables in its environment.
    pub async fn run_in(&mut self, environment: &[(&str, &str)]) {
        let range = self.block.range();
        let out = File::create(self.folder.path().join("out")).expect("a file");
        let err = File::options().create(true).append(true).open(self.log_file()).expect("a file");
        let child = Command::new(S2CS)
            .args(["--port", "0", "--port-range", &format!("{}-{}", range.start(), range.end())])
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--site-dir")
            .arg(self.folder.path())
            .args(&self.flags)
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
        self.address = ready.expect("just seen").parse().expect("an address");
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
        self.block.range()
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

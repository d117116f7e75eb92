//! The two gateways of a tunnel on this host, of one build, with one backend.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::param::clock_ticks_per_second;
use scistream::client::{Gateway, Security};
use scistream::session::Endpoint;
use tempfile::TempDir;

use crate::tests::ports::PortBlock;

/// The name of [`Build::ours`].
pub const OURS: &str = "this";

/// Programs that were built together.
#[derive(Debug, Clone)]
pub struct Build {
    name: String,
    s2cs: PathBuf,
}

impl Build {
    /// What this benchmark was built with.
    pub fn ours() -> Self {
        Self { name: OURS.into(), s2cs: env!("CARGO_BIN_EXE_s2cs").into() }
    }
}

impl FromStr for Build {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, folder) = text.split_once('=').ok_or("write NAME=FOLDER")?;
        let s2cs = Path::new(folder).join("s2cs");
        let s2cs = s2cs.canonicalize().map_err(|e| format!("{}: {e}", s2cs.display()))?;
        Ok(Self { name: name.into(), s2cs })
    }
}

/// Both gateways.
pub struct Gateways {
    build: Build,
    pub backend: String,
    pub prod: Server,
    pub cons: Server,
}

impl Gateways {
    pub fn start(build: &Build, backend: &str) -> Self {
        let (prod, cons) = (Server::start(&build.s2cs, backend), Server::start(&build.s2cs, backend));
        Self { build: build.clone(), backend: backend.into(), prod, cons }
    }

    /// The build's name.
    pub fn build(&self) -> &str {
        &self.build.name
    }

    /// What the gateways and their proxies that have ended took of the processors.
    pub fn cpu(&self) -> Duration {
        self.prod.cpu() + self.cons.cpu()
    }

    /// The versions of the programs, as s2cs finds them.
    pub fn versions(&self) -> Vec<(String, String)> {
        let said = Command::new(&self.build.s2cs).args(["backends", "--json"]).output().expect("s2cs runs");
        let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
        let rows = said["backends"].as_array().expect("a list").iter();
        let word = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
        rows.map(|row| (word(&row["name"]), word(&row["version"]))).collect()
    }

    /// Ends both. Nothing may be left of the sessions.
    pub async fn end(self) {
        for server in [&self.prod, &self.cons] {
            let left = server.client().await.list().await.expect("listed").sessions;
            assert!(left.is_empty(), "{} sessions are left", left.len());
        }
    }
}

/// One s2cs. Ends, with all that it started, when dropped.
pub struct Server {
    pid: Pid,
    /// Tells when it has ended.
    ended: Receiver<()>,
    folder: TempDir,
    address: Endpoint,
    _ports: PortBlock,
}

/// The one that makes the benchmark is no stranger who calls too often.
const FLAGS: [&str; 6] = ["--port", "0", "--max-calls-from-address", "1000000", "--max-calls", "1000000"];

impl Server {
    fn start(s2cs: &Path, backend: &str) -> Self {
        let folder = TempDir::with_prefix("s2cs-bench-").expect("a folder");
        let made = Command::new(s2cs)
            .args(["cert", "--host", "localhost", "--ip", "127.0.0.1"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("s2cs runs").success(), "s2cs cert failed");
        let ports = PortBlock::claim();
        let range = ports.range();
        let mut child = Command::new(s2cs)
            .args(FLAGS)
            .args(["--backend", backend])
            .args(["--port-range", &format!("{}-{}", range.start(), range.end())])
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .arg("--site-dir")
            .arg(folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("log")).expect("a file"))
            .spawn()
            .expect("s2cs starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let stdout = child.stdout.take().expect("it is piped");
        let ((tell_ready, ready), (tell_ended, ended)) = (channel(), channel());
        thread::spawn(move || {
            // All that it says has a reader as long as it lives.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix("s2cs: ready on ") {
                    tell_ready.send(rest.to_owned()).ok();
                }
            }
            drop(child.wait());
            tell_ended.send(()).ok();
        });
        let Ok(told) = ready.recv_timeout(START) else {
            kill(pid, Signal::SIGKILL).ok();
            panic!("s2cs does not start: {}", fs::read_to_string(folder.path().join("log")).unwrap_or_default());
        };
        let address = told.split_whitespace().next().and_then(|address| address.parse().ok()).expect("an address");
        Self { pid, ended, folder, address, _ports: ports }
    }

    /// A connection to it.
    pub async fn client(&self) -> Gateway {
        let security = Security::Tls(Some(self.folder.path().join("server.crt")));
        Gateway::connect(&self.address, &security).await.unwrap_or_else(|e| panic!("{}", e.story()))
    }

    /// Where its sessions are kept.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its processor time, and that of its children that have ended (`proc_pid_stat(5)`).
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("its name");
        let ticks: u64 = fields.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 1000 / clock_ticks_per_second())
    }

    /// The most memory that it has had, in MiB.
    pub fn peak_memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has memory");
        line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
    }
}

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(30);
/// How long it may take to release what it has.
const END: Duration = Duration::from_secs(10);

impl Drop for Server {
    fn drop(&mut self) {
        // Ours alone, by id; it ends its proxies. It may have ended itself.
        kill(self.pid, Signal::SIGTERM).ok();
        if self.ended.recv_timeout(END).is_err() {
            kill(self.pid, Signal::SIGKILL).ok();
            self.ended.recv().ok();
        }
    }
}

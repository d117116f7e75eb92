//! Other people's programs, as children that end with the test.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::{NamedTempFile, TempDir};

use super::leftovers::listening;
use super::wait::eventually_within;

/// The interpreter that has the clients' libraries.
pub const PYTHON: &str = "/usr/bin/python3";
/// No program of these tests takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running program and what it has said. Killed, by id, when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
    // Where it works, for as long as it does.
    _folder: TempDir,
}

/// How a program ended, and all that it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Starts a program in a folder of its own, with nothing to read.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        Self::start_with_input(program, arguments, b"")
    }

    /// Starts a program in a folder of its own, with this to read and no more.
    pub fn start_with_input(program: &str, arguments: &[&str], input: &[u8]) -> Self {
        let folder = TempDir::with_prefix("program-").expect("a folder");
        let (stdout, stderr) = (NamedTempFile::new().expect("a file"), NamedTempFile::new().expect("a file"));
        let input_file = folder.path().join("input");
        File::create(&input_file).and_then(|mut file| file.write_all(input)).expect("the input is written");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", folder.path())
            .env("LC_ALL", "C.UTF-8")
            .stdin(File::open(input_file).expect("just written"))
            .stdout(Stdio::from(stdout.reopen().expect("a file")))
            .stderr(Stdio::from(stderr.reopen().expect("a file")))
            .spawn()
            .unwrap_or_else(|e| panic!("{program} cannot be started: {e}"));
        Self { name: format!("{program} {}", arguments.join(" ")), child, stdout, stderr, _folder: folder }
    }

    /// Runs a program to its end.
    pub async fn run(program: &str, arguments: &[&str], input: &[u8]) -> Ended {
        let mut running = Self::start_with_input(program, arguments, input);
        let status = running.ended().await;
        Ended { status, stdout: running.stdout(), stderr: running.stderr() }
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        let what = format!("{} ends", self.name);
        eventually_within(DEADLINE, &what, || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        })
        .await;
        status.expect("just seen")
    }

    /// Signals it.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).expect("our child");
    }

    /// Waits until somebody listens on a port, which is this program's to take.
    pub async fn listens_on(&mut self, address: SocketAddr) {
        let what = format!("{} listens on {address}", self.name);
        let port = address.port();
        eventually_within(DEADLINE, &what, || {
            let ended = self.child.try_wait().expect("our child");
            assert!(ended.is_none(), "{} ended with {ended:?}: {}{}", self.name, self.stdout(), self.stderr());
            listening(&(port..=port)).contains(&port)
        })
        .await;
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(self.stdout.path()).expect("the program's output is text")
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.stderr.path()).expect("the program's errors are text")
    }
}

impl Ended {
    /// What it printed, having ended well.
    pub fn succeeded(self, doing: &str) -> String {
        assert!(self.status.success(), "{doing}: {}: {}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}{}", self.name, self.stdout(), self.stderr());
        }
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

//! The programs as people run them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(60);

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its output, after it has done what it was asked to.
    pub fn succeeded(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:#?}");
        &self.stdout
    }

    /// What it said on either output, after it has failed with this exit code.
    pub fn failed(&self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The one JSON object that it printed.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// Runs a program to its end in `folder`.
pub async fn run(program: &str, arguments: &[&str], folder: &Path) -> Ran {
    run_with_input(program, arguments, folder, "").await
}

/// Runs a program to its end with something on its standard input.
pub async fn run_with_input(program: &str, arguments: &[&str], folder: &Path, input: &str) -> Ran {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).kill_on_drop(true);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // One that reads nothing may have ended already.
    drop(child.stdin.take().expect("piped").write_all(input.as_bytes()).await);
    let output = timeout(DEADLINE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{arguments:?} does not end")).expect("our child");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A command that runs beside the test. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: TempDir,
}

impl Running {
    /// Starts a program in `folder`.
    pub fn start(program: &str, arguments: &[&str], folder: &Path) -> Self {
        let output = TempDir::new().expect("a folder");
        let file = |name| File::create(output.path().join(name)).expect("a file");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        Self { child, output }
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("its output")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.output.path().join(name)
    }

    /// Waits until its standard output holds `text`, and answers with all of it.
    pub async fn says(&mut self, text: &str) -> String {
        eventually(&format!("{text:?} is printed"), || {
            if let Some(status) = self.child.try_wait().expect("our child") {
                assert!(self.said("out").contains(text), "{status}: {}{}", self.said("out"), self.said("err"));
            }
            self.said("out").contains(text)
        })
        .await;
        self.said("out")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        kill(Pid::from_raw(pid), signal).expect("our child");
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Ran {
        let status = timeout(DEADLINE, self.child.wait()).await.expect("it ends").expect("our child");
        Ran { code: status.code(), stdout: self.said("out"), stderr: self.said("err") }
    }
}

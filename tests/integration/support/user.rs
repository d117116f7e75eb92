//! A person who calls s2uc and appctrl, with a home of their own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::command::Ran;
use super::gateway::S2UC;
use super::wait::eventually_within;

const DEADLINE: Duration = Duration::from_secs(90);

/// Somebody's account on this host.
#[derive(Debug)]
pub struct User {
    home: TempDir,
    environment: Vec<(String, String)>,
}

/// A command of theirs that runs.
#[derive(Debug)]
pub struct Typed {
    child: Child,
    output: TempDir,
}

impl User {
    pub fn new() -> Self {
        Self { home: TempDir::with_prefix("home-").expect("a folder"), environment: Vec::new() }
    }

    /// With this variable in their environment from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Where they are, and call their commands.
    pub fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// Where their tokens are.
    pub fn store(&self) -> PathBuf {
        self.home.path().join("data/scistream/tokens.json")
    }

    /// Begins a command. The mask is one that keeps nothing from anybody.
    pub fn begin(&self, program: &str, arguments: &[&str]) -> Typed {
        let output = TempDir::new().expect("a folder");
        let file = |name| File::create(output.path().join(name)).expect("a file");
        let child = Command::new("/bin/sh")
            .args(["-c", "umask 000; exec \"$0\" \"$@\"", program])
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("XDG_DATA_HOME", self.home.path().join("data"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(file("out"))
            .stderr(file("err"))
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        Typed { child, output }
    }

    /// Calls s2uc to its end.
    pub async fn s2uc(&self, arguments: &[&str]) -> Ran {
        self.begin(S2UC, arguments).end().await
    }
}

impl Typed {
    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.output.path().join(name)).expect("its output")
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The address that it asks the user to open.
    pub async fn page(&mut self) -> String {
        let mut page = None;
        eventually_within(DEADLINE, "a page to log in is told", || {
            let said = self.said("err");
            page = said.lines().find_map(|line| line.strip_prefix("    http")).map(|rest| format!("http{rest}"));
            let ended = self.child.try_wait().expect("our child");
            assert!(page.is_some() || ended.is_none(), "{ended:?}: {}{said}", self.said("out"));
            page.is_some()
        })
        .await;
        page.expect("just seen")
    }

    /// Types a line.
    pub async fn types(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    }

    /// Waits for its end, with nothing more to read.
    pub async fn end(mut self) -> Ran {
        drop(self.child.stdin.take());
        let status = timeout(DEADLINE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it does not end: {}", self.said("err"))).expect("our child");
        Ran { code: status.code(), stdout: self.said("out"), stderr: self.said("err") }
    }
}

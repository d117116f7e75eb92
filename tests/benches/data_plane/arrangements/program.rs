//! The real programs: each a process group of its own, ended with its guard or with the bench.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::ground::Place;
use crate::failure::{Doing as _, Failure, Result};

/// All groups that run, for [`end_all`].
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
/// No program here takes longer to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether a program is there yet.
const LOOK: Duration = Duration::from_millis(5);
/// How much of a log is shown.
const SHOWN: usize = 2000;

/// A running program. Dropping it kills its group.
#[derive(Debug)]
pub struct Program {
    child: Child,
    group: Pid,
    log: PathBuf,
}

/// How to start one.
pub struct Start<'a> {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Where it runs.
    pub place: Place,
    /// Where it works and where its log goes.
    pub folder: &'a Path,
    /// Tells its log from others.
    pub name: &'a str,
    /// Sockets that become descriptors 3, 4, …
    pub inherited: Vec<OwnedFd>,
    /// Besides `PATH`.
    pub environment: Vec<(String, String)>,
}

impl Program {
    /// Starts a program.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(how: Start<'_>) -> Result<Self> {
        let words: Vec<String> = how.place.entering().into_iter().chain(how.argv).collect();
        let (name, arguments) = words.split_first().doing("start nothing")?;
        let log = how.folder.join(format!("{}.log", how.name));
        let output = File::create(&log).doing("make a log")?;
        let errors = output.try_clone().doing("make a log")?;
        let mapping = |(parent_fd, child_fd)| FdMapping { parent_fd, child_fd };
        let mut command = Command::new(name);
        command
            .args(arguments)
            .current_dir(how.folder)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(how.environment)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        command.fd_mappings(how.inherited.into_iter().zip(3..).map(mapping).collect()).doing("hand sockets over")?;
        let child = command.spawn().doing(format!("start {name} (is it installed?)"))?;
        let group = i32::try_from(child.id()).map(Pid::from_raw).doing("know a process")?;
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(group);
        Ok(Self { child, group, log })
    }

    /// Its process group.
    pub fn group(&self) -> Pid {
        self.group
    }

    /// Waits until the port is listened on, in the program's own network namespace.
    ///
    /// # Errors
    /// When it ends instead, or takes too long.
    pub fn listens_on(&mut self, address: SocketAddr) -> Result<()> {
        let group = self.group;
        self.reaches(&format!("listen on {address}"), PATIENCE, |_| listening(group, address.port()))
    }

    /// Waits until its log has such a line.
    ///
    /// # Errors
    /// When it ends instead, or takes too long.
    pub fn says(&mut self, what: &str, patience: Duration, is_it: impl Fn(&str) -> bool) -> Result<()> {
        self.reaches(&format!("say {what}"), patience, |program| program.log().lines().any(&is_it))
    }

    fn reaches(&mut self, what: &str, patience: Duration, there: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !there(self) {
            if let Some(status) = self.child.try_wait().doing("look at a program")? {
                return Err(Failure(format!("start a program: {status}: {}", self.said())));
            }
            if Instant::now() > deadline {
                return Err(Failure(format!("see a program {what}: {}", self.said())));
            }
            // Neither the kernel's list of sockets nor a log tells when it changes.
            sleep(LOOK);
        }
        Ok(())
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of its log.
    pub fn said(&self) -> String {
        let log = self.log();
        let start = log.char_indices().rev().nth(SHOWN).map_or(0, |(start, _)| start);
        log[start..].to_owned()
    }
}

fn listening(group: Pid, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let sockets = ["tcp", "tcp6"].map(|kind| fs::read_to_string(format!("/proc/{group}/net/{kind}")));
    let suffix = format!(":{port:04X}");
    sockets.iter().flatten().flat_map(|text| text.lines()).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&suffix)) && words.nth(1) == Some(LISTEN)
    })
}

impl Drop for Program {
    fn drop(&mut self) {
        // Workers may outlive their leader; until it is waited for, the number is theirs.
        end(self.group);
        drop(self.child.wait());
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|group| *group != self.group);
    }
}

/// Kills every program that runs.
pub fn end_all() {
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        end(*group);
    }
}

fn end(group: Pid) {
    match killpg(group, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(e) => eprintln!("data_plane: process group {group} cannot be ended: {e}"),
    }
}

/// Runs a tool of the system to its end.
///
/// # Errors
/// What it says went wrong.
pub fn tool(name: &str, arguments: &[&str]) -> Result<String> {
    let doing = format!("run {name} {}", arguments.join(" "));
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output().doing(&doing)?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(said(&output.stdout) + &said(&output.stderr));
    }
    Err(Failure(format!("{doing}: {}{}", said(&output.stderr), said(&output.stdout))))
}

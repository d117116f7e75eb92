//! One running program: a process group of its own, watched, and never left behind.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use command_fds::{CommandFdExt, FdMapping};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::handover::SessionUnits;
use super::identity::Identity;
use super::launch::Launch;
use super::stat::Stat;
use super::usage;
use crate::backend::{ENVIRONMENT, Sockets};

/// How to start a process.
pub(super) struct Spawn {
    pub program: PathBuf,
    pub launch: Launch,
    pub sockets: Sockets,
    /// Become descriptors 3, 4, …
    pub inherited: Vec<OwnedFd>,
    /// Where it works, and what marks it as ours, see [`crate::store`].
    pub folder: PathBuf,
    pub output: File,
    /// Keeps the task that waits for its end.
    pub reapers: TaskTracker,
    /// Who makes it, if that is not us.
    pub units: Option<SessionUnits>,
}

/// What a process of ours becomes, whoever makes it.
pub(super) struct Becoming {
    /// Of our own executable.
    pub arguments: Vec<OsString>,
    pub folder: PathBuf,
    pub sockets: Sockets,
    pub inherited: Vec<OwnedFd>,
    pub output: File,
}

/// How a process ended, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// One of our own children.
    Seen(ExitStatus),
    /// One that an earlier run of the controller had started: only its parent is told how.
    Unseen,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Seen(status) = self else {
            return f.write_str("ended");
        };
        match (status.code(), status.signal()) {
            (Some(code), _) => write!(f, "ended with exit status {code}"),
            (None, Some(number)) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "was ended by {signal}"),
                Err(_) => write!(f, "was ended by signal {number}"),
            },
            (None, None) => f.write_str("ended"),
        }
    }
}

/// A running process. Dropping it kills its whole group.
#[derive(Debug)]
pub(super) struct Process {
    identity: Identity,
    started: Option<SystemTime>,
    /// Signals go through it: they cannot reach another process that got the same number.
    pidfd: Arc<OwnedFd>,
    ended: watch::Receiver<Option<End>>,
    /// Its end is our doing, or about to be.
    dismissed: Arc<AtomicBool>,
}

/// The end of a process.
#[derive(Debug, Clone, Copy)]
struct End {
    exit: Exit,
    cpu: Duration,
}

/// The running executable, even when its file has been replaced meanwhile. Its
/// command `launch` becomes the program, see [`Launch`].
const OWN_EXECUTABLE: &str = "/proc/self/exe";
/// After this, a process that was told to end at once is killed.
const NOW_GRACE: Duration = Duration::from_secs(3);

impl Process {
    /// Starts a process. Its end is watched from here on.
    pub(super) fn spawn(mut how: Spawn) -> io::Result<Self> {
        let (reapers, program) = (how.reapers.clone(), how.program.clone());
        if let Some(units) = how.units.take() {
            let pid = tokio::task::block_in_place(|| units.spawn(how.into()))?;
            let pidfd = open_pidfd(pid)?;
            return Self::watch(Identity::of(pid, &program)?, pidfd, &reapers);
        }
        let mut child = command(how)?.spawn()?;
        let number = child.id().and_then(|id| i32::try_from(id).ok()).ok_or(io::ErrorKind::NotFound)?;
        let pid = Pid::from_raw(number);
        // Until it is waited for, its number stays its own.
        let opened = open_pidfd(pid).and_then(|pidfd| Ok((Identity::of(pid, &program)?, end_of(&pidfd)?, pidfd)));
        let (identity, end, pidfd) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                kill_group(pid);
                reapers.spawn(async move { drop(child.wait().await) });
                return Err(e);
            }
        };
        let (tell, ended) = watch::channel(None);
        let process = Self::new(identity.clone(), pidfd, ended);
        let dismissed = Arc::clone(&process.dismissed);
        reapers.spawn(async move {
            drop(end.readable().await);
            let cpu = last_look(identity, &dismissed).await;
            // Workers may outlive their leader (nginx's do, and keep its ports). Until it is
            // waited for, the number of the group is surely still theirs.
            kill_group(pid);
            let exit = Exit::Seen(child.wait().await.unwrap_or_default());
            tell.send_replace(Some(End { exit, cpu }));
        });
        Ok(process)
    }

    /// Takes over a process that an earlier run of the controller has started, if it is still that one.
    pub(super) fn adopt(identity: &Identity, reapers: &TaskTracker) -> io::Result<Option<Self>> {
        // The descriptor first: what is looked at afterwards is then what it stands for.
        let Ok(pidfd) = open_pidfd(identity.pid()) else {
            return Ok(None);
        };
        if !identity.is_still() {
            return Ok(None);
        }
        Self::watch(identity.clone(), pidfd, reapers).map(Some)
    }

    /// Watches one that is not our child.
    fn watch(identity: Identity, pidfd: OwnedFd, reapers: &TaskTracker) -> io::Result<Self> {
        let end = end_of(&pidfd)?;
        let (tell, ended) = watch::channel(None);
        let process = Self::new(identity.clone(), pidfd, ended);
        let dismissed = Arc::clone(&process.dismissed);
        reapers.spawn(async move {
            drop(end.readable().await);
            let pid = identity.pid();
            let cpu = last_look(identity, &dismissed).await;
            kill_group(pid);
            tell.send_replace(Some(End { exit: Exit::Unseen, cpu }));
        });
        Ok(process)
    }

    fn new(identity: Identity, pidfd: OwnedFd, ended: watch::Receiver<Option<End>>) -> Self {
        let started = Stat::read(identity.pid()).and_then(|stat| stat.started()).ok();
        Self { identity, started, pidfd: Arc::new(pidfd), ended, dismissed: Arc::default() }
    }

    /// Which process it is.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When it was started, if the kernel tells.
    pub(super) fn started(&self) -> Option<SystemTime> {
        self.started
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Option<Exit> {
        self.ended.borrow().map(|end| end.exit)
    }

    /// CPU time of it and its workers, once it has ended. What workers used that were
    /// gone before anybody could look is missing.
    pub(super) fn cpu_at_end(&self) -> Duration {
        self.ended.borrow().map_or(Duration::ZERO, |end| end.cpu)
    }

    /// Waits for its end. Dropping this future loses nothing.
    pub(super) async fn wait(&mut self) -> Exit {
        match self.ended.wait_for(Option::is_some).await.map(|ended| *ended) {
            Ok(Some(end)) => end.exit,
            // The watching task goes only when the whole program does.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Signals the program itself, which passes on what its workers need to know.
    pub(super) fn signal(&self, signal: Signal) {
        let number =
            rustix::process::Signal::from_named_raw(signal as i32).expect("named signals have a name here too");
        match rustix::process::pidfd_send_signal(&self.pidfd, number) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => {
                tracing::warn!(pid = self.identity.pid().as_raw(), %signal, "cannot signal a process of ours: {e}")
            }
        }
    }

    /// Its end, which is near, is no accident.
    pub(super) fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
    }

    /// Kills it with its group, and waits for its end.
    pub(super) async fn end_at_once(&mut self) {
        self.dismiss();
        if self.ended().is_none() {
            kill_group(self.identity.pid());
            self.wait().await;
        }
    }

    /// Sees a process to its end that has been told to end at once, if need be by KILL.
    pub(super) async fn see_end(mut self) {
        if timeout(NOW_GRACE, self.wait()).await.is_err() {
            self.end_at_once().await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.dismiss();
        if self.ended().is_none() {
            kill_group(self.identity.pid());
        }
    }
}

fn open_pidfd(pid: Pid) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK)?)
}

/// Becomes readable once the process has ended (`pidfd_open(2)`), before anybody has waited for it.
fn end_of(pidfd: &OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "unsound for types that may close their descriptor early, which OwnedFd does not")]
    AsyncFd::with_interest(pidfd.try_clone()?, Interest::READABLE)
}

/// What a process that has just ended has used, with its workers.
async fn last_look(identity: Identity, dismissed: &AtomicBool) -> Duration {
    let stat = Stat::read(identity.pid()).ok().filter(|stat| identity.started_at(stat));
    let own = stat.map_or(Duration::ZERO, |stat| stat.cpu());
    if dismissed.load(Ordering::Acquire) {
        // Nobody will ask, and sessions may end by the hundred.
        return own;
    }
    let look = move || usage::of_groups([&identity]).remove(&identity.pid());
    let all = tokio::task::spawn_blocking(look).await.ok().flatten();
    all.map_or(own, |usage| usage.cpu.max(own))
}

/// Kills a process that nobody has taken over, if it is one of ours still by then, and
/// waits for its end.
pub(super) async fn kill_and_see(pid: Pid, is_ours: impl Fn() -> bool) {
    // The descriptor first: what is looked at afterwards is then what it stands for.
    let Ok(pidfd) = open_pidfd(pid) else { return };
    if !is_ours() {
        return;
    }
    let killed = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    let end = killed.map_err(io::Error::from).and_then(|()| end_of(&pidfd));
    let ended = match end {
        Ok(end) => timeout(NOW_GRACE, end.readable()).await.is_ok(),
        Err(e) => e.raw_os_error() == Some(Errno::ESRCH as i32),
    };
    if !ended {
        tracing::error!(%pid, "a process of a session that is over does not end");
    }
}

fn kill_group(leader: Pid) {
    match killpg(leader, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(e) => tracing::warn!(pid = leader.as_raw(), "cannot kill a process group of our own: {e}"),
    }
}

/// Runs a program's own check of a configuration.
///
/// Answers with its output when it says no.
pub(super) async fn check(how: Spawn, deadline: Duration) -> io::Result<Result<(), String>> {
    let reapers = how.reapers.clone();
    let mut command = command(how)?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Runs to its end even when nobody waits any more, so that it cannot outlive the session.
    let run = reapers.spawn(async move { timeout(deadline, command.output()).await });
    let silent = || io::Error::new(io::ErrorKind::TimedOut, "its check of the configuration does not end");
    let output = run.await.map_err(io::Error::other)?.map_err(|_| silent())??;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = [output.stdout, output.stderr].concat();
    Ok(Err(super::log::trimmed(&String::from_utf8_lossy(&said))))
}

/// In a group of its own.
fn command(how: Spawn) -> io::Result<Command> {
    let mut command = Command::from(Becoming::from(how).command()?);
    command.process_group(0);
    Ok(command)
}

impl From<Spawn> for Becoming {
    fn from(how: Spawn) -> Self {
        let Spawn { launch, sockets, inherited, folder, output, .. } = how;
        Self { arguments: launch.arguments(), folder, sockets, inherited, output }
    }
}

impl Becoming {
    /// The command that becomes it.
    pub(super) fn command(self) -> io::Result<std::process::Command> {
        let mut command = std::process::Command::new(OWN_EXECUTABLE);
        command
            .args(self.arguments)
            .current_dir(self.folder)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null())
            .stdout(self.output.try_clone()?)
            .stderr(self.output);
        match self.sockets {
            Sockets::Systemd => {
                command.env("LISTEN_FDS", self.inherited.len().to_string());
            }
            Sockets::Nginx => {
                let list: String = (3..).take(self.inherited.len()).map(|fd: usize| format!("{fd};")).collect();
                command.env("NGINX", list);
            }
            Sockets::Config => {}
        }
        let mappings = self.inherited.into_iter().zip(3..);
        let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(command)
    }
}

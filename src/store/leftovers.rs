//! What an earlier controller left behind when it was killed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tokio::time::{Instant, sleep};

use super::StateFolder;

/// Processes and folders of sessions that nobody answers for any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// How many processes were ended.
    pub processes: usize,
    /// How many sessions' folders were removed.
    pub folders: usize,
}

const KILL_DEADLINE: Duration = Duration::from_secs(5);

impl Leftovers {
    /// Ends every process that works in a session's folder and runs one of
    /// `programs`, then removes the folders. To be called before any session is made.
    ///
    /// # Errors
    /// When a folder cannot be removed, or a process does not go.
    pub async fn clear(state: &StateFolder, programs: &BTreeSet<PathBuf>) -> io::Result<Self> {
        let found = running(state.sessions(), programs);
        for pid in &found {
            // It may have ended meanwhile, which is what is wanted.
            if let Err(e) = kill(*pid, Signal::SIGKILL) {
                tracing::debug!(pid = pid.as_raw(), "a leftover process was gone already: {e}");
            }
        }
        let deadline = Instant::now() + KILL_DEADLINE;
        while !running(state.sessions(), programs).is_empty() {
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a process of an earlier run does not end"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        let mut folders = 0;
        for entry in fs::read_dir(state.sessions())? {
            fs::remove_dir_all(entry?.path())?;
            folders += 1;
        }
        Ok(Self { processes: found.len(), folders })
    }
}

fn running(sessions: &Path, programs: &BTreeSet<PathBuf>) -> Vec<Pid> {
    let what = ProcessRefreshKind::nothing().with_cwd(UpdateKind::Always).with_exe(UpdateKind::Always);
    let mut system = System::new();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    system
        .processes()
        .values()
        // Threads work in the same folder as their process.
        .filter(|process| process.thread_kind().is_none())
        .filter(|process| process.cwd().is_some_and(|cwd| cwd.starts_with(sessions)))
        .filter(|process| process.exe().is_some_and(|exe| programs.contains(&without_deleted(exe))))
        .filter_map(|process| i32::try_from(process.pid().as_u32()).ok().map(Pid::from_raw))
        .collect()
}

/// An executable that was replaced by an upgrade shows as `PATH (deleted)`.
fn without_deleted(exe: &Path) -> PathBuf {
    match exe.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(path) => PathBuf::from(path),
        None => exe.to_owned(),
    }
}

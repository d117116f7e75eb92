//! Processes of ours that work in a session's folder, whoever started them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// Who works where, as one look at all processes of the host has shown it: with
/// many sessions, a look for each would take seconds.
#[derive(Debug, Clone)]
pub struct Sighting(Arc<[(Pid, PathBuf)]>);

impl Sighting {
    /// Looks for all processes that run one of `programs`. An operator's shell may
    /// stand in a session's folder too, and is left alone.
    #[must_use]
    pub fn of(programs: &BTreeSet<PathBuf>) -> Self {
        let mut system = System::new();
        let what = ProcessRefreshKind::nothing().with_cwd(UpdateKind::Always).with_exe(UpdateKind::Always);
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, what.without_tasks());
        let found = system.processes().values().filter_map(|process| {
            let pid = i32::try_from(process.pid().as_u32()).ok().map(Pid::from_raw)?;
            let is_ours = process.exe().is_some_and(|exe| programs.contains(&installed(exe)));
            is_ours.then(|| Some((pid, process.cwd()?.to_owned()))).flatten()
        });
        Self(found.collect())
    }

    /// Those that were seen in `folder` or below it, and are there still: the number
    /// of one that has ended meanwhile may be another's by now.
    #[must_use]
    pub fn still_in(&self, folder: &Path) -> Vec<Pid> {
        let seen = self.0.iter().filter(|(_, cwd)| cwd.starts_with(folder)).map(|(pid, _)| *pid);
        seen.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))).collect()
    }
}

/// The path of an executable as it was installed: one that was replaced by an
/// upgrade shows as `PATH (deleted)`.
#[must_use]
pub fn installed(exe: &Path) -> PathBuf {
    match exe.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(path) => PathBuf::from(path),
        None => exe.to_owned(),
    }
}

/// Kills a process that may have ended meanwhile, which is as good.
pub fn kill_now(pid: Pid) {
    if let Err(e) = kill(pid, Signal::SIGKILL) {
        tracing::debug!(%pid, "not killed: {e}");
    }
}

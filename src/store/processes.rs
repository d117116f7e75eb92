//! Processes of ours that work in a session's folder, whoever started them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// All processes that run one of `programs` and work in `folder` or below it.
/// An operator's shell may stand there too, and is left alone.
#[must_use]
pub fn processes_in(folder: &Path, programs: &BTreeSet<PathBuf>) -> Vec<Pid> {
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_cwd(UpdateKind::Always).with_exe(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    system
        .processes()
        .values()
        // Threads work in the same folder as their process.
        .filter(|process| process.thread_kind().is_none())
        .filter(|process| process.cwd().is_some_and(|cwd| cwd.starts_with(folder)))
        .filter(|process| process.exe().is_some_and(|exe| programs.contains(&installed(exe))))
        .filter_map(|process| i32::try_from(process.pid().as_u32()).ok().map(Pid::from_raw))
        .collect()
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

//! Which process a number means: numbers are used again, these facts are not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::stat::Stat;
use crate::store::installed;

/// A process, told apart from every other one before and after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pid: i32,
    /// In clock ticks after the boot (`proc_pid_stat(5)`, field 22).
    start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`
    boot_id: String,
    /// The file it was started from; an upgrade may put a new one elsewhere.
    program: PathBuf,
}

impl Identity {
    /// The identity of a running process that is about to become `program`.
    pub(super) fn of(pid: Pid, program: &Path) -> io::Result<Self> {
        let program = program.canonicalize()?;
        Ok(Self { pid: pid.as_raw(), start_time: Stat::read(pid)?.start_time, boot_id: boot_id()?, program })
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// Whether the process that has the number now is this one, and runs its program.
    pub(super) fn is_still(&self) -> bool {
        fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok_and(|exe| installed(&exe) == self.program)
            && Stat::read(self.pid()).is_ok_and(|stat| self.started_at(&stat))
            && boot_id().is_ok_and(|boot| boot == self.boot_id)
    }

    /// Whether that is what the kernel tells of this process, and not of a later one.
    pub(super) fn started_at(&self, stat: &Stat) -> bool {
        stat.start_time == self.start_time
    }

    /// Whether the file that it runs is the one that is installed now.
    pub(super) fn runs_what_is_installed(&self) -> bool {
        fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok_and(|exe| exe == self.program)
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_another_boot_another_program_is_not_it() {
        let program = std::env::current_exe().expect("we have one");
        let me = Identity::of(Pid::this(), &program).expect("we run");
        assert!(me.is_still());
        assert!(!Identity { program: "/bin/sh".into(), ..me.clone() }.is_still());
        assert!(!Identity { start_time: me.start_time + 1, ..me.clone() }.is_still());
        assert!(!Identity { boot_id: "another".into(), ..me.clone() }.is_still());
        assert!(!Identity { pid: 1, ..me }.is_still());
    }
}

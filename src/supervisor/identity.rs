//! Which process a number means: numbers are used again, these facts are not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::store::installed;

/// A process, told apart from every other one before and after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
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
        Ok(Self { pid: pid.as_raw(), start_time: start_time(pid)?, boot_id: boot_id()?, program })
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// Whether the process that has the number now is this one, and runs its program.
    pub(super) fn is_still(&self) -> bool {
        fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok_and(|exe| installed(&exe) == self.program)
            && start_time(self.pid()).is_ok_and(|start| start == self.start_time)
            && boot_id().is_ok_and(|boot| boot == self.boot_id)
    }
}

fn start_time(pid: Pid) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name stands in parentheses and may hold any of them itself.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_whitespace().nth(22 - 3);
    field.and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::other("the kernel tells no start time"))
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

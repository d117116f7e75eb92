//! What the kernel tells of one process, even when it has ended and nobody has
//! waited for it yet (`proc_pid_stat(5)`).

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use nix::unistd::Pid;

/// Some of `/proc/PID/stat`, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// When it was started, after the boot.
    pub(super) start_time: u64,
    /// CPU time of its own.
    own: u64,
    /// CPU time of the children that it has waited for.
    waited_for: u64,
}

impl Stat {
    pub(super) fn read(pid: Pid) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        parse(&text).ok_or_else(|| io::Error::other("the kernel tells no start time"))
    }

    /// CPU time of the children that have ended.
    pub(super) fn cpu_of_ended_children(&self) -> Duration {
        length(self.waited_for)
    }

    /// CPU time of its own, and of the children that have ended.
    pub(super) fn cpu(&self) -> Duration {
        length(self.own + self.waited_for)
    }

    /// The start by the clock on the wall, as far as ticks go.
    pub(super) fn started(&self) -> io::Result<SystemTime> {
        let text = fs::read_to_string("/proc/uptime")?;
        let uptime = text.split_whitespace().next().and_then(|seconds| seconds.parse().ok());
        let uptime = uptime.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let uptime = uptime.ok_or_else(|| io::Error::other("the kernel tells no time since the boot"))?;
        Ok(SystemTime::now() - uptime.saturating_sub(length(self.start_time)))
    }
}

fn parse(text: &str) -> Option<Stat> {
    // The program's name stands in parentheses and may hold any of them itself.
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // As the manual counts them, from 1.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { start_time: field(22)?, own: field(14)? + field(15)?, waited_for: field(16)? + field(17)? })
}

fn length(ticks: u64) -> Duration {
    let a_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs(ticks / a_second) + Duration::from_secs(ticks % a_second) / u32::try_from(a_second).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name_whatever_it_holds() {
        let text = "7 (a ) 9 (b) S 1 7 7 0 -1 4194560 1 2 3 4 110 20 3 1 20 0 1 0 5000 9 9";
        let stat = parse(text).expect("all fields");
        assert_eq!(stat, Stat { start_time: 5000, own: 130, waited_for: 4 });
        assert_eq!(parse("7 (a) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_process_started_when_the_clock_says() {
        let before = SystemTime::now();
        let mut child = std::process::Command::new("sleep").arg("9").spawn().expect("it starts");
        let after = SystemTime::now();
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let started = Stat::read(pid).and_then(|stat| stat.started()).expect("the kernel tells");
        child.kill().expect("it runs");
        // Ended and not waited for: it is told of still.
        Stat::read(pid).expect("the kernel tells");
        child.wait().expect("our child");
        let slack = Duration::from_millis(50);
        assert!(before - slack <= started && started <= after + slack, "{before:?} {started:?} {after:?}");
        assert!(Stat::read(pid).is_err(), "nobody is told of the dead");
    }
}

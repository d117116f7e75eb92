//! What processes use of the host, asked of the kernel when somebody wants to know.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use nix::unistd::{Pid, getpgid};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::identity::Identity;
use super::stat::Stat;

/// What a process uses, together with its workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time so far, that of workers which have ended included.
    pub cpu: Duration,
    /// Resident memory in bytes. What several processes share counts for each of them.
    pub memory: u64,
}

/// Looks at process groups by their leaders, all in one go. One of which nothing
/// is left, or whose number is another's by now, is not in the answer.
pub(super) fn of_groups<'a>(leaders: impl IntoIterator<Item = &'a Identity>) -> HashMap<Pid, Usage> {
    let leaders: HashMap<Pid, &Identity> = leaders.into_iter().map(|leader| (leader.pid(), leader)).collect();
    let mut members: Vec<(Pid, Pid)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.map(Pid::from_raw) else { continue };
        match getpgid(Some(pid)) {
            Ok(group) if leaders.contains_key(&group) => members.push((pid, group)),
            _ => {}
        }
    }
    let mut usages = HashMap::new();
    for (pid, leader) in &leaders {
        match Stat::read(*pid) {
            Ok(stat) if leader.started_at(&stat) => {
                usages.insert(*pid, Usage { cpu: stat.cpu_of_ended_children(), memory: 0 });
            }
            // Its group has its number for as long as there is one in it.
            Err(_) if members.iter().any(|(_, group)| group == pid) => {
                usages.insert(*pid, Usage::default());
            }
            _ => {}
        }
    }
    // It would keep a descriptor open for each process.
    sysinfo::set_open_files_limit(0);
    let mut system = System::new();
    let numbers: Vec<_> = members.iter().filter_map(|(pid, _)| number(*pid)).collect();
    let what = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&numbers), true, what);
    for (pid, group) in &members {
        let process = number(*pid).and_then(|number| system.process(number));
        if let (Some(process), Some(usage)) = (process, usages.get_mut(group)) {
            usage.cpu += Duration::from_millis(process.accumulated_cpu_time());
            usage.memory += process.memory();
        }
    }
    usages
}

fn number(pid: Pid) -> Option<sysinfo::Pid> {
    u32::try_from(pid.as_raw()).ok().map(sysinfo::Pid::from_u32)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Child, Command};
    use std::time::Instant;

    use nix::sys::signal::{Signal, killpg};

    use super::*;

    /// A shell that leads a group of its own.
    fn shell(script: &str) -> (Child, Identity) {
        let child = Command::new("/bin/sh").args(["-c", script]).process_group(0).spawn().expect("it starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let identity = Identity::of(pid, Path::new("/bin/sh")).expect("it runs");
        (child, identity)
    }

    fn until(leader: &Identity, enough: impl Fn(Usage) -> bool) -> Usage {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let usage = of_groups([leader]).remove(&leader.pid()).expect("the kernel tells");
            if enough(usage) {
                return usage;
            }
            assert!(Instant::now() < deadline, "not in time: {usage:?}");
        }
    }

    const BUSY: &str = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";

    #[test]
    fn workers_count_while_they_run_and_after_they_have_ended() {
        let (mut leader, identity) = shell(&format!("( {BUSY} ) & sleep 60 & wait $!; true"));
        let running = until(&identity, |usage| usage.cpu > Duration::from_millis(50));
        assert!(running.memory > 0);
        killpg(identity.pid(), Signal::SIGKILL).expect("our group");
        leader.wait().expect("our child");

        let (mut leader, identity) = shell(&format!("( {BUSY} ); sleep 60; true"));
        let pid = identity.pid();
        let of_the_dead = || Stat::read(pid).map_or(Duration::ZERO, |stat| stat.cpu_of_ended_children());
        let ended = until(&identity, |usage| !usage.cpu.is_zero() && !of_the_dead().is_zero());
        println!("a worker that runs: {running:?}; one that has ended: {ended:?}");
        killpg(pid, Signal::SIGKILL).expect("our group");
        leader.wait().expect("our child");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !of_groups([&identity]).is_empty() {
            assert!(Instant::now() < deadline, "of the dead something is told");
        }
    }

    #[test]
    fn workers_count_when_their_leader_is_dead() {
        let (mut leader, identity) = shell(&format!("( {BUSY}; sleep 60 ) & sleep 60; true"));
        until(&identity, |usage| usage.cpu > Duration::from_millis(50));
        leader.kill().expect("it runs");
        leader.wait().expect("our child");
        let usage = until(&identity, |usage| usage.cpu > Duration::from_millis(50));
        println!("workers without their leader: {usage:?}");
        killpg(identity.pid(), Signal::SIGKILL).expect("our group");
    }
}

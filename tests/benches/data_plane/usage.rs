//! What a process group takes: processor time and memory, from `/proc`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::failure::{Doing as _, Result};

/// What processes hold, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident, shared pages counted in each process.
    pub resident: u64,
    /// Theirs alone, and written to.
    pub private_dirty: u64,
}

/// The processes of a group, workers too.
pub fn members(group: Pid) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let number = |entry: fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
    let belongs = |pid: &i32| {
        stat(format!("/proc/{pid}")).is_some_and(|fields| field(&fields, GROUP) == Some(group.as_raw().into()))
    };
    entries.flatten().filter_map(number).filter(belongs).collect()
}

/// Counted from the state, which is the first after the name.
const GROUP: usize = 2;
/// utime, stime, and of children that ended: cutime, cstime.
const TIMES: [usize; 4] = [11, 12, 13, 14];

/// utime and stime of one thread.
const THREAD_TIMES: [usize; 2] = [11, 12];
const POLICY: usize = 38;
/// The scheduler's number for what is in no hurry.
const SCHED_BATCH: i64 = 3;

fn stat(path: impl AsRef<Path>) -> Option<Vec<String>> {
    let text = fs::read_to_string(path.as_ref().join("stat")).ok()?;
    // The name may hold anything, spaces and parentheses too.
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn field(fields: &[String], index: usize) -> Option<i64> {
    fields.get(index)?.trim().parse().ok()
}

fn sum(fields: &[String], indices: &[usize]) -> i64 {
    indices.iter().map(|index| field(fields, *index).unwrap_or(0)).sum()
}

fn ticks(pid: i32) -> i64 {
    let process = Path::new("/proc").join(pid.to_string());
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let unhurried = threads
        .filter_map(|thread| stat(thread.path()))
        .filter(|fields| field(fields, POLICY) == Some(SCHED_BATCH))
        .map(|fields| sum(&fields, &THREAD_TIMES))
        .sum::<i64>();
    stat(process).map_or(0, |fields| sum(&fields, &TIMES) - unhurried)
}

/// Processor time so far of all these groups, user and system, ended threads and children
/// too, but not what a program does on the side, in threads of the policy `SCHED_BATCH`.
///
/// # Errors
/// When the system does not tell how it counts.
pub fn processor_time(groups: &[Pid]) -> Result<Duration> {
    let ticks: i64 = groups.iter().flat_map(|group| members(*group)).map(ticks).sum();
    let a_second = sysconf(SysconfVar::CLK_TCK).doing("ask for the clock's ticks")?.doing("know the clock's ticks")?;
    #[expect(clippy::cast_precision_loss, reason = "a bench runs for less than 2^52 ticks")]
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// What all these groups hold.
pub fn memory(groups: &[Pid]) -> Memory {
    let mut all = Memory::default();
    for pid in groups.iter().flat_map(|group| members(*group)) {
        // One that has just ended holds nothing.
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0)
        };
        all.resident += kib("Rss:") * 1024;
        all.private_dirty += kib("Private_Dirty:") * 1024;
    }
    all
}

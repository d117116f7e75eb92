//! What a process holds, as the system counts it.

use std::fs;

use nix::unistd::Pid;

/// How many files a process has open.
pub fn open_files(pid: Pid) -> usize {
    let folder = format!("/proc/{pid}/fd");
    match fs::read_dir(&folder) {
        Ok(files) => files.count(),
        // Of a program that hides its memory, the kernel (from 6.2 on) tells others than root no more.
        Err(_) => usize::try_from(fs::metadata(&folder).expect("it runs").len()).expect("it fits"),
    }
}

/// How much memory a process has in use, in KiB.
pub fn memory(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// A number that whoever runs the tests may set by a variable of the environment.
pub fn setting(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

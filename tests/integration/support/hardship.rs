//! What a host may do to a control server. Each ends when it is dropped.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

/// Something mounted over a folder.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// An empty file system of 1 MiB; `None` where mounting is not allowed.
    pub fn small(folder: &Path) -> Option<Self> {
        mount(&["-t", "tmpfs", "-o", "size=1m", "none"], folder)
    }

    /// The folder itself, but nothing can be written to it.
    pub fn read_only(folder: &Path) -> Option<Self> {
        let same = folder.to_str().expect("text");
        let mount_there = mount(&["--bind", same], folder)?;
        mount(&["-o", "remount,bind,ro"], folder).map(std::mem::forget)?;
        Some(mount_there)
    }
}

fn mount(words: &[&str], folder: &Path) -> Option<Mount> {
    let status = Command::new("mount").args(words).arg(folder).status().expect("mount runs");
    status.success().then(|| Mount(folder.to_owned()))
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: programs may work in it still.
        let status = Command::new("umount").arg("-l").arg(&self.0).status().expect("umount runs");
        assert!(status.success() || std::thread::panicking(), "not unmounted: {}", self.0.display());
    }
}

/// A file that leaves no room for another byte.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Filler {
    pub fn of(folder: &Path) -> Self {
        let path = folder.join("filler");
        let mut file = File::create(&path).expect("a file");
        while file.write_all(&[0; 512]).is_ok() {}
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("it is there");
    }
}

/// A process that can open nothing.
#[derive(Debug)]
pub struct NoDescriptors {
    pid: rustix::process::Pid,
    before: Rlimit,
}

impl NoDescriptors {
    pub fn of(pid: Pid) -> Self {
        let number = |entry: fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
        let open: Vec<u64> =
            fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten().filter_map(number).collect();
        let lowest = (0..).find(|number| !open.contains(number)).expect("some number is free");
        let pid = rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid");
        let limit = Rlimit { current: Some(lowest), maximum: getrlimit(Resource::Nofile).maximum };
        let before = prlimit(Some(pid), Resource::Nofile, limit).expect("our child's limit can be set");
        Self { pid, before }
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        let before = Rlimit { current: self.before.current, maximum: self.before.maximum };
        prlimit(Some(self.pid), Resource::Nofile, before).expect("our child's limit can be set");
    }
}

/// A process that stands still.
#[derive(Debug)]
pub struct Stopped(Pid);

impl Stopped {
    pub fn at(pid: Pid) -> Self {
        kill(pid, Signal::SIGSTOP).expect("our child");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).expect("our child");
    }
}

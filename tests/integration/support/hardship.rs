//! What a host may do to a control server. Each ends when it is dropped.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;

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
        let lowest = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(files) => {
                let open: Vec<u64> = files.flatten().filter_map(number).collect();
                (0..).find(|number| !open.contains(number)).expect("some number is free")
            }
            // Nobody but root sees which those are. With none allowed, those that are open stay.
            Err(_) => 0,
        };
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

/// A process that can start no process and no thread. The system counts those of
/// its user, who has no others and is not root.
#[derive(Debug)]
pub struct NoProcesses {
    pid: Pid,
    user: Uid,
    before: String,
}

impl NoProcesses {
    pub fn of(pid: Pid, user: Uid) -> Self {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let words = limits.lines().find_map(|line| line.strip_prefix("Max processes")).expect("it has a limit");
        let before = words.split_whitespace().next().expect("a limit").to_owned();
        let limited = Self { pid, user, before };
        limited.set(&threads_of(user).to_string());
        limited
    }

    /// As the user itself: root of a container may not do it.
    fn set(&self, most: &str) {
        let Self { pid, user, .. } = self;
        let status = Command::new("setpriv")
            .args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()])
            .args(["prlimit".into(), format!("--pid={pid}"), format!("--nproc={most}:")])
            .status()
            .expect("setpriv runs");
        assert!(status.success(), "the limit of {pid} cannot be set");
    }
}

impl Drop for NoProcesses {
    fn drop(&mut self) {
        self.set(&self.before);
    }
}

/// A user whom nobody else has.
pub fn nobody_else() -> Uid {
    let first = 60_000 + std::process::id() % 5_000;
    let mut users = (first..).map(Uid::from_raw).filter(|user| threads_of(*user) == 0);
    users.find(|user| User::from_uid(*user).is_ok_and(|known| known.is_none())).expect("there are many")
}

fn threads_of(user: Uid) -> u64 {
    let user = user.to_string();
    // The folder itself is root's where a process keeps its memory private.
    let is_its = |status: &str| {
        let words = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        words.is_some_and(|words| words.split_whitespace().next() == Some(user.as_str()))
    };
    // One that ends meanwhile has none.
    let threads = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok().filter(|status| is_its(status))?;
        status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse::<u64>().ok()
    });
    threads.sum()
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

/// A clock on the wall that a test can move, by libfaketime, for the programs that
/// are started with its variables.
#[derive(Debug)]
pub struct Clock(TempDir);

impl Clock {
    /// One that goes right.
    pub fn new() -> Self {
        let clock = Self(TempDir::with_prefix("clock-").expect("a folder"));
        clock.move_by("+0");
        clock
    }

    /// Off the true time by so much from now on: `+1d`, `-1d`.
    pub fn move_by(&self, offset: &str) {
        let next = self.0.path().join("next");
        fs::write(&next, format!("{offset}\n")).expect("written");
        // At once, for programs that look at it at any moment.
        fs::rename(next, self.file()).expect("put in place");
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("offset")
    }

    pub fn variables(&self) -> [(&'static str, String); 4] {
        let libraries = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
        let mut candidates = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
        let library = candidates.find(|path| path.exists()).expect("libfaketime is installed (apt install faketime)");
        [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            // The clock that does not jump stays as it is.
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

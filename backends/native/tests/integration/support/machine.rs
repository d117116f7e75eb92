//! Boots a kernel under qemu, in software, and hears what its console says. The tests of
//! s2cs do it with this, too.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is booted.
pub struct Machine<'a> {
    pub kernel: &'a Path,
    pub initrd: &'a Path,
    /// A raw image, where there is one.
    pub disk: Option<&'a Path>,
    pub memory_mib: u32,
    /// For the kernel, besides the usual.
    pub words: &'a str,
    /// It is ended then, if it has not by itself.
    pub patience: Duration,
}

impl Machine<'_> {
    /// Runs it to its end, and gives what it said, line by line.
    pub fn run(&self) -> Vec<String> {
        let mut qemu = Command::new("qemu-system-x86_64");
        // /dev/kvm may be there and not work. And the kernel is one from before AES in long registers.
        qemu.args(["-accel", "tcg", "-cpu", "max,vaes=off", "-M", "q35", "-smp", "2", "-nodefaults"])
            .args(["-display", "none", "-no-reboot", "-serial", "stdio", "-m", &self.memory_mib.to_string()])
            // On a busy host the ticks come too late for the kernel's check of its timer.
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 no_timer_check {}", self.words)])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initrd);
        if let Some(disk) = self.disk {
            qemu.args(["-drive", &format!("file={},format=raw,if=virtio,cache=unsafe", disk.display())]);
        }
        let started = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut guard = Guard(started.expect("qemu-system-x86 is not installed: run packaging/test"));
        let output = guard.0.stdout.take().expect("piped");
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (began, mut said) = (Instant::now(), Vec::new());
        // The channel closes when the machine has ended.
        while let Ok(line) = lines.recv_timeout(self.patience.saturating_sub(began.elapsed())) {
            writeln!(std::io::stdout(), "{:>6.1} {line}", began.elapsed().as_secs_f64()).expect("print");
            said.push(line);
        }
        said
    }
}

struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a command to its end, which must be a good one.
pub fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// Packs a folder into the file `initrd` beside it.
pub fn pack(root: &Path) -> PathBuf {
    run(Command::new("sh").args(["-c", "find . | cpio --create --format=newc --quiet >../initrd"]).current_dir(root));
    root.with_file_name("initrd")
}

/// A program that is all the commands of a small system.
pub fn busybox() -> &'static Path {
    let found = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
    found.expect("busybox-static is not installed: run packaging/test")
}

/// The kernel that `packaging/install-test-kernel` has unpacked, and its modules.
pub fn kernel(unpacked: &Path) -> (PathBuf, PathBuf) {
    (one_in(&unpacked.join("boot"), "vmlinuz-"), one_in(&unpacked.join("lib/modules"), "").join("kernel"))
}

fn one_in(folder: &Path, prefix: &str) -> PathBuf {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("run packaging/test: {}: {error}", folder.display()));
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let fits = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    paths.find(fits).unwrap_or_else(|| panic!("no {prefix}* in {}", folder.display()))
}

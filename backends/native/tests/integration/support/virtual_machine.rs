//! A virtual machine that runs programs of this host under a kernel that has TLS, on
//! its own loopback; nothing else is in it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// In the order in which they need each other.
const MODULES: [&str; 9] = [
    "crypto/gf128mul",
    "crypto/ghash-generic",
    "crypto/gcm",
    "crypto/ctr",
    "crypto/seqiv",
    "crypto/cryptd",
    "crypto/crypto_simd",
    "arch/x86/crypto/aesni-intel",
    "net/tls/tls",
];

/// An idle machine needs four seconds to boot it, a busy one some thirty.
const PATIENCE: Duration = Duration::from_secs(240);

/// The files of the machine.
pub struct VirtualMachine {
    folder: tempfile::TempDir,
    kernel: PathBuf,
}

impl VirtualMachine {
    /// A machine with these programs, at the paths that they have here.
    pub fn with(programs: &[&Path]) -> Self {
        let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-kernel");
        let folder = tempfile::tempdir().expect("a folder");
        let kernel = one_in(&unpacked.join("boot"), "vmlinuz-");
        let machine = Self { folder, kernel };
        let modules = one_in(&unpacked.join("lib/modules"), "").join("kernel");
        for module in MODULES {
            let file = modules.join(module).with_extension("ko");
            let name = Path::new(module).file_name().expect("a name");
            machine.add(&file, &Path::new("/modules").join(name));
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        machine.add(busybox.expect("busybox-static is not installed: run packaging/test"), Path::new("/bin/busybox"));
        for folder in ["proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(machine.root().join(folder)).expect("a folder");
        }
        for program in programs {
            for library in libraries(program) {
                machine.add(&library, &library);
            }
            // Without what a debugger needs, which is most of it.
            let to = machine.place(program);
            run(Command::new("strip").arg("-o").arg(to).arg(program));
        }
        machine
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn place(&self, path: &Path) -> PathBuf {
        let place = self.root().join(path.strip_prefix("/").expect("an absolute path"));
        fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        place
    }

    fn add(&self, from: &Path, to: &Path) {
        fs::copy(from, self.place(to)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }

    /// Boots, runs these lines of shell, and gives what the console said.
    pub fn run(&self, script: &str) -> Vec<String> {
        let modules: Vec<&str> = MODULES.iter().map(|path| path.rsplit('/').next().expect("a name")).collect();
        let init = format!(
            "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n\
             mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev\nip link set lo up\n\
             for m in {}; do insmod /modules/$m || echo \"insmod $m failed\"; done\n{script}\npoweroff -f\n",
            modules.join(" ")
        );
        let path = self.place(Path::new("/init"));
        fs::write(&path, init).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        let initrd = self.folder.path().join("initrd");
        run(Command::new("sh")
            .args(["-c", "find . | cpio --create --format=newc --quiet >../initrd"])
            .current_dir(self.root()));
        let mut machine = Guard(
            // /dev/kvm may be there and not work.
            Command::new("qemu-system-x86_64")
                .args(["-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", "768", "-smp", "2", "-nodefaults"])
                .args(["-display", "none", "-no-reboot", "-serial", "stdio", "-append"])
                // On a busy host the ticks come too late for the kernel's check of its timer.
                .arg("console=ttyS0 quiet panic=-1 no_timer_check")
                .arg("-kernel")
                .arg(&self.kernel)
                .arg("-initrd")
                .arg(initrd)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .expect("qemu-system-x86 is not installed: run packaging/test"),
        );
        let output = machine.0.stdout.take().expect("piped");
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
        while let Ok(line) = lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
            writeln!(std::io::stdout(), "{line}").expect("print");
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

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn one_in(folder: &Path, prefix: &str) -> PathBuf {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("run packaging/test: {}: {error}", folder.display()));
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let fits = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    paths.find(fits).unwrap_or_else(|| panic!("no {prefix}* in {}", folder.display()))
}

fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

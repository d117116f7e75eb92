//! A virtual machine that runs programs of this host under a kernel that has TLS, on
//! its own loopback; nothing else is in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::machine::{Machine, busybox, kernel, pack, run};

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
    /// A machine with these programs, at the paths that they have here, and this host's libraries.
    pub fn with(programs: &[PathBuf]) -> Self {
        Self::with_libraries(programs, || Command::new("ldd"))
    }

    /// The same with the libraries of a newer Debian.
    pub fn with_newer_libraries(programs: &[PathBuf]) -> Self {
        let folder = target("newer-libraries/usr/lib/x86_64-linux-gnu");
        Self::with_libraries(programs, || {
            let mut loader = Command::new(folder.join("ld-linux-x86-64.so.2"));
            loader.arg("--library-path").arg(&folder).arg("--list");
            loader
        })
    }

    fn with_libraries(programs: &[PathBuf], list: impl Fn() -> Command) -> Self {
        let unpacked = target("test-kernel");
        let folder = tempfile::tempdir().expect("a folder");
        let (kernel, modules) = kernel(&unpacked);
        let machine = Self { folder, kernel };
        for module in MODULES {
            let file = modules.join(module).with_extension("ko");
            let name = Path::new(module).file_name().expect("a name");
            machine.add(&file, &Path::new("/modules").join(name));
        }
        machine.add(busybox(), Path::new("/bin/busybox"));
        for folder in ["proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(machine.root().join(folder)).expect("a folder");
        }
        for program in programs {
            for (library, place) in libraries(list().arg(program)) {
                machine.add(&library, &place);
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
        let initrd = pack(&self.root());
        let (kernel, initrd) = (&*self.kernel, &*initrd);
        Machine { kernel, initrd, disk: None, memory_mib: 768, words: "", patience: PATIENCE }.run()
    }
}

fn target(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(path)
}

/// What a dynamic loader lists, and where a program looks for it.
fn libraries(list: &mut Command) -> Vec<(PathBuf, PathBuf)> {
    let output = list.output().unwrap_or_else(|error| panic!("run packaging/test: {list:?}: {error}"));
    let text = String::from_utf8(output.stdout).expect("text");
    let library = |line: &str| {
        // NAME => PATH (ADDRESS), or PATH (ADDRESS), or NAME (ADDRESS) of what is the kernel's.
        let mut paths = line.split_whitespace().filter(|word| word.contains('/'));
        let (first, last) = (paths.next()?, paths.next_back());
        let place = |path: &str| Path::new("/lib/x86_64-linux-gnu").join(Path::new(path).file_name().expect("a name"));
        Some(match last {
            Some(path) => (path.into(), first.into()),
            None if line.contains("=>") => (first.into(), place(first)),
            None => (first.into(), first.into()),
        })
    };
    text.lines().filter_map(library).collect()
}

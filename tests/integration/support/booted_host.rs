//! A host with systemd as its init, in a virtual machine: a Debian with the programs and
//! units of a gateway, on its own loopback. It boots from a disk of its own, runs one
//! script as a service, and ends.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::machine::{Machine, busybox, kernel, pack, run};

/// In the order in which they need each other.
const MODULES: [&str; 15] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "net/ipv4/inet_diag",
    "net/ipv4/tcp_diag",
    "lib/libcrc32c",
    "net/netfilter/nfnetlink",
    "net/netfilter/nf_tables",
    "net/ipv4/netfilter/nf_defrag_ipv4",
    "net/ipv6/netfilter/nf_defrag_ipv6",
    "net/netfilter/nf_conntrack",
    "net/netfilter/nft_ct",
];
/// What the machine can do without, and would spend its time with.
const MASKED: [&str; 16] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "haproxy.service",
    "nginx.service",
    "stunnel4.service",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-timesyncd.service",
    "systemd-firstboot.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
];
/// Of the Debian, what takes room and is not looked at.
const LEFT_OUT: [&str; 2] = ["usr/share/perl", "usr/share/locale"];
const DISK: &str = "1G";
/// What every script begins with.
const PRELUDE: &str = include_str!("booted_host.sh");
/// For a boot and all that a script does: some four minutes on an idle machine.
const PATIENCE: Duration = Duration::from_secs(840);

/// The files of the machine.
pub struct BootedHost {
    folder: tempfile::TempDir,
}

impl BootedHost {
    /// A Debian with nothing of ours.
    pub fn new() -> Self {
        let debian = target().join("debian-root");
        assert!(debian.join("usr/lib/systemd/systemd").exists(), "no Debian root: run packaging/test");
        // Beside it, so that its files can be shared.
        let folder = tempfile::tempdir_in(target()).expect("a folder");
        run(Command::new("cp").args(["--archive", "--link"]).arg(&debian).arg(folder.path().join("root")));
        let host = Self { folder };
        for path in LEFT_OUT.map(|path| host.root().join(path)) {
            fs::remove_dir_all(path).expect("removed");
        }
        for unit in MASKED {
            let place = host.place(&format!("/etc/systemd/system/{unit}"));
            symlink("/dev/null", place).expect("masked");
        }
        for (path, text) in [
            ("/etc/fstab", ""),
            ("/etc/hostname", "gateway\n"),
            ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ] {
            host.file(path, text);
        }
        host
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A path in it, which is nobody else's.
    fn place(&self, path: &str) -> PathBuf {
        let place = self.root().join(path.strip_prefix('/').expect("an absolute path"));
        fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        // What it has in common with the Debian must not be changed.
        drop(fs::remove_file(&place));
        place
    }

    /// Writes a file.
    pub fn file(&self, path: &str, text: &str) {
        fs::write(self.place(path), text).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Takes a file in.
    pub fn take(&self, file: &Path, to: &str) {
        fs::copy(file, self.place(to)).unwrap_or_else(|e| panic!("{to}: {e}"));
    }

    /// Installs a program, without what a debugger needs, which is most of it.
    pub fn program(&self, program: &Path, to: &str) {
        run(Command::new("strip").arg("-o").arg(self.place(to)).arg(program));
    }

    /// Boots, runs this script as a service, and gives what that said, line by line.
    pub fn run(&self, script: &str) -> Vec<String> {
        self.file("/script", &format!("{PRELUDE}\n{script}"));
        self.file(
            "/etc/systemd/system/script.service",
            "[Unit]\nAfter=multi-user.target\nSuccessAction=poweroff-force\nFailureAction=poweroff-force\n\
             [Service]\nType=oneshot\nExecStart=/bin/bash /script\nStandardOutput=file:/dev/ttyS0\n\
             StandardError=inherit\n",
        );
        self.file(
            "/etc/systemd/system/script.target",
            "[Unit]\nRequires=multi-user.target\nWants=script.service\nAfter=multi-user.target\n",
        );
        let disk = self.folder.path().join("disk");
        run(Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
            .arg(self.root())
            .arg(&disk)
            .arg(DISK));
        let (kernel, modules) = kernel(&target().join("test-kernel"));
        let initrd = self.initrd(&modules);
        let words = "systemd.unit=script.target systemd.show_status=false";
        let (kernel, initrd, disk) = (&*kernel, &*initrd, Some(&*disk));
        Machine { kernel, initrd, disk, memory_mib: 1024, words, patience: PATIENCE }.run()
    }

    /// What finds the disk.
    fn initrd(&self, modules: &Path) -> PathBuf {
        let root = self.folder.path().join("initrd.d");
        for folder in ["bin", "dev", "proc", "disk"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        fs::copy(busybox(), root.join("bin/busybox")).expect("copied");
        let mut insert = String::new();
        for module in MODULES {
            let name = Path::new(module).file_name().expect("a name").to_str().expect("text");
            fs::copy(modules.join(module).with_extension("ko"), root.join(name)).expect(module);
            insert.push_str(&format!("$b insmod /{name}\n"));
        }
        let init = format!(
            "#!/bin/busybox sh\nb=/bin/busybox\n$b mount -t devtmpfs d /dev\n{insert}\
             $b mount -t ext4 /dev/vda /disk\nexec $b switch_root /disk /lib/systemd/systemd\n"
        );
        fs::write(root.join("init"), init).expect("written");
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).expect("set");
        pack(&root)
    }
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target")
}

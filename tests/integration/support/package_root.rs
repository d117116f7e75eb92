//! A Debian of a test's own, in which packages are installed; and the packages.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::gateway::S2CS;
use crate::package_files;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAMS: [&str; 5] = ["s2cs", "s2uc", "appctrl", "s2ds", "s2fw"];

/// A fresh Debian, gone with the test.
#[derive(Debug)]
pub struct PackageRoot {
    folder: TempDir,
}

/// What a command in it has said, with its errors, and its exit status.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Self { code: output.status.code(), text }
    }

    /// What it said, after it has done what it was asked to.
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.text);
        self.text
    }
}

impl PackageRoot {
    /// A copy of the one that `packaging/test` has made.
    pub fn copy() -> Self {
        let made = Path::new(SOURCE).join("target/package-root");
        assert!(made.is_dir(), "no Debian root: run packaging/test");
        let folder = TempDir::with_prefix("debian-").expect("a folder");
        host("cp", &["-a", &text(&made), &text(&folder.path().join("root"))]).succeeded();
        Self { folder }
    }

    /// Where it lies.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join("root").join(inside)
    }

    /// Runs a program in it, as root, with processes and mounts of its own.
    pub fn run(&self, command: &[&str]) -> Said {
        let root = format!("--root={}", text(&self.path("")));
        let apart = ["--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--kill-child", "--mount-proc", &root];
        let environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"];
        host("unshare", &[&apart[..], &environment, command].concat())
    }

    /// Runs a program of this host's that works on it, and that starts others in it.
    pub fn work_on(&self, command: &[&str]) -> Said {
        let proc = format!("--mount-proc={}", text(&self.path("proc")));
        host("unshare", &[&["--mount", "--pid", "--fork", "--kill-child", &proc], command].concat())
    }

    /// Takes a file into it.
    pub fn take(&self, file: &Path) -> String {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        fs::copy(file, self.path("tmp").join(name)).expect("copied");
        format!("/tmp/{name}")
    }

    /// All that is in it, but for what package managers keep to themselves: paths with mode, owner and,
    /// under `/etc`, contents. System users stay, as Debian has it.
    pub fn everything(&self) -> BTreeMap<String, String> {
        const NOT_OURS: [&str; 13] = [
            "var/lib/dpkg",
            "var/lib/rpm",
            "usr/lib/sysimage",
            "root/.rpmdb",
            "var/log/dpkg.log",
            "var/cache",
            "tmp",
            "etc/passwd",
            "etc/group",
            "etc/shadow",
            "etc/gshadow",
            "proc",
            "run/systemd",
        ];
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path("")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name = text(path.strip_prefix(self.path("")).expect("inside"));
                // The system's own list of users has a copy each, passwd-.
                if NOT_OURS.contains(&name.trim_end_matches('-')) {
                    continue;
                }
                let about = path.symlink_metadata().expect("metadata");
                let contents = match about.is_file() && name.starts_with("etc/") {
                    true => String::from_utf8_lossy(&fs::read(&path).expect("readable")).into_owned(),
                    false => String::new(),
                };
                let line = format!("{:o} {}:{} {contents}", about.permissions().mode(), about.uid(), about.gid());
                if about.is_dir() {
                    folders.push(path);
                }
                found.insert(name, line);
            }
        }
        found
    }
}

/// What has come, gone or changed.
pub fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let gone = before.iter().filter(|(path, about)| after.get(*path) != Some(about)).map(|(path, _)| path.clone());
    let come = after.keys().filter(|path| !before.contains_key(*path)).cloned();
    gone.chain(come).collect()
}

/// A folder as `packaging/deb --built` and `packaging/rpm --built` want it: the programs of this run, stripped, and
/// the files that go with them.
pub fn built() -> TempDir {
    let folder = TempDir::with_prefix("built-").expect("a folder");
    let release = folder.path().join("release");
    fs::create_dir(&release).expect("a folder");
    for program in PROGRAMS {
        let original = Path::new(S2CS).with_file_name(program);
        host("strip", &["-o", &text(&release.join(program)), &text(&original)]).succeeded();
    }
    package_files::write_all(&release.join("package-files")).expect("written");
    folder
}

/// Makes a package by its script, which prints where it is.
pub fn make(script: &str, built: &TempDir, more: &[&str]) -> PathBuf {
    let script = Path::new(SOURCE).join("packaging").join(script);
    let built = text(built.path());
    let arguments = [&["--fast", "--built", &built], more].concat();
    let output = Command::new(script).args(arguments).output().expect("it starts");
    assert!(output.status.success(), "{:?}", Said::of(&output));
    let path = String::from_utf8(output.stdout).expect("text").lines().last().map(PathBuf::from);
    path.filter(|path| path.is_file())
        .unwrap_or_else(|| panic!("it made nothing: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Runs a program of this host.
pub fn host(program: &str, arguments: &[&str]) -> Said {
    let output = Command::new(program).args(arguments).current_dir(SOURCE).output();
    Said::of(&output.unwrap_or_else(|e| panic!("{program} cannot be started: {e}")))
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

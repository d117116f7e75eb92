//! The units of systemd: understood without a complaint, and as shut as we say.

mod booted;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::firewall::S2FW;
use crate::support::gateway::S2CS;

/// `systemd-analyze security` says so many tenths at most.
const MOST_EXPOSURE: u32 = 15;

fn packaged() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd")
}

fn units(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut units: Vec<_> = all.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    units.sort();
    units
}

/// A folder with the units, whose programs are those that were built.
fn with_programs_of_ours() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for unit in units(&packaged(), "").into_iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(&unit).expect("a unit");
        let text = text.replace("/usr/bin/s2cs", S2CS).replace("/usr/bin/s2fw", S2FW);
        fs::write(folder.path().join(unit.file_name().expect("a name")), text).expect("written");
    }
    folder
}

/// What systemd-analyze says, and whether it is content.
fn analyze(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("systemd-analyze");
    // An empty end adds systemd's own folders.
    command.args(arguments).env("SYSTEMD_UNIT_PATH", format!("{}:", folder.display()));
    let output = command.output().expect("systemd-analyze is not installed: run packaging/test");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn systemd_understands_every_word() {
    let folder = with_programs_of_ours();
    let drop_ins = units(&packaged().join("drop-ins"), ".conf");
    assert!(!drop_ins.is_empty());
    let verify = |what: &str| {
        for unit in ["service", "socket"].iter().flat_map(|kind| units(folder.path(), &format!(".{kind}"))) {
            let (content, said) = analyze(folder.path(), &["verify", "--man=no", unit.to_str().expect("a plain path")]);
            let about_ours: Vec<_> =
                said.lines().filter(|line| line.contains("s2cs") || line.contains("s2fw")).collect();
            assert!(content && about_ours.is_empty(), "{}, {what}: {said}", unit.display());
        }
    };
    verify("as it is");
    let place = folder.path().join("s2cs.service.d");
    fs::create_dir(&place).expect("a folder");
    for drop_in in drop_ins {
        let to = place.join(drop_in.file_name().expect("a name"));
        fs::copy(&drop_in, &to).expect("copied");
        verify(&drop_in.display().to_string());
        fs::remove_file(to).expect("removed");
    }
}

#[test]
fn the_exposure_of_each_service_is_small() {
    let folder = with_programs_of_ours();
    let services = units(folder.path(), ".service");
    assert!(services.len() >= 2, "{services:?}");
    for unit in services {
        let path = unit.to_str().expect("a plain path");
        let threshold = format!("--threshold={MOST_EXPOSURE}");
        let (content, said) = analyze(folder.path(), &["security", "--offline=yes", "--no-pager", &threshold, path]);
        let overall = said.lines().last().unwrap_or_default();
        println!("{overall}");
        assert!(content && overall.contains("exposure level"), "{said}");
    }
}

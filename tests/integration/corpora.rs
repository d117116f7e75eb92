//! The fuzzer's corpora as ordinary tests: each file, and each spoilt a little,
//! keeps the promises of its parser.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::promises::{TARGETS, proto};

/// How often each file is spoilt, always in the same ways.
const SPOILT: u64 = 16;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    files
}

fn keeps_its_promises(target: &str) {
    let (_, check) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let seeds = files(&fuzz().join("corpus").join(target));
    assert!(seeds.len() >= 3, "{target} has {} files", seeds.len());
    let mut tried = 0;
    let mut try_one = |data: &[u8], from: &Path| {
        let outcome = catch_unwind(AssertUnwindSafe(|| check(data)));
        let shown = String::from_utf8_lossy(data);
        assert!(outcome.is_ok(), "{} breaks a promise, as this:\n{shown}\n{data:?}", from.display());
        tried += 1;
    };
    for path in &seeds {
        let seed = fs::read(path).expect("a file");
        try_one(&seed, path);
        (0..SPOILT).for_each(|number| try_one(&spoilt(&seed, number), path));
    }
    println!("{target}: {} files, {tried} inputs", seeds.len());
}

/// A byte is another, is missing, stands twice, or is the last.
fn spoilt(seed: &[u8], number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut data = seed.to_vec();
    for _ in 0..=random.usize(0..3) {
        let at = random.usize(0..=data.len().saturating_sub(1));
        match random.u8(0..4) {
            _ if data.is_empty() => data.push(random.u8(..)),
            0 => data[at] = random.u8(..),
            1 => drop(data.remove(at)),
            2 => data.insert(at, data[at]),
            _ => data.truncate(at),
        }
    }
    data
}

macro_rules! corpora {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                keeps_its_promises(stringify!($target));
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($target)),*];
    };
}

corpora! {
    config endpoint journal kernel key_file log manifest metadata plan proto proxy_header s2ds_config template uid
}

#[test]
fn every_target_has_a_corpus_a_program_and_a_test() {
    let names = |folder: &str| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
        files(&fuzz().join(folder)).into_iter().map(stem).collect()
    };
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("targets"), targets);
    assert_eq!(TESTED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the crate");
    for target in &targets {
        assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target} is not built");
    }
}

#[test]
fn every_message_of_the_contracts_is_read() {
    let mut written = BTreeSet::new();
    for (file, prefix) in [("scistream.proto", ""), ("gateway.proto", "gateway::")] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("proto").join(file)).expect(file);
        let names = text.lines().filter_map(|line| line.strip_prefix("message ")?.split_whitespace().next());
        written.extend(names.map(|name| format!("{prefix}{name}")));
    }
    let read: BTreeSet<String> = proto::MESSAGES.iter().map(|name| name.replace(' ', "")).collect();
    assert!(written.len() > 20);
    assert_eq!(read, written, "the list in tests/fuzz/src/proto.rs is not that of the contracts");
}

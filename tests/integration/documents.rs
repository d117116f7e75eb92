//! What the documents say is so: their commands run, their settings are taken, their
//! flags exist, their links lead somewhere.
//!
//! A document with a command that these tests do not know how to run fails them. The few
//! that cannot be run here are named in [`commands`], each with the reason.

mod applications;
mod commands;
mod container;
mod errors;
mod examples;
mod markdown;
mod world;
mod yaml;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::support::command::run;
use commands::Play;
use markdown::{Block, Document};
use world::World;

/// All of them, from the project's folder.
const DOCUMENTS: [&str; 9] = [
    "README.md",
    "packaging/container/README.md",
    "packaging/doc/backends.md",
    "packaging/doc/contributing.md",
    "packaging/doc/errors.md",
    "packaging/doc/migrating.md",
    "packaging/doc/operators.md",
    "packaging/doc/security.md",
    "packaging/doc/users.md",
];

/// Flags of other people's programs that the documents name, with the program.
const FOREIGN_FLAGS: [(&str, &[&str]); 5] = [
    ("cargo", &["--bench", "--features", "--fuzz-dir", "--release"]),
    (
        "podman, kubectl",
        &["--cert", "--entrypoint", "--file", "--filename", "--key", "--net", "--profile", "--tag", "--user"],
    ),
    ("systemctl", &["--now"]),
    ("packaging/quickstart", &["--backend", "--gb"]),
    ("redis-server", &["--port"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> Document {
    let text = fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    Document::parse(name, &text)
}

/// Plays every command of a document, and tells of all that do not what the document says.
async fn the_commands_of(name: &str) {
    let document = document(name);
    let mut world = World::new().await;
    let mut faults = Vec::new();
    for command in document.commands() {
        match commands::play(&mut world, &command).await {
            Play::Done => {}
            Play::Left(why) => eprintln!("{name}: not run, {why}: {command}"),
            Play::Failed(why) => faults.push(format!("{command}\n    {why}")),
        }
    }
    assert!(faults.is_empty(), "{name} has commands that do not run:\n{}", faults.join("\n"));
}

macro_rules! the_commands_of_each {
    ($($test:ident $document:literal)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                the_commands_of($document).await;
            }
        )*
        const PLAYED: &[&str] = &[$($document),*];
    };
}

the_commands_of_each! {
    the_commands_of_the_front_page_run "README.md"
    the_commands_for_containers_are_known "packaging/container/README.md"
    the_commands_for_backends_run "packaging/doc/backends.md"
    the_commands_for_contributors_are_known "packaging/doc/contributing.md"
    the_commands_about_errors_run "packaging/doc/errors.md"
    the_commands_for_who_migrates_run "packaging/doc/migrating.md"
    the_commands_for_operators_run "packaging/doc/operators.md"
    the_commands_about_security_run "packaging/doc/security.md"
    the_commands_for_users_run "packaging/doc/users.md"
}

#[test]
fn no_document_is_forgotten() {
    assert_eq!(PLAYED, DOCUMENTS);
    let mut there = BTreeSet::from([PathBuf::from("README.md")]);
    for folder in ["packaging/doc", "packaging/container"] {
        for entry in fs::read_dir(root().join(folder)).expect("a folder").flatten() {
            let path = Path::new(folder).join(entry.file_name());
            if path.extension().is_some_and(|ending| ending == "md") {
                there.insert(path);
            }
        }
    }
    assert_eq!(there, DOCUMENTS.iter().map(PathBuf::from).collect());
}

/// Every link to a file leads to one, and every link into a document to a heading of it.
#[test]
fn links_lead_somewhere() {
    let mut faults = Vec::new();
    for name in DOCUMENTS {
        let folder = Path::new(name).parent().expect("a file is in a folder");
        for link in document(name).links() {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if file.is_empty() { root().join(name) } else { root().join(folder).join(file) };
            if !path.exists() {
                faults.push(format!("{name}: {link} leads nowhere"));
            } else if !anchor.is_empty() {
                let text = fs::read_to_string(&path).expect("a document");
                if !Document::parse(file, &text).anchors().contains(anchor) {
                    faults.push(format!("{name}: {link}: there is no such heading"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Every flag that is named anywhere is one of ours, or of a program that is named above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flag_exists() {
    let flag = Regex::new(r"(?:^|[\s`(\[|=])(--[a-z][a-z0-9_-]*)").expect("a pattern");
    let mut known: BTreeSet<String> =
        FOREIGN_FLAGS.iter().flat_map(|(_, flags)| *flags).map(ToString::to_string).collect();
    known.extend(["--client-secret", "--help", "--version"].map(str::to_owned));
    for (program, subcommands) in commands::OURS {
        let program = commands::path(program).expect("ours");
        for subcommand in subcommands {
            let words: Vec<_> = subcommand.split_whitespace().chain(["--help"]).collect();
            let said = run(&program, &words, root()).await;
            known.extend(flag.captures_iter(said.succeeded()).map(|found| found[1].to_owned()));
        }
    }
    let mut faults = Vec::new();
    for name in DOCUMENTS {
        let text = fs::read_to_string(root().join(name)).expect("a document");
        for found in flag.captures_iter(&text) {
            // As the programs read them; `--x_y` stands for any of them.
            let written = found[1].replace('_', "-");
            if !known.contains(&written) && !["--x", "--x-y"].contains(&written.as_str()) {
                faults.push(format!("{name}: {written}"));
            }
        }
    }
    assert!(faults.is_empty(), "no program has these flags:\n{}", faults.join("\n"));
}

/// Every piece of a configuration file is one that s2cs takes, and every other block is of a
/// kind that somebody looks at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_that_are_shown_are_taken() {
    for name in DOCUMENTS {
        for Block { language, text } in document(name).blocks {
            match language.as_str() {
                // Commands and Python are played; pictures, and what brokers read, are for people.
                "" | "sh" | "python" | "text" | "properties" => {}
                "toml" => {
                    let world = World::new().await;
                    let ran = world.check(&text).await;
                    assert_eq!(ran.code, Some(0), "{name}:\n{text}\n{}{}", ran.stdout, ran.stderr);
                }
                other => panic!("{name}: nobody looks at blocks of the kind {other:?}"),
            }
        }
    }
}

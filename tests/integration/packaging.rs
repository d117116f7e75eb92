//! The packages: what is in them agrees with the code, and they install, upgrade and go without a trace.

mod booted;
mod container;
mod debian;
mod redhat;

use std::fs;
use std::path::{Path, PathBuf};

use scistream::config::{Config, Settings};
use tempfile::TempDir;

use crate::package_files::settings::{Shown, sample, top_level};
use crate::package_files::write_all;
use crate::support::package_root::{host, text};

fn files() -> TempDir {
    let folder = TempDir::with_prefix("files-").expect("a folder");
    write_all(folder.path()).expect("written");
    folder
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path()).collect();
    paths.sort();
    paths
}

/// The settings of a text, which must be without a fault in what it says.
fn parsed(text: &str) -> Settings {
    let mut faults = Vec::new();
    let settings = Settings::parse("s2cs.toml", text, &mut faults);
    assert_eq!(faults, Vec::<String>::new(), "{text}");
    settings
}

#[test]
fn the_file_shows_every_setting_and_all_that_it_shows_can_be_read() {
    let file = sample();
    // Comments have a space after their sign, settings that are shown have none.
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(shown) if !shown.is_empty() && !shown.starts_with(' ') => shown.to_owned(),
        _ => line.to_owned(),
    };
    let shown: String = file.lines().map(|line| uncommented(line) + "\n").collect();
    let settings = parsed(&shown);
    let debug = format!("{settings:#?}");
    // What only flags say.
    let of_flags = ["config", "type", "client_id", "client_secret_file", "client_secret"];
    let missing: Vec<_> = debug
        .lines()
        .filter_map(|line| line.trim().strip_suffix(": None,"))
        .filter(|key| !of_flags.contains(&key.trim_start_matches("r#")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "these are not shown in {shown}");
    parsed(&file);
}

#[test]
fn the_defaults_that_are_shown_are_those_that_hold() {
    let folder = TempDir::with_prefix("defaults-").expect("a folder");
    let tls = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, "").expect("written");
        Some(path)
    };
    let flags = Settings {
        server_crt: tls("server.crt"),
        server_key: tls("server.key"),
        state_dir: Some(folder.path().join("state")),
        site_dir: Some(folder.path().to_owned()),
        ..Settings::default()
    };
    let shown: String = top_level()
        .iter()
        .filter_map(|setting| match &setting.shown {
            Shown::Default(value) => Some(format!("{} = {value}\n", setting.key)),
            Shown::Example(_) => None,
        })
        .collect();
    assert!(shown.lines().count() > 25, "{shown}");
    let checked = |settings: Settings| format!("{:#?}", Config::check(settings, vec![]).expect("a good configuration"));
    let (shown, held) = (checked(flags.clone().over(parsed(&shown))), checked(flags));
    let other: Vec<_> = shown.lines().zip(held.lines()).filter(|(shown, held)| shown != held).collect();
    assert_eq!(other, vec![], "what is shown, and what holds");
    assert_eq!(shown, held);
    for name in ["server.crt", "server.key", "/etc/scistream"] {
        assert!(top_level().iter().any(|setting| setting.otherwise == name), "{name} is a default of the code's");
    }
}

#[test]
fn every_command_has_a_page_which_man_can_show() {
    let files = files();
    let pages = files_in(&files.path().join("man"));
    for command in crate::package_files::completions::programs() {
        let names = command.get_subcommands().map(|under| format!("{}-{}", command.get_name(), under.get_name()));
        for name in names.chain([command.get_name().to_owned()]).filter(|name| name != "s2cs-help") {
            assert!(pages.iter().any(|page| page.file_stem().is_some_and(|stem| *stem == *name)), "no page of {name}");
        }
    }
    for page in &pages {
        let shown = host("man", &["--warnings", "-E", "UTF-8", "-l", &text(page)]).succeeded();
        assert!(!shown.contains("warning:") && shown.contains("SEE ALSO"), "{}: {shown}", page.display());
    }
    let shown = host("man", &["-E", "UTF-8", "-l", &text(&files.path().join("man/s2cs.8"))]).succeeded();
    for words in ["--listener-ip", "s2cs-check(8)", "s2cs.toml(5)", "EXAMPLES", "EXIT STATUS"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let shown = host("man", &["-E", "UTF-8", "-l", &text(&files.path().join("man/backend.toml.5"))]).succeeded();
    for words in ["bandwidth_limit", "settle_seconds", "sources_v6", "USR2"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

#[test]
fn every_field_of_the_pages_says_what_it_is() {
    let files = files();
    for page in ["s2cs.toml.5", "backend.toml.5"] {
        let source = fs::read_to_string(files.path().join("man").join(page)).expect("a page");
        let lines: Vec<_> = source.lines().collect();
        for entry in lines.iter().enumerate().filter(|(_, line)| **line == ".TP").map(|(at, _)| &lines[at..]) {
            assert!(
                entry.get(2).is_some_and(|says| says.len() > 4 && !says.starts_with('.')),
                "{page}: {:?}",
                entry[1]
            );
        }
    }
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let files = files();
    for (shell, number) in [("bash", 5), ("zsh", 5), ("fish", 5)] {
        let scripts = files_in(&files.path().join(shell));
        assert_eq!(scripts.len(), number, "{scripts:?}");
        for script in scripts {
            let said = host(shell, &["-n", &text(&script)]).succeeded();
            assert_eq!(said, "", "{}", script.display());
        }
    }
    let words =
        "source $0; COMP_WORDS=(s2uc tunnel --prod-t); COMP_CWORD=2; _s2uc s2uc --prod-t tunnel; echo ${COMPREPLY[@]}";
    let said = host("bash", &["-c", words, &text(&files.path().join("bash/s2uc"))]).succeeded();
    assert_eq!(said.trim(), "--prod-target");
}

#[test]
fn the_firewall_opens_the_ports_that_are_the_defaults() {
    let service = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/system/firewalld.xml"));
    let service = service.expect("it is there");
    for key in ["port", "port_range"] {
        let setting = top_level().into_iter().find(|setting| setting.key == key).expect("a setting");
        let Shown::Default(value) = setting.shown else { panic!("{key} has a default") };
        let port = format!("<port protocol=\"tcp\" port=\"{}\"/>", value.trim_matches('"'));
        assert!(service.contains(&port), "{port} is not in {service}");
    }
}

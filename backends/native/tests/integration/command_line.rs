//! `--check`, `--help`, and what a configuration that cannot be served gives.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::config::{Config, listener, tunnel};
use crate::support::{KEY, free_address};

fn run(arguments: &[&str], config: &Path) -> Output {
    let program = env!("CARGO_BIN_EXE_s2ds");
    Command::new(program).args(arguments).arg(config).output().expect(program)
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn check_reads_everything_and_listens_nowhere() {
    let config = Config::new("");
    // Whoever bound these could not; the check does not try.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("its address");
    let path = config.write(&tunnel(address, free_address(), free_address()));
    let output = run(&["--check"], &path);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(output.stdout, b"s2ds: configuration ok\n");
    assert_eq!(errors(&output), "");
}

#[test]
fn every_fault_is_told_in_one_line() {
    let config = Config::new("drain_seconds = 100000");
    let path = config.write(&[listener("here", "there", "")]);
    for (arguments, begins) in [(&["--check"][..], "s2ds: configuration refused: "), (&[], "s2ds: cannot start: ")] {
        let output = run(arguments, &path);
        assert_eq!(output.status.code(), Some(78));
        let text = errors(&output);
        assert!(text.starts_with(begins), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        for fault in ["drain_seconds", "listener[0].accept", "listener[0].target"] {
            assert!(text.contains(fault), "{text} has no {fault}");
        }
    }
}

#[test]
fn a_missing_file_is_a_bad_configuration() {
    let output = run(&[], Path::new("/nowhere/s2ds.toml"));
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        errors(&output),
        "s2ds: cannot start: failed to read the configuration /nowhere/s2ds.toml: \
         No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_key_that_others_may_read_is_refused_and_not_shown() {
    let config = Config::new("");
    let path = config.write(&tunnel(free_address(), free_address(), free_address()));
    fs::set_permissions(config.key_path(), Permissions::from_mode(0o644)).expect("chmod");
    let output = run(&["--check"], &path);
    assert_eq!(output.status.code(), Some(78));
    assert!(errors(&output).contains("others than the owner"), "{}", errors(&output));

    config.key(&format!("client1:{KEY}x\n"));
    let output = run(&["--check"], &path);
    assert_eq!(output.status.code(), Some(78));
    assert!(errors(&output).contains("no hexadecimal digit"), "{}", errors(&output));
    assert!(!errors(&output).contains(&KEY[..6]), "a key was shown: {}", errors(&output));
}

#[test]
fn the_example_of_the_help_is_a_configuration() {
    let output = Command::new(env!("CARGO_BIN_EXE_s2ds")).arg("--help").output().expect("--help");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    let example: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("CONFIGURATION"))
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with("  "))
        .collect();
    let config = Config::new("");
    let key = config.key_path().display().to_string();
    let text = example.join("\n").replace("/run/x/psk", &key);
    assert!(text.contains("target_proxy_protocol"), "no example in:\n{help}");
    fs::write(config.path(), text).expect("write");
    let output = run(&["--check"], &config.path());
    assert!(output.status.success(), "{}", errors(&output));
}

//! The units under a systemd that runs, with the real programs.

use std::fs;
use std::path::Path;

use super::packaged;
use crate::support::booted_host::BootedHost;
use crate::support::firewall::S2FW;
use crate::support::gateway::{S2CS, S2UC};
use crate::support::machine::busybox;

/// Says what it is at, and ends the run where something does not hold.
const SCRIPT: &str = include_str!("booted.sh");

#[test]
fn a_gateway_under_systemd() {
    let host = BootedHost::new();
    for (program, to) in [(S2CS, "s2cs"), (S2UC, "s2uc"), (S2FW, "s2fw")] {
        host.program(Path::new(program), &format!("/usr/bin/{to}"));
    }
    host.program(&Path::new(S2CS).with_file_name("s2ds"), "/usr/bin/s2ds");
    host.program(busybox(), "/usr/local/bin/busybox");
    for entry in fs::read_dir(packaged()).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_file() {
            let name = entry.file_name().expect("a name").to_string_lossy().into_owned();
            host.file(&format!("/usr/lib/systemd/system/{name}"), &fs::read_to_string(&entry).expect("a unit"));
        }
    }
    let said = host.run(SCRIPT);
    assert!(said.iter().any(|line| line == "ALL WELL"), "the console tells what is not");
}

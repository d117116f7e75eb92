//! The packages under a systemd that runs, on a gateway that carries streams.

use super::debian::earlier;
use crate::support::booted_host::BootedHost;
use crate::support::machine::busybox;
use crate::support::package_root::{built, make};

/// Says what it is at, and ends the run where something does not hold.
const SCRIPT: &str = include_str!("booted.sh");

#[test]
fn packages_under_systemd() {
    let folder = built();
    let deb = make("deb", &folder, &[]);
    let host = BootedHost::new();
    host.program(busybox(), "/usr/local/bin/busybox");
    host.take(&earlier(&deb, &folder), "/packages/earlier.deb");
    host.take(&deb, "/packages/new.deb");
    host.take(&make("rpm", &folder, &["--version", "1.9.9"]), "/packages/earlier.rpm");
    host.take(&make("rpm", &folder, &[]), "/packages/new.rpm");
    let said = host.run(SCRIPT);
    assert!(said.iter().any(|line| line == "ALL WELL"), "the console tells what is not");
}

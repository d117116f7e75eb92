//! The container, without its image: what `packaging/container/try` does.

use std::path::Path;

use crate::support::gateway::S2CS;
use crate::support::package_root::{host, text};

#[test]
fn two_containers_of_the_same_steps_stream_and_leave_nothing() {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/container-root");
    assert!(made.is_dir(), "no root like the container's: run packaging/test");
    let programs = text(Path::new(S2CS).parent().expect("it is in a folder"));
    let said = host("packaging/container/try", &[&programs]).succeeded();
    assert!(said.contains("50000000 bytes came, all of them right"), "{said}");
    assert!(said.contains("processes left: 0   files of sessions left: 0"), "{said}");
    assert!(!made.join("scistream").exists(), "the root that is copied was changed");
}

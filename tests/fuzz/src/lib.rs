//! What holds for whatever comes from outside, a file for each that reads it.
//!
//! Each `check` takes any bytes and panics when they break a promise. The fuzzer
//! calls it with all that it can think of (`targets/`), the ordinary tests with
//! what it has found (`corpus/`, by `tests/integration/corpora.rs`).

pub mod config;
pub mod endpoint;
pub mod journal;
pub mod kernel;
pub mod key_file;
pub mod log;
pub mod manifest;
pub mod metadata;
pub mod plan;
pub mod proto;
pub mod proxy_header;
pub mod rendered;
pub mod s2ds_config;
pub mod template;
pub mod uid;

use std::time::{Duration, Instant, SystemTime};

/// A target's name, as its file and its corpus have it, and what is promised there.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 14] = [
    ("config", config::check),
    ("endpoint", endpoint::check),
    ("journal", journal::check),
    ("kernel", kernel::check),
    ("key_file", key_file::check),
    ("log", log::check),
    ("manifest", manifest::check),
    ("metadata", metadata::check),
    ("plan", plan::check),
    ("proto", proto::check),
    ("proxy_header", proxy_header::check),
    ("s2ds_config", s2ds_config::check),
    ("template", template::check),
    ("uid", uid::check),
];

/// A line for people stays one line, and writes over no other.
fn assert_one_line(text: &str) {
    assert!(text.chars().all(scistream::shown::is_harmless), "{text:?} is more than a line");
}

/// Files and programs' arguments take these as they are.
fn assert_plain(text: &str, others: &[u8]) {
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b)), "{text:?} is not plain");
}

/// Something can be waited for so long from now on.
fn assert_can_be_waited(length: Duration) {
    assert!(Instant::now().checked_add(length).is_some(), "no clock goes as far as {length:?} from now");
    assert!(SystemTime::now().checked_add(length).is_some(), "no calendar goes as far as {length:?} from now");
}

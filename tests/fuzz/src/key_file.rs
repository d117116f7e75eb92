//! A file of pre-shared keys, as s2ds reads it.

use s2ds::key::Keys;

/// Only keys of a good length are taken, and no fault shows a part of one.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Keys::parse(text, "client1") {
        Ok(keys) => {
            assert_eq!(keys.identity(), "client1");
            let secret = keys.secret(b"client1").expect("it was asked for");
            assert!((16..=64).contains(&secret.len()), "{} bytes", secret.len());
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in &faults {
                super::assert_one_line(fault);
                assert!(!shows_a_part(fault, text), "{fault} shows a part of a key");
            }
        }
    }
}

/// Whether eight digits in a row are those of the file.
fn shows_a_part(fault: &str, text: &str) -> bool {
    let digits = |window: &&[u8]| window.iter().all(u8::is_ascii_hexdigit);
    fault.as_bytes().windows(8).filter(digits).any(|part| text.as_bytes().windows(8).any(|other| other == part))
}

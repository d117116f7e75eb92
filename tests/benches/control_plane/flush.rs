//! The disk under the state folder: every session waits for it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::support::statistics::Spread;

/// How long it takes until a line at the end of a file in `folder` is on the disk, in milliseconds.
pub fn flush(folder: &Path) -> Spread {
    let path = folder.join("flush");
    let mut file = File::create(&path).expect("a file");
    let once = |_| {
        let begun = Instant::now();
        file.write_all(&[b'x'; 500]).and_then(|()| file.sync_data()).expect("written");
        begun.elapsed().as_secs_f64() * 1e3
    };
    let spread = Spread::of((0..25).map(once).collect()).expect("there are some");
    fs::remove_file(path).expect("it is there");
    spread
}

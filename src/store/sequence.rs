//! From where a run counts its events: beyond all that an earlier run can have
//! counted, whatever the clock shows by now.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::{Outlasts, replace};

const FILE: &str = "sequence";
/// More than the events of any run: a thousand a second for two years.
const ROOM: u64 = 1 << 36;

/// The number from which this run counts; what it may reach is written down.
///
/// Microseconds since 1970 by themselves do as long as the clock is never set back,
/// so a file that is lost, or not ours, stops nothing. One that was written at an
/// orderly end has the last number itself, so that no event is missing in between.
pub(super) fn begin(folder: &Path) -> io::Result<u64> {
    let path = folder.join(FILE);
    let reached = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        read => {
            let number = read?.trim().parse::<u64>();
            number.inspect_err(|e| tracing::warn!("{} holds no number, and is made anew: {e}", path.display())).ok()
        }
    };
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros());
    let first = reached.unwrap_or_else(|| u64::try_from(now()).unwrap_or(0)).max(1);
    replace(&path, format!("{}\n", first.saturating_add(ROOM)).as_bytes(), Outlasts::Host)?;
    Ok(first)
}

/// An orderly end: no event has a higher number than that.
pub(super) fn end(folder: &Path, last: u64) -> io::Result<()> {
    replace(&folder.join(FILE), format!("{last}\n").as_bytes(), Outlasts::Host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_counts_beyond_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let runs = [(); 3].map(|()| begin(folder.path()).expect("a number"));
        assert!(runs[1] >= runs[0] + ROOM && runs[2] >= runs[1] + ROOM, "{runs:?}");
        end(folder.path(), runs[2] + 5).expect("written");
        assert_eq!(begin(folder.path()).expect("a number"), runs[2] + 5, "a gap where nothing is missing");
        fs::write(folder.path().join(FILE), "no number").expect("written");
        let anew = begin(folder.path()).expect("a number");
        assert!(anew >= runs[0], "it does not go by the clock");
    }
}

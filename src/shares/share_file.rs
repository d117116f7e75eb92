//! What a session is kept to, as it stands in its folder: a later run must know.
//!
//! It is written whole and without waiting for the disk: after a power cut no
//! process is left that it would be about.

use std::fs;
use std::io;
use std::path::Path;

use crate::session::Bandwidth;
use crate::store::{Outlasts, replace};

/// Its name.
pub const SHARE_FILE: &str = "share";

/// What an earlier run has written; `None`: nothing that can be read.
#[must_use]
pub fn read_share(folder: &Path) -> Option<Bandwidth> {
    fs::read_to_string(folder.join(SHARE_FILE)).ok()?.trim().parse().ok().and_then(Bandwidth::kilobytes)
}

/// Writes it, in kB/s.
///
/// # Errors
/// What the system says.
pub fn write_share(folder: &Path, share: Bandwidth) -> io::Result<()> {
    let text = format!("{}\n", share.kilobytes_per_second());
    replace(&folder.join(SHARE_FILE), text.as_bytes(), Outlasts::Process)
}

/// Takes it away, where nothing is kept to anything.
///
/// # Errors
/// What the system says.
pub fn forget_share(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(SHARE_FILE)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_rubbish_is_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read_share(folder.path()), None);
        let share = Bandwidth::kilobytes(5000).expect("not 0");
        write_share(folder.path(), share).expect("written");
        assert_eq!(read_share(folder.path()), Some(share));
        forget_share(folder.path()).expect("removed");
        assert_eq!(read_share(folder.path()), None);
        forget_share(folder.path()).expect("nothing to remove");
        for rubbish in ["", "0", "-5", "many", "99999999999"] {
            fs::write(folder.path().join(SHARE_FILE), rubbish).expect("written");
            assert_eq!(read_share(folder.path()), None, "{rubbish:?}");
        }
    }
}

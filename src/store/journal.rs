//! The journal file of a session: a record a line, of which the last one counts.
//!
//! A record is added by one write and one wait for the disk, where replacing the file
//! would take three. A line that a power cut has cut short was confirmed to nobody, and
//! the one before it counts. A file that has grown long is replaced by its last line.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::record::Record;
use super::{Outlasts, place_new, replace};

/// The journal's name in the session's folder.
pub(super) const FILE: &str = "session.json";
/// After so many bytes it is replaced.
const MOST_BYTES: u64 = 64 << 10;

/// What this run has written of one session.
#[derive(Debug, Default)]
pub struct Journal {
    says: Option<Record>,
    end: End,
}

/// Where the next record goes.
#[derive(Debug, Clone, Copy, Default)]
enum End {
    /// There is no file yet.
    New,
    /// Behind so many bytes.
    At(u64),
    /// Nobody knows what is in it: it is replaced.
    #[default]
    Unknown,
}

impl Journal {
    /// Of a session that has none.
    #[must_use]
    pub fn new() -> Self {
        Self { says: None, end: End::New }
    }

    /// Of a session of an earlier run, which has left this record.
    #[must_use]
    pub fn of_earlier_run(record: Record) -> Self {
        Self { says: Some(record), end: End::Unknown }
    }

    /// What it says.
    #[must_use]
    pub fn says(&self) -> Option<&Record> {
        self.says.as_ref()
    }

    /// Writes down a record: from here on it is what a later run finds in `folder`.
    ///
    /// # Errors
    /// What the system says; what was written before counts still.
    pub fn write(&mut self, folder: &Path, record: Record) -> io::Result<()> {
        failpoint!("before-the-journal");
        let path = folder.join(FILE);
        let line = record.to_line()?;
        let length = u64::try_from(line.len()).unwrap_or(MOST_BYTES);
        let end = match std::mem::take(&mut self.end) {
            End::New => {
                place_new(&path, &line)?;
                length
            }
            End::At(end) if end < MOST_BYTES => {
                self.add(&path, &line, end)?;
                end.saturating_add(length)
            }
            End::At(_) | End::Unknown => {
                replace(&path, &line, Outlasts::Host)?;
                length
            }
        };
        (self.says, self.end) = (Some(record), End::At(end));
        failpoint!("after-the-journal");
        Ok(())
    }

    fn add(&mut self, path: &Path, line: &[u8], end: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        let written = file.write_all_at(line, end).and_then(|()| {
            failpoint!("before-a-record-is-on-disk");
            file.sync_data()
        });
        if written.is_err() {
            // A whole disk may have taken half a line. If it stays, the next write replaces all.
            self.end = take_back(&file, end).map_or(End::Unknown, |()| End::At(end));
        }
        written
    }
}

fn take_back(file: &File, end: u64) -> io::Result<()> {
    file.set_len(end)?;
    file.sync_data()
}

/// The text of the journal in a session's folder.
pub(super) fn text(folder: &Path) -> io::Result<Vec<u8>> {
    fs::read(folder.join(FILE))
}

/// The records of a journal, without one that was cut short.
pub(super) fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let mut lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    // Without its end, or with a hole where the disk has not been written.
    let cut = |line: &&[u8]| !line.ends_with(b"\n") || line.contains(&0);
    if lines.len() > 1 && lines.last().is_some_and(cut) {
        lines.pop();
    }
    lines.into_iter()
}

#[cfg(test)]
mod tests {
    use super::super::record::RecordError;
    use super::super::record::tests::record;
    use super::*;

    fn revision(revision: u64) -> Record {
        Record { revision, ..record() }
    }

    #[test]
    fn the_last_record_is_read_however_the_journal_has_grown() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(Record::read(folder.path()), Err(RecordError::None)));
        let mut journal = Journal::new();
        let mut longest = 0;
        for number in 1..=300 {
            journal.write(folder.path(), revision(number)).expect("written");
            assert_eq!(Record::read(folder.path()).expect("read"), revision(number));
            assert_eq!(journal.says(), Some(&revision(number)));
            longest = longest.max(text(folder.path()).expect("there").len());
        }
        assert!(u64::try_from(longest).is_ok_and(|longest| longest < 2 * MOST_BYTES), "{longest} bytes");
        let mut later = Journal::of_earlier_run(revision(300));
        for number in 301..=302 {
            later.write(folder.path(), revision(number)).expect("written");
            assert_eq!(Record::read(folder.path()).expect("read"), revision(number));
        }
    }

    #[test]
    fn a_journal_of_the_first_releases_is_gone_on_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let pretty = serde_json::to_vec_pretty(&revision(1)).expect("json");
        fs::write(folder.path().join(FILE), pretty).expect("written");
        let found = Record::read(folder.path()).expect("read");
        assert_eq!(found, revision(1));
        let mut journal = Journal::of_earlier_run(found);
        journal.write(folder.path(), revision(2)).expect("written");
        assert_eq!(Record::read(folder.path()).expect("read"), revision(2));
    }

    #[test]
    fn a_record_that_was_cut_short_does_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (revision(1).to_line().expect("json"), revision(2).to_line().expect("json"));
        for cut in 0..second.len() {
            let holes = [&second[..cut], &vec![0; second.len() - cut - 1], b"\n"].concat();
            for torn in [&second[..cut], &holes] {
                fs::write(folder.path().join(FILE), [&first[..], torn].concat()).expect("written");
                // A whole record without its end is as good as one: nothing of it is missing.
                let whole = cut == second.len() - 1;
                let found = Record::read(folder.path()).expect("read").revision;
                assert!(found == 1 || whole, "cut at {cut}: {found}");
            }
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::new();
        journal.write(folder.path(), revision(1)).expect("written");
        let moved = folder.path().join("moved");
        fs::rename(folder.path().join(FILE), &moved).expect("moved");
        journal.write(folder.path(), revision(2)).expect_err("it is not there");
        assert_eq!(journal.says(), Some(&revision(1)));
        fs::rename(&moved, folder.path().join(FILE)).expect("moved back");
        journal.write(folder.path(), revision(3)).expect("written");
        assert_eq!(Record::read(folder.path()).expect("read"), revision(3));
    }
}

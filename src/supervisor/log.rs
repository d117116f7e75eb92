//! The output of a session's process: a bounded file that is searched for answers.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use regex::RegexSet;

use crate::shown::in_one_line;

/// A log grows to this size, then starts anew.
const MOST_BYTES: u64 = 1 << 20;
/// What is read of it at once when it is searched.
const WINDOW: u64 = 64 << 10;
/// What of it is shown to a user.
const SHOWN_LINES: usize = 8;
const SHOWN_CHARACTERS: usize = 1500;

/// A process's log file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
}

/// Where a log ended at some time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(u64);

/// What a log says of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The program serves what it was given.
    Confirmed,
    /// It does not take it.
    Refused,
    /// It has not answered yet.
    Silent,
}

impl Verdict {
    /// Looks for an answer in whole lines. A refusal counts wherever it stands.
    #[must_use]
    pub fn of(text: &str, confirmed: &RegexSet, refused: &RegexSet) -> Self {
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        if whole.lines().any(|line| refused.is_match(line)) {
            Self::Refused
        } else if whole.lines().any(|line| confirmed.is_match(line)) {
            Self::Confirmed
        } else {
            Self::Silent
        }
    }
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, for a process to write to.
    pub(super) fn open(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.path.metadata().map_or(0, |m| m.len()))
    }

    /// What was written since `mark`, as far as the window goes.
    pub(super) fn since(&self, mark: Mark) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let length = file.metadata()?.len();
            let from = if length < mark.0 { 0 } else { mark.0 };
            file.seek(SeekFrom::Start(from.max(length.saturating_sub(WINDOW))))?;
            let mut bytes = Vec::new();
            file.take(WINDOW).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        // A log that cannot be read says nothing; the deadline of whoever waits speaks then.
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }

    /// What was answered since `mark`.
    pub(super) fn verdict(&self, mark: Mark, confirmed: &RegexSet, refused: &RegexSet) -> Verdict {
        Verdict::of(&self.since(mark), confirmed, refused)
    }

    /// The last lines since `mark`, fit to be shown to a user.
    pub(super) fn tail(&self, mark: Mark) -> String {
        trimmed(&self.since(mark))
    }

    /// Keeps the file small. Its writers append, so they go on at the new end.
    pub(super) fn bound(&self) -> io::Result<()> {
        if self.path.metadata().is_ok_and(|m| m.len() > MOST_BYTES) {
            let last = self.since(Mark(0));
            let file = OpenOptions::new().write(true).truncate(true).open(&self.path)?;
            drop(file);
            io::Write::write_all(&mut self.open()?, last.as_bytes())?;
        }
        Ok(())
    }
}

/// The last lines of a program's output as one, without control characters.
#[must_use]
pub fn trimmed(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.len().saturating_sub(SHOWN_LINES);
    let joined = lines[last..].join(" | ");
    let shown = in_one_line(&joined);
    let skip = shown.chars().count().saturating_sub(SHOWN_CHARACTERS);
    shown.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn set(patterns: &[&str]) -> RegexSet {
        RegexSet::new(patterns).expect("patterns")
    }

    #[test]
    fn only_whole_lines_since_the_mark_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::new(folder.path().join("x.log"));
        let mut file = log.open().expect("log");
        let (yes, no) = (set(&["^ready$"]), set(&["^refused"]));
        writeln!(file, "ready").expect("write");
        let mark = log.mark();
        assert_eq!(log.verdict(mark, &yes, &no), Verdict::Silent);
        write!(file, "rea").expect("write");
        assert_eq!(log.verdict(mark, &yes, &no), Verdict::Silent);
        writeln!(file, "dy").expect("write");
        assert_eq!(log.verdict(mark, &yes, &no), Verdict::Confirmed);
        writeln!(file, "refused: why").expect("write");
        assert_eq!(log.verdict(mark, &yes, &no), Verdict::Refused);
    }

    #[test]
    fn a_log_stays_small_and_its_writer_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::new(folder.path().join("x.log"));
        let mut file = log.open().expect("log");
        file.write_all(&vec![b'x'; usize::try_from(MOST_BYTES).expect("fits") + 1]).expect("write");
        log.bound().expect("bound");
        writeln!(file, "\nafter").expect("write");
        let length = folder.path().join("x.log").metadata().expect("log").len();
        assert!(length < 2 * WINDOW, "{length}");
        assert!(log.since(Mark(0)).ends_with("after\n"));
    }

    #[test]
    fn what_users_see_is_short_and_harmless() {
        let shown = trimmed(&format!("{}\nlast \u{1b}[31mline\n\n", "long ".repeat(2000)));
        assert!(shown.chars().count() <= SHOWN_CHARACTERS);
        assert!(shown.ends_with("[31mline") && !shown.contains('\u{1b}'));
    }
}

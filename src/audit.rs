//! The audit log: one JSON object a line, appended before what it tells takes effect.
//!
//! Each line has the time (RFC 3339, UTC), what it is (`event`), who asked, from
//! which address, of which session, and how it came out. UIDs and tokens stand as
//! short hashes. The file is opened for each line, so it may be renamed at any
//! time, as `logrotate(8)` does; nothing in it is ever changed.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

/// Where decisions are written down. Clones write to the same file.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// `None`: nowhere. Locked so that no two lines mix, however long they are.
    file: Option<Arc<Mutex<PathBuf>>>,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Somebody could not say who they are.
    Login,
    /// The policy has said yes or no.
    Decision,
    /// Something that was allowed came to nothing.
    Failure,
    /// A session has changed, or is about to.
    Session,
}

/// One line. What does not apply is left out.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// What it is about.
    pub event: What,
    /// Which call, in the words of the protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<&'static str>,
    /// Whether the answer was yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
    /// The reason, or what happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The rule that let it be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Who, by their lasting name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Who, by the name that people know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// From where they called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Which session, by its short hash; of a UID without a role, the hash alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whose session that is, by their lasting name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Where it accepts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<String>,
    /// Where it forwards to, or was to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// From where it takes connections; none: from anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The floor of its tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protection: Option<&'static str>,
    /// What it was asked to move, in kB/s, meant or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// What it may move at most, in kB/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u32>,
    /// The short hash of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl Entry {
    /// A line that says nothing but what it is about.
    #[must_use]
    pub fn of(event: What) -> Self {
        Self {
            event,
            call: None,
            allowed: None,
            why: None,
            rule: None,
            who: None,
            name: None,
            address: None,
            session: None,
            owner: None,
            listeners: vec![],
            targets: vec![],
            sources: vec![],
            protection: None,
            rate: None,
            bandwidth: None,
            token: None,
        }
    }
}

/// An entry with its time.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    #[serde(flatten)]
    entry: &'a Entry,
}

impl Audit {
    /// Appends to a file, which is made when it is not there.
    #[must_use]
    pub fn to(path: PathBuf) -> Self {
        Self { file: Some(Arc::new(Mutex::new(path))) }
    }

    /// Appends a line. Nothing may happen that cannot be written down.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = serde_json::to_vec(&Line { at, entry })?;
        line.push(b'\n');
        let path = file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&*path)?;
        file.write_all(&line)
    }

    /// Appends a line about what has happened anyway.
    pub fn note(&self, entry: &Entry) {
        if let Err(e) = self.write(entry) {
            tracing::error!("cannot write the audit log: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn lines_are_whole_and_the_file_may_be_rotated() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let audit = Audit::to(path.clone());
        let long = "x".repeat(100_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let entry = Entry { why: Some(long.clone()), ..Entry::of(What::Session) };
                        audit.write(&entry).expect("written");
                    }
                });
            }
        });
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text.lines().count(), 200);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("a JSON object");
            assert!(line["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{}", line["at"]);
        }
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        fs::rename(&path, folder.path().join("audit.log.1")).expect("rotated");
        audit.write(&Entry::of(What::Login)).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("a new file").lines().count(), 1);
    }

    #[test]
    fn words_from_outside_cannot_make_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let entry = Entry { why: Some("a\n{\"event\":\"login\"}\u{2028}".into()), ..Entry::of(What::Decision) };
        Audit::to(path.clone()).write(&entry).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read").lines().count(), 1);
    }
}

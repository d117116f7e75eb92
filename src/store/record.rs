//! The journal of a session: what a later run must know to go on with it.
//!
//! One file in the session's folder, replaced whole before each effect. Fields
//! may be added with a default; whatever changes a meaning takes a new `format`,
//! and every format that was ever released must load.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::write_durably;
use crate::auth::Caller;
use crate::session::{Protection, Weakness};

/// The format that this program writes.
pub const FORMAT: u32 = 2;
const FILE: &str = "session.json";

/// What is written of a session, from its HELLO on. (Before, the client that
/// waits for REQ is lost with the controller, and the session with it.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// See [`FORMAT`].
    pub format: u32,
    /// The session's name, as its folder has it.
    pub session: String,
    /// Its entry points.
    pub listeners: Vec<SocketAddr>,
    /// The endpoints of its last HELLO, as they came.
    pub announced: Vec<String>,
    /// What those are, for a PROD session.
    pub announced_targets: Vec<SocketAddr>,
    /// What it serves.
    pub live: Option<Live>,
    /// Whether it is being moved to another plan.
    pub changing: bool,
    /// Counts the plans that became live.
    pub revision: u64,
    /// When it was asked for, in Unix milliseconds.
    pub created_ms: u64,
    /// When it ends by itself, in Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// How long it may stand without a byte.
    #[serde(default)]
    pub max_idle_ms: Option<u64>,
    /// From where connections are taken; none: from anywhere.
    #[serde(default)]
    pub sources: Vec<IpNet>,
    /// Whose it is.
    #[serde(default)]
    pub owner: Caller,
    /// What is weak about its key.
    #[serde(default)]
    pub weakness: Option<Weakness>,
    /// What carries its bytes; `None`: what the gateway chooses.
    #[serde(default)]
    pub backend: Option<String>,
    /// Whether that was asked for, and not what the gateway chose; format 1 does not tell.
    #[serde(default)]
    pub backend_is_asked_for: Option<bool>,
    /// The floor of its tunnel; `None`: the gateway's.
    #[serde(default)]
    pub protection: Option<Protection>,
    /// The longest that its lifetime may be made.
    #[serde(default)]
    pub max_lifetime_ms: Option<u64>,
}

/// A plan that is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The floor of the tunnel's protection.
    pub protection: Protection,
    /// The target of each listener.
    pub targets: Vec<SocketAddr>,
}

/// A journal that cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The session had not come far enough to have one.
    #[error("it has no journal yet")]
    None,
    /// Its key is gone, which is the first thing that goes.
    #[error("it was being released")]
    Ending,
    /// It cannot be read.
    #[error("its journal cannot be read")]
    Read(#[source] io::Error),
    /// It is not whole, or no journal of ours.
    #[error("its journal is damaged, or none of ours")]
    Damaged(#[source] serde_json::Error),
    /// A later release wrote it.
    #[error("its journal has the format {0}, and this release knows {FORMAT}")]
    Future(u32),
    /// It says other things than its folder.
    #[error("{0}")]
    Foreign(String),
}

/// What every format has in common.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

impl Record {
    /// Reads the journal of the session in `folder`.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn read(folder: &Path) -> Result<Self, RecordError> {
        let bytes = fs::read(folder.join(FILE)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => RecordError::None,
            _ => RecordError::Read(e),
        })?;
        Self::parse(&bytes)
    }

    /// Understands a journal.
    ///
    /// # Errors
    /// [`RecordError::Damaged`] or [`RecordError::Future`]
    pub fn parse(json: &[u8]) -> Result<Self, RecordError> {
        let any: AnyFormat = serde_json::from_slice(json).map_err(RecordError::Damaged)?;
        if any.format > FORMAT {
            return Err(RecordError::Future(any.format));
        }
        serde_json::from_slice(json).map_err(RecordError::Damaged)
    }

    /// The journal as it is written.
    ///
    /// # Errors
    /// Never with what a session holds; the writer could fail.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }

    /// Replaces the journal of the session in `folder`.
    ///
    /// # Errors
    /// What the system says; the old journal is then whole still.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        failpoint!("before-the-journal");
        write_durably(&folder.join(FILE), &self.to_json()?)?;
        failpoint!("after-the-journal");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            format: FORMAT,
            session: "0123456789ab-prod".into(),
            listeners: vec!["127.0.0.1:5100".parse().expect("address")],
            announced: vec!["daq:5300".into()],
            announced_targets: vec!["10.0.0.9:5300".parse().expect("address")],
            live: None,
            changing: false,
            revision: 0,
            created_ms: 1_700_000_000_000,
            expires_ms: None,
            max_idle_ms: None,
            sources: vec!["198.51.100.0/24".parse().expect("a network")],
            owner: Caller::Anyone,
            weakness: None,
            backend: Some("native".into()),
            backend_is_asked_for: Some(false),
            protection: Some(Protection::Confidentiality),
            max_lifetime_ms: None,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(Record::read(folder.path()), Err(RecordError::None)));
        record().write(folder.path()).expect("written");
        assert_eq!(Record::read(folder.path()).expect("read"), record());
    }

    #[test]
    fn torn_foreign_and_future_journals_are_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE);
        let whole = serde_json::to_string(&record()).expect("json");
        for (text, is_future) in [
            (&whole[..whole.len() / 2], false),
            ("", false),
            ("{\"format\": 1}", false),
            ("[]", false),
            ("{\"format\": 3, \"new\": true}", true),
        ] {
            fs::write(&file, text).expect("written");
            let error = Record::read(folder.path()).expect_err(text);
            assert_eq!(matches!(error, RecordError::Future(3)), is_future, "{text}: {error}");
            assert_eq!(matches!(error, RecordError::Damaged(_)), !is_future, "{text}: {error}");
        }
    }
}

//! The journal of a session: what a later run must know to go on with it.
//!
//! Written into the session's [`Journal`](super::Journal) before each effect. Fields
//! may be added with a default; whatever changes a meaning takes a new `format`,
//! and every format that was ever released must load.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::journal;
use crate::auth::Caller;
use crate::session::{Bandwidth, Protection, TcpWishes, Weakness, Weight};

/// The format that this program writes.
pub const FORMAT: u32 = 2;

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
    /// What its client has asked it to move, in kB/s.
    #[serde(default)]
    pub rate: Option<Bandwidth>,
    /// What it may move at most, in kB/s.
    #[serde(default)]
    pub bandwidth: Option<Bandwidth>,
    /// What it counts where all share what the gateway may move.
    #[serde(default)]
    pub weight: Weight,
    /// Whether it has a share of that.
    #[serde(default)]
    pub shared: bool,
    /// What its connections have of their own.
    #[serde(default)]
    pub tcp: TcpWishes,
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
        let bytes = journal::text(folder).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => RecordError::None,
            _ => RecordError::Read(e),
        })?;
        Self::parse(&bytes)
    }

    /// Understands a journal: one record, or several with a line for each.
    ///
    /// # Errors
    /// [`RecordError::Damaged`] or [`RecordError::Future`]
    pub fn parse(text: &[u8]) -> Result<Self, RecordError> {
        match Self::parse_one(text) {
            // The first releases wrote one record over many lines.
            Err(RecordError::Damaged(whole)) => {
                let mut lines = journal::lines(text);
                let last = lines.next_back().ok_or(RecordError::Damaged(whole))?;
                // What was added to a line that is none was not added by us.
                lines.try_for_each(|line| Self::parse_one(line).map(drop))?;
                Self::parse_one(last)
            }
            outcome => outcome,
        }
    }

    fn parse_one(json: &[u8]) -> Result<Self, RecordError> {
        let any: AnyFormat = serde_json::from_slice(json).map_err(RecordError::Damaged)?;
        if any.format > FORMAT {
            return Err(RecordError::Future(any.format));
        }
        serde_json::from_slice(json).map_err(RecordError::Damaged)
    }

    /// The line that is written of it.
    ///
    /// # Errors
    /// Never with what a session holds; the writer could fail.
    pub fn to_line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::store) fn record() -> Record {
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
            rate: Bandwidth::kilobytes(10_000),
            bandwidth: Bandwidth::kilobytes(5000),
            weight: Weight::default(),
            shared: true,
            tcp: TcpWishes { congestion: "bbr".parse().ok(), ..TcpWishes::default() },
        }
    }

    #[test]
    fn damaged_foreign_and_future_journals_are_told_apart() {
        let whole = serde_json::to_string(&record()).expect("json");
        let pretty = serde_json::to_string_pretty(&record()).expect("json");
        for (text, is_future) in [
            (&whole[..whole.len() / 2], false),
            (&pretty[..pretty.len() / 2], false),
            ("", false),
            ("{\"format\": 1}", false),
            ("[]", false),
            ("{\"format\": 3, \"new\": true}", true),
            (&format!("{whole}\n{{\"format\": 3}}\n"), true),
            (&format!("{whole}\n{{\"format\": 1}}\n"), false),
            (&format!("{{\"format\": 1}}\n{whole}\n"), false),
            (&format!("{whole}\n{}\n{whole}\n", &whole[..40]), false),
        ] {
            let error = Record::parse(text.as_bytes()).expect_err(text);
            assert_eq!(matches!(error, RecordError::Future(3)), is_future, "{text}: {error}");
            assert_eq!(matches!(error, RecordError::Damaged(_)), !is_future, "{text}: {error}");
        }
    }
}

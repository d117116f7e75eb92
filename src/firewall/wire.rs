//! What s2cs and its helper say to each other: one line of JSON each way, a connection each.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The longest line that is read.
pub(super) const LONGEST_LINE: u64 = 1 << 20;

/// What the helper may be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Let connections through, from now on for so long.
    Open {
        /// To where.
        listeners: Vec<SocketAddr>,
        /// From where: networks. None at all means from anywhere.
        sources: Vec<String>,
        /// For how long, unless it is asked for again.
        seconds: u32,
    },
    /// Let them through no more.
    Close {
        /// To where.
        listeners: Vec<SocketAddr>,
        /// From where, as when it was opened.
        sources: Vec<String>,
    },
    /// Tell what is open.
    List {},
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It has done so.
    Done {},
    /// What is open.
    Openings(Vec<Seen>),
    /// It may not, or not be asked like this.
    Refused(String),
    /// It tried, and the firewall did not let it.
    Failed(String),
}

/// Something that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// From where.
    pub source: String,
    /// To where.
    pub listener: String,
    /// For how many seconds still, if the firewall tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<u64>,
}

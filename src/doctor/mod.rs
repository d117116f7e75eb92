//! Looks at what operators and users trip over, and says what to do about it.
//!
//! ```text
//!   s2cs doctor ── gateway ──┬── certificate    names, end, key
//!                            ├── ports          taken by others
//!                            ├── issuers        within reach, and of the same time
//!                            └── host           limits, kernel, firewall, SELinux
//!   s2uc doctor ── user ──────── certificate
//! ```
//! Nothing is changed by looking.

mod certificate;
mod gateway;
mod host;
mod issuers;
mod ports;
mod user;

use serde::Serialize;

pub use gateway::look_at_gateway;
pub use user::{Way, look_at_streams, look_from_user};

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// In words.
    pub said: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Something that one may want to know, or to do.
    Note,
    /// Something will not work.
    Bad,
}

impl Finding {
    pub(crate) fn good(about: &'static str, said: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Good, said: said.into(), remedy: None }
    }

    pub(crate) fn note(about: &'static str, said: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Note, said: said.into(), remedy: Some(remedy.into()) }
    }

    pub(crate) fn bad(about: &'static str, said: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Bad, said: said.into(), remedy: Some(remedy.into()) }
    }
}

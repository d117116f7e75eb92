//! What the engine is told by the operator.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::{BandwidthPolicy, Policy, SourcePolicy, TcpPolicy};
use crate::session::Protection;
use crate::supervisor::Site;

/// What the engine is told by the operator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where PROD sessions listen.
    pub wan: IpAddr,
    /// Where CONS sessions listen.
    pub lan: IpAddr,
    /// The floor of every tunnel's protection.
    pub protection: Protection,
    /// Who may have what.
    pub policy: Arc<Policy>,
    /// From where sessions may take connections.
    pub sources: SourcePolicy,
    /// How much they may move.
    pub bandwidth: BandwidthPolicy,
    /// How they may have their connections set.
    pub tcp: TcpPolicy,
    /// Whether keys that can be guessed are good enough.
    pub weak_keys: WeakKeys,
    /// How many REQs of one caller may wait for their HELLO.
    pub max_waiting: usize,
    /// How long REQ waits for HELLO, and HELLO for REQ.
    pub hello_timeout: Duration,
    /// How long a session waits for its first UPDATE.
    pub update_timeout: Duration,
    /// How many sessions there may be at once.
    pub max_sessions: usize,
    /// No session is taken when the host has less memory available, in bytes.
    pub least_free_memory: u64,
    /// The longest lifetime of a session; `None`: unlimited.
    pub max_lifetime: Option<Duration>,
    /// How long a session may stand without a byte; `None`: unlimited.
    pub max_idle: Option<Duration>,
}

/// What counts now. A reload puts another one in its place, as a whole.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) settings: Settings,
    pub(super) site: Arc<Site>,
}

/// What is done about keys that can be guessed, or are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeakKeys {
    /// They are shown as weak. Deployed clients have no others.
    Accept,
    /// They are refused.
    Refuse,
}

impl Settings {
    /// What a session gets that asks for this lifetime.
    pub(super) fn lifetime(&self, asked: Option<Duration>) -> Option<Duration> {
        shorter(asked, self.max_lifetime)
    }

    /// What a session gets that asks to be released after this time without a byte.
    pub(super) fn idle(&self, asked: Option<Duration>) -> Option<Duration> {
        shorter(asked, self.max_idle)
    }
}

/// The shorter of what is asked for and what is allowed.
pub(super) fn shorter(asked: Option<Duration>, most: Option<Duration>) -> Option<Duration> {
    match (asked, most) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    }
}

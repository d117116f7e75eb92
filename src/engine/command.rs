//! What front ends ask of the engine, and what it answers.

use std::num::NonZeroU16;
use std::time::Duration;

use crate::session::{Endpoint, ListenAddr, Role, Sources, TargetAddr, Uid};

/// REQ, checked.
#[derive(Debug)]
pub struct Reserve {
    /// Which request.
    pub uid: Uid,
    /// Which end.
    pub role: Role,
    /// How many listeners.
    pub connections: NonZeroU16,
    /// How long it is to last; `None`: as long as the gateway allows.
    pub lifetime: Option<Duration>,
    /// How long it may stand without a byte; `None`: as long as the gateway allows.
    pub idle: Option<Duration>,
    /// From where connections are to be taken; none: from wherever the gateway allows.
    pub sources: Sources,
}

/// HELLO, checked.
#[derive(Debug)]
pub struct Announce {
    /// Which request.
    pub uid: Uid,
    /// What the application calls itself; the session's role is the one of REQ.
    pub role: Role,
    /// PROD: what to forward to. CONS: the ports that it would like to connect to.
    pub endpoints: Vec<Endpoint>,
}

/// UPDATE, checked.
#[derive(Debug)]
pub struct Retarget {
    /// Which request.
    pub uid: Uid,
    /// Which end.
    pub role: Role,
    /// Where to forward to. PROD: none means the endpoints of HELLO.
    pub targets: Vec<Endpoint>,
}

/// The answer to REQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// The session's entry points.
    pub listeners: Vec<ListenAddr>,
    /// The endpoints of HELLO.
    pub announced: Vec<Endpoint>,
}

/// The answer to HELLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The session's role.
    pub role: Role,
    /// The session's entry points.
    pub listeners: Vec<ListenAddr>,
}

/// The answer to UPDATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The session's entry points, all of which accept.
    pub listeners: Vec<ListenAddr>,
    /// Where each of them forwards to.
    pub targets: Vec<TargetAddr>,
}

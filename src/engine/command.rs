//! What front ends ask of the engine, and what it answers.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use crate::auth::Caller;
use crate::session::{
    Bandwidth, Capacity, Endpoint, ListenAddr, Protection, Role, Sources, TargetAddr, TcpWishes, Uid,
};

/// Who asks, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// Who.
    pub caller: Caller,
    /// From which address; `None` on the gateway's own socket.
    pub address: Option<IpAddr>,
}

/// REQ, checked.
#[derive(Debug)]
pub struct Reserve {
    /// Who asks, and is to own the session.
    pub requester: Requester,
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
    /// The floor of its tunnel's protection; `None`: the gateway's.
    pub protection: Option<Protection>,
    /// What is to carry its bytes; `None`: the gateway's own choice.
    pub backend: Option<String>,
    /// What it would move, meant or not; `None`: as much as it may.
    pub rate: Option<Bandwidth>,
    /// How its connections are to be set.
    pub tcp: TcpWishes,
}

/// HELLO, checked.
#[derive(Debug)]
pub struct Announce {
    /// Who says it.
    pub requester: Requester,
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
    /// Who asks.
    pub requester: Requester,
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
    /// What it may move.
    pub capacity: Capacity,
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

//! Why a command was refused: in whose favour it is decided, and what to do.

use std::time::Duration;

use crate::backend::ProgramError;
use crate::policy::{Denial, SourceError, TargetError};
use crate::ports::PortError;
use crate::session::{Rejection, ReleaseReason, Role, SessionId, UidDigest};
use crate::supervisor::ServeError;

/// The error codes of draft-scistream-protocol-02 that this server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Nobody knows who asks, or the policy forbids it.
    AuthError,
    /// The UID is malformed, unknown, or taken.
    InvalidUid,
    /// The gateway has not what it takes.
    NoResource,
    /// The proxy would not come up.
    ConnError,
    /// The caller asks too often, or has too much.
    RateLimit,
    /// Something else in the request is malformed.
    BadFormat,
    /// The session is not in a state for it.
    VersionErr,
    /// Our own fault.
    ServerErr,
    /// The other party did not come.
    Timeout,
    /// The gateway takes no new sessions, or is busy with the session; later it may.
    Unavailable,
}

impl Code {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthError => "AUTH_ERROR",
            Self::InvalidUid => "INVALID_UID",
            Self::NoResource => "NO_RESOURCE",
            Self::ConnError => "CONN_ERROR",
            Self::RateLimit => "RATE_LIMIT",
            Self::BadFormat => "BAD_FORMAT",
            Self::VersionErr => "VERSION_ERR",
            Self::ServerErr => "SERVER_ERR",
            Self::Timeout => "TIMEOUT",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// A command that was refused. The message is one sentence for the caller.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A field is malformed.
    #[error("{field}: {why}")]
    BadField {
        /// Which field, as the wire names it.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The UID is malformed.
    #[error("uid: {why}")]
    BadUid {
        /// What is wrong with it.
        why: String,
    },
    /// There is no such session.
    #[error("no session {uid}{} is here", .role.map(|role| format!(" with the role {role}")).unwrap_or_default())]
    Unknown {
        /// Which, as a short hash.
        uid: UidDigest,
        /// In which role, when that was asked for.
        role: Option<Role>,
    },
    /// There is one already.
    #[error("the session {0} is here already")]
    Exists(SessionId),
    /// The session is not in a state for it.
    #[error("the session {session} {}", match why {
        Rejection::NotAnnounced => "has had no HELLO yet",
        Rejection::Busy => "is busy with another UPDATE",
        Rejection::Ending => "is ending",
    })]
    Rejected {
        /// Which.
        session: SessionId,
        /// Why.
        why: Rejection,
    },
    /// The policy says no.
    #[error("this gateway does not let you {0}")]
    Denied(#[from] Denial),
    /// The caller has as much as they may.
    #[error("you have {limit} {what} on this gateway, which is your limit")]
    Quota {
        /// What they have too many of.
        what: &'static str,
        /// How many they may have.
        limit: usize,
    },
    /// An endpoint cannot be a target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Connections may not come from there.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No port is to be had.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A program is missing.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The gateway is full.
    #[error("the gateway holds {limit} {what}, which is its limit")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The host has not what one more session takes.
    #[error("the gateway has {left} {what} left, and a session needs {needed}")]
    Short {
        /// What there is too little of.
        what: &'static str,
        /// How much is left.
        left: u64,
        /// How much it takes.
        needed: u64,
    },
    /// The data path would not come up or change.
    #[error(transparent)]
    DataPath(#[from] ServeError),
    /// HELLO came, and was refused.
    #[error("the HELLO for it was refused: {why}")]
    SpoiltHello {
        /// With which code.
        code: Code,
        /// Why.
        why: String,
    },
    /// HELLO did not come.
    #[error("no HELLO came for the session {session} within {} s", waited.as_secs())]
    NoHello {
        /// Which.
        session: SessionId,
        /// How long the gateway waited.
        waited: Duration,
    },
    /// REQ did not come.
    #[error("no REQ came for the UID {uid} within {} s", waited.as_secs())]
    NoRequest {
        /// Which, as a short hash.
        uid: UidDigest,
        /// How long the gateway waited.
        waited: Duration,
    },
    /// The session ended before there was an answer.
    #[error("the session {session} ended: {why}")]
    Ended {
        /// Which.
        session: SessionId,
        /// Why.
        why: ReleaseReason,
    },
    /// The gateway is going down.
    #[error("the gateway takes no new sessions")]
    ShuttingDown,
    /// No session has that short id.
    #[error("no session with this id is here")]
    NoSuchSession,
    /// Not all of the events that were asked for are kept.
    #[error("some of the events after this one are no longer kept")]
    EventsGone,
    /// Only its operators may do that.
    #[error("only the gateway's operators may do this")]
    OnlyOperators,
    /// Our own fault.
    #[error("the gateway failed to {doing}")]
    Internal {
        /// What it was doing.
        doing: &'static str,
        /// What the system said. Stays in the gateway's log.
        #[source]
        source: std::io::Error,
    },
}

impl Refusal {
    /// The draft's code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::BadField { .. } | Self::Target(TargetError::Unresolved { .. }) => Code::BadFormat,
            Self::BadUid { .. } | Self::Unknown { .. } | Self::NoSuchSession | Self::Exists(_) => Code::InvalidUid,
            Self::SpoiltHello { code, .. } => *code,
            Self::EventsGone => Code::BadFormat,
            Self::OnlyOperators | Self::Denied(_) | Self::Source(_) => Code::AuthError,
            Self::Quota { .. } => Code::RateLimit,
            Self::Target(TargetError::Forbidden { .. }) => Code::AuthError,
            Self::Target(TargetError::ResolverSilent { .. }) => Code::Unavailable,
            Self::Rejected { why: Rejection::Busy, .. } | Self::ShuttingDown | Self::Ended { .. } => Code::Unavailable,
            Self::Rejected { .. } => Code::VersionErr,
            Self::Port(_)
            | Self::Program(_)
            | Self::Full { .. }
            | Self::Short { .. }
            | Self::DataPath(ServeError::Program(_) | ServeError::NoProcesses { .. } | ServeError::NoShare) => {
                Code::NoResource
            }
            Self::DataPath(ServeError::Refused { .. } | ServeError::Silent { .. }) => Code::ConnError,
            Self::DataPath(ServeError::Firewall(_)) => Code::Unavailable,
            Self::DataPath(ServeError::Render(_) | ServeError::System { .. } | ServeError::Share(_))
            | Self::Internal { .. } => Code::ServerErr,
            Self::NoHello { .. } | Self::NoRequest { .. } => Code::Timeout,
        }
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::BadField { .. } => "correct the field and call again",
            Self::BadUid { .. } => "send a UUID, or better 64 random hexadecimal digits",
            Self::Unknown { .. } => "send REQ first, check the UID, and check that this is the right gateway",
            Self::Exists(_) => "release it first, or ask with a new UID",
            Self::Rejected { why: Rejection::NotAnnounced, .. } => {
                "have the application controller send HELLO, then call again"
            }
            Self::Rejected { why: Rejection::Busy, .. } => "call again in a moment",
            Self::Rejected { why: Rejection::Ending, .. } | Self::Ended { .. } => "ask for a new one",
            Self::Target(TargetError::Forbidden { .. }) => {
                "name an address inside the facility, or ask the gateway's operator"
            }
            Self::Source(_) => "ask for networks inside of these, or for none to get all of them",
            Self::Target(TargetError::ResolverSilent { .. }) => "name an IP address, or try again later",
            Self::Target(TargetError::Unresolved { .. }) => {
                "name an IP address, or a name that the gateway can resolve"
            }
            Self::Port(PortError::NoneFree { .. }) => {
                "release a session, ask for fewer connections, or have the operator widen --port-range"
            }
            Self::Port(PortError::NoDescriptors) => {
                "release something first, or have the operator raise the limit of open files"
            }
            Self::Port(PortError::Address { .. }) => "have the operator check --wan-ip and --lan-ip",
            Self::Program(ProgramError::NoProcesses { .. })
            | Self::DataPath(ServeError::NoProcesses { .. } | ServeError::Program(ProgramError::NoProcesses { .. })) => {
                "release something first, or have the operator raise the limit of processes (ulimit -u, TasksMax=)"
            }
            Self::Program(_) | Self::DataPath(ServeError::Program(_)) => "have the operator install it on the gateway",
            Self::Full { .. } | Self::Short { .. } | Self::DataPath(ServeError::NoShare) => {
                "release something first, or try again later"
            }
            Self::DataPath(ServeError::Refused { .. } | ServeError::Silent { .. }) => {
                "what was live before is live still; show the gateway's operator what the program said"
            }
            Self::DataPath(ServeError::Firewall(_)) => {
                "have the operator look at s2fw on the gateway, whose log says more, then send UPDATE again"
            }
            Self::DataPath(_) | Self::Internal { .. } => "show the gateway's operator the time and the session",
            Self::SpoiltHello { .. } => "correct what the application controller sends, then ask again",
            Self::NoHello { .. } => "start the application controller with the same UID, then ask again",
            Self::NoRequest { .. } => "send REQ with the same UID to this gateway, then say HELLO again",
            Self::ShuttingDown => "try again later, or ask another gateway",
            Self::NoSuchSession => "list the sessions, and name one of them",
            Self::EventsGone => "list the sessions, and watch from the sequence number that comes with the list",
            Self::OnlyOperators => "run s2cs drain on the gateway, or have a rule make you an operator",
            Self::Denied(_) => "ask the gateway's operator, who sees the reason with: s2cs policy explain",
            Self::Quota { .. } => "release something first, or try again later",
        }
    }
}

//! The pure core: what a session is, and how it may change. No I/O happens here.
//!
//! A session is a lease on a mapping: listeners on the gateway, targets behind
//! them, a key, an owner. Everything that comes from outside is parsed into the
//! types of this folder once, at the edge; inside, nothing is checked again.

mod bandwidth;
mod endpoint;
mod plan;
mod protection;
mod role;
mod sources;
mod state;
mod tcp;
mod uid;

pub use bandwidth::{Bandwidth, Capacity, Weight, least};
pub use endpoint::{Endpoint, EndpointError, Host};
pub use plan::{ListenAddr, Plan, Route, TargetAddr};
pub use protection::Protection;
pub use role::{Role, RoleError};
pub use sources::{NetworkError, Sources, parse_network};
pub use state::{Effect, Event, Health, Machine, Rejection, ReleaseReason, State};
pub use tcp::{BUFFERS, Congestion, CongestionError, Tcp, TcpWishes};
pub use uid::{SessionId, Uid, UidDigest, UidError, Weakness};

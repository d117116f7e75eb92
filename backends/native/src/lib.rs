//! `s2ds`, the data server of SciStream: carries the bytes of a session.
//!
//! A configuration file names listeners; each connection that one accepts is
//! forwarded to that listener's target, both ways, with TLS-PSK on either side.
//!
//! ```text
//!   cli ── config ── service            what to serve, checked and made ready
//!            │
//!          server                       signals: reload, drain, end
//!            │
//!         listener ── limit             who comes in
//!            │
//!          worker ── lending            the threads; a connection stays on one
//!            │
//!        connection                     one connection's life:
//!            ├── refusals               who is not let in
//!            ├── proxy_protocol         who is really there
//!            ├── negotiate ── tls       agree on the wire with each side
//!            └── pump ── flow           carry the bytes, each way:
//!                         ├── bandwidth    how fast
//!                         ├── memory       how much of it at once
//!                         ├── buffer       in memory that the thread lends
//!                         ├── pipe         without copying, where the kernel can
//!                         └── wire ── socket
//! ```
//! Knowledge goes downwards only.

pub mod address;
mod bandwidth;
mod buffer;
pub mod cli;
pub mod config;
mod connection;
mod error;
mod flow;
pub mod key;
mod lending;
mod limit;
mod listener;
mod log;
mod memory;
mod negotiate;
mod pacing;
mod pipe;
mod piping;
pub mod protection;
pub mod proxy_protocol;
mod pump;
mod range;
mod refusals;
mod server;
mod service;
mod socket;
pub mod tcp;
mod tls;
mod wire;
mod worker;

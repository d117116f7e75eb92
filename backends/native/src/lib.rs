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
//!        connection                     one connection's life:
//!            ├── proxy_protocol         who is really there
//!            ├── negotiate ── tls       agree on the wire with each side
//!            └── pump ── wire ── socket carry the bytes
//! ```
//! Knowledge goes downwards only.

pub mod address;
pub mod cli;
pub mod config;
mod connection;
mod error;
pub mod key;
mod limit;
mod listener;
mod log;
mod negotiate;
pub mod protection;
pub mod proxy_protocol;
mod pump;
mod server;
mod service;
mod socket;
mod strangers;
mod tls;
mod wire;

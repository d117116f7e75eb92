//! SciStream: memory-to-memory streaming between facilities, through their gateways.
//!
//! A session is a lease on a mapping: listeners on the gateway, targets behind
//! it, a key, an owner. Front ends ask for, change and give back such leases;
//! backends are programs that serve one from a rendered file; the engine
//! between them knows neither gRPC nor any proxy:
//!
//! ```text
//! frontends → engine → session ← backend ← supervisor
//! ```
//!
//! [`daemon`] is the only module that knows every part.

/// A point where the tests end the controller, as a power cut would: with the
/// feature `failpoints`, when `FAILPOINTS=name=return` says so.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        let _: Option<()> = fail::eval($name, |_| std::process::abort());
    };
}

pub mod audit;
pub mod auth;
pub mod backend;
pub mod causes;
pub mod cli;
pub mod client;
pub mod config;
pub mod credentials;
pub mod daemon;
pub mod doctor;
pub mod engine;
pub mod firewall;
pub mod flows;
pub mod frontends;
pub mod http;
pub mod issuer;
pub mod login;
pub mod memory;
pub mod policy;
pub mod ports;
mod privileges;
pub mod secrets;
pub mod service_manager;
pub mod session;
pub mod setup;
pub mod shares;
pub mod shown;
pub mod store;
pub mod supervisor;
pub mod threads;
pub mod tls;

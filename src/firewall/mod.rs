//! Openings in the host's firewall for the listeners of a session, from its sources,
//! for as long as it lives.
//!
//! ```text
//! s2cs ── Opening ── one JSON line each way, unix socket ──► s2fw ── nft ──► the operator's set
//! ```
//!
//! Only the helper `s2fw` has the privilege to change the firewall ([`Helper`]), and
//! what it is asked for is bounded by its own flags ([`Bounds`]). It adds elements to
//! a set that the operator's ruleset refers to, each with a timeout, and never a rule:
//! one table cannot open what another one closes. An [`Opening`] belongs to a session
//! of s2cs, and is renewed while that lives; when nobody renews it, it closes by itself.

mod bounds;
mod client;
mod firewalld;
mod helper;
mod nftables;
mod opening;
mod wire;

pub use bounds::{Bounds, Element};
pub use client::{Firewall, FirewallError};
pub use firewalld::Firewalld;
pub use helper::{Helper, Wall};
pub use nftables::Nftables;
pub use opening::Opening;
pub use wire::{Answer, Request, Seen};

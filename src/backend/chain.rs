//! From a plan to the programs that serve it, and how they are joined.
//!
//! The wire between gateways is always TLS-PSK. A proxy that has none is
//! chained with a terminator that has, over unix sockets in the session's
//! folder, with the PROXY protocol where both understand it:
//!
//! ```text
//! PROD   WAN ─psk─► terminator ─unix─► proxy ─► application
//! CONS   application ─► proxy ─unix─► terminator ─psk─► WAN
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::Manifest;
use crate::session::{Plan, Role};

/// Where a hop accepts, or where it connects to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket between two stages of one session.
    Unix(PathBuf),
}

impl Address {
    /// The TCP address, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What is spoken on one side of a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// The application's bytes as they are.
    Plain,
    /// TLS with the session's pre-shared key.
    Psk,
}

/// A header that tells the real source of a connection (haproxy.org, `proxy-protocol.txt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyHeader {
    /// The text form.
    V1,
    /// The binary form.
    V2,
}

/// One listener of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Where it accepts. The socket is inherited.
    pub accept: Address,
    /// What comes in.
    pub accept_wire: Wire,
    /// The header that precedes it.
    pub accept_header: Option<ProxyHeader>,
    /// Where it connects to.
    pub target: Address,
    /// What goes out.
    pub target_wire: Wire,
    /// The header that precedes it.
    pub target_header: Option<ProxyHeader>,
}

/// One process of a session, with all of its hops.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The program.
    pub manifest: Arc<Manifest>,
    /// In the order of the session's listeners.
    pub hops: Vec<Hop>,
}

/// The stages of a session, the one nearest to the targets first: that is the
/// order in which they start.
#[must_use]
pub fn design(backend: &Arc<Manifest>, terminator: &Arc<Manifest>, plan: &Plan, folder: &Path) -> Vec<Stage> {
    let (front, back) = match plan.role {
        _ if backend.speaks_psk() => return vec![single(backend, plan)],
        Role::Prod => (terminator, backend),
        Role::Cons => (backend, terminator),
    };
    let header = shared_header(front, back);
    let (accept_wire, target_wire) = outer_wires(plan.role);
    let mut front_hops = Vec::with_capacity(plan.routes.len());
    let mut back_hops = Vec::with_capacity(plan.routes.len());
    for (index, route) in plan.routes.iter().enumerate() {
        let between = Address::Unix(folder.join(format!("{index}.sock")));
        front_hops.push(Hop {
            accept: Address::Tcp(route.listen.0),
            accept_wire,
            accept_header: None,
            target: between.clone(),
            target_wire: Wire::Plain,
            target_header: header,
        });
        back_hops.push(Hop {
            accept: between,
            accept_wire: Wire::Plain,
            accept_header: header,
            target: Address::Tcp(route.target.0),
            target_wire,
            target_header: None,
        });
    }
    vec![Stage { manifest: Arc::clone(back), hops: back_hops }, Stage { manifest: Arc::clone(front), hops: front_hops }]
}

fn single(backend: &Arc<Manifest>, plan: &Plan) -> Stage {
    let (accept_wire, target_wire) = outer_wires(plan.role);
    let hops = plan
        .routes
        .iter()
        .map(|route| Hop {
            accept: Address::Tcp(route.listen.0),
            accept_wire,
            accept_header: None,
            target: Address::Tcp(route.target.0),
            target_wire,
            target_header: None,
        })
        .collect();
    Stage { manifest: Arc::clone(backend), hops }
}

/// What is spoken where connections come in, and where they leave.
fn outer_wires(role: Role) -> (Wire, Wire) {
    match role {
        Role::Prod => (Wire::Psk, Wire::Plain),
        Role::Cons => (Wire::Plain, Wire::Psk),
    }
}

fn shared_header(front: &Manifest, back: &Manifest) -> Option<ProxyHeader> {
    let out = &front.abilities.proxy_protocol_out;
    back.abilities.proxy_protocol_in.iter().filter(|header| out.contains(header)).max().copied()
}

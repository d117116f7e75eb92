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
//!
//! The stage that accepts from the network is the one that looks at sources. Where
//! its program cannot, a gate stands in front, which takes the bytes as they are:
//!
//! ```text
//! PROD   WAN ─psk─► gate ─unix─► stunnel ─► application
//! ```
//!
//! One stage keeps the session to its bandwidth: the backend where it can, else its
//! terminator, else such a gate, which then counts what passes it: before a
//! terminator that is the tunnel, with what TLS adds.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::Manifest;
use crate::session::{Plan, Role, Route, Sources};

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
    /// From where connections are taken, when it is this hop that looks.
    pub sources: Sources,
    /// Where it connects to.
    pub target: Address,
    /// What goes out.
    pub target_wire: Wire,
    /// The header that precedes it.
    pub target_header: Option<ProxyHeader>,
}

/// What a stage is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// To carry the bytes over its part of the way.
    Carry,
    /// To stand before a stage that cannot keep strangers out, or to a bandwidth.
    Gate,
}

/// One process of a session, with all of its hops.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The program.
    pub manifest: Arc<Manifest>,
    /// What it is there for.
    pub duty: Duty,
    /// Whether it is the one that keeps the session to its bandwidth.
    pub limits: bool,
    /// In the order of the session's listeners.
    pub hops: Vec<Hop>,
}

/// What a session asks of the programs that serve it.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Which side is the WAN.
    pub role: Role,
    /// From where connections are taken.
    pub sources: &'a Sources,
    /// Whether it is kept to a bandwidth.
    pub bounded: bool,
}

impl<'a> From<&'a Plan> for Needs<'a> {
    fn from(plan: &'a Plan) -> Self {
        Self { role: plan.role, sources: &plan.sources, bounded: plan.capacity.is_bounded() }
    }
}

impl Stage {
    /// Tells it from the session's other stages. No manifest's name has a plus in it.
    #[must_use]
    pub fn name(&self) -> String {
        match self.duty {
            Duty::Carry => self.manifest.name.clone(),
            Duty::Gate => format!("{}+gate", self.manifest.name),
        }
    }

    /// The file name of its configuration.
    #[must_use]
    pub fn config(&self) -> String {
        match self.duty {
            Duty::Carry => self.manifest.config.clone(),
            Duty::Gate => format!("gate+{}", self.manifest.config),
        }
    }
}

/// The backends that an operator has chosen for all sessions.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    /// What carries the bytes.
    pub backend: &'a Arc<Manifest>,
    /// The end of the tunnel for a backend without PSK.
    pub terminator: &'a Arc<Manifest>,
    /// What keeps strangers, and too much, from a program that cannot.
    pub gate: &'a Arc<Manifest>,
}

impl<'a> Chosen<'a> {
    /// The stages of a session, the one nearest to the targets first: that is the
    /// order in which they start.
    #[must_use]
    pub fn stages(self, plan: &Plan, folder: &Path) -> Vec<Stage> {
        let gate = self.gate_for(Needs::from(plan));
        let mut stages = if self.backend.speaks_psk() {
            vec![single(self.backend, plan)]
        } else {
            // Who does not learn the real source must not tell one.
            let front = self.front(plan.role);
            let knows_source = gate.is_none_or(|gate| shared_header(gate, front).is_some());
            self.chained(plan, folder, knows_source).into()
        };
        let accepting = stages.last_mut().expect("every session has a stage");
        match gate {
            Some(gate) => {
                let stage = gate_before(accepting, gate, plan, folder);
                stages.push(stage);
            }
            None => accepting.hops.iter_mut().for_each(|hop| hop.sources = plan.sources.clone()),
        }
        if plan.capacity.is_bounded() {
            let limiter = self.limiter().unwrap_or(self.gate);
            let stage = stages.iter_mut().find(|stage| stage.manifest.name == limiter.name);
            stage.expect("it has a part in every bounded session").limits = true;
        }
        stages
    }

    /// The backends that have a part in such a session.
    pub fn taking_part(self, needs: Needs<'_>) -> impl Iterator<Item = &'a Arc<Manifest>> + use<'a> {
        self.carriers().chain(self.gate_for(needs))
    }

    fn carriers(self) -> impl Iterator<Item = &'a Arc<Manifest>> + use<'a> {
        let terminator = (!self.backend.speaks_psk()).then_some(self.terminator);
        std::iter::once(self.backend).chain(terminator)
    }

    /// The program that keeps a session to its bandwidth, if none more is needed for that.
    #[must_use]
    pub fn limiter(self) -> Option<&'a Arc<Manifest>> {
        self.carriers().find(|manifest| manifest.abilities.bandwidth_limit)
    }

    /// Whether such a session, as it runs, could be kept to a bandwidth.
    #[must_use]
    pub fn could_limit(self, needs: Needs<'_>) -> bool {
        self.limiter().or_else(|| self.gate_for(needs)).is_some()
    }

    /// The backend that connections would come to.
    fn front(self, role: Role) -> &'a Arc<Manifest> {
        match role {
            Role::Prod if !self.backend.speaks_psk() => self.terminator,
            _ => self.backend,
        }
    }

    fn gate_for(self, needs: Needs<'_>) -> Option<&'a Arc<Manifest>> {
        let lets_all_in = !needs.sources.are_anywhere() && !self.front(needs.role).abilities.source_filter;
        let cannot_limit = needs.bounded && self.limiter().is_none();
        (lets_all_in || cannot_limit).then_some(self.gate)
    }

    fn chained(self, plan: &Plan, folder: &Path, knows_source: bool) -> [Stage; 2] {
        let (front, back) = match plan.role {
            Role::Prod => (self.terminator, self.backend),
            Role::Cons => (self.backend, self.terminator),
        };
        let header = shared_header(front, back).filter(|_| knows_source);
        let (accept_wire, target_wire) = outer_wires(plan.role);
        let mut front_hops = Vec::with_capacity(plan.routes.len());
        let mut back_hops = Vec::with_capacity(plan.routes.len());
        for (index, route) in plan.routes.iter().enumerate() {
            let between = Address::Unix(folder.join(format!("{index}.sock")));
            front_hops.push(Hop {
                accept: Address::Tcp(route.listen.0),
                accept_wire,
                accept_header: None,
                sources: Sources::default(),
                target: between.clone(),
                target_wire: Wire::Plain,
                target_header: header,
            });
            back_hops.push(Hop {
                accept: between,
                accept_wire: Wire::Plain,
                accept_header: header,
                sources: Sources::default(),
                target: Address::Tcp(route.target.0),
                target_wire,
                target_header: None,
            });
        }
        [carrying(back, back_hops), carrying(front, front_hops)]
    }
}

fn carrying(manifest: &Arc<Manifest>, hops: Vec<Hop>) -> Stage {
    Stage { manifest: Arc::clone(manifest), duty: Duty::Carry, limits: false, hops }
}

fn single(backend: &Arc<Manifest>, plan: &Plan) -> Stage {
    let (accept_wire, target_wire) = outer_wires(plan.role);
    let hop = |route: &Route| Hop {
        accept: Address::Tcp(route.listen.0),
        accept_wire,
        accept_header: None,
        sources: Sources::default(),
        target: Address::Tcp(route.target.0),
        target_wire,
        target_header: None,
    };
    carrying(backend, plan.routes.iter().map(hop).collect())
}

/// Puts a gate where `accepting` stood, and that behind it. Bytes pass it as they are.
fn gate_before(accepting: &mut Stage, gate: &Arc<Manifest>, plan: &Plan, folder: &Path) -> Stage {
    let header = shared_header(gate, &accepting.manifest);
    let mut hops = Vec::with_capacity(accepting.hops.len());
    for (index, hop) in accepting.hops.iter_mut().enumerate() {
        let between = Address::Unix(folder.join(format!("{index}.gate")));
        hops.push(Hop {
            accept: std::mem::replace(&mut hop.accept, between.clone()),
            accept_wire: Wire::Plain,
            accept_header: None,
            sources: plan.sources.clone(),
            target: between,
            target_wire: Wire::Plain,
            target_header: header,
        });
        hop.accept_header = header;
    }
    Stage { manifest: Arc::clone(gate), duty: Duty::Gate, limits: false, hops }
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

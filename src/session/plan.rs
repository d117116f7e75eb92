//! What a data path is to do: which listener goes to which target.

use std::fmt;
use std::net::SocketAddr;

use super::{Capacity, Protection, Role, Sources, TcpWishes};

/// An address that this gateway listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenAddr(pub SocketAddr);

/// An address that connections are forwarded to: resolved, and permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TargetAddr(pub SocketAddr);

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TargetAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One listener and where its connections go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where connections come in.
    pub listen: ListenAddr,
    /// Where they go.
    pub target: TargetAddr,
}

/// All that a backend needs to know of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which side of the plan is the WAN.
    pub role: Role,
    /// The floor of the tunnel's protection.
    pub protection: Protection,
    /// From where connections are taken.
    pub sources: Sources,
    /// How much may go through.
    pub capacity: Capacity,
    /// What its connections have of their own.
    pub tcp: TcpWishes,
    /// In the order of the listeners.
    pub routes: Vec<Route>,
}

impl Plan {
    /// Listener i goes to target i modulo the number of targets, for everyone. `None` without targets.
    #[must_use]
    pub fn new(role: Role, protection: Protection, listeners: &[ListenAddr], targets: &[TargetAddr]) -> Option<Self> {
        if targets.is_empty() {
            return None;
        }
        let routes = listeners
            .iter()
            .zip(targets.iter().cycle())
            .map(|(listen, target)| Route { listen: *listen, target: *target })
            .collect();
        Some(Self {
            role,
            protection,
            sources: Sources::default(),
            capacity: Capacity::default(),
            tcp: TcpWishes::default(),
            routes,
        })
    }

    /// The same for these sources only.
    #[must_use]
    pub fn only_from(self, sources: Sources) -> Self {
        Self { sources, ..self }
    }

    /// The same with this much at most.
    #[must_use]
    pub fn bounded_by(self, capacity: Capacity) -> Self {
        Self { capacity, ..self }
    }

    /// The same with connections of this kind.
    #[must_use]
    pub fn over(self, tcp: TcpWishes) -> Self {
        Self { tcp, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_i_goes_to_target_i_modulo_n() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let listeners: Vec<_> = (1..=5).map(|p| ListenAddr(address(p))).collect();
        let targets: Vec<_> = (11..=12).map(|p| TargetAddr(address(p))).collect();
        let plan = Plan::new(Role::Prod, Protection::default(), &listeners, &targets).expect("targets");
        let ports: Vec<_> = plan.routes.iter().map(|r| (r.listen.0.port(), r.target.0.port())).collect();
        assert_eq!(ports, [(1, 11), (2, 12), (3, 11), (4, 12), (5, 11)]);
        assert!(Plan::new(Role::Prod, Protection::default(), &listeners, &[]).is_none());
    }
}

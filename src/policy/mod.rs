//! What may be asked for, and by whom.
//!
//! A gateway without providers serves whoever can connect, and only the targets
//! are looked at. With providers, nothing is allowed but by a rule. A session is
//! asked for with a REQ, which a rule must permit as a whole, and then pointed at
//! targets, each of which some rule that is for the owner must hold. Who is no
//! owner of a session has nothing to do with it, unless a rule makes them an
//! operator, or lets them say HELLO for the owner.

mod bandwidth;
mod network;
mod review;
mod rule;
mod sources;
mod targets;
mod tcp;
mod who;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

pub use bandwidth::{BandwidthPolicy, RuleBandwidth};
pub use network::{Network, NetworkError};
pub use review::Lapse;
pub use rule::{Rule, RuleSettings};
pub use sources::{SourceError, SourcePolicy};
pub use targets::{Forbidden, Ground, TargetError};
pub use tcp::TcpPolicy;
pub use who::{Who, WhoError};

use crate::auth::Caller;
use crate::session::{Congestion, Endpoint, Protection, Role, Sources, TargetAddr};

/// The policy of a gateway.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `None`: whoever can connect may use it.
    rules: Option<Vec<Rule>>,
    /// Who vouches for callers, by name.
    providers: Vec<String>,
    ground: Ground,
}

/// A REQ as the policy sees it.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Which end.
    pub role: Role,
    /// How many listeners.
    pub connections: u16,
    /// The protection, if one is asked for.
    pub protection: Option<Protection>,
    /// The protection of those who do not ask.
    pub floor: Protection,
    /// The backend, if one is asked for that is not the gateway's own.
    pub backend: Option<String>,
    /// From where connections are to be taken; none: from wherever it may be.
    pub sources: Sources,
}

/// What a session may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// The rule that lets it be; `None` where there are no rules.
    pub rule: Option<String>,
    /// How many its owner may have at once.
    pub max_sessions: Option<usize>,
    /// How long it may last.
    pub max_lifetime: Option<Duration>,
    /// From where connections are taken, within the site's bounds.
    pub sources: Sources,
    /// How much it may move, within the site's bounds.
    pub bandwidth: RuleBandwidth,
}

/// Why the policy says no. Fits after "this gateway does not let you".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No rule is for the caller.
    #[error("do anything: no rule of it is for you")]
    NoRule,
    /// Not in this role.
    #[error("have {role} sessions")]
    Role {
        /// Which.
        role: Role,
    },
    /// Too many listeners.
    #[error("have {asked} connections in one session, but at most {most}")]
    Connections {
        /// So many.
        asked: u16,
        /// Instead of so many.
        most: u16,
    },
    /// Too weak.
    #[error("have a tunnel with the protection {asked}")]
    Protection {
        /// Which.
        asked: Protection,
    },
    /// Not this one.
    #[error("choose the backend {asked:?}")]
    Backend {
        /// Which.
        asked: String,
    },
    /// Not this one.
    #[error("choose the congestion control {asked}")]
    Congestion {
        /// Which.
        asked: Congestion,
    },
    /// Not at all.
    #[error("choose the buffers of TCP connections")]
    Buffers,
    /// From too far away.
    #[error("take connections from {asked}")]
    Source {
        /// From where.
        asked: IpNet,
    },
}

/// What a rule says of a caller and a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// Which rule.
    pub rule: String,
    /// Whether it is for the caller at all; then what it does not let be.
    pub verdict: Option<Result<(), String>>,
}

impl Policy {
    /// Serves whoever can connect.
    #[must_use]
    pub fn open(ground: Ground) -> Self {
        Self { rules: None, providers: vec![], ground }
    }

    /// Allows what the rules allow to those for whom one of these providers vouches, and nothing else.
    #[must_use]
    pub fn by_rules(rules: Vec<Rule>, providers: Vec<String>, ground: Ground) -> Self {
        Self { rules: Some(rules), providers, ground }
    }

    /// Whether whoever can connect is served.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules.is_none()
    }

    /// Whether a rule may keep a session to a bandwidth.
    #[must_use]
    pub fn may_bound(&self) -> bool {
        self.rules.iter().flatten().any(|rule| rule.grant().bandwidth.most.is_some())
    }

    /// The claims that providers are to tell of callers.
    #[must_use]
    pub fn claims(&self) -> BTreeSet<String> {
        self.rules.iter().flatten().flat_map(Rule::claims).collect()
    }

    fn rules_for(&self, caller: &Caller) -> impl Iterator<Item = &Rule> {
        self.rules.iter().flatten().filter(|rule| rule.is_for(caller))
    }

    /// Decides on a REQ: the first rule that permits all of it counts.
    ///
    /// # Errors
    /// What the first rule that is for the caller does not let be.
    pub fn admit(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Denial> {
        let grant = Grant { sources: ask.sources.clone(), ..Grant::default() };
        if *caller == Caller::Operator {
            return Ok(grant);
        }
        if self.is_open() {
            // Where nobody asks who calls, nobody may weaken the tunnel or choose programs.
            return match (ask.protection, &ask.backend) {
                (Some(asked), _) if asked < ask.floor => Err(Denial::Protection { asked }),
                (_, Some(asked)) => Err(Denial::Backend { asked: asked.clone() }),
                _ => Ok(grant),
            };
        }
        let mut denial = None;
        for rule in self.rules_for(caller) {
            match rule.permits(ask) {
                Ok(()) => {
                    let sources = match (ask.sources.are_anywhere(), rule.sources()) {
                        (true, Some(bound)) => bound.clone(),
                        _ => ask.sources.clone(),
                    };
                    return Ok(Grant { sources, ..rule.grant() });
                }
                Err(why) => denial = denial.or(Some(why)),
            }
        }
        Err(denial.unwrap_or(Denial::NoRule))
    }

    /// Resolves endpoints, and checks that a session of `owner` may be pointed at them.
    ///
    /// # Errors
    /// [`TargetError`] for the first that cannot be a target.
    pub async fn resolve(
        &self,
        owner: &Caller,
        role: Role,
        endpoints: &[Endpoint],
    ) -> Result<Vec<TargetAddr>, TargetError> {
        targets::resolve(endpoints, |address| self.target(owner, role, address)).await
    }

    /// Whether a session of `owner` may forward to `address`.
    ///
    /// # Errors
    /// Why not.
    pub fn target(&self, owner: &Caller, role: Role, address: SocketAddr) -> Result<(), Forbidden> {
        if self.is_open() || *owner == Caller::Operator {
            self.ground.check(address, role, &self.ground.inside)?;
            let inside = self.ground.inside.iter().any(|net| net.holds(address));
            let outside = role == Role::Prod && self.ground.inside_is_said && !inside;
            return if outside { Err(Forbidden::Outside { who: owner.to_string() }) } else { Ok(()) };
        }
        let mut why = None;
        for rule in self.rules_for(owner).filter(|rule| rule.has_role(role)) {
            match self.target_by(rule, role, address) {
                Ok(()) => return Ok(()),
                // What the address is says more than that a rule does not have it.
                Err(e @ Forbidden::Outside { .. }) => why = why.or(Some(e)),
                Err(e) => why = Some(e),
            }
        }
        Err(why.unwrap_or_else(|| Forbidden::Outside { who: owner.to_string() }))
    }

    fn target_by(&self, rule: &Rule, role: Role, address: SocketAddr) -> Result<(), Forbidden> {
        let networks = match (rule.networks(role), role) {
            (Some(networks), _) => Some(networks),
            (None, Role::Prod) => Some(self.ground.inside.as_slice()),
            (None, Role::Cons) => None,
        };
        self.ground.check(address, role, networks.unwrap_or_default())?;
        match networks {
            Some(networks) if !networks.iter().any(|net| net.holds(address)) => {
                Err(Forbidden::Outside { who: format!("those whom rule {} is for", rule.name) })
            }
            _ => Ok(()),
        }
    }

    /// Whether there is anything that `caller` may.
    ///
    /// # Errors
    /// [`Denial::NoRule`]
    pub fn knows(&self, caller: &Caller) -> Result<(), Denial> {
        let known = self.is_open() || *caller == Caller::Operator || self.rules_for(caller).next().is_some();
        if known { Ok(()) } else { Err(Denial::NoRule) }
    }

    /// Whether `caller` may see, move, renew and end a session of `owner`.
    #[must_use]
    pub fn may_control(&self, caller: &Caller, owner: &Caller) -> bool {
        self.is_open() || caller.is(owner) && *caller != Caller::Anyone || self.is_operator(caller)
    }

    /// Whether `caller` may say HELLO for a session of `owner`.
    #[must_use]
    pub fn may_announce(&self, caller: &Caller, owner: &Caller) -> bool {
        self.may_control(caller, owner) || self.rules_for(caller).any(|rule| rule.speaks_for(owner))
    }

    /// Whether `caller` runs this gateway.
    #[must_use]
    pub fn is_operator(&self, caller: &Caller) -> bool {
        *caller == Caller::Operator || self.rules_for(caller).any(|rule| rule.operator)
    }

    /// What each rule says of a caller, a request, and a target.
    #[must_use]
    pub fn explain(&self, caller: &Caller, ask: &Ask, target: Option<SocketAddr>) -> Vec<Opinion> {
        let opinion = |rule: &Rule| {
            let verdict = rule.is_for(caller).then(|| {
                rule.permits(ask).map_err(|denial| format!("does not let them {denial}"))?;
                match target.map(|target| self.target_by(rule, ask.role, target)) {
                    Some(Err(why)) => Err(format!("does not let them forward there: {why}")),
                    _ => Ok(()),
                }
            });
            Opinion { rule: rule.name.clone(), verdict }
        };
        self.rules.iter().flatten().map(opinion).collect()
    }
}

#[cfg(test)]
mod tests;

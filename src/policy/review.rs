//! Whether what was let in once would be let in today.

use std::net::SocketAddr;

use super::{Ask, Denial, Forbidden, Grant, Policy, SourceError};
use crate::auth::Caller;
use crate::session::{TargetAddr, Weakness};

/// Why a session that was let in may not go on. Fits after "it may not go on: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lapse {
    /// It is of the time before callers had to say who they are.
    #[error("nobody said whose it is, and this gateway asks by now")]
    Nobody,
    /// Who vouched for its owner is no provider here any more.
    #[error("nobody vouches for its owner any more: this gateway has no provider {provider}")]
    Provider {
        /// Who did.
        provider: String,
    },
    /// No rule is for its owner.
    #[error("no rule of this gateway is for its owner any more")]
    NoRule,
    /// It is more than the rules let its owner have.
    #[error("the rules do not let its owner {0} any more")]
    Denied(Denial),
    /// It leads where it may not.
    #[error("its target {target} is not allowed any more: {why}")]
    Target {
        /// Where.
        target: SocketAddr,
        /// Why not.
        why: Forbidden,
    },
    /// Connections come from where they may not.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its key can be guessed, or is short.
    #[error("this gateway takes no weak keys any more, and {0}")]
    Weak(Weakness),
}

impl Policy {
    /// Decides on a session that runs, as it would on a REQ for one that is like it.
    /// What `owner` is, is what a provider said of them when they asked; nobody is
    /// asked again.
    ///
    /// # Errors
    /// The first thing that would be refused today. A gateway without rules refuses nothing.
    pub fn review(&self, owner: &Caller, ask: &Ask, targets: &[TargetAddr]) -> Result<Grant, Lapse> {
        let as_it_is = Grant { sources: ask.sources.clone(), ..Grant::default() };
        let identity = match owner {
            _ if self.is_open() => return Ok(as_it_is),
            Caller::Operator => return Ok(as_it_is),
            Caller::Anyone => return Err(Lapse::Nobody),
            Caller::Known(identity) => identity,
        };
        if !self.providers.contains(&identity.provider) {
            return Err(Lapse::Provider { provider: identity.provider.clone() });
        }
        let mut lapse = None;
        let mut judged = self.rules_for(owner).map(|rule| rule.still_permits(ask).map(|()| rule));
        let rule = judged.find_map(|judged| match judged {
            Ok(rule) => Some(rule),
            Err(denial) => {
                lapse.get_or_insert(Lapse::Denied(denial));
                None
            }
        });
        let rule = rule.ok_or_else(|| lapse.unwrap_or(Lapse::NoRule))?;
        for TargetAddr(target) in targets {
            self.target(owner, ask.role, *target).map_err(|why| Lapse::Target { target: *target, why })?;
        }
        Ok(Grant { sources: ask.sources.clone(), ..rule.grant() })
    }
}

//! From where connections may come at most: the site's bounds.

use std::fmt;

use ipnet::IpNet;

use crate::session::{Role, Sources};

/// The rule for sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourcePolicy {
    /// Who may connect to PROD sessions, at most.
    pub wan: Sources,
    /// Who may connect to CONS sessions, at most.
    pub lan: Sources,
}

/// Sources that a session may not have. The setting is named as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the source {outside} is not allowed: {role} sessions take connections from {} at most ({})",
    Shortened(bound),
    setting(*role)
)]
pub struct SourceError {
    /// What was asked for.
    pub outside: IpNet,
    /// For which role.
    pub role: Role,
    /// What may be.
    pub bound: Sources,
}

impl SourcePolicy {
    /// What a session gets that asks for these.
    ///
    /// # Errors
    /// [`SourceError`] for the first that may not be.
    pub fn grant(&self, role: Role, asked: Sources) -> Result<Sources, SourceError> {
        asked.bounded_by(self.bound(role)).map_err(|outside| self.error(role, outside))
    }

    /// What is said of a network that is outside of the bound of this role.
    #[must_use]
    pub fn error(&self, role: Role, outside: IpNet) -> SourceError {
        SourceError { outside, role, bound: self.bound(role).clone() }
    }

    /// What a session of this role may have at most.
    #[must_use]
    pub fn bound(&self, role: Role) -> &Sources {
        match role {
            Role::Prod => &self.wan,
            Role::Cons => &self.lan,
        }
    }
}

fn setting(role: Role) -> &'static str {
    match role {
        Role::Prod => "wan_sources",
        Role::Cons => "lan_sources",
    }
}

/// As many of a site's networks as fit a sentence.
struct Shortened<'a>(&'a Sources);

const SHOWN: usize = 8;

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self.0.networks();
        let Some(more @ 1..) = networks.len().checked_sub(SHOWN) else {
            return self.0.fmt(f);
        };
        networks[..SHOWN].iter().try_for_each(|network| write!(f, "{network}, "))?;
        write!(f, "and {more} more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::parse_network;

    fn sources(texts: &[&str]) -> Sources {
        texts.iter().map(|text| parse_network(text).expect(text)).collect()
    }

    #[test]
    fn each_role_has_its_bound_and_a_refusal_names_it() {
        let policy = SourcePolicy { wan: sources(&["198.51.100.0/24"]), lan: Sources::default() };
        assert_eq!(policy.grant(Role::Prod, Sources::default()), Ok(sources(&["198.51.100.0/24"])));
        assert_eq!(policy.grant(Role::Cons, Sources::default()), Ok(Sources::default()));
        assert_eq!(policy.grant(Role::Cons, sources(&["192.0.2.7"])), Ok(sources(&["192.0.2.7"])));
        let error = policy.grant(Role::Prod, sources(&["192.0.2.7"])).expect_err("outside");
        assert_eq!(
            error.to_string(),
            "the source 192.0.2.7/32 is not allowed: PROD sessions take connections from 198.51.100.0/24 at most \
             (wan_sources)"
        );
    }

    #[test]
    fn a_long_bound_is_told_in_part() {
        let many: Sources = (0..20).map(|n| IpNet::from(std::net::IpAddr::from([10, 0, 2 * n, 0]))).collect();
        let policy = SourcePolicy { wan: many, lan: Sources::default() };
        let said = policy.grant(Role::Prod, sources(&["192.0.2.7"])).expect_err("outside").to_string();
        assert!(said.contains("10.0.14.0/32, and 12 more at most"), "{said}");
    }
}

//! Whom a rule is for.

use std::fmt;
use std::str::FromStr;

use crate::auth::{Caller, Identity};

/// One way to name callers in a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Everybody for whom a provider vouches.
    Anyone,
    /// One person by the provider's lasting name: `identity:ae341a98-…`.
    Identity(String),
    /// One person by the name that people know: `user:alice@facility.example`.
    User(String),
    /// All whose name ends so: `domain:facility.example`.
    Domain(String),
    /// A group: `group:beamline-7`.
    Group(String),
    /// A claim and its value: `claim:eduperson_entitlement=urn:…`.
    Claim {
        /// Which claim.
        name: String,
        /// One of its values.
        value: String,
    },
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write anyone, identity:ID, user:NAME@DOMAIN, domain:DOMAIN, group:NAME or claim:NAME=VALUE")]
pub struct WhoError;

impl FromStr for Who {
    type Err = WhoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "anyone" {
            return Ok(Self::Anyone);
        }
        let (kind, value) = text.split_once(':').filter(|(_, value)| !value.is_empty()).ok_or(WhoError)?;
        let owned = value.to_owned();
        match kind {
            "identity" => Ok(Self::Identity(owned)),
            "user" => Ok(Self::User(owned.to_lowercase())),
            "domain" if !value.starts_with('@') => Ok(Self::Domain(owned.to_lowercase())),
            "group" => Ok(Self::Group(owned)),
            "claim" => {
                let (name, value) = value.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(WhoError)?;
                Ok(Self::Claim { name: name.into(), value: value.into() })
            }
            _ => Err(WhoError),
        }
    }
}

impl Who {
    /// Whether it means this caller. The operator needs no rule, and nobody who did
    /// not say who they are is meant by any.
    #[must_use]
    pub fn means(&self, caller: &Caller) -> bool {
        let Caller::Known(identity) = caller else {
            return false;
        };
        self.means_identity(identity)
    }

    fn means_identity(&self, identity: &Identity) -> bool {
        let named = |same: &dyn Fn(&str) -> bool| identity.names.iter().any(|name| same(&name.to_lowercase()));
        match self {
            Self::Anyone => true,
            Self::Identity(id) => identity.identities.contains(id),
            Self::User(user) => named(&|name| name == user),
            Self::Domain(domain) => named(&|name| name.rsplit_once('@').is_some_and(|(_, of)| of == domain)),
            Self::Group(group) => identity.groups.contains(group),
            Self::Claim { name, value } => identity.claims.get(name).is_some_and(|values| values.contains(value)),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Identity(id) => write!(f, "identity:{id}"),
            Self::User(user) => write!(f, "user:{user}"),
            Self::Domain(domain) => write!(f, "domain:{domain}"),
            Self::Group(group) => write!(f, "group:{group}"),
            Self::Claim { name, value } => write!(f, "claim:{name}={value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn alice() -> Caller {
        let mut identity = Identity { provider: "globus".into(), subject: "1-2".into(), ..Identity::default() };
        identity.identities.extend(["1-2".to_owned(), "3-4".to_owned()]);
        identity.names.insert("Alice@Facility.example".into());
        identity.groups.insert("beamline-7".into());
        identity.claims.insert("entitlement".into(), ["urn:x=y".to_owned()].into());
        Caller::Known(Arc::new(identity))
    }

    fn means(text: &str, caller: &Caller) -> bool {
        text.parse::<Who>().expect(text).means(caller)
    }

    #[test]
    fn everybody_is_named_in_several_ways() {
        for good in [
            "anyone",
            "identity:1-2",
            "identity:3-4",
            "user:alice@facility.example",
            "domain:facility.EXAMPLE",
            "group:beamline-7",
            "claim:entitlement=urn:x=y",
        ] {
            assert!(means(good, &alice()), "{good}");
            assert!(!means(good, &Caller::Anyone), "{good} means whoever did not say who they are");
        }
        for other in [
            "identity:1-3",
            "user:alice@facility.example.org",
            "user:bob@facility.example",
            "domain:example",
            "domain:acility.example",
            "group:beamline-8",
            "claim:entitlement=urn:x",
            "claim:other=urn:x=y",
        ] {
            assert!(!means(other, &alice()), "{other}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        for bad in ["", "everybody", "user:", "domain:@x", "claim:x", "claim:=x", "alice@facility.example", "role:x"] {
            assert!(bad.parse::<Who>().is_err(), "{bad:?} was taken");
        }
    }
}

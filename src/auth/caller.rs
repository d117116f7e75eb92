//! Who calls, as far as the gateway can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::shown::is_harmless;

/// Whoever asks for something, and owns what they got.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Caller {
    /// Nobody had to say who they are.
    #[default]
    Anyone,
    /// The operator of this gateway, on the gateway itself.
    Operator,
    /// Somebody for whom a provider vouches.
    Known(Arc<Identity>),
}

/// What a provider says of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The name of the provider in the gateway's configuration.
    pub provider: String,
    /// The provider's lasting name for them.
    pub subject: String,
    /// All lasting names that belong to the same person, [`Self::subject`] among them.
    pub identities: BTreeSet<String>,
    /// Names that people know, and for which the provider vouches: `alice@facility.example`.
    pub names: BTreeSet<String>,
    /// The groups that they are in.
    pub groups: BTreeSet<String>,
    /// Further claims, those that the policy asks for.
    pub claims: BTreeMap<String, BTreeSet<String>>,
}

impl Caller {
    /// Whether both are the same person. A provider may know one under several names.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(one), Self::Known(other)) => {
                one.provider == other.provider && !one.identities.is_disjoint(&other.identities)
            }
            (one, other) => one == other,
        }
    }

    /// What tells callers apart where each has a share of something.
    #[must_use]
    pub fn principal(&self) -> String {
        match self {
            Self::Anyone => "anyone".into(),
            Self::Operator => "operator".into(),
            Self::Known(identity) => format!("{}:{}", identity.provider, identity.subject),
        }
    }
}

/// For people: the name that they know, else the lasting one.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Operator => f.write_str("the operator"),
            Self::Known(identity) => {
                let name = identity.names.first().unwrap_or(&identity.subject);
                // It comes from outside, and goes into logs.
                name.chars().filter(|c| is_harmless(*c)).take(MOST_SHOWN).try_for_each(|c| write!(f, "{c}"))
            }
        }
    }
}

/// No honest name is longer.
const MOST_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn known(provider: &str, identities: &[&str]) -> Caller {
        let identities: BTreeSet<String> = identities.iter().map(ToString::to_string).collect();
        let subject = identities.first().cloned().expect("one");
        Caller::Known(Arc::new(Identity { provider: provider.into(), subject, identities, ..Identity::default() }))
    }

    #[test]
    fn linked_identities_are_one_person_and_providers_are_worlds() {
        assert!(known("globus", &["a", "b"]).is(&known("globus", &["b", "c"])));
        assert!(!known("globus", &["a"]).is(&known("globus", &["b"])));
        assert!(!known("globus", &["a"]).is(&known("other", &["a"])));
        assert!(Caller::Anyone.is(&Caller::Anyone));
        assert!(!Caller::Anyone.is(&known("globus", &["a"])));
        assert!(!Caller::Operator.is(&Caller::Anyone));
    }

    #[test]
    fn a_name_cannot_break_a_log_line() {
        let mut identity = Identity { subject: "s".into(), ..Identity::default() };
        identity.names.insert(format!("alice\n{}", "x".repeat(1000)));
        let shown = Caller::Known(Arc::new(identity)).to_string();
        assert!(!shown.contains('\n') && shown.chars().count() <= MOST_SHOWN);
    }

    #[test]
    fn what_is_written_is_read() {
        for caller in [Caller::Anyone, Caller::Operator, known("globus", &["a", "b"])] {
            let text = serde_json::to_string(&caller).expect("json");
            assert_eq!(serde_json::from_str::<Caller>(&text).expect("its own form"), caller, "{text}");
        }
    }
}

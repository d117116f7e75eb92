//! The floor below which no connection between gateways goes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How well the data channel is protected at least. Two ends always agree on
/// the strongest protection that both have.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// Plain TCP is taken as well: no key is asked for, anyone may read along.
    None,
    /// Also what the deployed release speaks: the peer holds the key and bytes
    /// cannot be altered, but anyone may read along.
    Integrity,
    /// The peer holds the key, and nobody else reads or alters.
    #[default]
    Confidentiality,
}

impl Protection {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::None, Self::Integrity, Self::Confidentiality];

    /// The word in configuration files and on command lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

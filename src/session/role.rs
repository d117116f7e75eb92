//! Which end of a stream a session serves.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The two ends of a stream, named for the application they serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Role {
    /// Accepts the secure tunnel from the WAN and forwards it to the producer.
    Prod,
    /// Accepts the facility's own applications and carries them to the other facility.
    Cons,
}

/// A role that is neither `PROD` nor `CONS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither PROD nor CONS")]
pub struct RoleError;

impl Role {
    /// Reads a role from the wire.
    ///
    /// # Errors
    /// [`RoleError`] for anything but the two words in capitals.
    pub fn parse(text: &str) -> Result<Self, RoleError> {
        match text {
            "PROD" => Ok(Self::Prod),
            "CONS" => Ok(Self::Cons),
            _ => Err(RoleError),
        }
    }

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prod => "PROD",
            Self::Cons => "CONS",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

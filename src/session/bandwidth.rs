//! How much a session may move, and its part of what the whole gateway may.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use serde::{Deserialize, Serialize};

/// A rate in kB/s, as clients send it: 1000 bytes a second. What a session may move
/// counts for all of its connections, and for both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bandwidth(NonZeroU32);

/// 1 TB/s, which is more than there is; programs take no greater number.
const MOST: u32 = 1_000_000_000;

impl Bandwidth {
    /// So many kB/s, or as many as there may be. `None` for 0, by which clients say nothing.
    #[must_use]
    pub fn kilobytes(number: u32) -> Option<Self> {
        NonZeroU32::new(number.min(MOST)).map(Self)
    }

    /// In kB/s.
    #[must_use]
    pub fn kilobytes_per_second(self) -> u32 {
        self.0.get()
    }

    /// In bytes a second.
    #[must_use]
    pub fn bytes_per_second(self) -> u64 {
        u64::from(self.0.get()) * 1000
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kB/s", self.0)
    }
}

/// How much a session counts where all share what the gateway may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(NonZeroU16);

impl Weight {
    /// Of this size; `None` for 0, which would be nothing at all.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU16::MIN)
    }
}

/// What a session may move, settled for as long as it lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// What its client has asked for, meant or not.
    pub asked: Option<Bandwidth>,
    /// What it is kept to; `None`: nothing of its own.
    pub limit: Option<Bandwidth>,
    /// What it counts among others.
    pub weight: Weight,
    /// Whether it is kept to its share of what the gateway may move.
    pub shared: bool,
}

impl Capacity {
    /// Whether some program must keep it to a bandwidth, now or later.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.limit.is_some() || self.shared
    }
}

/// The lesser of two bounds, where `None` is no bound.
#[must_use]
pub fn least(one: Option<Bandwidth>, other: Option<Bandwidth>) -> Option<Bandwidth> {
    one.into_iter().chain(other).min()
}

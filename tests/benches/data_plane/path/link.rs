//! What a link between two facilities does to packets.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

/// What a link does to packets, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Link {
    /// How long the way there and back takes, in milliseconds.
    pub round_trip_ms: u64,
    /// How many of a million packets are lost.
    pub lost_per_million: u32,
    /// How many bits pass in a second, in millions.
    pub megabit_per_s: u64,
}

/// Those that are measured: a clean one, and one that loses a packet in a thousand.
pub const LINKS: [Link; 2] = [
    Link { round_trip_ms: 20, lost_per_million: 0, megabit_per_s: 1000 },
    Link { round_trip_ms: 20, lost_per_million: 1000, megabit_per_s: 1000 },
];
/// As on research networks; what the devices take, IP header included.
pub const MTU: u16 = 9000;

impl Link {
    /// What it is called in the results.
    pub fn name(&self) -> &'static str {
        if self.lost_per_million == 0 { "path" } else { "lossy path" }
    }

    /// One way.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.round_trip_ms) / 2
    }

    /// How long the link is busy with so many bytes.
    pub fn busy(&self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * 8 * 1000 / self.megabit_per_s.max(1))
    }

    /// How long a packet may have to wait for the link before it is dropped: one round trip.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.round_trip_ms)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.round_trip_ms, self.lost_per_million, self.megabit_per_s)
    }
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<u64> = text.split(':').filter_map(|word| word.parse().ok()).collect();
        let [round_trip_ms, lost, megabit_per_s] = numbers[..] else {
            return Err("expected MILLISECONDS:LOST-PER-MILLION:MEGABITS".into());
        };
        let lost_per_million = u32::try_from(lost).map_err(|e| e.to_string())?;
        Ok(Self { round_trip_ms, lost_per_million, megabit_per_s })
    }
}

//! How the TCP connections of a session are set, where that is not left to their program.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A congestion control, by the name that the kernel knows it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Congestion(String);

/// Names are shorter than `TCP_CA_NAME_MAX`, which is 16.
const LONGEST: usize = 15;

/// The sizes of socket buffers that can be meant: programs take no others, nor does the kernel.
pub const BUFFERS: RangeInclusive<u32> = 4096..=1 << 30;

/// It cannot be the name of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be the name of a congestion control, such as cubic or bbr")]
pub struct CongestionError;

impl FromStr for Congestion {
    type Err = CongestionError;

    fn from_str(text: &str) -> Result<Self, CongestionError> {
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
        let named = plain && !text.is_empty() && text.len() <= LONGEST;
        if named { Ok(Self(text.to_owned())) } else { Err(CongestionError) }
    }
}

impl TryFrom<String> for Congestion {
    type Error = CongestionError;

    fn try_from(text: String) -> Result<Self, CongestionError> {
        text.parse()
    }
}

impl From<Congestion> for String {
    fn from(name: Congestion) -> Self {
        name.0
    }
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Settings of TCP sockets. What is `None` is left to the program that has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tcp {
    /// Whether small pieces are sent at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodelay: Option<bool>,
    /// After how many seconds of silence the peer is asked whether it lives; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_seconds: Option<u32>,
    /// Bytes that may be under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_buffer: Option<u32>,
    /// Bytes that may come in unread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_buffer: Option<u32>,
    /// Who decides how fast to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion: Option<Congestion>,
}

/// What one session has of its own of that, because its client has asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpWishes {
    /// See [`Tcp`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_buffer: Option<u32>,
    /// See [`Tcp`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_buffer: Option<u32>,
    /// See [`Tcp`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub congestion: Option<Congestion>,
}

impl TcpWishes {
    /// The larger buffer of both, if any is asked for.
    #[must_use]
    pub fn max_asked(&self) -> Option<u32> {
        self.send_buffer.max(self.receive_buffer)
    }
}

impl Tcp {
    /// These settings, and before them what a session has of its own.
    #[must_use]
    pub fn with(&self, wishes: &TcpWishes) -> Self {
        let wished = wishes.clone();
        Self {
            send_buffer: wished.send_buffer.or(self.send_buffer),
            receive_buffer: wished.receive_buffer.or(self.receive_buffer),
            congestion: wished.congestion.or_else(|| self.congestion.clone()),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_congestion_controls_are_harmless() {
        for good in ["cubic", "bbr", "bbr2", "cdg_x", "a-b"] {
            assert_eq!(good.parse::<Congestion>().map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", "Cubic", "bbr\"", "bbr\n", "a b", "{{x}}", "1234567890123456"] {
            assert_eq!(bad.parse::<Congestion>(), Err(CongestionError), "{bad:?}");
        }
    }

    #[test]
    fn a_session_has_its_own_and_the_rest_is_the_sites() {
        let site = Tcp { nodelay: Some(false), send_buffer: Some(1), receive_buffer: Some(2), ..Tcp::default() };
        let own = TcpWishes { send_buffer: Some(3), congestion: "bbr".parse().ok(), ..TcpWishes::default() };
        let both = Tcp { send_buffer: Some(3), congestion: "bbr".parse().ok(), ..site.clone() };
        assert_eq!(site.with(&own), both);
        assert_eq!(site.with(&TcpWishes::default()), site);
    }
}

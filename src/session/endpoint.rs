//! Endpoints as clients name them: a host and a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

/// `IP:PORT`, `[IPv6]:PORT` or `NAME:PORT`, checked for form only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where.
    pub host: Host,
    /// Which port.
    pub port: NonZeroU16,
}

/// The host of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IP literal.
    Ip(IpAddr),
    /// A host name (RFC 1123 section 2.1), to be resolved and then checked.
    Name(String),
}

/// What is wrong with an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Longer than any host name with a port.
    #[error("it has {0} characters, more than any HOST:PORT")]
    TooLong(usize),
    /// No colon between host and port.
    #[error("it has no port; write HOST:PORT")]
    NoPort,
    /// The port is no number from 1 to 65535.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// The host is neither an IP literal nor a host name.
    #[error("its host is neither an IP address nor a host name (an IPv6 address goes in brackets)")]
    Host,
}

/// The longest host name is 253 characters (RFC 1035 section 2.3.4), then `:65535`.
const LONGEST: usize = 253 + 6;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > LONGEST {
            return Err(EndpointError::TooLong(text.chars().count()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(EndpointError::NoPort)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => Host::Ip(v6.parse::<Ipv6Addr>().map_err(|_| EndpointError::Host)?.into()),
            None => parse_host(host).ok_or(EndpointError::Host)?,
        };
        Ok(Self { host, port: parse_port(port).ok_or(EndpointError::Port)? })
    }
}

/// A host as people type it where no port follows: IPv6 needs no brackets.
impl FromStr for Host {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        parse_host(text).ok_or(EndpointError::Host)
    }
}

/// Digits only: `str::parse` would take a leading plus sign.
fn parse_port(text: &str) -> Option<NonZeroU16> {
    if text.len() > 5 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn parse_host(text: &str) -> Option<Host> {
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Some(Host::Ip(ip.into()));
    }
    is_host_name(text).then(|| Host::Name(text.to_ascii_lowercase()))
}

/// RFC 1123 names. A last label that is a number would be read as an address by
/// the system's resolver (`127.1`, `2130706433`, `0x7f000001`), so it is none.
fn is_host_name(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    let label_is_good = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number =
        |label: &str| label.bytes().all(|b| b.is_ascii_digit()) || label.starts_with("0x") || label.starts_with("0X");
    text.len() <= 253 && labels.iter().all(label_is_good) && labels.last().is_some_and(|last| !is_number(last))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_endpoints_print_as_they_were() {
        for good in ["127.0.0.1:5300", "[::1]:1", "[2001:db8::7]:65535", "daq.beamline-7.example:5300", "localhost:80"]
        {
            assert_eq!(good.parse::<Endpoint>().expect(good).to_string(), good);
        }
    }

    #[test]
    fn bad_endpoints_are_refused() {
        for bad in [
            "",
            "host",
            ":5300",
            "127.0.0.1:0",
            "127.0.0.1:70000",
            "127.0.0.1:+80",
            "127.0.0.1: 80",
            " 127.0.0.1:80",
            "127.0.0.1:80\nexec = /usr/bin/touch /tmp/x",
            "127.0.0.1\n:80",
            "0177.0.0.1:80",
            "2130706433:80",
            "0x7f000001:80",
            "127.1:80",
            "::1:80",
            "[127.0.0.1]:80",
            "/run/x.sock",
            "unix:/run/x.sock:80",
            "-option:80",
            "a..b:80",
            "host name:80",
            "h;x:80",
            "{{x}}:80",
            "ho\u{0}st:80",
            &format!("{}:80", "a".repeat(64)),
            &"a".repeat(5000),
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_harmless_and_stable(text in "\\PC{0,40}(:[0-9]{0,6})?") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                let shown = endpoint.to_string();
                prop_assert!(shown.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b)));
                prop_assert_eq!(shown.parse::<Endpoint>().expect("printed form"), endpoint);
            }
        }
    }
}

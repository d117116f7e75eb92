//! Networks with ports, as operators write them in rules.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;

use crate::session::{self, parse_network};

/// Addresses and ports: `10.0.0.0/8`, `10.0.0.9`, `10.0.0.0/8:5300`,
/// `10.0.0.9:5000-5999`, `2001:db8::/32`, `[2001:db8::/32]:5300`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    net: IpNet,
    ports: RangeInclusive<u16>,
}

/// What is wrong with a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It is none of the forms.
    #[error(
        "write NETWORK/BITS or an address, with :PORT or :PORT-PORT behind it where only some ports are meant ([…] around IPv6)"
    )]
    Form,
    /// The network itself is none.
    #[error(transparent)]
    Net(#[from] session::NetworkError),
    /// No port is in the range.
    #[error("its ports must be from 1 to 65535, the lower first")]
    Ports,
}

const ALL_PORTS: RangeInclusive<u16> = 1..=65535;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (net, ports) = match text.strip_prefix('[').map(|rest| rest.split_once(']').ok_or(NetworkError::Form)) {
            Some(parts) => {
                let (net, rest) = parts?;
                let ports = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':').ok_or(NetworkError::Form)?),
                };
                (net, ports)
            }
            // Without brackets, an IPv6 address is nothing but colons.
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(net, ports)| (net, Some(ports))),
        };
        Ok(Self { net: parse_network(net)?, ports: ports.map_or(Ok(ALL_PORTS), parse_ports)? })
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, NetworkError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(NetworkError::Ports);
    let (first, last) = (port(first)?, port(last)?);
    if first > last { Err(NetworkError::Ports) } else { Ok(first..=last) }
}

impl Network {
    /// All ports of a network.
    #[must_use]
    pub fn whole(net: IpNet) -> Self {
        Self { net, ports: ALL_PORTS }
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn holds(&self, address: SocketAddr) -> bool {
        self.net.contains(&address.ip()) && self.ports.contains(&address.port())
    }

    /// Whether it was written for loopback addresses, not only happens to hold them.
    pub(super) fn means_loopback(&self) -> bool {
        self.net.network().is_loopback()
    }

    /// Whether it was written for link-local addresses.
    pub(super) fn means_link_local(&self) -> bool {
        match self.net {
            IpNet::V4(net) => net.network().is_link_local(),
            IpNet::V6(net) => net.network().is_unicast_link_local(),
        }
    }

    /// Whether it was written for one host.
    pub(super) fn means_one_host(&self) -> bool {
        self.net.prefix_len() == self.net.max_prefix_len()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.ports.start(), self.ports.end());
        let ports = match (self.ports == ALL_PORTS, first == last) {
            (true, _) => String::new(),
            (false, true) => format!(":{first}"),
            (false, false) => format!(":{first}-{last}"),
        };
        match self.net {
            IpNet::V6(net) if !ports.is_empty() => write!(f, "[{net}]{ports}"),
            net => write!(f, "{net}{ports}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_forms_are_read_and_printed() {
        for (text, printed) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.9", "10.0.0.9/32"),
            ("10.0.0.0/8:5300", "10.0.0.0/8:5300"),
            ("10.0.0.9:5000-5999", "10.0.0.9/32:5000-5999"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("[2001:db8::/32]:5300", "[2001:db8::/32]:5300"),
            ("[2001:db8::7]", "2001:db8::7/128"),
        ] {
            assert_eq!(text.parse::<Network>().expect(text).to_string(), printed);
        }
        let host_bits = "10.0.0.9/8".parse::<Network>();
        assert!(matches!(host_bits, Err(NetworkError::Net(session::NetworkError::HostBits { .. }))));
        for bad in ["", "x", "10.0.0.0/33", "10.0.0.0/8:0", "10.0.0.0/8:9-5", "10.0.0.0/8:", "[::1", "[::1]5", "10.1/8"]
        {
            assert!(bad.parse::<Network>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn ports_and_addresses_count() {
        let network: Network = "10.0.0.0/8:5000-5999".parse().expect("a network");
        let holds = |text: &str| network.holds(text.parse().expect("an address"));
        assert!(holds("10.1.2.3:5000") && holds("10.1.2.3:5999"));
        assert!(!holds("10.1.2.3:6000") && !holds("11.0.0.1:5000") && !holds("[::1]:5000"));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(text in "\\PC{0,30}") {
            if let Ok(network) = text.parse::<Network>() {
                prop_assert_eq!(network.to_string().parse::<Network>().expect("printed form"), network);
            }
        }
    }
}

//! From where connections to a session's listeners are taken.
//!
//! A network has one spelling: IPv4-mapped IPv6 (`::ffff:192.0.2.7`) is read as
//! the IPv4 that it reaches, and bits behind the prefix are refused, since
//! nobody can tell which of both parts was meant. An IPv6 network as wide as
//! `::/0` means IPv6 alone.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// What is wrong with a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It is none.
    #[error("it is neither an IP address nor a network such as 198.51.100.0/24")]
    Form,
    /// It says more than its prefix keeps.
    #[error("it has bits set behind its prefix; write {network} for the network, or {address} for the one address")]
    HostBits {
        /// What it is without them.
        network: IpNet,
        /// What stands before the slash.
        address: IpAddr,
    },
}

/// Reads an IP address or a network, `192.0.2.7` or `192.0.2.0/24`.
///
/// # Errors
/// [`NetworkError`]
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
    let network = match prefix {
        Some(prefix) => parse_prefix(prefix).and_then(|prefix| IpNet::new(address, prefix).ok()),
        None => Some(IpNet::from(address)),
    };
    let network = network.ok_or(NetworkError::Form)?;
    if network != network.trunc() {
        return Err(NetworkError::HostBits { network: plain(network.trunc()), address: address.to_canonical() });
    }
    Ok(plain(network))
}

/// Digits only: `str::parse` would take a leading plus sign, and zeros.
fn parse_prefix(text: &str) -> Option<u8> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    digits.then(|| text.parse().ok()).flatten()
}

/// A network in its own clothes.
fn plain(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(ip, prefix)| Ipv4Net::new(ip, prefix).ok()).map_or(network, IpNet::V4)
}

/// The networks from which connections are taken, as few as say the same, in
/// order. None at all means: from anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(Vec<IpNet>);

impl FromIterator<IpNet> for Sources {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(IpNet::aggregate(&networks.into_iter().map(|network| plain(network.trunc())).collect()))
    }
}

impl Sources {
    /// Whether everyone may connect.
    #[must_use]
    pub fn are_anywhere(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks; none when everyone may connect.
    #[must_use]
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }

    /// Whether all of these lie inside `bound`.
    ///
    /// # Errors
    /// The first that does not; for everyone, that is `0.0.0.0/0`.
    pub fn within(&self, bound: &Self) -> Result<(), IpNet> {
        if bound.are_anywhere() {
            return Ok(());
        }
        if self.are_anywhere() {
            return Err(IpNet::V4(Ipv4Net::default()));
        }
        // Neighbours were joined, so what lies inside of several lies inside of one.
        match self.0.iter().find(|network| !bound.0.iter().any(|outer| outer.contains(*network))) {
            Some(outside) => Err(*outside),
            None => Ok(()),
        }
    }

    /// What who asks for these gets where `bound` is the most: these, or all of the
    /// bound when it asked for none.
    ///
    /// # Errors
    /// The first network that is not inside.
    pub fn bounded_by(self, bound: &Self) -> Result<Self, IpNet> {
        if self.are_anywhere() {
            return Ok(bound.clone());
        }
        self.within(bound).map(|()| self)
    }
}

/// Words for people: a list, or `anywhere`.
impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else {
            return f.write_str("anywhere");
        };
        write!(f, "{first}")?;
        others.iter().try_for_each(|network| write!(f, ", {network}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sources(texts: &[&str]) -> Sources {
        texts.iter().map(|text| parse_network(text).expect(text)).collect()
    }

    #[test]
    fn networks_have_one_spelling() {
        for (text, read) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:DB8:0::/48", "2001:db8::/48"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(parse_network(text).expect(text).to_string(), read);
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        let long = "1".repeat(5000);
        for bad in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10/8",
            "010.0.0.0/8",
            "0x0a.0.0.0/8",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "10.0.0.0/8\n",
            "10.0.0.0/8;",
            "fe80::%eth0/64",
            "[::1]",
            "localhost",
            "all",
            "10.0.0.1:80",
            "10.0.0.0-10.0.0.9",
            "{{x}}",
            &long,
        ] {
            assert_eq!(parse_network(bad), Err(NetworkError::Form), "{bad:?}");
        }
        let said = parse_network("192.0.2.7/24").expect_err("bits behind its prefix").to_string();
        assert!(said.contains("write 192.0.2.0/24") && said.contains("or 192.0.2.7 "), "{said}");
        assert!(matches!(parse_network("::ffff:192.0.2.7/120"), Err(NetworkError::HostBits { .. })));
    }

    #[test]
    fn neighbours_are_joined_and_what_is_outside_is_named() {
        let bound = sources(&["10.128.0.0/9", "10.0.0.0/9", "10.1.0.0/16", "2001:db8::/32"]);
        assert_eq!(bound.to_string(), "10.0.0.0/8, 2001:db8::/32");
        assert_eq!(sources(&["10.0.0.0/8"]).within(&bound), Ok(()));
        assert_eq!(sources(&["10.9.9.9", "2001:db8:7::/48"]).within(&bound), Ok(()));
        let outside = |texts: &[&str]| sources(texts).within(&bound).expect_err("outside").to_string();
        assert_eq!(outside(&["10.1.1.1", "192.0.2.0/24"]), "192.0.2.0/24");
        assert_eq!(outside(&["10.0.0.0/7"]), "10.0.0.0/7");
        assert_eq!(outside(&["::/0"]), "::/0");
        assert_eq!(outside(&[]), "0.0.0.0/0");
        assert_eq!(sources(&["192.0.2.7"]).within(&Sources::default()), Ok(()));
    }

    #[test]
    fn who_asks_for_nothing_gets_the_bound() {
        let bound = sources(&["10.0.0.0/8"]);
        assert_eq!(Sources::default().bounded_by(&bound), Ok(bound.clone()));
        assert_eq!(Sources::default().bounded_by(&Sources::default()), Ok(Sources::default()));
        assert_eq!(sources(&["10.1.0.0/16"]).bounded_by(&bound), Ok(sources(&["10.1.0.0/16"])));
        assert!(sources(&["11.0.0.0/8"]).bounded_by(&bound).is_err());
    }

    fn any_network() -> impl Strategy<Value = IpNet> {
        let v4 = (0..4_u8, any::<u8>(), 0..=32_u8).prop_map(|(a, b, prefix)| (IpAddr::from([a, b, 0, 0]), prefix));
        let v6 = (0..4_u16, any::<u16>(), 0..=128_u8)
            .prop_map(|(a, b, prefix)| (IpAddr::from([a, 0, 0, 0, 0, 0xffff, b, 0]), prefix));
        prop_oneof![v4, v6].prop_map(|(ip, prefix)| IpNet::new(ip, prefix).expect("a prefix"))
    }

    /// Whether an address is in one of the networks, as they were written.
    fn holds(networks: &[IpNet], ip: IpAddr) -> bool {
        networks.iter().any(|network| plain(network.trunc()).contains(&ip))
    }

    proptest! {
        #[test]
        fn joining_changes_no_answer(networks in prop::collection::vec(any_network(), 1..12)) {
            let joined: Sources = networks.iter().copied().collect();
            let ends = networks.iter().flat_map(|network| {
                let network = plain(network.trunc());
                [network.network(), network.broadcast(), before(network.network()), after(network.broadcast())]
            });
            for ip in ends {
                prop_assert_eq!(holds(joined.networks(), ip), holds(&networks, ip), "{} in {}", ip, joined);
            }
            for network in &networks {
                let one: Sources = [*network].into_iter().collect();
                prop_assert_eq!(one.within(&joined), Ok(()));
            }
        }

        #[test]
        fn whatever_is_taken_is_harmless_and_stable(text in "[0-9a-f:./ ;\n]{0,24}") {
            if let Ok(network) = parse_network(&text) {
                let shown = network.to_string();
                prop_assert!(shown.bytes().all(|b| b.is_ascii_hexdigit() || b".:/".contains(&b)));
                prop_assert_eq!(parse_network(&shown), Ok(network));
            }
        }
    }

    fn before(ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => u32::from(ip).wrapping_sub(1).to_be_bytes().into(),
            IpAddr::V6(ip) => u128::from(ip).wrapping_sub(1).to_be_bytes().into(),
        }
    }

    fn after(ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => u32::from(ip).wrapping_add(1).to_be_bytes().into(),
            IpAddr::V6(ip) => u128::from(ip).wrapping_add(1).to_be_bytes().into(),
        }
    }
}

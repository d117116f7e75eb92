//! What the helper lets itself be asked for: whatever is not plainly inside is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::session::{Sources, parse_network};

/// The bounds of all that the helper opens, by its operator's flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The only ports.
    pub ports: RangeInclusive<u16>,
    /// The longest that anything is open without being asked for again.
    pub most_seconds: u32,
}

/// From one network to one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// From where.
    pub source: IpNet,
    /// To which addresses: one, or all of its family.
    pub destination: IpNet,
    /// To which port.
    pub port: u16,
}

/// The kernel takes a third of a second for so many in one transaction, and four times
/// as long for twice as many; meanwhile others wait.
const MOST_ELEMENTS: usize = 512;

impl Bounds {
    /// What it takes to let connections through from `sources` to `listeners`.
    ///
    /// # Errors
    /// Why it may not be.
    pub fn elements(&self, listeners: &[SocketAddr], sources: &[String]) -> Result<Vec<Element>, String> {
        let read = |text: &String| parse_network(text).map_err(|e| format!("the source {text:?} cannot be used: {e}"));
        let sources: Sources = sources.iter().map(read).collect::<Result<_, _>>()?;
        if listeners.is_empty() {
            return Err("no listener is named".into());
        }
        let mut elements = Vec::new();
        for listener in listeners {
            let (ip, port) = (listener.ip().to_canonical(), listener.port());
            if !self.ports.contains(&port) {
                let (first, last) = (self.ports.start(), self.ports.end());
                return Err(format!("port {port} is outside --ports {first}-{last}"));
            }
            for destination in destinations(ip) {
                let anywhere = [everywhere(destination)];
                let from = if sources.are_anywhere() { &anywhere } else { sources.networks() };
                let reaching = from.iter().filter(|source| source.addr().is_ipv4() == destination.addr().is_ipv4());
                elements.extend(reaching.map(|source| Element { source: *source, destination, port }));
            }
        }
        match elements.len() {
            ..=MOST_ELEMENTS => Ok(elements),
            many => Err(format!(
                "each source to each listener makes {many} openings, and one session may have {MOST_ELEMENTS}; \
                 ask for fewer"
            )),
        }
    }

    /// For how long something is opened that is to be open for `seconds`.
    ///
    /// # Errors
    /// Why it may not be.
    pub fn seconds(&self, seconds: u32) -> Result<u32, String> {
        match seconds {
            0 => Err("it would be open for 0 seconds".into()),
            long if long > self.most_seconds => {
                Err(format!("{long} seconds are more than --most-seconds {}", self.most_seconds))
            }
            seconds => Ok(seconds),
        }
    }
}

/// What a socket that listens there takes connections to.
fn destinations(ip: IpAddr) -> Vec<IpNet> {
    let every4 = IpNet::from(Ipv4Net::default());
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![every4],
        // By ipv6(7), it takes those over IPv4 too.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => vec![every4, IpNet::from(Ipv6Net::default())],
        ip => vec![IpNet::from(ip)],
    }
}

/// All addresses of the same family.
fn everywhere(network: IpNet) -> IpNet {
    match network {
        IpNet::V4(_) => Ipv4Net::default().into(),
        IpNet::V6(_) => Ipv6Net::default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds { ports: 5100..=5200, most_seconds: 120 }
    }

    fn elements(listeners: &[&str], sources: &[&str]) -> Result<Vec<String>, String> {
        let listeners: Vec<_> = listeners.iter().map(|text| text.parse().expect("an address")).collect();
        let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
        let found = bounds().elements(&listeners, &sources)?;
        Ok(found.iter().map(|e| format!("{} > {} {}", e.source, e.destination, e.port)).collect())
    }

    #[test]
    fn each_source_reaches_each_listener_of_its_family() {
        let both = ["10.0.0.0/8", "2001:db8::/32"];
        for (listeners, sources, expected) in [
            (&["192.0.2.1:5100"][..], &both[..], &["10.0.0.0/8 > 192.0.2.1/32 5100"][..]),
            (&["192.0.2.1:5100"], &[], &["0.0.0.0/0 > 192.0.2.1/32 5100"]),
            (&["0.0.0.0:5100"], &["10.0.0.7"], &["10.0.0.7/32 > 0.0.0.0/0 5100"]),
            (&["[2001:db8::1]:5200"], &both, &["2001:db8::/32 > 2001:db8::1/128 5200"]),
            (&["[::]:5100"], &[], &["0.0.0.0/0 > 0.0.0.0/0 5100", "::/0 > ::/0 5100"]),
            (&["[::ffff:192.0.2.1]:5100"], &[], &["0.0.0.0/0 > 192.0.2.1/32 5100"]),
            // Neighbours are joined: overlapping ones would not fit into a set.
            (&["192.0.2.1:5100"], &["10.0.0.0/9", "10.128.0.0/9", "10.1.1.1"], &["10.0.0.0/8 > 192.0.2.1/32 5100"]),
            (&["192.0.2.1:5100"], &["2001:db8::/32"], &[]),
        ] {
            assert_eq!(elements(listeners, sources).expect("inside"), expected, "{listeners:?} {sources:?}");
        }
    }

    #[test]
    fn what_is_outside_or_malformed_is_refused() {
        for (listeners, sources, why) in [
            (&["192.0.2.1:22"][..], &[][..], "port 22 is outside --ports 5100-5200"),
            (&["192.0.2.1:5100", "192.0.2.1:5201"], &[], "port 5201 is outside"),
            (&["192.0.2.1:0"], &[], "port 0 is outside"),
            (&[], &["10.0.0.0/8"], "no listener"),
            (&["192.0.2.1:5100"], &["10.0.0.0/8 accept; }"], "cannot be used"),
            (&["192.0.2.1:5100"], &["10.0.0.1/8"], "bits set behind its prefix"),
            (&["192.0.2.1:5100"], &[""], "cannot be used"),
        ] {
            let said = elements(listeners, sources).expect_err("outside");
            assert!(said.contains(why), "{said}");
        }
        let many: Vec<_> = (0..=MOST_ELEMENTS).map(|n| format!("10.{}.{}.1", n / 256, n % 256)).collect();
        let said = bounds().elements(&["192.0.2.1:5100".parse().expect("an address")], &many).expect_err("too many");
        assert!(said.contains("513 openings"), "{said}");
        assert_eq!(bounds().seconds(120), Ok(120));
        assert!(bounds().seconds(0).is_err() && bounds().seconds(121).is_err());
    }
}

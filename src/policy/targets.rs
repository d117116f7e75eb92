//! Which addresses a session may be pointed at.
//!
//! Host names are resolved once, every address they give is checked, and the
//! one that is used is pinned: what a name answers later changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::network::Network;
use crate::session::{Endpoint, Host, Role, TargetAddr};

/// What the gateway knows of the ground it stands on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Only a control server that nobody else can reach forwards to loopback
    /// addresses of its host, and to the host itself, without being told to.
    pub alone: bool,
    /// The site's own networks.
    pub inside: Vec<Network>,
    /// Whether the operator named them.
    pub inside_is_said: bool,
    /// The gateway's own addresses, besides those of its interfaces.
    pub own: Vec<IpAddr>,
    /// The ports of its listeners: a CONS session may lead to a PROD session of the same gateway.
    pub ports: RangeInclusive<u16>,
}

/// Why an address is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The gateway itself.
    #[error("it is a loopback address of the gateway")]
    Loopback,
    /// The gateway itself, too.
    #[error("it is the gateway itself")]
    Own,
    /// Only meaningful on one link.
    #[error("it is a link-local address")]
    LinkLocal,
    /// Not one host.
    #[error("it is a multicast or broadcast address")]
    Multicast,
    /// No host at all; systems take it for themselves.
    #[error("it is the unspecified address")]
    Unspecified,
    /// No rule that is for the caller has it.
    #[error("no rule of this gateway lets {who} forward there")]
    Outside {
        /// Whom.
        who: String,
    },
}

/// An endpoint that cannot be a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It may not be.
    #[error("the target {target} is not allowed: {why}")]
    Forbidden {
        /// As it was asked for.
        target: Endpoint,
        /// Which rule.
        why: Forbidden,
    },
    /// The gateway's resolver does not answer.
    #[error("the name of the target {target} cannot be resolved on the gateway now: its resolver does not answer")]
    ResolverSilent {
        /// As it was asked for.
        target: Endpoint,
    },
    /// Its name has no address.
    #[error("the name of the target {target} cannot be resolved on the gateway: {why}")]
    Unresolved {
        /// As it was asked for.
        target: Endpoint,
        /// What the resolver said.
        why: String,
    },
}

const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// Names that are looked up at once. Each takes a thread, which a resolver that
/// does not answer keeps, whether anybody waits for it still or not.
static LOOKUPS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(64)));

impl Ground {
    /// Whether `address` may be a target at all. What is special must be listed as
    /// what it is: a rule for everything does not mean the gateway's loopback.
    ///
    /// # Errors
    /// What it is instead.
    pub(super) fn check(&self, address: SocketAddr, role: Role, listed: &[Network]) -> Result<(), Forbidden> {
        let address = SocketAddr::new(plain(address.ip()), address.port());
        let ip = address.ip();
        let is_listed = |as_what: fn(&Network) -> bool| listed.iter().any(|net| as_what(net) && net.holds(address));
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        // All of 0.0.0.0/8 is "this host" (RFC 791 section 3.2).
        let unspecified = ip.is_unspecified() || matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 0);
        let own = !self.alone && !ip.is_loopback() && (self.own.contains(&ip) || is_of_an_interface(ip));
        let our_listener = role == Role::Cons && self.ports.contains(&address.port());
        if unspecified {
            Err(Forbidden::Unspecified)
        } else if ip.is_multicast() || broadcast {
            Err(Forbidden::Multicast)
        } else if link_local && !is_listed(Network::means_link_local) {
            Err(Forbidden::LinkLocal)
        } else if ip.is_loopback() && !self.alone && !is_listed(Network::means_loopback) {
            Err(Forbidden::Loopback)
        } else if own && !our_listener && !is_listed(Network::means_one_host) {
            Err(Forbidden::Own)
        } else if let Some(inner) = embedded(ip) {
            // A translator on the way makes it that one.
            self.check(SocketAddr::new(inner.into(), address.port()), role, listed)
        } else {
            Ok(())
        }
    }
}

/// Whether an interface of this host has it now; addresses come and go.
fn is_of_an_interface(ip: IpAddr) -> bool {
    let has = |interface: InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    // What cannot be looked at is not taken for another host.
    getifaddrs().map_or(true, |mut all| all.any(|interface| has(interface) == Some(ip)))
}

/// The IPv4 address that an IPv6 address leads to by NAT64 (RFC 6052 section 2.1) or 6to4 (RFC 3056).
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = ip else { return None };
    let (bits, segments, octets) = (v6.to_bits(), v6.segments(), v6.octets());
    let four_from = |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    match segments[0] {
        0x64 if bits >> 32 == 0x0064_ff9b_0000_0000_0000_0000 => Some(four_from(12)),
        0x2002 => Some(four_from(2)),
        _ => None,
    }
}

/// Resolves endpoints, and has `permit` say whether they may be targets.
///
/// # Errors
/// [`TargetError`] for the first that cannot be a target.
pub(super) async fn resolve(
    endpoints: &[Endpoint],
    permit: impl Fn(SocketAddr) -> Result<(), Forbidden>,
) -> Result<Vec<TargetAddr>, TargetError> {
    let mut targets = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let addresses = look_up(endpoint).await?;
        for address in &addresses {
            permit(*address).map_err(|why| TargetError::Forbidden { target: endpoint.clone(), why })?;
        }
        // A name that has both is reached over IPv4, which facilities route inside.
        let chosen = addresses.iter().find(|a| a.is_ipv4()).or(addresses.first());
        let unresolved = || TargetError::Unresolved { target: endpoint.clone(), why: "it has no address".into() };
        targets.push(TargetAddr(*chosen.ok_or_else(unresolved)?));
    }
    Ok(targets)
}

/// The addresses of an endpoint, each in its own clothes.
async fn look_up(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, TargetError> {
    let port = endpoint.port.get();
    let addresses: Vec<SocketAddr> = match &endpoint.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
        Host::Name(name) => {
            let unresolved = |why: String| TargetError::Unresolved { target: endpoint.clone(), why };
            let look_up = async {
                let turn = Arc::clone(&LOOKUPS).acquire_owned().await.expect("the semaphore is never closed");
                let name = name.clone();
                let looked = tokio::task::spawn_blocking(move || {
                    let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
                    drop(turn);
                    found
                });
                looked.await.map_err(std::io::Error::other)?
            };
            timeout(RESOLVE_DEADLINE, look_up)
                .await
                .map_err(|_| TargetError::ResolverSilent { target: endpoint.clone() })?
                .map_err(|e| unresolved(e.to_string()))?
        }
    };
    Ok(addresses.iter().map(|address| SocketAddr::new(plain(address.ip()), address.port())).collect())
}

/// An IPv4 address in its own clothes: IPv4-mapped and IPv4-compatible IPv6 are read as what they reach.
fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) if v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED => {
            v6.to_ipv4().map_or(ip, IpAddr::V4)
        }
        _ => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground(alone: bool) -> Ground {
        let own = vec!["192.0.2.1".parse().expect("an address"), "10.0.0.1".parse().expect("an address")];
        Ground { alone, inside: vec![], inside_is_said: false, own, ports: 5100..=5200 }
    }

    fn verdict(text: &str, alone: bool) -> Result<(), Forbidden> {
        let address = SocketAddr::new(text.parse().expect("an address"), 5300);
        ground(alone).check(address, Role::Prod, &[])
    }

    #[test]
    fn special_addresses_are_no_targets() {
        for (address, why) in [
            ("127.0.0.1", Forbidden::Loopback),
            ("127.8.9.1", Forbidden::Loopback),
            ("::1", Forbidden::Loopback),
            ("::ffff:127.0.0.1", Forbidden::Loopback),
            ("::127.0.0.1", Forbidden::Loopback),
            ("192.0.2.1", Forbidden::Own),
            ("::ffff:10.0.0.1", Forbidden::Own),
            ("64:ff9b::192.0.2.1", Forbidden::Own),
            ("64:ff9b::127.0.0.1", Forbidden::Loopback),
            ("2002:7f00:1::1", Forbidden::Loopback),
            ("2002:a9fe:101::", Forbidden::LinkLocal),
            ("169.254.1.1", Forbidden::LinkLocal),
            ("fe80::1", Forbidden::LinkLocal),
            ("224.0.0.1", Forbidden::Multicast),
            ("255.255.255.255", Forbidden::Multicast),
            ("ff02::1", Forbidden::Multicast),
            ("0.0.0.0", Forbidden::Unspecified),
            ("0.1.2.3", Forbidden::Unspecified),
            ("::", Forbidden::Unspecified),
            ("::ffff:0.0.0.0", Forbidden::Unspecified),
        ] {
            assert_eq!(verdict(address, false), Err(why), "{address}");
        }
        for address in ["10.0.0.9", "192.168.1.1", "2001:db8::1", "::ffff:10.0.0.2"] {
            assert_eq!(verdict(address, false), Ok(()), "{address}");
        }
        assert_eq!(verdict("127.0.0.1", true), Ok(()));
        assert_eq!(verdict("192.0.2.1", true), Ok(()));
        assert_eq!(verdict("0.0.0.0", true), Err(Forbidden::Unspecified));
    }

    #[test]
    fn every_address_of_this_host_is_the_gateway() {
        let address = |interface: InterfaceAddress| Some(IpAddr::V4(interface.address?.as_sockaddr_in()?.ip()));
        let own: Vec<_> = getifaddrs().expect("the kernel tells").filter_map(address).collect();
        for ip in own.iter().filter(|ip| !ip.is_loopback()) {
            assert_eq!(verdict(&ip.to_string(), false), Err(Forbidden::Own), "{ip}");
        }
        assert!(is_of_an_interface("127.0.0.1".parse().expect("an address")));
        assert!(!is_of_an_interface("192.0.2.77".parse().expect("an address")));
    }

    #[test]
    fn what_is_special_must_be_meant() {
        let check = |address: &str, role, listed: &str| {
            let listed = [listed.parse::<Network>().expect("a network")];
            ground(false).check(address.parse().expect("an address"), role, &listed)
        };
        assert_eq!(check("127.0.0.1:5300", Role::Prod, "0.0.0.0/0"), Err(Forbidden::Loopback));
        assert_eq!(check("127.0.0.1:5300", Role::Prod, "127.0.0.1:5000"), Err(Forbidden::Loopback));
        assert_eq!(check("127.0.0.1:5300", Role::Prod, "127.0.0.0/8:5300"), Ok(()));
        assert_eq!(check("169.254.3.4:80", Role::Prod, "0.0.0.0/0"), Err(Forbidden::LinkLocal));
        assert_eq!(check("169.254.3.4:80", Role::Prod, "169.254.0.0/16"), Ok(()));
        assert_eq!(check("10.0.0.1:22", Role::Prod, "10.0.0.0/8"), Err(Forbidden::Own));
        assert_eq!(check("10.0.0.1:5300", Role::Prod, "10.0.0.1:5300"), Ok(()));
        assert_eq!(check("192.0.2.1:5100", Role::Cons, "0.0.0.0/0"), Ok(()), "a listener of ours");
        assert_eq!(check("192.0.2.1:22", Role::Cons, "0.0.0.0/0"), Err(Forbidden::Own));
    }

    #[tokio::test]
    async fn a_name_is_checked_by_what_it_resolves_to() {
        let name: Endpoint = "localhost:5300".parse().expect("an endpoint");
        let permit = |alone| move |address| ground(alone).check(address, Role::Prod, &[]);
        let open = resolve(std::slice::from_ref(&name), permit(true)).await.expect("allowed");
        assert_eq!(open[0].0.to_string(), "127.0.0.1:5300");
        let closed = resolve(&[name], permit(false)).await;
        assert!(matches!(closed, Err(TargetError::Forbidden { why: Forbidden::Loopback, .. })));
    }
}

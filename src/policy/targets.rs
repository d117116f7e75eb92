//! Which addresses a session may be pointed at.
//!
//! Host names are resolved once, every address they give is checked, and the
//! one that is used is pinned: what a name answers later changes nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::session::{Endpoint, Host, TargetAddr};

/// The rule for targets.
#[derive(Debug, Clone, Copy)]
pub struct TargetPolicy {
    /// Only a control server that nobody else can reach may forward to the
    /// loopback addresses of its host. (Its other addresses are targets like any.)
    pub loopback: bool,
}

/// Why an address is no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The gateway itself.
    #[error("it is a loopback address of the gateway")]
    Loopback,
    /// Only meaningful on one link.
    #[error("it is a link-local address")]
    LinkLocal,
    /// Not one host.
    #[error("it is a multicast or broadcast address")]
    Multicast,
    /// No host at all; systems take it for themselves.
    #[error("it is the unspecified address")]
    Unspecified,
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
/// Names that are looked up at once; each takes a thread, which a resolver that
/// does not answer keeps.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

impl TargetPolicy {
    /// Whether `ip` may be a target.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn check(self, ip: IpAddr) -> Result<(), Forbidden> {
        let ip = plain(ip);
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        // All of 0.0.0.0/8 is "this host" (RFC 791 section 3.2).
        let unspecified = ip.is_unspecified() || matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 0);
        if unspecified {
            Err(Forbidden::Unspecified)
        } else if ip.is_multicast() || broadcast {
            Err(Forbidden::Multicast)
        } else if link_local {
            Err(Forbidden::LinkLocal)
        } else if ip.is_loopback() && !self.loopback {
            Err(Forbidden::Loopback)
        } else {
            Ok(())
        }
    }

    /// Resolves endpoints and checks what they are.
    ///
    /// # Errors
    /// [`TargetError`] for the first that cannot be a target.
    pub async fn resolve(self, endpoints: &[Endpoint]) -> Result<Vec<TargetAddr>, TargetError> {
        let mut targets = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            targets.push(self.resolve_one(endpoint).await?);
        }
        Ok(targets)
    }

    async fn resolve_one(self, endpoint: &Endpoint) -> Result<TargetAddr, TargetError> {
        let port = endpoint.port.get();
        let addresses: Vec<SocketAddr> = match &endpoint.host {
            Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
            Host::Name(name) => {
                let unresolved = |why: String| TargetError::Unresolved { target: endpoint.clone(), why };
                let look_up = async {
                    let _turn = LOOKUPS.acquire().await.expect("the semaphore is never closed");
                    lookup_host((name.as_str(), port)).await
                };
                timeout(RESOLVE_DEADLINE, look_up)
                    .await
                    .map_err(|_| TargetError::ResolverSilent { target: endpoint.clone() })?
                    .map_err(|e| unresolved(e.to_string()))?
                    .collect()
            }
        };
        for address in &addresses {
            self.check(address.ip()).map_err(|why| TargetError::Forbidden { target: endpoint.clone(), why })?;
        }
        // A name that has both is reached over IPv4, which facilities route inside.
        let chosen = addresses.iter().find(|a| a.is_ipv4()).or(addresses.first());
        chosen
            .map(|address| TargetAddr(SocketAddr::new(plain(address.ip()), address.port())))
            .ok_or_else(|| TargetError::Unresolved { target: endpoint.clone(), why: "it has no address".into() })
    }
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

    fn verdict(text: &str, loopback: bool) -> Result<(), Forbidden> {
        TargetPolicy { loopback }.check(text.parse().expect("an address"))
    }

    #[test]
    fn special_addresses_are_no_targets() {
        for (address, why) in [
            ("127.0.0.1", Forbidden::Loopback),
            ("127.8.9.1", Forbidden::Loopback),
            ("::1", Forbidden::Loopback),
            ("::ffff:127.0.0.1", Forbidden::Loopback),
            ("::127.0.0.1", Forbidden::Loopback),
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
        for address in ["10.0.0.9", "192.168.1.1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert_eq!(verdict(address, false), Ok(()), "{address}");
        }
        assert_eq!(verdict("127.0.0.1", true), Ok(()));
        assert_eq!(verdict("0.0.0.0", true), Err(Forbidden::Unspecified));
    }

    #[tokio::test]
    async fn a_name_is_checked_by_what_it_resolves_to() {
        let name: Endpoint = "localhost:5300".parse().expect("an endpoint");
        let open = TargetPolicy { loopback: true }.resolve(std::slice::from_ref(&name)).await.expect("allowed");
        assert_eq!(open[0].0.to_string(), "127.0.0.1:5300");
        let closed = TargetPolicy { loopback: false }.resolve(&[name]).await;
        assert!(matches!(closed, Err(TargetError::Forbidden { why: Forbidden::Loopback, .. })));
    }
}

//! Which addresses of this host may be meant.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;

/// Where the default route leads out: nothing is sent there (TEST-NET-1, RFC 5737).
const OUTSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// The address that is seen from outside, unless there is NAT.
#[must_use]
pub fn guess_wan() -> IpAddr {
    let way_out = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(OUTSIDE)?;
        socket.local_addr()
    });
    way_out.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// A private address that is not the one towards the WAN, or else that one.
#[must_use]
pub fn guess_lan(wan: IpAddr) -> IpAddr {
    let Ok(interfaces) = getifaddrs() else { return wan };
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        address.as_sockaddr_in().map(|ipv4| ipv4.ip())
    });
    let mut private = addresses.filter(|ip| ip.is_private() && IpAddr::V4(*ip) != wan);
    private.next().map_or(wan, IpAddr::V4)
}

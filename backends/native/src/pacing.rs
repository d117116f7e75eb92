//! Spares connections within the host the timers of BBR.
//!
//! BBR times what it sends (tcp(7), `TCP_CONGESTION`), which costs a tenth to half of the
//! processor time of a stream that stays within the host, where nothing can be congested. A socket
//! keeps the timers of a congestion control that it once had while it was connected; so
//! one that may need none has "reno" before that, and is given the system's again if
//! its connection leaves the host. All this is only where the system's is BBR.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream};

use crate::address::stays_here;

const WITHOUT: &str = "reno";

/// What the connections of a listener have that leave the host: the system's, where
/// those that stay have another.
#[derive(Debug)]
pub struct Pacing(Option<OsString>);

impl Pacing {
    /// Sets a listener up, whose connections begin without timers. One that has got
    /// something else than the system's from who made it keeps that.
    #[must_use]
    pub fn of_listener(listener: &impl AsFd) -> Self {
        let systems = TcpSocket::new_v4().and_then(|fresh| congestion(&fresh)).ok().filter(is_bbr);
        Self(systems.filter(|systems| {
            // Without timers is also what a process before us may have left.
            let kept = congestion(listener).is_ok_and(|own| own == *systems || own == WITHOUT);
            kept && set(listener, WITHOUT.into()).is_ok()
        }))
    }

    /// Sets up a connection that was accepted.
    pub fn settle(&self, stream: &TcpStream, source: SocketAddr) {
        if let Some(systems) = &self.0
            && stream.local_addr().is_ok_and(|local| !stays_here(source, local))
        {
            // Fails only on a connection that is gone.
            set(stream, systems.clone()).ok();
        }
    }
}

/// Sets up a socket that is about to connect.
pub fn before_connecting(socket: &impl AsFd, target: IpAddr) {
    if congestion(socket).is_ok_and(|systems| is_bbr(&systems)) && is_ours(target) {
        // Where that fails, the timers stay.
        set(socket, WITHOUT.into()).ok();
    }
}

/// Whether an address is the host's own: such an address is reached from itself.
fn is_ours(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = || -> io::Result<SocketAddr> {
        // This sends nothing: it looks for a route.
        let probe = UdpSocket::bind((any, 0))?;
        probe.connect((address, 9))?;
        probe.local_addr()
    };
    address.is_loopback() || from().is_ok_and(|from| from.ip() == address)
}

fn is_bbr(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b"bbr")
}

fn congestion(socket: &impl AsFd) -> io::Result<OsString> {
    let name = getsockopt(socket, sockopt::TcpCongestion)?;
    Ok(name.to_string_lossy().trim_end_matches('\0').into())
}

fn set(socket: &impl AsFd, name: OsString) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::TcpCongestion, &name)?)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn known() -> Vec<OsString> {
        let names =
            std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").expect("their names");
        names.split_whitespace().map(OsString::from).collect()
    }

    #[tokio::test]
    async fn who_connects_within_the_host_has_no_timers() {
        let after = |had: &OsString, target: &str| {
            let socket = TcpSocket::new_v4().expect("a socket");
            set(&socket, had.clone()).expect("it is known");
            before_connecting(&socket, target.parse().expect("an address"));
            congestion(&socket).expect("a name")
        };
        for name in known() {
            let here = if is_bbr(&name) { WITHOUT.into() } else { name.clone() };
            assert_eq!((after(&name, "127.0.0.1"), after(&name, "198.51.100.1")), (here, name));
        }
    }

    #[tokio::test]
    async fn who_is_accepted_from_elsewhere_has_the_systems() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let systems = congestion(&listener).expect("a name");
        let pacing = Pacing::of_listener(&listener);
        let here = if is_bbr(&systems) { WITHOUT.into() } else { systems.clone() };
        let address = listener.local_addr().expect("its address");
        for (source, wanted) in [("127.0.0.1:9", here), ("198.51.100.1:9", systems.clone())] {
            let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (stream, _) = accepted.expect("accept");
            pacing.settle(&stream, source.parse().expect("an address"));
            assert_eq!(congestion(&stream).expect("a name"), wanted, "from {source}");
            drop(connected);
        }
        // The next process takes what we left for the system's.
        assert_eq!(Pacing::of_listener(&listener).0, pacing.0);
        assert_eq!(pacing.0, Some(systems).filter(is_bbr));
    }

    #[tokio::test]
    async fn a_listener_keeps_what_it_was_given() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let systems = congestion(&listener).expect("a name");
        for name in known().into_iter().filter(|name| *name != systems && *name != WITHOUT) {
            set(&listener, name.clone()).expect("it is known");
            assert_eq!(Pacing::of_listener(&listener).0, None);
            assert_eq!(congestion(&listener).expect("a name"), name);
        }
    }

    #[test]
    fn an_address_of_the_host_is_told_from_others() {
        let host = |address: &str| is_ours(address.parse().expect("an address"));
        assert!(host("127.0.0.1") && host("127.8.9.10") && host("::1"));
        assert!(!host("198.51.100.1") && !host("2001:db8::1"));
        // The one that others see, where there are others.
        let outward = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        if outward.connect("198.51.100.1:9").is_ok() {
            assert!(is_ours(outward.local_addr().expect("an address").ip()));
        }
    }
}

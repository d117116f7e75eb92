//! The gateway's port range: who holds which port.
//!
//! A port is held as a listening socket from REQ until the session is gone, and
//! the socket is handed to the proxy that serves it. So no port is announced
//! that could not be bound, nobody can take it in between, a proxy that dies is
//! restarted on the same port, and an application that connects before UPDATE
//! waits in the backlog instead of being refused.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::session::ListenAddr;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Hands out ports of one range, each to one holder at a time.
#[derive(Debug, Clone)]
pub struct Ports {
    range: RangeInclusive<u16>,
    held: Arc<Mutex<HashSet<SocketAddr>>>,
}

/// Who may be listening on a port that is taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// A process of the session that had it.
    ByOurs,
    /// None of the session's processes lives: whoever listens is a stranger.
    ByNobody,
}

/// A port that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// All are held, by us or by other programs.
    #[error("no port of {}-{} is free on {ip}", range.start(), range.end())]
    NoneFree {
        /// The address asked for.
        ip: IpAddr,
        /// The whole range.
        range: RangeInclusive<u16>,
    },
    /// This process may open no more.
    #[error("the gateway has no file descriptors left")]
    NoDescriptors,
    /// The address cannot be listened on at all.
    #[error("listen on {ip}")]
    Address {
        /// The address asked for.
        ip: IpAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A port and the socket that listens on it. Dropping it gives the port back.
#[derive(Debug)]
pub struct PortLease {
    address: SocketAddr,
    socket: Socket,
    held: Arc<Mutex<HashSet<SocketAddr>>>,
}

impl Ports {
    /// Hands out the ports of `range`, both ends included.
    #[must_use]
    pub fn new(range: RangeInclusive<u16>) -> Self {
        Self { range, held: Arc::default() }
    }

    /// All of them.
    #[must_use]
    pub fn range(&self) -> RangeInclusive<u16> {
        self.range.clone()
    }

    /// How many of them this gateway does not hold.
    #[must_use]
    pub fn free(&self) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.range.len().saturating_sub(held.iter().filter(|held| self.range.contains(&held.port())).count())
    }

    /// The lowest port that is free on `ip`.
    ///
    /// # Errors
    /// [`PortError`]
    pub fn lease_any(&self, ip: IpAddr) -> Result<PortLease, PortError> {
        for port in self.range.clone() {
            match self.try_lease(SocketAddr::new(ip, port)) {
                Ok(Some(lease)) => return Ok(lease),
                // Held by us, or by another program, or not for us (ports below 1024).
                Ok(None) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {}
                Err(e) if matches!(e.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE)) => {
                    return Err(PortError::NoDescriptors);
                }
                Err(source) => return Err(PortError::Address { ip, source }),
            }
        }
        Err(PortError::NoneFree { ip, range: self.range.clone() })
    }

    /// That very port, when it is in the range and free.
    #[must_use]
    pub fn lease_this(&self, address: SocketAddr) -> Option<PortLease> {
        if !self.range.contains(&address.port()) {
            return None;
        }
        self.try_lease(address).ok().flatten()
    }

    /// Takes a port again that a session of an earlier run had: nobody else can have
    /// it from here on. `None` if somebody else has it.
    ///
    /// The port may lie outside the range: the operator may have changed it.
    #[must_use]
    pub fn retake(&self, address: SocketAddr, served: Served) -> Option<PortLease> {
        if let Ok(Some(lease)) = self.try_lease(address) {
            return Some(lease);
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if served == Served::ByNobody || held.contains(&address) {
            return None;
        }
        let socket = hold(address).ok()?;
        held.insert(address);
        Some(PortLease { address, socket, held: Arc::clone(&self.held) })
    }

    fn try_lease(&self, address: SocketAddr) -> io::Result<Option<PortLease>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains(&address) {
            return Ok(None);
        }
        let socket = bind(address)?;
        share(&socket)?;
        held.insert(address);
        Ok(Some(PortLease { address, socket, held: Arc::clone(&self.held) }))
    }
}

impl PortLease {
    /// What it listens on.
    #[must_use]
    pub fn address(&self) -> ListenAddr {
        ListenAddr(self.address)
    }

    /// A copy of the socket, which listens from here on, for a process to serve.
    ///
    /// # Errors
    /// What the system says.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        share(&self.socket)?;
        Ok(self.socket.try_clone()?.into())
    }

    /// Takes no more connections, whoever else has copies of the socket.
    ///
    /// # Errors
    /// What the system says; `ENOTCONN` when it does not listen.
    pub fn refuse(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Read)
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.address);
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = new_socket(address)?;
    socket.bind(&address.into())?;
    // The proxies that get this socket expect accept(2) not to block.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds beside a socket of an earlier run, which allows it (see [`share`]), and
/// does not listen, so that all connections go on to that one.
fn hold(address: SocketAddr) -> io::Result<Socket> {
    let socket = new_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    // A socket that allows its address to be used again does not hold it while it does not listen.
    socket.set_reuse_address(false)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Listens. Said after binding, so that this socket was alone when it was bound,
/// the option lets only this user's processes bind beside it, see [`hold`].
fn share(socket: &Socket) -> io::Result<()> {
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(true)
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a port be used again while closed connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));

    /// A port that was free a moment ago, with the next one.
    fn free_pair() -> RangeInclusive<u16> {
        loop {
            let first = TcpListener::bind((LOOPBACK, 0)).expect("a port").local_addr().expect("bound").port();
            if first < u16::MAX && TcpListener::bind((LOOPBACK, first + 1)).is_ok() {
                return first..=first + 1;
            }
        }
    }

    #[test]
    fn no_port_is_given_twice_and_freed_ones_come_back() {
        let ports = Ports::new(free_pair());
        let one = ports.lease_any(LOOPBACK).expect("first");
        let two = ports.lease_any(LOOPBACK).expect("second");
        assert_ne!(one.address(), two.address());
        assert!(matches!(ports.lease_any(LOOPBACK), Err(PortError::NoneFree { .. })));
        let freed = one.address();
        drop(one);
        assert_eq!(ports.lease_any(LOOPBACK).expect("freed").address(), freed);
    }

    #[test]
    fn a_port_of_another_program_is_passed_over() {
        let range = free_pair();
        let other = TcpListener::bind((LOOPBACK, *range.start())).expect("another program");
        let ports = Ports::new(range.clone());
        assert_eq!(ports.lease_any(LOOPBACK).expect("the other").address().0.port(), *range.end());
        assert!(ports.lease_this(other.local_addr().expect("bound")).is_none());
    }

    #[test]
    fn a_port_outside_the_range_is_not_given() {
        let range = free_pair();
        let outside = SocketAddr::new(LOOPBACK, range.start() - 1);
        assert!(Ports::new(range).lease_this(outside).is_none());
    }

    #[test]
    fn a_port_is_taken_again_beside_the_process_that_serves_it() {
        let range = free_pair();
        let earlier = Ports::new(range.clone()).lease_any(LOOPBACK).expect("a port");
        let address = earlier.address().0;
        let serving = TcpListener::from(earlier.socket().expect("a copy"));
        serving.set_nonblocking(false).expect("blocking");
        drop(earlier);

        let ports = Ports::new(range.clone());
        assert!(ports.retake(address, Served::ByNobody).is_none(), "a stranger's port was taken");
        let again = ports.retake(address, Served::ByOurs).expect("beside the process");
        for _ in 0..50 {
            let client = TcpStream::connect(address).expect("the process serves");
            let (_, peer) = serving.accept().expect("it came to the process");
            assert_eq!(peer, client.local_addr().expect("connected"));
        }
        drop(serving);
        assert!(Ports::new(range).lease_this(address).is_none(), "another controller got a port that is held");
        let restarted = TcpListener::from(again.socket().expect("listens again"));
        TcpStream::connect(address).expect("the new process serves");
        restarted.accept().expect("it came");
    }

    #[test]
    fn an_address_that_is_not_ours_is_named() {
        let ports = Ports::new(free_pair());
        let foreign: IpAddr = "192.0.2.1".parse().expect("literal");
        assert!(matches!(ports.lease_any(foreign), Err(PortError::Address { .. })));
    }
}

//! What the kernel says of TCP connections: `NETLINK_SOCK_DIAG`, see `sock_diag(7)`.
//!
//! Any user may ask, and is told of all sockets of the network namespace. Two
//! questions: a dump of the connections that there are, and a subscription to
//! the last counters of those that end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use netlink_packet_core::{DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};

/// Groups that tell the end of TCP sockets (`linux/sock_diag.h`, `SKNLGRP_INET_TCP_DESTROY`
/// and `SKNLGRP_INET6_TCP_DESTROY`).
const ENDED_GROUPS: [u32; 2] = [1, 3];
/// The kernel answers a dump in messages of at most this size (`NLMSG_GOODSIZE` and beyond).
const LONGEST_MESSAGE: usize = 64 << 10;
/// Room for the ends that come between two looks; the kernel caps it at `net.core.rmem_max`.
const ENDS_BUFFER: i32 = 4 << 20;

/// Names a connection for as long as the host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// The kernel's own number of its socket.
    pub cookie: u64,
    /// The end on this host.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
}

/// What only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received from the peer. Its end of stream counts as one.
    pub bytes_in: u64,
    /// Bytes that the peer has confirmed to have. Our end of stream counts as one.
    pub bytes_out: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
}

/// A connection as the kernel sees it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketFlow {
    /// Which.
    pub connection: Connection,
    /// How much.
    pub counters: Counters,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Bytes that may be under way unconfirmed.
    pub congestion_window: u64,
}

/// All connections of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Those that there are.
    pub open: Vec<SocketFlow>,
    /// Those that have ended since the last look, with their last counters.
    pub ended: Vec<SocketFlow>,
}

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SockDiagError {
    /// No socket, no question, no answer.
    #[error("ask the kernel for its connections (NETLINK_SOCK_DIAG)")]
    Ask(#[source] io::Error),
    /// It answers what we do not understand.
    #[error("understand what the kernel says of its connections")]
    Understand(#[source] DecodeError),
}

/// The way to ask.
#[derive(Debug)]
pub struct SockDiag {
    /// `None` where the kernel does not tell the end of sockets.
    ended: Option<Socket>,
}

impl SockDiag {
    /// From here on, the end of connections is told.
    #[must_use]
    pub fn open() -> Self {
        let ended = subscribe().inspect_err(|e| {
            tracing::warn!("the kernel does not tell the last counters of connections: {e}");
        });
        Self { ended: ended.ok() }
    }

    /// Looks at all connections. The kernel answers at once, so this waits for nothing.
    ///
    /// # Errors
    /// [`SockDiagError`]
    pub fn look(&self) -> Result<Snapshot, SockDiagError> {
        let mut open = Vec::new();
        for (family, id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            dump(family, id, &mut open)?;
        }
        let mut ended = Vec::new();
        // Read after the dump: what ended before it was taken is not in it, or is told here.
        if let Some(socket) = &self.ended {
            while let Some(bytes) = receive(socket).map_err(SockDiagError::Ask)? {
                understand(&bytes, &mut ended)?;
            }
        }
        Ok(Snapshot { open, ended })
    }
}

fn subscribe() -> io::Result<Socket> {
    let mut socket = connect()?;
    socket.bind_auto()?;
    socket.set_rx_buf_sz(ENDS_BUFFER)?;
    for group in ENDED_GROUPS {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

fn connect() -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn dump(family: u8, socket_id: SocketId, flows: &mut Vec<SocketFlow>) -> Result<(), SockDiagError> {
    let question = question(family, socket_id);
    let socket = connect().map_err(SockDiagError::Ask)?;
    socket.connect(&NetlinkAddr::new(0, 0)).map_err(SockDiagError::Ask)?;
    socket.send(&question, 0).map_err(SockDiagError::Ask)?;
    loop {
        match receive(&socket).map_err(SockDiagError::Ask)? {
            Some(bytes) if understand(&bytes, flows)? == Answer::Whole => return Ok(()),
            Some(_) => {}
            None => return Err(SockDiagError::Ask(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn question(family: u8, socket_id: SocketId) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    // Of a connection in TIME_WAIT the kernel keeps no counters.
    let states = StateFlags::ESTABLISHED
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::LAST_ACK
        | StateFlags::CLOSING;
    let extensions = ExtensionFlags::INFO;
    let request = InetRequest { family, protocol: IPPROTO_TCP, extensions, states, socket_id };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The next datagram; `None` when there is none.
fn receive(socket: &Socket) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(LONGEST_MESSAGE);
    match socket.recv(&mut bytes, 0) {
        Ok(_) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) if e.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => {
            tracing::debug!("more connections ended than there was room for: of the rest, the last look counts");
            receive(socket)
        }
        Err(e) => Err(e),
    }
}

/// Whether an answer goes on after a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// More is to come.
    Partial,
    /// This was the end of it.
    Whole,
}

/// Takes the connections out of one datagram of the kernel.
///
/// # Errors
/// [`SockDiagError`], also when the datagram is the kernel's word that it failed.
pub fn understand(mut bytes: &[u8], flows: &mut Vec<SocketFlow>) -> Result<Answer, SockDiagError> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes).map_err(SockDiagError::Understand)?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(answer)) => flows.extend(flow(&answer)),
            NetlinkPayload::Done(_) => return Ok(Answer::Whole),
            NetlinkPayload::Error(e) => {
                // It is told as a negative number (`netlink(7)`).
                let code = i32::try_from(e.raw_code().unsigned_abs()).unwrap_or(i32::MAX);
                return Err(SockDiagError::Ask(io::Error::from_raw_os_error(code)));
            }
            _ => {}
        }
        // Messages begin at multiples of four (`netlink(7)`, NLMSG_ALIGN).
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(Answer::Partial)
}

/// `None` for what is no connection: a listener, a socket that was never connected.
fn flow(answer: &InetResponse) -> Option<SocketFlow> {
    let id = &answer.header.socket_id;
    let address = |ip: std::net::IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
    if id.source_port == 0 || id.destination_port == 0 {
        return None;
    }
    let info = answer.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(bytes) => Some(TcpInfo(bytes)),
        _ => None,
    })?;
    Some(SocketFlow {
        connection: Connection {
            cookie: u64::from_ne_bytes(id.cookie),
            local: address(id.source_address, id.source_port),
            peer: address(id.destination_address, id.destination_port),
        },
        counters: Counters {
            bytes_in: info.long(TcpInfo::BYTES_RECEIVED),
            bytes_out: info.long(TcpInfo::BYTES_ACKED),
            retransmits: info.word(TcpInfo::TOTAL_RETRANS).into(),
        },
        rtt: Duration::from_micros(info.word(TcpInfo::RTT).into()),
        congestion_window: u64::from(info.word(TcpInfo::SND_CWND)) * u64::from(info.word(TcpInfo::SND_MSS)),
    })
}

/// `struct tcp_info` of `linux/tcp.h`, as much of it as this kernel has: it only
/// ever grows at its end. (The crate's own reader refuses all but the longest.)
struct TcpInfo<'a>(&'a [u8]);

impl TcpInfo<'_> {
    /// `tcpi_snd_mss`
    const SND_MSS: usize = 16;
    /// `tcpi_rtt`, in microseconds
    const RTT: usize = 68;
    /// `tcpi_snd_cwnd`, in segments
    const SND_CWND: usize = 80;
    /// `tcpi_total_retrans`, in segments
    const TOTAL_RETRANS: usize = 100;
    /// `tcpi_bytes_acked`
    const BYTES_ACKED: usize = 120;
    /// `tcpi_bytes_received`
    const BYTES_RECEIVED: usize = 128;

    fn word(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    fn long(&self, at: usize) -> u64 {
        self.0.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    /// Another socket of this host may end at any time; only ours are looked at.
    fn until<T>(diag: &SockDiag, mut seen: impl FnMut(&Snapshot) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            assert!(Instant::now() < deadline, "the kernel does not tell");
            if let Some(found) = seen(&diag.look().expect("the kernel answers")) {
                return found;
            }
        }
    }

    #[test]
    fn counts_are_those_of_the_bytes_that_went_through() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let diag = SockDiag::open();
            let listener = TcpListener::bind(address).expect("a port");
            let local = listener.local_addr().expect("bound");
            let mut far = TcpStream::connect(local).expect("connected");
            let (mut near, peer) = listener.accept().expect("accepted");
            far.write_all(&[7; 5000]).expect("written");
            near.read_exact(&mut [0; 5000]).expect("read");
            near.write_all(&[7; 300]).expect("written");
            far.read_exact(&mut [0; 300]).expect("read");

            let ours = |flow: &&SocketFlow| (flow.connection.local, flow.connection.peer) == (local, peer);
            let open =
                until(&diag, |all| all.open.iter().find(ours).filter(|flow| flow.counters.bytes_out == 300).copied());
            assert_eq!(open.counters.bytes_in, 5000);
            assert!(open.rtt > Duration::ZERO && open.rtt < Duration::from_secs(1), "{open:?}");
            assert!(open.congestion_window > 0, "{open:?}");

            far.write_all(&[7; 11]).expect("written");
            drop(far);
            near.read_to_end(&mut Vec::new()).expect("read");
            drop(near);
            let last = until(&diag, |all| all.ended.iter().find(ours).copied());
            assert_eq!(last.connection, open.connection);
            assert_eq!(last.counters.bytes_in, 5011 + 1, "and the end of the stream");
            assert!((300..=301).contains(&last.counters.bytes_out), "{last:?}");
        }
    }

    #[test]
    fn a_fault_of_any_number_is_an_error() {
        for code in [-1, -110, 0, i32::MIN, i32::MAX] {
            let mut datagram = vec![36, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            datagram.extend_from_slice(&i32::to_ne_bytes(code));
            datagram.resize(36, 0);
            let outcome = understand(&datagram, &mut Vec::new());
            let Err(SockDiagError::Ask(e)) = outcome else { panic!("{code}: {outcome:?}") };
            assert_eq!(e.raw_os_error(), Some(code.checked_neg().unwrap_or(i32::MAX).abs()));
        }
    }

    #[test]
    fn an_older_kernel_says_less() {
        let bytes: Vec<u8> = (0..104).collect();
        let info = TcpInfo(&bytes);
        assert_eq!(info.word(TcpInfo::RTT), u32::from_ne_bytes([68, 69, 70, 71]));
        assert_eq!(info.long(TcpInfo::BYTES_ACKED), 0);
    }
}

//! The ways a connection may take: one `s2ds`, two, or one and a stunnel.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::config::{Config, listener};
use super::footprint::{Holdings, Memory};
use super::peer::{Acceptor, Peer, Place};
use super::plan::{Rules, Who};
use super::program::Program;
use super::{DEADLINE, free_address, stunnel};

const PSK_CLIENT: &str = "target_wire = \"psk\"\n";
const PSK_SERVER: &str = "accept_wire = \"psk\"\n";
const HEADER_IN: &str = "accept_proxy_protocol = true\n";

const V1: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 5100\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc0\0\x02\x01\x12\x67\x13\xec";

/// Both, as the deployed release has stunnel, and as a site may set it up.
const STUNNEL_12: &str = "ciphers = eNULL\nsecurityLevel = 0\nsslVersionMax = TLSv1.2\n";
const STUNNEL_13: &str = "ciphers = PSK\nsslVersionMin = TLSv1.3\n";

/// A way from the client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// TCP, one s2ds, TCP.
    Plain,
    /// Unix, s2ds, TCP, s2ds, unix.
    UnixEnds,
    /// TCP, s2ds, unix, s2ds, TCP.
    UnixBetween,
    /// TCP, s2ds, TLS, s2ds, TCP, with this floor.
    Tunnel(&'static str),
    /// One s2ds with the floor `none`, which finds both its neighbours plain.
    PlainAtNone,
    /// A tunnel with PROXY headers of this version all the way.
    Proxied(&'static str),
    /// The same as a tunnel, but its client's end is stunnel with this version of TLS.
    StunnelClient(&'static str),
    /// The same as a tunnel, but its server's end is stunnel.
    StunnelServer(&'static str),
}

/// Every one of them.
pub const MODES: [Mode; 13] = [
    Mode::Plain,
    Mode::UnixEnds,
    Mode::UnixBetween,
    Mode::Tunnel("confidentiality"),
    Mode::Tunnel("integrity"),
    Mode::Tunnel("none"),
    Mode::PlainAtNone,
    Mode::Proxied("v1"),
    Mode::Proxied("v2"),
    Mode::StunnelClient("1.2"),
    Mode::StunnelClient("1.3"),
    Mode::StunnelServer("1.2"),
    Mode::StunnelServer("1.3"),
];

/// A way that is open for connections, until it is dropped.
pub struct Lane {
    /// Each `s2ds` on the way, the client's first.
    pub programs: Vec<Program>,
    pub rules: Rules,
    files: Vec<File>,
    front: Place,
    header: &'static [u8],
    expected: Expected,
    next: AtomicU64,
    _stunnel: Option<Program>,
}

/// The configuration of one `s2ds`.
struct File {
    config: Config,
    protection: &'static str,
    listener: String,
}

impl File {
    fn write(&mut self, top: &str) -> PathBuf {
        // Above, since what is asked for may end in a table.
        self.config.top = format!("protection = \"{}\"\n{top}", self.protection);
        self.config.write(std::slice::from_ref(&self.listener))
    }
}

impl Lane {
    /// Starts what stands on the way, each with these lines at the top of its configuration.
    pub fn open(mode: Mode, top: &str) -> Self {
        Self::open_by(mode, top, Program::s2ds)
    }

    /// Has each `s2ds` started from its configuration by `start`.
    pub fn open_by(mode: Mode, top: &str, start: impl Fn(&Path) -> Program) -> Self {
        let protection = match mode {
            Mode::Tunnel(protection) => protection,
            Mode::PlainAtNone => "none",
            Mode::StunnelClient("1.2") | Mode::StunnelServer("1.2") => "integrity",
            _ => "confidentiality",
        };
        let (first, second) = (Config::new(""), Config::new(""));
        let file = |name| first.folder().join(name);
        let (acceptor, back) = if mode == Mode::UnixEnds { Acceptor::unix(file("back")) } else { Acceptor::tcp() };
        let front = if mode == Mode::UnixEnds { Place::Unix(file("front")) } else { Place::Tcp(free_address()) };
        let middle = if mode == Mode::UnixBetween { Place::Unix(file("middle")) } else { Place::Tcp(free_address()) };
        let (mut header, mut stunnel) = (&b""[..], None);
        let (accept, target, more) = (&front, &back, "");
        let listeners = match mode {
            Mode::Plain => vec![listener(accept, target, more)],
            Mode::PlainAtNone => vec![listener(accept, target, &[PSK_SERVER, PSK_CLIENT].concat())],
            Mode::UnixEnds | Mode::UnixBetween => {
                vec![listener(accept, &middle, more), listener(&middle, target, more)]
            }
            Mode::Tunnel(_) => vec![listener(accept, &middle, PSK_CLIENT), listener(&middle, target, PSK_SERVER)],
            Mode::Proxied(version) => {
                header = if version == "v1" { V1 } else { V2 };
                let header_out = format!("{HEADER_IN}target_proxy_protocol = \"{version}\"\n");
                let more = |wire| [wire, header_out.as_str()].concat();
                vec![listener(accept, &middle, &more(PSK_CLIENT)), listener(&middle, target, &more(PSK_SERVER))]
            }
            Mode::StunnelClient(version) => {
                stunnel = Some(stunnel_program(&second, true, accept, &middle, version));
                vec![listener(&middle, target, PSK_SERVER)]
            }
            Mode::StunnelServer(version) => {
                stunnel = Some(stunnel_program(&second, false, &middle, target, version));
                vec![listener(accept, &middle, PSK_CLIENT)]
            }
        };
        let mut files: Vec<_> = listeners
            .into_iter()
            .zip([first, second])
            .map(|(listener, config)| File { config, protection, listener })
            .collect();
        let programs = files.iter_mut().map(|file| start(&file.write(top))).collect();
        let expected = Expected::default();
        tokio::spawn(hand_out(acceptor, header, expected.clone()));
        Self {
            programs,
            rules: rules(mode),
            files,
            front,
            header,
            expected,
            next: AtomicU64::new(0),
            _stunnel: stunnel,
        }
    }

    /// Has each `s2ds` take other lines at the top of its configuration.
    pub fn reload(&mut self, top: &str) {
        for which in 0..self.programs.len() {
            self.reload_one(which, top);
        }
    }

    /// Has one of them do that.
    pub fn reload_one(&mut self, which: usize, top: &str) {
        self.files[which].write(top);
        assert_eq!(self.programs[which].reload(), "s2ds: reloaded");
    }

    /// Both ends of a new connection, the client's first.
    pub async fn connect(&self) -> io::Result<(Peer, Peer)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.expected.lock().expect("lock").insert(number, sender);
        let client = loop {
            match Peer::connect(&self.front).await {
                // A unix socket's backlog is full at times.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(Duration::from_millis(1)).await,
                connected => break connected?,
            }
        };
        client.write_all(&[self.header, &introduction(number)].concat()).await?;
        match timeout(DEADLINE, receiver).await {
            Ok(Ok(server)) => Ok((client, server)),
            _ => Err(io::Error::other("the server was not reached")),
        }
    }

    /// Both ends of so many connections.
    pub async fn connect_many(&self, count: u64) -> Vec<(Peer, Peer)> {
        let mut ends = Vec::new();
        for _ in 0..count {
            ends.push(self.connect().await.expect("connect"));
        }
        ends
    }

    /// What each `s2ds` holds.
    pub fn holdings(&self) -> Vec<Holdings> {
        self.programs.iter().map(Holdings::of).collect()
    }

    /// Waits until each `s2ds` holds no more than this.
    pub fn holds_no_more_than(&self, holdings: &[Holdings]) {
        for (holdings, program) in holdings.iter().zip(&self.programs) {
            holdings.is_all_that_is_left(program);
        }
    }

    /// The memory of each `s2ds`.
    pub fn memory(&self) -> Vec<Memory> {
        self.programs.iter().map(Memory::of).collect()
    }
}

fn rules(mode: Mode) -> Rules {
    match mode {
        // A unix socket has no reset.
        Mode::UnixEnds | Mode::UnixBetween => Rules { resets_told: &[], finishes_late: None },
        // stunnel 5.68 drops what it has not read yet when its plain side has ended
        // both ways (it takes the POLLHUP for an error), and makes ends of file of resets.
        Mode::StunnelClient(_) => Rules { resets_told: &[], finishes_late: Some(Who::Client) },
        Mode::StunnelServer(_) => Rules { resets_told: &[], finishes_late: Some(Who::Server) },
        _ => Rules { resets_told: &[Who::Client, Who::Server], finishes_late: None },
    }
}

fn stunnel_program(config: &Config, client: bool, accept: &Place, connect: &Place, version: &str) -> Program {
    let options = if version == "1.2" { STUNNEL_12 } else { STUNNEL_13 };
    stunnel::with_options(config.folder(), client, tcp(accept), tcp(connect), options)
}

fn tcp(place: &Place) -> SocketAddr {
    match place {
        Place::Tcp(address) => *address,
        Place::Unix(path) => panic!("stunnel is not used with {path:?}"),
    }
}

/// The first bytes of a connection, which tell the server which one it is; no handshake begins so.
fn introduction(number: u64) -> [u8; 10] {
    let mut bytes = *b"S2--------";
    bytes[2..].copy_from_slice(&number.to_be_bytes());
    bytes
}

type Expected = Arc<Mutex<HashMap<u64, oneshot::Sender<Peer>>>>;

/// Hands accepted connections to those who wait for them.
async fn hand_out(acceptor: Acceptor, header: &'static [u8], expected: Expected) {
    loop {
        let server = acceptor.accept().await;
        let expected = expected.clone();
        tokio::spawn(async move {
            let mut bytes = vec![0; header.len() + 10];
            // Others than ours come at the floor `none`, and for them that is the end.
            if server.read_exact(&mut bytes).await.is_err() || !bytes.starts_with(header) {
                return;
            }
            let Some((b"S2", number)) = bytes[header.len()..].split_first_chunk() else { return };
            let number = u64::from_be_bytes(number.try_into().expect("eight bytes"));
            let waiting = expected.lock().expect("lock").remove(&number);
            if let Some(waiting) = waiting {
                // Nobody waits for it when the test is over.
                drop(waiting.send(server));
            }
        });
    }
}

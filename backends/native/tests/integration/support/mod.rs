//! What the tests stand on: programs, applications and TLS peers that end with
//! the test, and waits that have a deadline.

pub mod application;
pub mod config;
pub mod footprint;
pub mod lane;
pub mod machine;
pub mod pattern;
pub mod peer;
pub mod plan;
pub mod program;
pub mod stunnel;
pub mod tls_peer;
pub mod virtual_machine;

use std::collections::HashSet;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Long enough for a busy machine, and a virtual one in it; reached only when a test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The key of every test, and one that is not it.
pub const KEY: &str = "000102030405060708090a0b0c0d0e0f";
pub const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f";

/// The variable with what `kernel_tls` is in every configuration.
pub const KERNEL_TLS: &str = "SCISTREAM_KERNEL_TLS";

/// Waits until something is so.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// An address nobody listens on, handed out once. Each process has a loopback
/// address of its own, so that tests which run beside do not take it.
pub fn free_address() -> SocketAddr {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let process = std::process::id();
    let ip = [127, 1 + (process >> 8) as u8 % 250, process as u8, 1];
    loop {
        let probe = TcpListener::bind((std::net::Ipv4Addr::from(ip), 0)).expect("bind");
        let address = probe.local_addr().expect("its address");
        if TAKEN.lock().expect("lock").get_or_insert_default().insert(address.port()) {
            return address;
        }
    }
}

/// A connection that gives up at the deadline.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("connect");
    with_deadline(stream)
}

/// Connects to one who resets the connection, and gives how that was told. It may
/// be told as early as by the connecting itself.
pub fn refusal(address: SocketAddr) -> ErrorKind {
    let refused = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.read(&mut [0])
    });
    refused.expect_err("an end of file, or bytes, where a reset was due").kind()
}

pub fn with_deadline(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).expect("read timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("write timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// Lets this process have as many descriptors as it may.
pub fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("RLIMIT_NOFILE");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("RLIMIT_NOFILE");
    assert!(hard >= 5000, "these tests need 5000 descriptors, and the limit is {hard}: raise it (ulimit -Hn)");
}

/// Bytes that look random and can be made again.
pub fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn digest(bytes: &[u8]) -> [u8; 32] {
    openssl::sha::sha256(bytes)
}

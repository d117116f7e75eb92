//! The control port under connections that mean no good.

use std::time::{Duration, Instant};

use std::pin::Pin;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use scistream::session::{Role, Uid};
use scistream::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use crate::support::authorization_server::{self, AuthorizationServer};
use crate::support::guarded::{ANYONE, ask, client, introspected, token};
use crate::support::{App, TestGateway, session};

/// Connections that are opened and then say nothing.
const SILENT: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_handshakes_that_never_end_keep_nobody_out() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("room for the connections");
    let gateway = TestGateway::start(&[]).await;
    let address = gateway.address().to_string();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(&address).await.expect("the port accepts"));
    }
    let start = Instant::now();
    gateway.client().await.capabilities().await.expect("an honest client is served");
    let took = start.elapsed();
    println!("with {SILENT} silent connections, a call was answered after {} ms", took.as_millis());
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    drop(silent);
}

/// RFC 9113 sections 3.4 and 6.5: a client's first bytes, and a server's first frame, in
/// which a limit has a number of 16 bits and a value of 32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_told_how_many_calls_it_may_have_at_once() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const SETTINGS: u8 = 4;
    const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let mut stream = TcpStream::connect(gateway.address().to_string()).await.expect("the port accepts");
    stream.write_all(PREFACE).await.expect("written");
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[3], SETTINGS);
    let mut limits = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut limits).await.expect("its limits");
    let limit = limits.chunks(6).find(|limit| limit[..2] == MAX_CONCURRENT_STREAMS).expect("such a limit");
    assert_eq!(limit[2..], 256_u32.to_be_bytes());
}

/// More connections than the control port has places.
const IDLE: usize = 1200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_from_one_address_keep_nobody_out() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("room for the connections");
    let server = AuthorizationServer::start().await;
    let configuration = introspected(&server) + ANYONE;
    let gateway = TestGateway::plan(&["--config", "s2cs.toml"])
        .file("secret", authorization_server::GATEWAY.secret)
        .file("s2cs.toml", &configuration)
        .start()
        .await;
    let alice = client(&gateway, &token(&server, "alice").await).await;
    let mut events = alice.watch(0, "").await.expect("watched");
    let connector = tls::connector(Some(&gateway.certificate()), None).expect("TLS");
    let address = gateway.address().to_string();

    // Half of the first message of a handshake, and then nothing.
    let mut half_open = Vec::new();
    for _ in 0..SILENT {
        let mut stream = TcpStream::connect(&address).await.expect("the port accepts");
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.expect("written");
        half_open.push(stream);
    }
    // A whole handshake, and then nothing.
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let stream = TcpStream::connect(&address).await.expect("the port accepts");
        let ssl = connector.configure().and_then(|settings| settings.into_ssl("localhost")).expect("TLS");
        let mut stream = SslStream::new(ssl, stream).expect("TLS");
        Pin::new(&mut stream).connect().await.expect("a handshake");
        idle.push(stream);
    }
    let bobs = token(&server, "bob").await;
    let start = Instant::now();
    client(&gateway, &bobs).await.list().await.expect("an honest client is served");
    let took = start.elapsed();
    let old = Instant::now();
    alice.list().await.expect("who was let in before is served still");
    let old = old.elapsed();
    println!(
        "with {SILENT} half-open and {IDLE} idle connections from its address, a new client's call was answered after \
         {} ms, and an old one's after {} ms",
        took.as_millis(),
        old.as_millis(),
    );
    assert!(took < Duration::from_secs(1) && old < Duration::from_secs(1), "{took:?}, {old:?}");
    let app = App::start().await;
    let uid = Uid::random().expect("randomness");
    ask(&uid, Role::Prod, &app.endpoint()).open(&alice, None).await.expect("a session");
    session::event(&alice, &mut events, |event| event.what == "active").await;
    alice.release(&uid).await.expect("released");
    drop((half_open, idle));
    gateway.assert_nothing_left();
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as HPACK has them that nothing is known of (RFC 7541 section 6.2.2).
fn fields(all: &[(&str, &str)]) -> Vec<u8> {
    let word = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    all.iter().flat_map(|(name, value)| [vec![0], word(name), word(value)].concat()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_never_says_what_it_is_about_ends() {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const END_OF_HEADERS: u8 = 4;
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let mut stream = TcpStream::connect(gateway.address().to_string()).await.expect("it accepts");
    let call = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/scistream.Control/release"),
        (":authority", "gateway"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]);
    let begun = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, 1, 0, &[]),
        frame(HEADERS, END_OF_HEADERS, 1, &call),
    ];
    stream.write_all(&begun.concat()).await.expect("write");
    let start = Instant::now();
    let answered = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("the connection stands");
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            stream.read_exact(&mut payload).await.expect("the connection stands");
            if head[3] == HEADERS && head[8] == 1 {
                return;
            }
        }
    };
    timeout(Duration::from_secs(30), answered).await.expect("the call ends");
    println!("a call without a message was answered after {} ms", start.elapsed().as_millis());
    assert!(start.elapsed() >= Duration::from_secs(9), "it was answered before its time");
}

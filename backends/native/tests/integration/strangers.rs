//! Who has no key, or is not among the sources, gets no byte to the application.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use openssl::ssl::SslVersion;

use crate::support::application::Application;
use crate::support::config::{Config, listener};
use crate::support::program::Program;
use crate::support::tls_peer::{self, Offer, TLS12, TLS12_NULL, TLS13};
use crate::support::{KEY, OTHER_KEY, connect, eventually, free_address, refusal};

fn server(protection: &str, application: &Application) -> (Program, SocketAddr, Config) {
    let config = Config::new(&format!("protection = \"{protection}\"\nhandshake_timeout_ms = 2000"));
    let accept = free_address();
    let listeners = [listener(accept, application.address, "accept_wire = \"psk\"")];
    (Program::s2ds(&config.write(&listeners)), accept, config)
}

/// The one with the key comes in, and was the only one.
fn the_friend_is_alone(accept: SocketAddr, application: &Application, s2ds: &Program, strangers: usize) {
    s2ds.wait_for_nth("connection refused", strangers);
    let mut friend = tls_peer::client(TLS13, connect(accept)).expect("handshake");
    friend.write_all(b"ping").expect("send");
    friend.read_exact(&mut [0; 4]).expect("receive");
    assert_eq!(application.connections(), 1, "a stranger reached the application");
}

#[test]
fn peers_that_do_not_hold_the_key() {
    let short = &KEY[..16];
    let strangers = [
        Offer { key: Some(OTHER_KEY), ..TLS13 },
        Offer { key: Some(OTHER_KEY), ..TLS12 },
        Offer { key: Some(OTHER_KEY), ..TLS12_NULL },
        Offer { key: Some(short), ..TLS13 },
        Offer { key: Some(short), ..TLS12 },
        Offer { identity: "nobody", ..TLS13 },
        Offer { identity: "nobody", ..TLS12 },
        Offer { identity: "client", ..TLS13 },
        Offer { key: None, ..TLS13 },
        Offer { key: None, suites: "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256", ..TLS13 },
        Offer { key: None, suites: "ALL:COMPLEMENTOFALL", ..TLS12 },
        Offer { key: None, suites: "aNULL", ..TLS12 },
        Offer { key: None, suites: "aNULL+eNULL", ..TLS12 },
        Offer { suites: "AECDH-NULL-SHA:ADH-AES128-GCM-SHA256", ..TLS12 },
        Offer { suites: "RSA-PSK-NULL-SHA256:ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA", ..TLS12 },
    ];
    for protection in ["confidentiality", "integrity", "none"] {
        let application = Application::echo();
        let (s2ds, accept, _config) = server(protection, &application);
        for (nth, offer) in strangers.into_iter().enumerate() {
            if let Ok(mut stream) = tls_peer::client(offer, connect(accept)) {
                // A TLS 1.3 client is done before the server has judged it.
                drop(stream.write_all(b"let me in"));
                assert!(!matches!(stream.ssl_read(&mut [0; 9]), Ok(1..)), "{}", offer.suites);
            }
            s2ds.wait_for_nth("connection refused", nth + 1);
        }
        the_friend_is_alone(accept, &application, &s2ds, strangers.len());
    }
}

#[test]
fn old_versions_of_tls() {
    for version in [SslVersion::TLS1, SslVersion::TLS1_1] {
        let application = Application::echo();
        let (s2ds, accept, _config) = server("integrity", &application);
        let offer = Offer { version, suites: "ECDHE-PSK-NULL-SHA256:PSK-NULL-SHA", ..TLS12 };
        assert!(tls_peer::client(offer, connect(accept)).is_err());
        the_friend_is_alone(accept, &application, &s2ds, 1);
    }
}

#[test]
fn plain_bytes_garbage_and_silence() {
    for protection in ["confidentiality", "integrity"] {
        let application = Application::echo();
        let (s2ds, accept, _config) = server(protection, &application);
        let garbage = [&b"\x16\x03\x01\x02\x00"[..], &[0x41; 512]].concat();
        let strangers = [&b"GET / HTTP/1.1\r\n\r\n"[..], &garbage, b"\x16\x03", b""];
        for bytes in strangers {
            let mut stream = connect(accept);
            stream.write_all(bytes).expect("send");
            // An alert perhaps, then the end.
            drop(stream.read_to_end(&mut Vec::new()));
        }
        the_friend_is_alone(accept, &application, &s2ds, strangers.len());
    }
}

#[test]
fn the_anonymous_client_that_the_deployed_release_lets_in() {
    let application = Application::echo();
    let (s2ds, accept, _config) = server("integrity", &application);
    let suites = ["AECDH-NULL-SHA:@SECLEVEL=0", "eNULL:aNULL:@SECLEVEL=0", "ALL:@SECLEVEL=0"];
    for suites in suites {
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-tls1_2", "-cipher", suites, "-connect", &accept.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl s_client");
        // It may be gone before this is written.
        drop(client.stdin.take().expect("piped").write_all(b"let me in\n"));
        let output = client.wait_with_output().expect("openssl s_client");
        assert!(!output.status.success(), "{suites} came in");
        assert!(output.stdout.is_empty(), "{suites} got an answer");
    }
    the_friend_is_alone(accept, &application, &s2ds, suites.len());
    // The same program with the key does come in: it was not refused for its looks.
    let output = Command::new("openssl")
        .args(["s_client", "-brief", "-tls1_2", "-cipher", "PSK-NULL-SHA256:@SECLEVEL=0"])
        .args(["-psk_identity", "client1", "-psk", KEY, "-connect", &accept.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("openssl s_client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn no_session_is_handed_out_that_could_be_resumed() {
    for offer in [TLS13, TLS12, TLS12_NULL] {
        // OpenSSL's own way is to hand one out: the test would see it.
        let careless = Application::new(move |stream| {
            let mut stream = tls_peer::server(offer, stream).expect("handshake");
            stream.read_exact(&mut [0; 4]).expect("receive");
            stream.write_all(b"ping").expect("send");
        });
        assert!(tls_peer::sessions_handed_out(offer, connect(careless.address)) > 0);

        let application = Application::echo();
        let (_s2ds, accept, _config) = server("integrity", &application);
        assert_eq!(tls_peer::sessions_handed_out(offer, connect(accept)), 0);
    }
}

#[test]
fn who_is_not_among_the_sources_is_closed_at_once() {
    let application = Application::echo();
    let (config, open, closed) = (Config::new(""), free_address(), free_address());
    let s2ds = Program::s2ds(&config.write(&[
        listener(open, application.address, "sources = [\"192.0.2.0/24\", \"127.0.0.0/8\"]"),
        listener(closed, application.address, "sources = [\"192.0.2.0/24\", \"::/0\"]"),
    ]));
    assert_eq!(refusal(closed), ErrorKind::ConnectionReset);
    let line = s2ds.wait_for("connection refused");
    assert!(line.contains("source=127.0.0.1:"), "{line}");
    assert!(line.contains("reason=\"not among the sources\""), "{line}");
    assert_eq!(application.connections(), 0);
    let mut stream = connect(open);
    stream.write_all(b"ping").expect("send");
    stream.read_exact(&mut [0; 4]).expect("receive");
}

#[test]
fn who_knocks_without_end_does_not_fill_the_log() {
    const KNOCKS: usize = 500;
    let application = Application::echo();
    let (config, closed, keyless) = (Config::new(""), free_address(), free_address());
    let s2ds = Program::s2ds(&config.write(&[
        listener(closed, application.address, "sources = [\"192.0.2.0/24\"]"),
        listener(keyless, application.address, "accept_wire = \"psk\""),
    ]));
    let began = Instant::now();
    for _ in 0..KNOCKS {
        assert_eq!(refusal(closed), ErrorKind::ConnectionReset);
        let mut stream = connect(keyless);
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("send");
        // An alert perhaps, then the end.
        drop(stream.read_to_end(&mut Vec::new()));
    }
    s2ds.signal(Signal::SIGTERM);
    let count = |line: &String| -> usize {
        let Some((_, rest)) = line.split_once("connections=") else { return 1 };
        rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    for listener in ["listener=\"0\"", "listener=\"1\""] {
        let mut lines = Vec::new();
        eventually("every refusal is told of", || {
            lines = s2ds.lines();
            lines.retain(|line| line.contains("refused") && line.contains(listener));
            lines.iter().map(count).sum::<usize>() == KNOCKS
        });
        println!("{KNOCKS} connections refused, told of in {} lines", lines.len());
        // Twenty at once, one more in ten seconds, and the sum at the end.
        assert!(lines.len() as u64 <= 21 + began.elapsed().as_secs() / 10, "{lines:#?}");
    }
    assert_eq!(application.connections(), 0);
}

#[test]
fn a_reload_changes_who_is_let_in_and_keeps_the_connections() {
    let application = Application::echo();
    let (config, accept) = (Config::new(""), free_address());
    let with = |sources: &str| config.write(&[listener(accept, application.address, sources)]);
    let s2ds = Program::s2ds(&with("sources = [\"127.0.0.0/8\"]"));
    let mut friend = connect(accept);
    let mut ping = || {
        friend.write_all(b"ping").expect("send");
        friend.read_exact(&mut [0; 4]).expect("receive");
    };
    ping();
    with("sources = [\"192.0.2.0/24\"]");
    assert_eq!(s2ds.reload(), "s2ds: reloaded");
    assert_eq!(refusal(accept), ErrorKind::ConnectionReset);
    ping();
    with("sources = [\"192.0.2.0/24\", \"127.0.0.1\"]");
    assert_eq!(s2ds.reload(), "s2ds: reloaded");
    let mut again = connect(accept);
    again.write_all(b"ping").expect("send");
    again.read_exact(&mut [0; 4]).expect("receive");
}

#[test]
fn the_source_in_a_header_is_the_one_that_counts() {
    let application = Application::echo();
    let (config, accept) = (Config::new(""), free_address());
    let more = "accept_proxy_protocol = true\nsources = [\"192.0.2.0/24\"]";
    let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, more)]));
    let mut stream = connect(accept);
    stream.write_all(b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 5100\r\nping").expect("send");
    stream.read(&mut [0]).expect_err("it was let in");
    s2ds.wait_for("source=198.51.100.7:4711 reason=\"not among the sources\"");
    let mut stream = connect(accept);
    stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 5100\r\nping").expect("send");
    stream.read_exact(&mut [0; 4]).expect("receive");
    assert_eq!(application.connections(), 1);
}

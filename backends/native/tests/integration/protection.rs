//! The floor: which peer meets which, and what they agree on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::support::application::{Application, exchange};
use crate::support::config::{Config, listener};
use crate::support::program::Program;
use crate::support::tls_peer::{self, Offer, TLS12, TLS12_NULL, TLS13};
use crate::support::{DEADLINE, OTHER_KEY, connect, free_address, stunnel, with_deadline};

const FLOORS: [&str; 3] = ["confidentiality", "integrity", "none"];
const PSK_SERVER: &str = "accept_wire = \"psk\"";
const PSK_CLIENT: &str = "target_wire = \"psk\"";

fn floor(name: &str) -> Config {
    Config::new(&format!("protection = \"{name}\""))
}

/// Runs `s2ds` with one side `psk`.
fn s2ds(floor_name: &str, accept: SocketAddr, target: SocketAddr, side: &str) -> (Program, Config) {
    let config = floor(floor_name);
    let program = Program::s2ds(&config.write(&[listener(accept, target, side)]));
    (program, config)
}

/// Sends a question and reads an answer of the same size. A refusal may be told
/// by any step, the connecting included.
fn ask<const SIZE: usize>(accept: SocketAddr, question: [u8; SIZE]) -> std::io::Result<[u8; SIZE]> {
    let mut stream = with_deadline(TcpStream::connect(accept)?);
    let mut answer = [0; SIZE];
    stream.write_all(&question)?;
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn echoes(accept: SocketAddr) -> bool {
    ask(accept, *b"ping").is_ok_and(|answer| &answer == b"ping")
}

#[test]
fn two_of_ours_always_agree_on_the_strongest() {
    let application = Application::echo();
    for server_floor in FLOORS {
        let middle = free_address();
        let (server, _server) = s2ds(server_floor, middle, application.address, PSK_SERVER);
        for (client_floor, nth) in FLOORS.into_iter().zip(1..) {
            let accept = free_address();
            let (_client, _config) = s2ds(client_floor, accept, middle, PSK_CLIENT);
            assert!(echoes(accept), "{client_floor} to {server_floor}");
            server.wait_for_nth("source_wire=\"TLSv1.3 TLS_AES_128_GCM_SHA256\"", nth);
        }
    }
}

#[test]
fn what_a_client_may_offer() {
    let chacha13 = Offer { suites: "TLS_CHACHA20_POLY1305_SHA256", ..TLS13 };
    let dhe = Offer { suites: "DHE-PSK-AES128-GCM-SHA256", ..TLS12 };
    let ecdhe_null = Offer { suites: "ECDHE-PSK-NULL-SHA256", ..TLS12 };
    // A key without forward secrecy, or a MAC that is no longer asked for.
    let no_secrecy = Offer { suites: "PSK-AES128-GCM-SHA256", ..TLS12 };
    let sha1 = Offer { suites: "PSK-NULL-SHA:PSK-AES128-CBC-SHA", ..TLS12 };
    let everything = Offer { suites: "ALL:COMPLEMENTOFALL", ..TLS12 };
    let table: [(Offer, [Option<&str>; 2]); 9] = [
        (TLS13, [Some("TLSv1.3 TLS_AES_128_GCM_SHA256"); 2]),
        (chacha13, [Some("TLSv1.3 TLS_CHACHA20_POLY1305_SHA256"); 2]),
        (TLS12, [Some("TLSv1.2 ECDHE-PSK-CHACHA20-POLY1305"); 2]),
        (dhe, [Some("TLSv1.2 DHE-PSK-AES128-GCM-SHA256"); 2]),
        (everything, [Some("TLSv1.2 ECDHE-PSK-CHACHA20-POLY1305"); 2]),
        (ecdhe_null, [None, Some("TLSv1.2 ECDHE-PSK-NULL-SHA256")]),
        (TLS12_NULL, [None, Some("TLSv1.2 PSK-NULL-SHA256")]),
        (no_secrecy, [None; 2]),
        (sha1, [None; 2]),
    ];
    for (index, floor_name) in ["confidentiality", "integrity"].into_iter().enumerate() {
        let application = Application::echo();
        let accept = free_address();
        let (program, _config) = s2ds(floor_name, accept, application.address, PSK_SERVER);
        let mut served = 0;
        for (offer, expected) in table {
            let handshake = tls_peer::client(offer, connect(accept));
            let Some(expected) = expected[index] else {
                assert!(handshake.is_err(), "{} was taken at {floor_name}", offer.suites);
                continue;
            };
            let mut stream = handshake.unwrap_or_else(|error| panic!("{}: {error}", offer.suites));
            stream.write_all(b"ping").expect("send");
            stream.read_exact(&mut [0; 4]).expect("receive");
            served += 1;
            let line = program.wait_for_nth("connection open", served);
            assert!(line.contains(expected), "{line} has no {expected}");
        }
        assert_eq!(application.connections(), served, "a refused peer reached the application");
    }
}

#[test]
fn what_a_server_may_offer() {
    let wrong_key = Offer { key: Some(OTHER_KEY), ..TLS13 };
    let anonymous = Offer { suites: "aNULL:eNULL", key: None, ..TLS12 };
    let table: [(Offer, [Option<&str>; 3]); 5] = [
        (TLS13, [Some("TLSv1.3 TLS_AES_128_GCM_SHA256"); 3]),
        (TLS12, [Some("TLSv1.2 ECDHE-PSK-CHACHA20-POLY1305"); 3]),
        (TLS12_NULL, {
            let null = Some("TLSv1.2 PSK-NULL-SHA256");
            [None, null, null]
        }),
        (wrong_key, [None; 3]),
        (anonymous, [None; 3]),
    ];
    for (index, floor_name) in FLOORS.into_iter().enumerate() {
        for (offer, expected) in table {
            let target = Application::new(move |stream| {
                if let Ok(mut stream) = tls_peer::server(offer, stream) {
                    stream.read_exact(&mut [0; 4]).expect("receive");
                    stream.write_all(b"ping").expect("send");
                }
            });
            let accept = free_address();
            let (program, _config) = s2ds(floor_name, accept, target.address, PSK_CLIENT);
            assert_eq!(echoes(accept), expected[index].is_some(), "{} at {floor_name}", offer.suites);
            match expected[index] {
                Some(wire) => drop(program.wait_for(&format!("target_wire=\"{wire}\""))),
                None => {
                    program.wait_for("target not reached");
                    // Who speaks TLS is not asked to go without, at any floor.
                    assert_eq!(target.connections(), 1, "{} at {floor_name}", offer.suites);
                }
            }
        }
    }
}

#[test]
fn the_deployed_release_on_either_side() {
    for (floor_name, meets) in [("confidentiality", false), ("integrity", true), ("none", true)] {
        let application = Application::echo();
        let (accept, middle) = (free_address(), free_address());
        let (program, config) = s2ds(floor_name, middle, application.address, PSK_SERVER);
        let _stunnel = stunnel::deployed(config.folder(), true, accept, middle);
        assert_eq!(echoes(accept), meets, "stunnel to {floor_name}");
        if meets {
            program.wait_for("source_wire=\"TLSv1.2 ECDHE-PSK-NULL-SHA256\"");
        } else {
            program.wait_for("connection refused");
            assert_eq!(application.connections(), 0);
        }

        let (accept, middle) = (free_address(), free_address());
        let (program, config) = s2ds(floor_name, accept, middle, PSK_CLIENT);
        let _stunnel = stunnel::deployed(config.folder(), false, middle, application.address);
        assert_eq!(echoes(accept), meets, "{floor_name} to stunnel");
        if meets {
            program.wait_for("target_wire=\"TLSv1.2 ECDHE-PSK-NULL-SHA256\"");
        } else {
            program.wait_for("target not reached");
        }
    }
}

#[test]
fn a_plain_source_comes_in_at_none_only() {
    for (floor_name, meets) in [("confidentiality", false), ("integrity", false), ("none", true)] {
        let application = Application::echo();
        let accept = free_address();
        let (program, _config) = s2ds(floor_name, accept, application.address, PSK_SERVER);
        assert_eq!(echoes(accept), meets, "plain to {floor_name}");
        if meets {
            program.wait_for("source_wire=\"plain\"");
        } else {
            program.wait_for("connection refused");
            assert_eq!(application.connections(), 0);
        }
    }
}

#[test]
fn at_none_a_plain_source_may_wait_for_the_server_to_speak() {
    let (application, accepted) = Application::manual();
    let accept = free_address();
    let (_program, _config) = s2ds("none", accept, application.address, PSK_SERVER);
    let mut client = connect(accept);
    accepted.next().write_all(b"welcome").expect("send");
    let mut greeting = [0; 7];
    client.read_exact(&mut greeting).expect("receive");
    assert_eq!(&greeting, b"welcome");
}

#[test]
fn at_none_bytes_that_only_begin_like_tls_are_kept() {
    let application = Application::echo();
    let accept = free_address();
    let (program, _config) = s2ds("none", accept, application.address, PSK_SERVER);
    for sent in [&b"\x16"[..], b"\x16\x04 data", b"\x15\x03"] {
        assert_eq!(exchange(connect(accept), sent.to_vec()), sent);
    }
    program.wait_for_nth("source_wire=\"plain\"", 3);
}

#[test]
fn at_none_a_byte_that_may_begin_tls_is_passed_on_though_no_more_comes() {
    let application = Application::echo();
    let accept = free_address();
    let (_program, _config) = s2ds("none", accept, application.address, PSK_SERVER);
    let mut client = connect(accept);
    client.write_all(b"\x16").expect("send");
    let mut answer = [0];
    client.read_exact(&mut answer).expect("receive");
    assert_eq!(&answer, b"\x16");
}

#[test]
fn a_plain_target_is_reached_at_none_only() {
    for (floor_name, meets) in [("confidentiality", false), ("integrity", false), ("none", true)] {
        // Echoes the ClientHello, which is no TLS answer.
        let application = Application::new(|mut stream| {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..read].to_ascii_lowercase()).is_err() {
                    break;
                }
            }
        });
        let accept = free_address();
        let (_program, _config) = s2ds(floor_name, accept, application.address, PSK_CLIENT);
        // An echo of a ClientHello begins like a handshake, and is refused as one.
        assert!(!echoes(accept), "a handshake was taken from one who only echoes");
        drop(application);

        let application = Application::named(b'a');
        let accept = free_address();
        let (program, _config) = s2ds(floor_name, accept, application.address, PSK_CLIENT);
        if !meets {
            assert!(ask(accept, *b"?").is_err(), "{floor_name} to plain");
            program.wait_for("target not reached");
            continue;
        }
        let asks = |connections, what| {
            assert_eq!(ask(accept, *b"?").expect("an answer"), *b"a");
            assert_eq!(application.connections(), connections, "{what}");
        };
        asks(2, "one stray ClientHello, one connection");
        program.wait_for("target_wire=\"plain\"");
        asks(3, "what the target speaks was forgotten");
        assert_eq!(program.reload(), "s2ds: reloaded");
        asks(5, "a reload is to ask again");
    }
}

#[test]
fn at_none_a_target_that_closes_or_stays_silent_is_plain() {
    for closes in [true, false] {
        let first = std::sync::atomic::AtomicBool::new(true);
        let application = Application::new(move |mut stream| {
            let stray = first.swap(false, std::sync::atomic::Ordering::SeqCst);
            let mut request = [0; 4];
            stream.read_exact(&mut request).expect("receive");
            if stray && !closes {
                // Says nothing until the other end gives up.
                while let Ok(1..) = stream.read(&mut [0; 4096]) {}
            } else if !stray {
                stream.write_all(&request).expect("send");
            }
        });
        let accept = free_address();
        let (program, _config) = s2ds("none", accept, application.address, PSK_CLIENT);
        let began = Instant::now();
        assert!(echoes(accept), "closes: {closes}");
        assert!(began.elapsed() < DEADLINE);
        program.wait_for("target_wire=\"plain\"");
        assert_eq!(application.connections(), 2);
    }
}

#[test]
fn at_none_a_target_that_speaks_before_it_is_spoken_to_is_plain() {
    let application = Application::new(|mut stream| {
        let mut request = [0; 11];
        // Most of the stray ClientHello is left unread: this end resets, which may
        // come before or after the greeting.
        let greeted = stream.write_all(b"welcome").is_ok();
        if greeted && stream.read_exact(&mut request).is_ok() && request.starts_with(b"ping") {
            stream.write_all(b"pong").expect("send");
        }
    });
    let accept = free_address();
    let (program, _config) = s2ds("none", accept, application.address, PSK_CLIENT);
    for _ in 0..50 {
        // Asked anew each time, for the order of things is different each time.
        assert_eq!(program.reload(), "s2ds: reloaded");
        let answer = ask(accept, *b"ping_______").expect("an answer");
        assert_eq!(&answer, b"welcomepong");
    }
}

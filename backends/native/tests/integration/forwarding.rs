//! Bytes arrive whole and in order, both ways, many at once, and are counted.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use crate::support::application::{Application, exchange};
use crate::support::config::{Config, listener, tunnel};
use crate::support::program::Program;
use crate::support::{bytes, connect, digest, free_address, refusal};

#[test]
fn plain_bytes_come_back_as_they_were_sent() {
    let application = Application::echo();
    let (config, accept) = (Config::new(""), free_address());
    let _s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "")]));
    let sent = bytes(8 << 20, 1);
    assert_eq!(digest(&exchange(connect(accept), sent.clone())), digest(&sent));
}

#[test]
fn bytes_come_back_through_a_tunnel_as_they_were_sent() {
    let application = Application::echo();
    let (config, accept) = (Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&tunnel(accept, free_address(), application.address)));
    let sent = bytes(8 << 20, 2);
    assert_eq!(digest(&exchange(connect(accept), sent.clone())), digest(&sent));
    s2ds.wait_for_nth("TLSv1.3 TLS_AES_128_GCM_SHA256", 2);
}

#[test]
fn two_hundred_connections_at_once() {
    let application = Application::echo();
    let (config, accept) = (Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&tunnel(accept, free_address(), application.address)));
    // All are open before the first byte is sent.
    let streams: Vec<_> = (0..200).map(|_| connect(accept)).collect();
    s2ds.wait_for_nth("connection open listener=\"prod\"", 200);
    let exchanges: Vec<_> = streams
        .into_iter()
        .zip(0..)
        .map(|(stream, seed)| {
            std::thread::spawn(move || {
                let sent = bytes(256 << 10, seed);
                assert_eq!(digest(&exchange(stream, sent.clone())), digest(&sent));
            })
        })
        .collect();
    for exchange in exchanges {
        exchange.join().expect("an exchange failed");
    }
    assert_eq!(application.connections(), 200);
}

#[test]
fn a_server_may_speak_first() {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new(""), free_address());
    let _s2ds = Program::s2ds(&config.write(&tunnel(accept, free_address(), application.address)));
    let mut client = connect(accept);
    accepted.next().write_all(b"welcome").expect("send");
    let mut greeting = [0; 7];
    client.read_exact(&mut greeting).expect("receive");
    assert_eq!(&greeting, b"welcome");
}

#[test]
fn a_receiver_that_does_not_read_holds_its_sender_back() {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new(""), free_address());
    let _s2ds = Program::s2ds(&config.write(&tunnel(accept, free_address(), application.address)));
    let mut client = connect(accept);
    let mut server = accepted.next();
    client.set_write_timeout(Some(std::time::Duration::from_millis(500))).expect("timeout");
    let chunk = bytes(1 << 20, 3);
    let mut sent = 0;
    // What the sockets on the way hold is some MiB; without a bound it would go on.
    while sent < 256 << 20 {
        match client.write(&chunk[sent % chunk.len()..]) {
            Ok(written) => sent += written,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(sent < 256 << 20, "nothing held the sender back");
    client.shutdown(Shutdown::Write).expect("shutdown");
    let mut received = Vec::new();
    server.read_to_end(&mut received).expect("receive");
    assert_eq!(received.len(), sent);
    assert!(received.chunks(chunk.len()).all(|part| part == &chunk[..part.len()]));
}

#[test]
fn the_log_counts_the_bytes_each_way() {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&tunnel(accept, free_address(), application.address)));
    let mut client = connect(accept);
    let source = client.local_addr().expect("its address");
    client.write_all(&[1; 1000]).expect("send");
    client.shutdown(Shutdown::Write).expect("shutdown");
    let mut server = accepted.next();
    server.read_to_end(&mut Vec::new()).expect("receive");
    server.write_all(&[2; 70]).expect("send");
    drop(server);
    client.read_to_end(&mut Vec::new()).expect("receive");
    let line = s2ds.wait_for("connection closed listener=\"cons\"");
    for part in [
        &format!("source={source}"),
        "sent_to_target=1000",
        "sent_to_source=70",
        "seconds=",
        "reason=\"both sides finished\"",
    ] {
        assert!(line.contains(part), "{line} has no {part}");
    }
    let line = s2ds.wait_for("connection closed listener=\"prod\"");
    assert!(line.contains("sent_to_target=1000 sent_to_source=70"), "{line}");
    let all = s2ds.lines().join("\n");
    assert!(!all.contains(crate::support::KEY), "the key was logged");
}

#[test]
fn a_target_that_refuses_resets_the_source() {
    let (config, accept, nowhere) = (Config::new(""), free_address(), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, nowhere, "")]));
    assert_eq!(refusal(accept), std::io::ErrorKind::ConnectionReset);
    let line = s2ds.wait_for("target not reached");
    assert!(line.contains("Connection refused"), "{line}");
}

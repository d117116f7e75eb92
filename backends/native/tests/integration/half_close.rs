//! One direction ends, the other goes on: on every kind of wire.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use openssl::ssl::SslStream;

use crate::support::application::{Accepted, Application};
use crate::support::config::{Config, listener, tunnel};
use crate::support::program::Program;
use crate::support::tls_peer::{self, Offer, TLS12, TLS12_NULL, TLS13, read_to_close_notify};
use crate::support::{bytes, connect, digest, free_address, stunnel};

/// How the side that ends second does it.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// Right behind its last byte.
    AtOnce,
    /// Once all has arrived. stunnel 5.68 drops what it has not read yet when
    /// its plain side has ended both ways (it takes the POLLHUP for an error).
    OnceArrived,
}

/// The client ends first, then the application sends; then the other way round.
fn both_directions(accept: SocketAddr, accepted: &Accepted, ending: Ending) {
    let (small, large) = (bytes(1000, 1), bytes(3 << 20, 2));
    for client_first in [true, false] {
        let client = connect(accept);
        // Some wires reach the application only once something was sent.
        (&client).write_all(b"!").expect("send");
        let server = accepted.next();
        (&server).read_exact(&mut [0]).expect("receive");
        let (mut first, mut second) = if client_first { (&client, &server) } else { (&server, &client) };
        first.write_all(&small).expect("send");
        first.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(digest(&receive(second)), digest(&small));
        let mut received = vec![0; large.len()];
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                second.write_all(&large).expect("send");
                if ending == Ending::AtOnce {
                    second.shutdown(Shutdown::Write).expect("shutdown");
                }
            });
            first.read_exact(&mut received).expect("receive");
            sender.join().expect("sender");
        });
        assert_eq!(digest(&received), digest(&large));
        if ending == Ending::OnceArrived {
            second.shutdown(Shutdown::Write).expect("shutdown");
        }
        assert_eq!(receive(first), b"");
    }
}

fn receive(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("receive");
    bytes
}

#[test]
fn over_plain_tcp() {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "")]));
    both_directions(accept, &accepted, Ending::AtOnce);
    s2ds.wait_for_nth("both sides finished", 2);
}

#[test]
fn through_a_tunnel() {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&tunnel(accept, free_address(), application.address)));
    both_directions(accept, &accepted, Ending::AtOnce);
    s2ds.wait_for_nth("both sides finished", 4);
}

#[test]
fn through_a_tunnel_of_which_stunnel_is_the_client() {
    let (application, accepted) = Application::manual();
    let (config, accept, middle) = (Config::new("protection = \"integrity\""), free_address(), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(middle, application.address, "accept_wire = \"psk\"")]));
    let _stunnel = stunnel::deployed(config.folder(), true, accept, middle);
    both_directions(accept, &accepted, Ending::OnceArrived);
    s2ds.wait_for_nth("both sides finished", 2);
}

#[test]
fn through_a_tunnel_of_which_stunnel_is_the_server() {
    let (application, accepted) = Application::manual();
    let (config, accept, middle) = (Config::new("protection = \"integrity\""), free_address(), free_address());
    let _stunnel = stunnel::deployed(config.folder(), false, middle, application.address);
    let s2ds = Program::s2ds(&config.write(&[listener(accept, middle, "target_wire = \"psk\"")]));
    both_directions(accept, &accepted, Ending::OnceArrived);
    s2ds.wait_for_nth("both sides finished", 2);
}

fn finish(peer: &mut SslStream<TcpStream>) {
    peer.shutdown().expect("close_notify");
}

fn a_tls_client_finishes_first(offer: Offer) {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new("protection = \"integrity\""), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "accept_wire = \"psk\"")]));
    let mut client = tls_peer::client(offer, connect(accept)).expect("handshake");
    client.write_all(b"request").expect("send");
    finish(&mut client);
    let mut server = accepted.next();
    assert_eq!(receive(&server), b"request");
    let answer = bytes(1 << 20, 1);
    let sending = answer.clone();
    let sender = std::thread::spawn(move || server.write_all(&sending).expect("send"));
    assert_eq!(read_to_close_notify(&mut client).expect("close_notify"), answer);
    sender.join().expect("sender");
    s2ds.wait_for("both sides finished");
}

fn a_tls_client_is_finished_first(offer: Offer) {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new("protection = \"integrity\""), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "accept_wire = \"psk\"")]));
    let mut client = tls_peer::client(offer, connect(accept)).expect("handshake");
    let mut server = accepted.next();
    server.write_all(b"greeting").expect("send");
    server.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(read_to_close_notify(&mut client).expect("close_notify"), b"greeting");
    let request = bytes(1 << 20, 1);
    client.write_all(&request).expect("send");
    finish(&mut client);
    assert_eq!(receive(&server), request);
    s2ds.wait_for("both sides finished");
}

#[test]
fn a_tls13_client() {
    a_tls_client_finishes_first(TLS13);
    a_tls_client_is_finished_first(TLS13);
}

#[test]
fn a_tls12_client() {
    a_tls_client_finishes_first(TLS12);
    a_tls_client_is_finished_first(TLS12);
}

#[test]
fn a_tls12_client_without_encryption() {
    a_tls_client_finishes_first(TLS12_NULL);
    a_tls_client_is_finished_first(TLS12_NULL);
}

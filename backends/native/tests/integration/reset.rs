//! A broken stream never looks like a whole one.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use crate::support::application::{Accepted, Application};
use crate::support::config::{Config, listener, tunnel};
use crate::support::program::Program;
use crate::support::tls_peer::{self, TLS12, TLS13};
use crate::support::{connect, free_address};

fn reset(stream: TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &linger).expect("SO_LINGER");
    drop(stream);
}

fn assert_reset(mut stream: &TcpStream) {
    let mut bytes = [0; 4096];
    let error = loop {
        match stream.read(&mut bytes) {
            Ok(0) => panic!("an end of file, not a reset"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn open(accept: SocketAddr, accepted: &Accepted) -> (TcpStream, TcpStream) {
    let (client, server) = (connect(accept), accepted.next());
    (&client).write_all(b"!").expect("send");
    (&server).read_exact(&mut [0]).expect("receive");
    (client, server)
}

fn resets_travel(accept: SocketAddr, accepted: &Accepted) {
    let (client, server) = open(accept, accepted);
    reset(client);
    assert_reset(&server);

    let (client, server) = open(accept, accepted);
    reset(server);
    assert_reset(&client);

    // One side has said that it sends no more: nobody reads from it now.
    let (client, mut server) = open(accept, accepted);
    client.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(server.read(&mut [0]).expect("receive"), 0);
    reset(client);
    let mut watch = [PollFd::new(server.as_fd(), PollFlags::empty())];
    let events = poll(&mut watch, PollTimeout::from(20_000_u16)).expect("poll");
    assert_eq!(events, 1, "the reset did not arrive");

    // One side does not read: nobody can write to it, nor reads from the other.
    let (mut client, server) = open(accept, accepted);
    client.set_write_timeout(Some(std::time::Duration::from_millis(200))).expect("timeout");
    while client.write(&[0; 65536]).is_ok() {}
    reset(client);
    assert_reset(&server);
}

#[test]
fn over_plain_tcp() {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "")]));
    resets_travel(accept, &accepted);
    s2ds.wait_for_nth("reason=\"source broke: ", 3);
    s2ds.wait_for("reason=\"target broke: Connection reset by peer");
}

#[test]
fn through_a_tunnel() {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new(""), free_address());
    let _s2ds = Program::s2ds(&config.write(&tunnel(accept, free_address(), application.address)));
    resets_travel(accept, &accepted);
}

#[test]
fn tls_that_ends_without_saying_so_was_cut() {
    for offer in [TLS13, TLS12] {
        let (application, accepted) = Application::manual();
        let (config, accept) = (Config::new(""), free_address());
        let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "accept_wire = \"psk\"")]));
        let mut client = tls_peer::client(offer, connect(accept)).expect("handshake");
        client.write_all(b"half of a fi").expect("send");
        // A FIN that anyone on the path could send, and no close_notify.
        client.get_ref().shutdown(Shutdown::Write).expect("shutdown");
        let mut server = accepted.next();
        let mut bytes = [0; 12];
        server.read_exact(&mut bytes).expect("what came before");
        assert_eq!(&bytes, b"half of a fi");
        assert_reset(&server);
        s2ds.wait_for("reason=\"source broke: cut off without a close_notify\"");
    }
}

#[test]
fn an_altered_record_breaks_the_stream() {
    let (application, accepted) = Application::manual();
    let (config, accept) = (Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "accept_wire = \"psk\"")]));
    let mut client = tls_peer::client(TLS13, connect(accept)).expect("handshake");
    client.write_all(b"good").expect("send");
    let server = accepted.next();
    (&server).read_exact(&mut [0; 4]).expect("receive");
    let forged = [&b"\x17\x03\x03\0\x20"[..], &[7; 32]].concat();
    client.get_mut().write_all(&forged).expect("send");
    assert_reset(&server);
    s2ds.wait_for("reason=\"source broke: ");
}

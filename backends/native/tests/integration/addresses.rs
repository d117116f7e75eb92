//! Where it listens: TCP, IPv6, unix sockets, and what is in the way.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::application::{Application, exchange};
use crate::support::config::{Config, listener, tunnel};
use crate::support::program::Program;
use crate::support::{DEADLINE, bytes, connect, digest, free_address};

fn ping(mut stream: UnixStream) {
    stream.set_read_timeout(Some(DEADLINE)).expect("read timeout");
    stream.write_all(b"ping").expect("send");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("receive");
    assert_eq!(&answer, b"ping");
}

#[test]
fn listens_on_a_unix_socket_that_only_we_may_use() {
    let application = Application::echo();
    let config = Config::new("");
    let path = config.folder().join("a.sock");
    let mut s2ds = Program::s2ds(&config.write(&[listener(path.display(), application.address, "")]));
    let mode = path.metadata().expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    ping(UnixStream::connect(&path).expect("connect"));
    s2ds.signal(Signal::SIGTERM);
    assert!(s2ds.wait().success());
    assert!(!path.exists(), "the socket's file stayed behind");
}

#[test]
fn takes_the_place_of_a_stale_socket_only() {
    let application = Application::echo();
    let config = Config::new("");
    let path = config.folder().join("a.sock");
    let config = config.write(&[listener(path.display(), application.address, "")]);
    let in_use = UnixListener::bind(&path).expect("bind");
    let mut refused = Program::start(Command::new(env!("CARGO_BIN_EXE_s2ds")).arg(&config));
    assert_eq!(refused.wait().code(), Some(71));
    refused.wait_for("s2ds: cannot start: failed to listen on");
    UnixStream::connect(&path).expect("the other's socket still answers");

    drop(in_use);
    assert!(path.exists());
    let _s2ds = Program::s2ds(&config);
    ping(UnixStream::connect(&path).expect("connect"));
}

#[test]
fn leaves_a_file_that_is_no_socket() {
    let config = Config::new("");
    let path = config.folder().join("precious");
    std::fs::write(&path, "data").expect("write");
    let config = config.write(&[listener(path.display(), "127.0.0.1:1", "")]);
    let mut refused = Program::start(Command::new(env!("CARGO_BIN_EXE_s2ds")).arg(config));
    assert_eq!(refused.wait().code(), Some(71));
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "data");
}

#[test]
fn forwards_to_a_unix_socket() {
    let config = Config::new("");
    let path = config.folder().join("app.sock");
    let application = UnixListener::bind(&path).expect("bind");
    std::thread::spawn(move || {
        for stream in application.incoming() {
            let mut stream = stream.expect("accept");
            std::thread::spawn(move || {
                let mut received = Vec::new();
                stream.read_to_end(&mut received).expect("receive");
                stream.write_all(&received).expect("send");
            });
        }
    });
    let (accept, middle) = (free_address(), free_address());
    let _s2ds = Program::s2ds(&config.write(&tunnel(accept, middle, path.display())));
    let sent = bytes(100_000, 1);
    assert_eq!(digest(&exchange(connect(accept), sent.clone())), digest(&sent));
}

#[test]
fn ipv6_and_ipv4_share_a_port() {
    let application = Application::echo();
    let config = Config::new("");
    let v6 = TcpListener::bind("[::1]:0").expect("this host has no IPv6 loopback");
    let port = v6.local_addr().expect("its address").port();
    drop(v6);
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let v4 = SocketAddr::from((free_address().ip(), port));
    let listeners = [listener(v6, application.address, ""), listener(v4, application.address, "")];
    let _s2ds = Program::s2ds(&config.write(&listeners));
    for address in [SocketAddr::from((Ipv6Addr::LOCALHOST, port)), v4] {
        assert_eq!(exchange(connect(address), b"ping".to_vec()), b"ping");
    }
}

#[test]
fn a_port_in_use_is_the_systems_fault_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("its address");
    let config = Config::new("");
    let path = config.write(&[listener(address, "127.0.0.1:1", "")]);
    let mut refused = Program::start(Command::new(env!("CARGO_BIN_EXE_s2ds")).arg(path));
    assert_eq!(refused.wait().code(), Some(71));
    refused.wait_for(&format!("s2ds: cannot start: failed to listen on {address}: Address already in use"));
}

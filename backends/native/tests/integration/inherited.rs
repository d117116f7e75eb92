//! Listening sockets handed over in systemd's way.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use command_fds::{CommandFdExt as _, FdMapping};

use crate::support::application::{Application, exchange};
use crate::support::config::{Config, listener};
use crate::support::program::Program;
use crate::support::{DEADLINE, connect, free_address};

/// Starts `s2ds` with these as descriptors 3, 4, …, and its own process id.
fn start(config: &Path, sockets: Vec<OwnedFd>) -> Program {
    let mut command = Command::new("sh");
    command
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_s2ds")])
        .arg(config)
        .env("LISTEN_FDS", sockets.len().to_string());
    let mappings =
        sockets.into_iter().zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).expect("distinct descriptors");
    let program = Program::start(&mut command);
    program.wait_for("s2ds: ready");
    program
}

#[test]
fn a_tcp_socket_is_used_and_not_bound_again() {
    let application = Application::echo();
    let config = Config::new("");
    // Held here too: if s2ds bound its own, the port would be in use.
    let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
    let accept = socket.local_addr().expect("its address");
    let own = free_address();
    let path = config.write(&[listener(own, application.address, ""), listener(accept, application.address, "")]);
    let handed = socket.try_clone().expect("clone").into();
    let s2ds = start(&path, vec![handed]);
    for address in [accept, own] {
        assert_eq!(exchange(connect(address), b"ping".to_vec()), b"ping");
    }
    assert_eq!(s2ds.reload(), "s2ds: reloaded");
    assert_eq!(exchange(connect(accept), b"ping".to_vec()), b"ping");
    drop(s2ds);
    drop(socket);
}

#[test]
fn a_unix_socket_is_used_and_its_file_left_to_its_owner() {
    let application = Application::echo();
    let config = Config::new("");
    let path = config.folder().join("a.sock");
    let socket = UnixListener::bind(&path).expect("bind");
    let file = config.write(&[listener(path.display(), application.address, "")]);
    let mut s2ds = start(&file, vec![socket.into()]);
    let mut client = UnixStream::connect(&path).expect("connect");
    client.set_read_timeout(Some(DEADLINE)).expect("timeout");
    client.write_all(b"ping").expect("send");
    let mut answer = [0; 4];
    client.read_exact(&mut answer).expect("receive");
    drop(client);
    s2ds.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(s2ds.wait().success());
    assert!(path.exists(), "a file that was not ours was removed");
}

#[test]
fn what_belongs_to_no_listener_is_closed() {
    let application = Application::echo();
    let config = Config::new("");
    let stranger = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = stranger.local_addr().expect("its address");
    let no_socket = std::fs::File::open("/dev/null").expect("/dev/null");
    let accept = free_address();
    let path = config.write(&[listener(accept, application.address, "")]);
    let s2ds = start(&path, vec![stranger.into(), no_socket.into()]);
    s2ds.wait_for(&format!("inherited socket belongs to no listener, closed address={address}"));
    s2ds.wait_for("inherited descriptor is no listening socket, closed fd=4");
    assert_eq!(
        std::net::TcpStream::connect(address).expect_err("it still listens").kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    assert_eq!(exchange(connect(accept), b"ping".to_vec()), b"ping");
}

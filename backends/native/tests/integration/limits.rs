//! When there is too much of something: connections, descriptors, log lines.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use crate::support::application::{Application, exchange};
use crate::support::config::{Config, listener};
use crate::support::program::Program;
use crate::support::{connect, eventually, free_address};

fn ping(stream: &mut TcpStream) {
    stream.write_all(b"ping").expect("send");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("receive");
    assert_eq!(&answer, b"ping");
}

#[test]
fn above_the_limit_a_connection_waits_its_turn() {
    let application = Application::echo();
    let (config, first, second) = (Config::new("max_connections = 1"), free_address(), free_address());
    let _s2ds = Program::s2ds(
        &config.write(&[listener(first, application.address, ""), listener(second, application.address, "")]),
    );
    for address in [first, second] {
        let mut inside = connect(address);
        ping(&mut inside);
        let served = application.connections();
        // Accepted by the kernel, not by s2ds.
        let mut waiting: Vec<_> = [first, second].map(connect).into_iter().collect();
        for stream in &mut waiting {
            // Whichever comes in first has to leave before the other does.
            stream.write_all(b"ping").expect("send");
            stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
        }
        ping(&mut inside);
        assert_eq!(application.connections(), served, "the limit was passed");
        drop(inside);
        for mut stream in waiting {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("receive");
            assert_eq!(answer, b"ping");
        }
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let application = Application::echo();
    let (config, accept) = (Config::new(""), free_address());
    let path = config.write(&[listener(accept, application.address, "")]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_s2ds")]).arg(path);
    let s2ds = Program::start(&mut command);
    s2ds.wait_for("s2ds: ready");
    let mut first = connect(accept);
    ping(&mut first);
    // Of these any may be left without a descriptor for its target.
    let others: Vec<TcpStream> = (0..60).map(|_| connect(accept)).collect();
    s2ds.wait_for("cannot accept, will go on trying");
    ping(&mut first);
    drop(others);
    eventually("it serves again", || answers(accept));
    assert!(s2ds.count("cannot accept") < 10, "it complained without end");
}

fn answers(address: SocketAddr) -> bool {
    let mut stream = connect(address);
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok()
}

#[test]
fn a_standard_error_that_nobody_reads_stops_nothing() {
    let application = Application::echo();
    let (config, accept) = (Config::new(""), free_address());
    let path = config.write(&[listener(accept, application.address, "")]);
    // A pipe holds 64 KiB; each connection logs two lines, and some thousands may wait.
    let mut command = Command::new(env!("CARGO_BIN_EXE_s2ds"));
    let mut child = command.arg(path).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("s2ds");
    eventually("it listens", || TcpStream::connect(accept).is_ok());
    let outcome = std::panic::catch_unwind(|| {
        for _ in 0..3000 {
            assert_eq!(exchange(connect(accept), b"ping".to_vec()), b"ping");
        }
    });
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(outcome.is_ok(), "it stopped serving");
}

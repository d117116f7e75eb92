//! SIGTERM drains, a second one or SIGINT ends at once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::application::Application;
use crate::support::config::{Config, listener, tunnel};
use crate::support::program::Program;
use crate::support::{connect, eventually, free_address};

fn ping(stream: &mut TcpStream) {
    stream.write_all(b"ping").expect("send");
    stream.read_exact(&mut [0; 4]).expect("receive");
}

#[test]
fn without_connections_it_ends_at_once() {
    let application = Application::echo();
    let (config, accept) = (Config::new("drain_seconds = 600"), free_address());
    let mut s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "")]));
    s2ds.signal(Signal::SIGTERM);
    assert_eq!(s2ds.wait().code(), Some(0));
}

#[test]
fn open_connections_go_on_and_the_last_one_ends_it() {
    let application = Application::echo();
    let (config, accept, middle) = (Config::new("drain_seconds = 600"), free_address(), free_address());
    let mut s2ds = Program::s2ds(&config.write(&tunnel(accept, middle, application.address)));
    let mut client = connect(accept);
    ping(&mut client);
    s2ds.signal(Signal::SIGTERM);
    for address in [accept, middle] {
        eventually("the listeners are closed", || TcpStream::connect(address).is_err());
    }
    ping(&mut client);
    assert!(s2ds.is_running());
    drop(client);
    assert_eq!(s2ds.wait().code(), Some(0));
}

#[test]
fn who_stays_too_long_is_reset() {
    let application = Application::echo();
    let (config, accept) = (Config::new("drain_seconds = 1"), free_address());
    let mut s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "")]));
    let mut client = connect(accept);
    ping(&mut client);
    let began = Instant::now();
    s2ds.signal(Signal::SIGTERM);
    let error = client.read(&mut [0]).expect_err("an end of file, not a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(began.elapsed() >= Duration::from_millis(900), "it did not wait");
    assert_eq!(s2ds.wait().code(), Some(0));
    s2ds.wait_for("reason=\"s2ds ends\"");
}

#[test]
fn a_second_signal_does_not_wait() {
    for signals in [&[Signal::SIGTERM, Signal::SIGTERM][..], &[Signal::SIGTERM, Signal::SIGINT], &[Signal::SIGINT]] {
        let application = Application::echo();
        let (config, accept) = (Config::new("drain_seconds = 600"), free_address());
        let mut s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "")]));
        let mut client = connect(accept);
        ping(&mut client);
        for (nth, signal) in signals.iter().enumerate() {
            if nth > 0 {
                s2ds.wait_for("draining");
            }
            s2ds.signal(*signal);
        }
        assert_eq!(s2ds.wait().code(), Some(0));
        let error = client.read(&mut [0]).expect_err("an end of file, not a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

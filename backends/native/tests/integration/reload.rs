//! SIGHUP: all of the new configuration or none of it, and nobody notices.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::application::{Application, exchange};
use crate::support::config::{Config, listener};
use crate::support::program::Program;
use crate::support::tls_peer::{self, Offer, TLS13};
use crate::support::{OTHER_KEY, connect, free_address};

fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
    let mut answer = [0];
    stream.write_all(b"?")?;
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

#[test]
fn targets_change_under_load_and_no_connection_fails() {
    let (a, b) = (Application::named(b'a'), Application::named(b'b'));
    let echo = Application::echo();
    let (config, accept, kept) = (Config::new(""), free_address(), free_address());
    let write =
        |target: &Application| config.write(&[listener(kept, echo.address, ""), listener(accept, target.address, "")]);
    let s2ds = Program::s2ds(&write(&a));
    let mut open = connect(kept);
    ask(&mut open).expect("the connection that stays open");

    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(&mut connect(accept)).expect("a connection failed");
                    assert!(b"ab".contains(&answer));
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for round in 0..30 {
        let (target, name) = if round % 2 == 0 { (&b, b'b') } else { (&a, b'a') };
        write(target);
        assert_eq!(s2ds.reload(), "s2ds: reloaded");
        for _ in 0..5 {
            let answer = ask(&mut connect(accept)).expect("a connection failed");
            assert_eq!(answer, name, "a new connection went to the old target");
        }
        assert_eq!(ask(&mut open).expect("the open connection failed"), b'?');
    }
    stop.store(true, Ordering::Relaxed);
    let answers: usize = load.into_iter().map(|load| load.join().expect("a load failed")).sum();
    assert!(answers > 100, "only {answers} connections: this tested little");
}

#[test]
fn listeners_come_and_go() {
    let application = Application::echo();
    let (config, first, second) = (Config::new(""), free_address(), free_address());
    config.write(&[listener(first, application.address, "")]);
    let s2ds = Program::s2ds(&config.path());
    let mut open = connect(first);
    ask(&mut open).expect("receive");
    config.write(&[listener(second, application.address, "")]);
    assert_eq!(s2ds.reload(), "s2ds: reloaded");
    assert!(TcpStream::connect(first).is_err(), "the dropped listener still accepts");
    assert_eq!(exchange(connect(second), b"ping".to_vec()), b"ping");
    ask(&mut open).expect("the open connection failed");
    config.write(&[listener(first, application.address, ""), listener(second, application.address, "")]);
    assert_eq!(s2ds.reload(), "s2ds: reloaded");
    for address in [first, second] {
        assert_eq!(exchange(connect(address), b"ping".to_vec()), b"ping");
    }
}

#[test]
fn a_refused_configuration_changes_nothing() {
    let (a, b) = (Application::named(b'a'), Application::named(b'b'));
    let (config, accept) = (Config::new(""), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, a.address, "")]));
    let in_use = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken = in_use.local_addr().expect("its address");
    let added = free_address();
    let faulty = [
        vec![listener(accept, b.address, "colour = 1")],
        vec![listener(accept, b.address, ""), listener("nowhere", b.address, "")],
        // Another new one is bound before this one fails; it has to go again.
        vec![listener(accept, b.address, ""), listener(added, b.address, ""), listener(taken, b.address, "")],
    ];
    for listeners in faulty {
        config.write(&listeners);
        let answer = s2ds.reload();
        assert!(answer.starts_with("s2ds: reload refused: failed to "), "{answer}");
        assert_eq!(ask(&mut connect(accept)).expect("receive"), b'a');
        assert!(TcpStream::connect(added).is_err(), "half of a configuration is in force");
    }
    config.write(&[listener(accept, b.address, "")]);
    assert_eq!(s2ds.reload(), "s2ds: reloaded");
    assert_eq!(ask(&mut connect(accept)).expect("receive"), b'b');
}

#[test]
fn a_new_key_is_asked_of_new_connections_only() {
    let application = Application::echo();
    let (config, accept) = (Config::new(""), free_address());
    let listeners = [listener(accept, application.address, "accept_wire = \"psk\"")];
    let s2ds = Program::s2ds(&config.write(&listeners));
    let mut open = tls_peer::client(TLS13, connect(accept)).expect("handshake");
    config.key(&format!("client1:{OTHER_KEY}\n"));
    assert_eq!(s2ds.reload(), "s2ds: reloaded");
    assert!(tls_peer::client(TLS13, connect(accept)).is_err(), "the old key was taken");
    let new = Offer { key: Some(OTHER_KEY), ..TLS13 };
    tls_peer::client(new, connect(accept)).expect("the new key was refused");
    open.write_all(b"ping").expect("send");
    open.read_exact(&mut [0; 4]).expect("the open connection failed");

    config.key("client1:short\n");
    assert!(s2ds.reload().contains("reload refused"));
    tls_peer::client(new, connect(accept)).expect("the key in force was refused");
}

#[test]
fn the_limit_of_connections_follows() {
    let application = Application::echo();
    let (mut config, accept) = (Config::new("max_connections = 1"), free_address());
    let listeners = [listener(accept, application.address, "")];
    let s2ds = Program::s2ds(&config.write(&listeners));
    let mut first = connect(accept);
    ask(&mut first).expect("receive");
    let mut second = connect(accept);
    second.write_all(b"?").expect("send");
    config.top = "max_connections = 2".to_owned();
    config.write(&listeners);
    assert_eq!(s2ds.reload(), "s2ds: reloaded");
    second.read_exact(&mut [0]).expect("it still waits");
}

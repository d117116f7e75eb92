//! A stream outlives its controller: killed, stopped, and started again.

use std::fs;
use std::time::Instant;

use nix::sys::signal::Signal;
use scistream::session::Role;

use crate::support::app::{Echo, First};
use crate::support::{App, BACKENDS, TestGateway, Tunnel, eventually, exchange};

/// How many connections stay open and in use while the controllers are away.
const OPEN: usize = 10;

async fn restarted_by(backend: &str, signal: Signal, flags: &[&str]) {
    let (app, other) = (App::start().await, App::start().await);
    let flags = [&["--backend", backend], flags].concat();
    let mut prod = TestGateway::start(&flags).await;
    let mut cons = TestGateway::start(&flags).await;
    let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 2).await;
    let mut open = Vec::new();
    for number in 0..OPEN {
        open.push(Echo::connect(&tunnel.cons.listeners[number % 2]).await);
    }
    let before = (prod.processes(), cons.processes());

    for gateway in [&mut prod, &mut cons] {
        gateway.end(signal).await;
    }
    for echo in &mut open {
        echo.say("nobody controls us").await;
    }
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    let start = Instant::now();
    prod.run().await;
    println!("{backend}: ready, with its session, {} ms after the start", start.elapsed().as_millis());
    cons.run().await;

    assert_eq!((prod.processes(), cons.processes()), before, "{backend}: processes were not adopted as they were");
    for echo in &mut open {
        echo.say("somebody controls us again").await;
    }
    let client = prod.client().await;
    client.update(&tunnel.uid, Role::Prod, vec![other.endpoint()]).await.expect("an adopted session can be moved");
    exchange(&tunnel.cons.listeners[1], First::Producer).await;
    assert_eq!(other.connections(), 1, "{backend}: the new target was not reached");
    for echo in &mut open {
        echo.say("and moved").await;
    }
    tunnel.release(&prod, &cons).await;
    prod.assert_nothing_left();
    cons.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_started_again_it_goes_on_where_it_was() {
    for backend in BACKENDS {
        restarted_by(backend, Signal::SIGKILL, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_leaves_sessions_where_the_operator_wants_it() {
    restarted_by("native", Signal::SIGTERM, &["--keep-sessions-on-exit"]).await;
    restarted_by("nginx", Signal::SIGTERM, &["--keep-sessions-on-exit"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_releases_them_all_the_same() {
    let app = App::start().await;
    let mut gateway = TestGateway::start(&["--keep-sessions-on-exit"]).await;
    Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    assert!(gateway.end(Signal::SIGINT).await.success());
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_died_meanwhile_is_started_again_on_its_port() {
    for backend in BACKENDS {
        let app = App::start().await;
        let mut prod = TestGateway::start(&["--backend", backend]).await;
        let cons = TestGateway::start(&[]).await;
        let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 1).await;
        prod.end(Signal::SIGKILL).await;
        for (pid, _) in prod.processes() {
            // One may take its workers with it.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        eventually("the proxies are dead", || prod.processes().is_empty()).await;
        prod.run().await;
        exchange(&tunnel.cons.listeners[0], First::Consumer).await;
        tunnel.release(&prod, &cons).await;
        prod.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_waited_for_its_hello_ends_with_its_controller() {
    let mut gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let uid = scistream::session::Uid::random().expect("randomness");
    let ask = crate::support::tunnel::ask(&uid, Role::Prod, 1, vec![]);
    let request = tokio::spawn(async move { client.request(&ask).await });
    eventually("the session is there", || !gateway.listening().is_empty()).await;
    gateway.end(Signal::SIGKILL).await;
    assert!(request.await.expect("no panic").is_err(), "REQ was answered by nobody");
    gateway.run().await;
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journals_that_cannot_be_used_are_set_aside_and_stop_nothing() {
    let app = App::start().await;
    let mut gateway = TestGateway::start(&[]).await;
    let good = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let mut spoilt = Vec::new();
    for damage in ["", "{\"format\": 1", "{\"format\": 99}", "[1, 2, 3]"] {
        let known: Vec<_> =
            fs::read_dir(gateway.sessions_dir()).expect("sessions").flatten().map(|e| e.path()).collect();
        let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
        for entry in fs::read_dir(gateway.sessions_dir()).expect("sessions").flatten() {
            if !known.contains(&entry.path()) {
                spoilt.push((entry.path().join("session.json"), damage));
            }
        }
        drop(tunnel);
    }
    gateway.end(Signal::SIGKILL).await;
    for (journal, damage) in &spoilt {
        fs::write(journal, damage).expect("spoilt");
    }
    gateway.run().await;
    exchange(&good.cons.listeners[0], First::Consumer).await;
    let aside = fs::read_dir(gateway.state_dir().join("set-aside")).expect("set aside").count();
    assert_eq!(aside, spoilt.len());
    assert_eq!(gateway.stderr().matches("is set aside in").count(), spoilt.len());
    assert!(gateway.stderr().contains("has the format 99"), "the future is not told apart");
    assert_eq!(gateway.processes().len(), 2, "only the good session's proxies run");
    good.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

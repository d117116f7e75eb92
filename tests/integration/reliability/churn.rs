//! Many sessions come and go: a stream beside them runs on, and nothing is left of them.

use std::time::Instant;

use scistream::client::Gateway;
use scistream::session::{Endpoint, Role, Uid};

use crate::support::measure::{memory, open_files, setting};
use crate::support::tunnel::ask;
use crate::support::{App, BACKENDS, Talk, TestGateway, Tunnel, eventually};

/// Sets up a half of a stream and releases it.
async fn cycle(client: &Gateway, target: &Endpoint) {
    let uid = Uid::random().expect("randomness");
    let asked = ask(&uid, Role::Prod, 1, vec![target.clone()]);
    asked.open(client, None).await.unwrap_or_else(|e| panic!("set up: {}", e.story()));
    client.release(&uid).await.expect("released");
}

/// So many cycles, a few at a time.
async fn cycles(client: &Gateway, target: &Endpoint, count: usize) {
    const TOGETHER: usize = 4;
    let worker = async |number: usize| {
        for _ in (number..count).step_by(TOGETHER) {
            cycle(client, target).await;
        }
    };
    tokio::join!(worker(0), worker(1), worker(2), worker(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_runs_on_while_others_come_and_go() {
    let count = setting("SCISTREAM_CHURN", 1000) / BACKENDS.len();
    for backend in BACKENDS {
        let app = App::start().await;
        let gateway = TestGateway::start(&["--backend", backend]).await;
        let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
        let talk = Talk::start(&tunnel.cons.listeners[0]).await;
        let start = Instant::now();
        cycles(&gateway.client().await, &app.endpoint().parse().expect("an endpoint"), count).await;
        let seconds = start.elapsed().as_secs_f64();
        talk.goes_on().await;
        let bytes = talk.end().await;
        println!(
            "{backend}: {count} others set up and released in {seconds:.1} s beside a stream of {bytes} bytes: \
             same digest, 0 resets"
        );
        tunnel.release(&gateway, &gateway).await;
        gateway.assert_nothing_left();
    }
}

/// What must not grow.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    processes: usize,
    open_files: usize,
    ports: usize,
    files: usize,
}

impl Holdings {
    fn of(gateway: &TestGateway) -> Self {
        Self {
            processes: gateway.processes().len(),
            open_files: open_files(gateway.pid()),
            ports: gateway.listening().len(),
            files: crate::support::leftovers::files_under(&gateway.state_dir()).len(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_sessions_that_came_and_went() {
    let count = setting("SCISTREAM_CYCLES", 2000);
    // In a long run, until as many events are kept for watchers as ever will be.
    let warm_up = if count >= 1000 { 250 } else { 50 };
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let target = app.endpoint().parse().expect("an endpoint");
    cycles(&client, &target, warm_up).await;
    let (before, memory_before) = (Holdings::of(&gateway), memory(gateway.pid()));
    let start = Instant::now();
    cycles(&client, &target, count - warm_up).await;
    let seconds = start.elapsed().as_secs_f64();
    eventually("s2cs holds what it held at the start", || Holdings::of(&gateway) == before).await;
    let memory_after = memory(gateway.pid());
    println!(
        "after {warm_up} cycles: {before:?}, {memory_before} KiB; after {count}, {:.0} a second: the same, {memory_after} KiB",
        (count - warm_up) as f64 / seconds,
    );
    assert!(memory_after * 100 < memory_before * 105, "memory grew by 5 % or more");
    gateway.assert_nothing_left();
}

//! A live session is moved again and again under new connections.
//!
//! They are made straight to the half that is moved, by consumers that speak its
//! wire: a second half would take as much of the machine as the first, for nothing
//! that is looked at here, and halve the number of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use scistream::session::{Role, Uid};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::app::Echo;
use crate::support::tunnel::open_prod;
use crate::support::wire::Wire;
use crate::support::{App, BACKENDS, TestGateway, eventually};

const DEADLINE: Duration = Duration::from_secs(30);
const MOVES: usize = 20;
/// Who connect anew, again and again, at the same time: enough that the machine,
/// not their waiting, bounds how many come.
const CONSUMERS: usize = 16;
/// So many come before each move.
const BETWEEN: usize = 100;
/// What even a slow and busy machine takes in a second. A quiet one takes 500 and more.
const LEAST: f64 = 100.0;

async fn say_a_word(wire: &Wire, listener: &str) -> std::io::Result<()> {
    let stream = timeout(DEADLINE, wire.connect(listener)).await.map_err(std::io::Error::other)??;
    Echo::over(stream).await?.try_say("word").await
}

async fn moved_under_new_connections(backend: &str) {
    let apps = [App::start().await, App::start().await];
    let gateway = TestGateway::start(&["--backend", backend]).await;
    let client = gateway.client().await;
    let uid = Uid::random().expect("randomness");
    let target = apps[0].endpoint().parse().expect("an endpoint");
    let half = open_prod(&uid, &gateway, &target, 1).await;
    let (stop, connections) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..CONSUMERS {
        let (stop, connections) = (stop.clone(), Arc::clone(&connections));
        let (wire, listener) = (Wire::of(&uid), half.listeners[0].clone());
        consumers.spawn(async move {
            let mut failures = Vec::new();
            while !stop.is_cancelled() {
                failures.extend(say_a_word(&wire, &listener).await.err());
                connections.fetch_add(1, Ordering::SeqCst);
            }
            failures
        });
    }
    let start = Instant::now();
    for number in 1..=MOVES {
        eventually("more connections come", || connections.load(Ordering::SeqCst) >= number * BETWEEN).await;
        let target = apps[number % 2].endpoint();
        client.update(&uid, Role::Prod, vec![target]).await.unwrap_or_else(|e| panic!("{}", e.story()));
    }
    let seconds = start.elapsed().as_secs_f64();
    stop.cancel();
    let failures: Vec<_> = consumers.join_all().await.into_iter().flatten().collect();
    let connections = connections.load(Ordering::SeqCst);
    let rate = connections as f64 / seconds;
    println!(
        "{backend}: moved {MOVES} times in {seconds:.1} s under {rate:.0} new connections a second: {} of {connections} failed",
        failures.len(),
    );
    assert!(failures.is_empty(), "{backend}: the first of them: {:?}", failures[0]);
    assert!(apps.iter().all(|app| app.connections() > 0), "{backend}: it was not moved");
    assert!(rate > LEAST, "{backend}: only {rate:.0} connections a second came");
    client.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_moves_cost_no_connection() {
    for backend in BACKENDS {
        moved_under_new_connections(backend).await;
    }
}

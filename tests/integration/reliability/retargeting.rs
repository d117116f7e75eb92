//! A live session is moved again and again under new connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use scistream::session::Role;
use tokio_util::sync::CancellationToken;

use crate::support::app::Echo;
use crate::support::{App, BACKENDS, TestGateway, Tunnel};

const MOVES: usize = 20;
/// Who connect anew, again and again, at the same time.
const CONSUMERS: usize = 4;

async fn moved_under_new_connections(backend: &str) {
    let apps = [App::start().await, App::start().await];
    let gateway = TestGateway::start(&["--backend", backend]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &apps[0].endpoint(), 1).await;
    let (stop, connections) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..CONSUMERS {
        let (stop, connections) = (stop.clone(), Arc::clone(&connections));
        let listener = tunnel.cons.listeners[0].clone();
        consumers.spawn(async move {
            let mut failures = Vec::new();
            while !stop.is_cancelled() {
                let mut echo = Echo::connect(&listener).await;
                failures.extend(echo.try_say("word").await.err());
                connections.fetch_add(1, Ordering::SeqCst);
            }
            failures
        });
    }
    let (client, start) = (gateway.client().await, Instant::now());
    for number in 1..=MOVES {
        let target = apps[number % 2].endpoint();
        client.update(&tunnel.uid, Role::Prod, vec![target]).await.unwrap_or_else(|e| panic!("{}", e.story()));
    }
    let seconds = start.elapsed().as_secs_f64();
    stop.cancel();
    let failures: Vec<_> = consumers.join_all().await.into_iter().flatten().collect();
    let connections = connections.load(Ordering::SeqCst);
    println!(
        "{backend}: moved {MOVES} times in {seconds:.1} s under {:.0} new connections a second: {} of {connections} failed",
        connections as f64 / seconds,
        failures.len(),
    );
    assert!(failures.is_empty(), "{backend}: {failures:?}");
    assert!(apps.iter().all(|app| app.connections() > 0), "{backend}: it was not moved");
    tunnel.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_moves_cost_no_connection() {
    for backend in BACKENDS {
        moved_under_new_connections(backend).await;
    }
}

//! The controller is killed while fifty sessions carry data.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use crate::support::app::First;
use crate::support::{App, BACKENDS, Talk, TestGateway, Tunnel, exchange, session};

/// Each is two sessions of the one gateway that serves both ends.
const TUNNELS: usize = 25;
/// From the start of the controller until all sessions are its own again.
const ADOPTION: Duration = Duration::from_secs(2);

/// Sets tunnels up, a few at a time.
async fn open(gateway: &TestGateway, app: &App) -> Vec<Tunnel> {
    let mut tunnels = Vec::new();
    while tunnels.len() < TUNNELS {
        let target = app.endpoint();
        let five = std::array::from_fn::<_, 5, _>(|_| Tunnel::open(gateway, gateway, &target, 1));
        tunnels.extend(futures_util::future::join_all(five).await);
    }
    tunnels
}

async fn killed_under_fifty_sessions(backend: &str) {
    let app = App::start().await;
    let mut gateway = TestGateway::start(&["--backend", backend]).await;
    let tunnels = open(&gateway, &app).await;
    let mut talks = Vec::new();
    for tunnel in &tunnels {
        talks.push(Talk::start(&tunnel.cons.listeners[0]).await);
    }
    let before = gateway.processes();

    gateway.end(Signal::SIGKILL).await;
    for talk in &talks {
        talk.goes_on().await;
    }
    let start = Instant::now();
    gateway.run().await;
    let adoption = start.elapsed();

    assert_eq!(gateway.processes(), before, "{backend}: processes were not adopted as they were");
    assert_eq!(session::all_well(&gateway.client().await).await.len(), 2 * TUNNELS);
    for talk in &talks {
        talk.goes_on().await;
    }
    exchange(&tunnels[0].cons.listeners[0], First::Consumer).await;
    let mut ends = JoinSet::new();
    let connections = talks.len();
    for talk in talks {
        ends.spawn(talk.end());
    }
    let bytes: u64 = ends.join_all().await.into_iter().sum();
    let client = gateway.client().await;
    let releases = tunnels.iter().map(|tunnel| client.release(&tunnel.uid));
    for released in futures_util::future::join_all(releases).await {
        released.expect("released");
    }
    gateway.assert_nothing_left();
    println!(
        "{backend}: {} sessions adopted {} ms after the start; 0 of {connections} connections closed, \
         0 of {bytes} bytes lost or wrong",
        2 * TUNNELS,
        adoption.as_millis(),
    );
    assert!(adoption < ADOPTION, "{backend}: adopted after {adoption:?}");
}

/// One after the other: they are to be timed, and each alone fills a small machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sessions_outlive_their_controller_on_every_backend() {
    for backend in BACKENDS {
        killed_under_fifty_sessions(backend).await;
    }
}

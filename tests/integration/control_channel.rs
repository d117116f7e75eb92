//! The control port under connections that mean no good.

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpStream;

use crate::support::TestGateway;

/// Connections that are opened and then say nothing.
const SILENT: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_handshakes_that_never_end_keep_nobody_out() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("room for the connections");
    let gateway = TestGateway::start(&[]).await;
    let address = gateway.address().to_string();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(&address).await.expect("the port accepts"));
    }
    let start = Instant::now();
    gateway.client().await.capabilities().await.expect("an honest client is served");
    let took = start.elapsed();
    println!("with {SILENT} silent connections, a call was answered after {} ms", took.as_millis());
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    drop(silent);
}

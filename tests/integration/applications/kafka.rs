//! Kafka's protocol, with Tansu as the broker and kafka-python as its client.

use std::net::SocketAddr;

use super::{Stream, addresses};
use crate::support::application::{kafka_broker, python};
use crate::support::ports::PortBlock;
use crate::support::program::{Ended, Program};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/applications/kafka_client.py");
/// Of 10 kB each.
const MESSAGES: &str = "300";

async fn client(stream: &Stream) -> Ended {
    Program::run(&python(), &[SCRIPT, &stream.address(0).to_string(), MESSAGES], b"").await
}

async fn kafka_through(backend: &str) {
    let ports = PortBlock::claim();
    let [target] = addresses(&ports);
    let stream = Stream::open(backend, &[target]).await;
    // It must tell its clients of the tunnel.
    let broker = kafka_broker(target, stream.address(0)).await;
    let told = client(&stream).await.succeeded("the client");
    assert_eq!(told, format!("{}\n{MESSAGES}\n", stream.address(0)));
    drop(broker);
    stream.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_delivers_through_native() {
    kafka_through("native").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_delivers_through_nginx() {
    kafka_through("nginx").await;
}

/// Whatever clients were given first, they go where the broker says that it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_leads_past_a_tunnel_that_it_does_not_advertise() {
    let ports = PortBlock::claim();
    // The second is nobody's: what a broker's own address is to a consumer elsewhere.
    let [target, elsewhere]: [SocketAddr; 2] = addresses(&ports);
    let stream = Stream::open("native", &[target]).await;
    let broker = kafka_broker(target, elsewhere).await;
    let ended = client(&stream).await;
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{}", ended.stdout);
    assert!(ended.stderr.contains("Bootstrap complete"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!(" at {elsewhere} ")), "{}", ended.stderr);
    drop(broker);
    stream.close().await;
}

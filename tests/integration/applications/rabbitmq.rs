//! RabbitMQ, with its broker, and clients of AMQP and of its stream protocol.

use nix::sys::signal::Signal;

use super::Stream;
use crate::support::application::python;
use crate::support::program::Program;
use crate::support::rabbitmq::{RabbitMq, RabbitMqPlan};
use crate::support::{BACKENDS, eventually};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/applications/rabbitmq_client.py");
/// Of 60 kB each.
const MESSAGES: &str = "200";

async fn client(words: &[&str]) -> String {
    Program::run(&python(), &[&[SCRIPT], words].concat(), b"").await.succeeded("the client")
}

/// One broker, which takes seconds to start, for all that is asked of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_serves_through_tunnels() {
    let plan = RabbitMqPlan::new();
    let to_streams = Stream::open("native", &[plan.streams()]).await;
    let entry = to_streams.address(0);
    let settings = format!(
        "default_user = daq\ndefault_pass = secret\nstream.advertised_host = {}\nstream.advertised_port = {}\n",
        entry.ip(),
        entry.port()
    );
    let broker = plan.start(&settings).await;
    for backend in BACKENDS {
        messages_are_delivered(&broker, backend).await;
    }
    streams_go_where_the_broker_says(to_streams).await;
    heartbeats_tell_a_dead_broker(&broker).await;
}

async fn messages_are_delivered(broker: &RabbitMq, backend: &str) {
    let stream = Stream::open(backend, &[broker.amqp()]).await;
    assert_eq!(client(&["messages", &stream.port(0), MESSAGES]).await.trim(), MESSAGES, "{backend}");
    stream.close().await;
}

/// Clients of the stream protocol connect to where the broker says that it is, which is the tunnel.
async fn streams_go_where_the_broker_says(stream: Stream) {
    let told = client(&["stream", &stream.port(0), MESSAGES]).await;
    assert_eq!(told, format!("{}\n{MESSAGES}\n", stream.address(0)));
    stream.close().await;
}

/// Heartbeats come through, and when they do not the client knows that its peer is gone.
async fn heartbeats_tell_a_dead_broker(broker: &RabbitMq) {
    let stream = Stream::open("haproxy", &[broker.amqp()]).await;
    let mut client = Program::start(&python(), &[SCRIPT, "idle", &stream.port(0)]);
    eventually("heartbeats come", || client.stdout().contains("beats")).await;
    broker.server().signal(Signal::SIGSTOP);
    assert!(client.ended().await.success(), "{}", client.stderr());
    assert_eq!(client.stdout(), "beats\nsilent\n");
    stream.close().await;
}

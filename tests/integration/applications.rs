//! Programs that people use at both ends of a stream, and which know nothing of it.

mod kafka;
mod pvaccess;
mod rabbitmq;

use std::net::SocketAddr;

use scistream::session::{Endpoint, Role, Uid};
use serde_json::Value;

use crate::support::app::bytes;
use crate::support::ports::PortBlock;
use crate::support::program::{PYTHON, Program};
use crate::support::tunnel::ask;
use crate::support::{TestGateway, Tunnel};

const PUBLISH_SUBSCRIBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/publish_subscribe.py");
const MESSAGES: &str = "10000";

/// A stream to some programs, with a listener for each of them.
struct Stream {
    tunnel: Tunnel,
    prod: TestGateway,
    cons: TestGateway,
}

impl Stream {
    async fn open(backend: &str, targets: &[SocketAddr]) -> Self {
        let prod = TestGateway::start(&["--backend", backend]).await;
        let cons = TestGateway::start(&["--backend", backend]).await;
        Self::between(prod, cons, targets, &[]).await
    }

    /// The same through these gateways; consumers would like to connect to these ports.
    async fn between(prod: TestGateway, cons: TestGateway, targets: &[SocketAddr], wishes: &[u16]) -> Self {
        let uid = Uid::random().expect("randomness");
        let count = u16::try_from(targets.len()).expect("few");
        let endpoint = |text: String| -> Endpoint { text.parse().expect("an endpoint") };
        let announced = targets.iter().map(|target| endpoint(target.to_string())).collect();
        let inbound = ask(&uid, Role::Prod, count, announced).open(&prod.client().await, None).await;
        let inbound = inbound.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
        let wishes = wishes.iter().map(|port| endpoint(format!("localhost:{port}"))).collect();
        let outbound = ask(&uid, Role::Cons, count, wishes);
        let outbound = outbound.open(&cons.client().await, Some(inbound.listeners.clone())).await;
        let outbound = outbound.unwrap_or_else(|e| panic!("CONS: {}", e.story()));
        Self { tunnel: Tunnel { uid, prod: inbound, cons: outbound }, prod, cons }
    }

    /// Where consumers connect to for the nth target.
    fn address(&self, nth: usize) -> SocketAddr {
        self.tunnel.cons.listeners[nth].parse().expect("an address")
    }

    /// The port of that.
    fn port(&self, nth: usize) -> String {
        self.address(nth).port().to_string()
    }

    async fn close(self) {
        self.tunnel.release(&self.prod, &self.cons).await;
        self.prod.assert_nothing_left();
        self.cons.assert_nothing_left();
    }
}

/// The first ports of a block, on loopback.
fn addresses<const N: usize>(ports: &PortBlock) -> [SocketAddr; N] {
    let mut ports = ports.range();
    [(); N].map(|()| SocketAddr::from(([127, 0, 0, 1], ports.next().expect("a block has many ports"))))
}

/// What a client of iperf3 is to send, or to receive.
const BYTES: u64 = 64 << 20;

/// What a client of iperf3 has measured.
async fn iperf3(port: &str, more: &[&str]) -> Value {
    let amount = BYTES.to_string();
    let client = ["-c", "127.0.0.1", "-p", port, "-n", &amount, "-J"];
    let said = Program::run("iperf3", &[&client, more].concat(), b"").await.succeeded("iperf3");
    serde_json::from_str(&said).expect("iperf3 speaks JSON")
}

/// Its control connection and its data connections all go to one port.
async fn iperf3_through(backend: &str) {
    let ports = PortBlock::claim();
    let targets: [_; 3] = addresses(&ports);
    let mut servers = Vec::new();
    for target in targets {
        let port = target.port().to_string();
        // Ends after one client.
        let mut server = Program::start("iperf3", &["-s", "-1", "-B", "127.0.0.1", "-p", &port]);
        server.listens_on(target).await;
        servers.push(server);
    }
    let stream = Stream::open(backend, &targets).await;
    for (nth, (more, connections)) in [(&[][..], 1), (&["-R"][..], 1), (&["-P", "4"][..], 4)].into_iter().enumerate() {
        let measured = iperf3(&stream.port(nth), more).await;
        assert_eq!(measured["error"], Value::Null, "{more:?}");
        assert_eq!(measured["end"]["streams"].as_array().map(Vec::len), Some(connections), "{more:?}");
        let amount = |side: &str| measured["end"][side]["bytes"].as_u64().expect("a number");
        let (sent, received) = (amount("sum_sent"), amount("sum_received"));
        assert!(sent >= BYTES, "{more:?}: {sent} bytes were sent");
        // The measurement ends when all is sent: what is then on its way, which may be most of it, is not counted.
        assert!(received <= sent && received >= BYTES / 64, "{more:?}: {received} of {sent} bytes came");
        assert!(servers[nth].ended().await.success(), "{more:?}: the server was not content");
    }
    stream.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iperf3_measures_through_native() {
    iperf3_through("native").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iperf3_measures_through_stunnel() {
    iperf3_through("stunnel").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iperf3_measures_through_haproxy() {
    iperf3_through("haproxy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iperf3_measures_through_nginx() {
    iperf3_through("nginx").await;
}

async fn zeromq_through(backend: &str) {
    let ports = PortBlock::claim();
    let [target] = addresses(&ports);
    let port = target.port().to_string();
    let mut publisher = Program::start(PYTHON, &[PUBLISH_SUBSCRIBE, "publish", &port, MESSAGES]);
    publisher.listens_on(target).await;
    let stream = Stream::open(backend, &[target]).await;

    let arguments = [PUBLISH_SUBSCRIBE, "subscribe", &stream.port(0), MESSAGES];
    let got = Program::run(PYTHON, &arguments, b"").await.succeeded("the subscriber");
    assert_eq!(got.trim(), MESSAGES);
    // The end of the subscription goes the same way back.
    assert!(publisher.ended().await.success());
    assert_eq!(publisher.stdout().trim(), MESSAGES);
    stream.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeromq_publishes_through_native() {
    zeromq_through("native").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeromq_publishes_through_haproxy() {
    zeromq_through("haproxy").await;
}

async fn redis_through(backend: &str) {
    let ports = PortBlock::claim();
    let [target] = addresses(&ports);
    let port = target.port().to_string();
    let mut server = Program::start("redis-server", &["--port", &port, "--save", "", "--bind", "127.0.0.1"]);
    server.listens_on(target).await;
    let stream = Stream::open(backend, &[target]).await;

    let value: String = bytes(7).iter().map(|byte| format!("{byte:02x}")).collect();
    let port = stream.port(0);
    let cli = ["-p", &port];
    // The last argument is what it reads.
    let set = Program::run("redis-cli", &[&cli[..], &["-x", "set", "value"]].concat(), value.as_bytes()).await;
    assert_eq!(set.succeeded("SET").trim(), "OK");
    let got = Program::run("redis-cli", &[&cli[..], &["get", "value"]].concat(), b"").await.succeeded("GET");
    assert!(got.trim_end() == value, "another value came back ({} of {} characters)", got.len(), value.len());

    let commands = ["PING_INLINE", "PING_MBULK", "SET", "GET", "LPUSH", "LRANGE_300", "MSET"];
    let load = ["-p", &port, "-n", "2000", "-c", "20", "-q", "-t", "ping,set,get,lpush,lrange_300,mset"];
    let said = Program::run("redis-benchmark", &load, b"").await.succeeded("redis-benchmark");
    for command in commands {
        let line = said.split(['\r', '\n']).find(|l| l.starts_with(command) && l.contains("requests per second"));
        assert!(line.is_some(), "{command} did not come to its end: {said}");
    }
    stream.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_answers_through_native() {
    redis_through("native").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_answers_through_nginx() {
    redis_through("nginx").await;
}

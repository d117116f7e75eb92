//! A user with the deployed release's client, which was never told that the
//! gateways have changed.

use std::process::Command;
use std::sync::Arc;

use serde::Deserialize;
use tempfile::TempDir;

use crate::support::app::First;
use crate::support::program::{PYTHON, Program};
use crate::support::{App, TestGateway, eventually, exchange};

/// Where the contract is, and the client that is made from it.
const CONTRACT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/deployed_client.py");
/// Its own pause before HELLO not counted, in seconds. What hangs takes minutes.
const AT_ONCE: f64 = 2.0;

/// The client, with its modules.
#[derive(Debug, Clone)]
struct Client {
    modules: Arc<TempDir>,
}

/// What the client has to tell.
#[derive(Debug, Deserialize)]
struct Told {
    uid: String,
    listeners: Vec<String>,
    refusals: Vec<Refused>,
}

/// A call that was refused, as gRPC's Python shows it.
#[derive(Debug, Deserialize)]
struct Refused {
    call: String,
    code: String,
    details: String,
    seconds: f64,
}

impl Client {
    /// Makes the client's modules from the contract, as any user of Python would.
    fn new() -> Self {
        let modules = TempDir::with_prefix("client-").expect("a folder");
        let made = Command::new(PYTHON)
            .args(["-m", "grpc_tools.protoc", "--proto_path", CONTRACT])
            .args(["--python_out=.", "--grpc_python_out=.", "scistream.proto"])
            .current_dir(modules.path())
            .output()
            .expect("Python runs");
        assert!(made.status.success(), "the contract: {}", String::from_utf8_lossy(&made.stderr));
        Self { modules: Arc::new(modules) }
    }

    async fn call(&self, gateway: &TestGateway, command: &str, arguments: &[&str]) -> Told {
        let (s2cs, certificate) = (gateway.address().to_string(), gateway.certificate());
        let modules = format!("PYTHONPATH={}", self.modules.path().display());
        let certificate = certificate.to_str().expect("a plain path");
        let client = [&modules, PYTHON, CLIENT, command, "--s2cs", &s2cs, "--server_cert", certificate];
        let ended = Program::run("env", &[&client, arguments].concat(), b"").await;
        let said = ended.succeeded(command);
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{command} said {said:?}: {e}"))
    }
}

/// The port that a consumer would connect to: a free one of its gateway's, and not the lowest.
fn a_port_of(gateway: &TestGateway) -> u16 {
    *gateway.port_range().end() - 7
}

async fn a_stream_through(backend: &str) {
    let client = Client::new();
    let app = App::start().await;
    let inside = TestGateway::start(&["--backend", backend]).await;
    let outside = TestGateway::start(&["--backend", backend]).await;
    let (port, wish) = (app.address.port().to_string(), a_port_of(&outside).to_string());

    // The name is the client's own default, and is for the gateway to resolve.
    let arguments = ["--remote_ip", "localhost", "--receiver_ports", &port, "--num_conn", "2"];
    let inbound = client.call(&inside, "inbound", &arguments).await;
    assert!(inbound.refusals.is_empty(), "{inbound:?}");
    assert_eq!(inbound.listeners.len(), 2);

    let listeners = inbound.listeners.join(",");
    let arguments = ["--uid", &inbound.uid, "--remote_ip", "127.0.0.1", "--receiver_ports", &wish, "--num_conn", "2"];
    let outbound = client.call(&outside, "outbound", &[&arguments[..], &["--listeners", &listeners]].concat()).await;
    assert!(outbound.refusals.is_empty(), "{outbound:?}");
    assert_eq!(outbound.listeners.len(), 2);
    assert_eq!(outbound.listeners[0], format!("127.0.0.1:{wish}"), "the consumer was promised another port");

    for listener in &outbound.listeners {
        exchange(listener, First::Consumer).await;
        exchange(listener, First::Producer).await;
    }
    eventually("the producer has every payload whole", || app.whole() == 4).await;

    for gateway in [&inside, &outside] {
        let released = client.call(gateway, "release", &["--uid", &inbound.uid]).await;
        assert!(released.refusals.is_empty(), "{released:?}");
        gateway.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_client_sets_up_a_stream_through_native() {
    a_stream_through("native").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_client_sets_up_a_stream_through_stunnel() {
    a_stream_through("stunnel").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_client_sets_up_a_stream_through_haproxy() {
    a_stream_through("haproxy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_client_sets_up_a_stream_through_nginx() {
    a_stream_through("nginx").await;
}

/// The client says HELLO all the same, and waits for ever for its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hello_that_follows_a_refused_request_is_refused_at_once() {
    let client = Client::new();
    let gateway = TestGateway::start(&[]).await;
    for (command, more) in [("inbound", &[][..]), ("outbound", &["--listeners", "127.0.0.1:1"][..])] {
        let arguments = [&["--num_conn", "0", "--receiver_ports", "5300"], more].concat();
        let told = client.call(&gateway, command, &arguments).await;
        assert_eq!(told.listeners, Vec::<String>::new());
        let [request, hello] = &told.refusals[..] else { panic!("{told:?}") };
        assert_eq!((&*request.call, &*request.code), ("req", "INVALID_ARGUMENT"));
        assert!(request.details.contains("num_conn"), "{told:?}");
        assert_eq!((&*hello.call, &*hello.code), ("hello", "NOT_FOUND"));
        assert!(hello.details.contains("send REQ first"), "the user reads only this: {told:?}");
        assert!(request.seconds < AT_ONCE && hello.seconds < AT_ONCE, "{told:?}");
        gateway.assert_nothing_left();
    }
}

/// The client shows why HELLO was refused, but ends only when REQ has ended too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_that_waits_for_a_refused_hello_fails_with_it() {
    let client = Client::new();
    let gateway = TestGateway::start(&[]).await;
    // One that cannot be read, one that no name server knows (RFC 6761), one that policy forbids.
    let hosts =
        [("not a host", "INVALID_ARGUMENT"), ("nowhere.invalid", "INVALID_ARGUMENT"), ("0.0.0.0", "PERMISSION_DENIED")];
    for (host, code) in hosts {
        let arguments = ["--remote_ip", host, "--receiver_ports", "5300", "--num_conn", "1"];
        let mut told = client.call(&gateway, "inbound", &arguments).await;
        assert_eq!(told.listeners, Vec::<String>::new());
        // The two answers come together, in either order.
        told.refusals.sort_by(|one, other| one.call.cmp(&other.call));
        let [hello, request] = &told.refusals[..] else { panic!("{told:?}") };
        assert_eq!((&*hello.call, &*hello.code), ("hello", code), "{told:?}");
        assert_eq!(request.call, "req", "{told:?}");
        assert!(request.details.contains(hello_reason(&hello.details)), "{told:?}");
        assert!(hello.seconds < AT_ONCE && request.seconds < AT_ONCE + 0.5, "{told:?}");
        gateway.assert_nothing_left();
    }
}

/// Why, without the code before and the remedy behind it.
fn hello_reason(details: &str) -> &str {
    let (_, rest) = details.split_once(": ").expect("a code and a reason");
    rest.split("; ").next().expect("always one part")
}

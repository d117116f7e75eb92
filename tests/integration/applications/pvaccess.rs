//! EPICS pvAccess, with P4P at both ends.

use std::net::SocketAddr;

use super::Stream;
use crate::support::application::{self, PvaccessServer, python, variables};
use crate::support::{TestGateway, eventually};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/applications/pvaccess.py");
const UPDATES: &str = "100";
/// The consumer's gateway, which has another address than the server.
const GATEWAY: [u8; 4] = [127, 0, 0, 2];

/// A server, and a tunnel to it with a number of its own at the consumer's gateway, or with the same.
async fn tunnel_to_a_server(backend: &str, same: bool) -> (PvaccessServer, Stream) {
    let prod = TestGateway::start(&["--backend", backend]).await;
    let cons = TestGateway::start(&["--backend", backend, "--lan-ip", "127.0.0.2"]).await;
    // The last ports of its range are not what it would take itself.
    let last = *cons.port_range().end();
    let says = variables([("EPICS_PVAS_SERVER_PORT", &last.to_string())]);
    let server = PvaccessServer::start(SocketAddr::from(([127, 0, 0, 1], last)), &says).await;
    let wish = if same { last } else { last - 1 };
    let stream = Stream::between(prod, cons, &[server.address], &[wish]).await;
    assert_eq!(stream.address(0), SocketAddr::from((GATEWAY, wish)));
    (server, stream)
}

/// The environment of clients, which search over TCP.
fn client(server: SocketAddr) -> Vec<(String, String)> {
    variables([("EPICS_PVA_NAME_SERVERS", &server.to_string()), ("EPICS_PVA_AUTO_ADDR_LIST", "NO")])
}

async fn pvaccess_through(backend: &str) {
    let (server, stream) = tunnel_to_a_server(backend, true).await;
    let ended = application::run(&client(stream.address(0)), &[&python(), SCRIPT, "use", UPDATES]).await;
    assert_eq!(ended.succeeded("the client").trim(), UPDATES);
    drop(server);
    stream.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pvaccess_reads_writes_and_monitors_through_native() {
    pvaccess_through("native").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pvaccess_reads_writes_and_monitors_through_haproxy() {
    pvaccess_through("haproxy").await;
}

/// A client is told the server's own number, and connects to that at the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pvaccess_needs_the_same_port_at_both_ends() {
    let (server, stream) = tunnel_to_a_server("native", false).await;
    let mut environment = client(stream.address(0));
    environment.push(("PVXS_LOG".into(), "pvxs.client.io=DEBUG".into()));
    let client = application::start(&environment, &[&python(), SCRIPT, "use", UPDATES]);
    let there = format!("Connecting to {}", SocketAddr::from((GATEWAY, server.address.port())));
    eventually("it goes to where nobody is", || client.stderr().contains(&there)).await;
    assert!(client.stderr().contains("Search reply for daq:image"), "{}", client.stderr());
    assert_eq!(client.stdout(), "");
    drop((client, server));
    stream.close().await;
}

//! The deployed release's stunnel as the other facility: let in with its key, at
//! the floor that it can reach, and never as the anonymous peer it may be.

use scistream::session::{Endpoint, Uid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::app::{Echo, First};
use crate::support::deployed_stunnel::{DeployedStunnel, End};
use crate::support::tunnel::{open_cons, open_prod};
use crate::support::{App, TestGateway, eventually, exchange};

/// As clients of today make them, from the time and a network card's address.
const UUID_OF_TIME: &str = "4d6c7912-e564-11f1-b7e1-02fc00000001";
/// Listeners of one session.
const PARALLEL: u16 = 2;

/// A UID of each shape.
fn uids() -> [Uid; 2] {
    [Uid::parse(UUID_OF_TIME).expect("a UUID"), Uid::random().expect("randomness")]
}

fn endpoint(app: &App) -> Endpoint {
    app.endpoint().parse().expect("an endpoint")
}

/// Through each of these twice, with each side ending first.
async fn exchange_through(listeners: &[String]) {
    for listener in listeners {
        exchange(listener, First::Consumer).await;
        exchange(listener, First::Producer).await;
    }
}

/// Every handshake was one in which the key took part; there is one for each connection.
fn assert_the_key_took_part(peer: &DeployedStunnel, connections: usize) {
    let suites = peer.suites();
    assert_eq!(suites.len(), connections, "{}", peer.log());
    for suite in &suites {
        assert!(suite.contains("PSK-NULL-SHA"), "a handshake without the key: {suites:?}");
    }
    // A handshake that was taken up again would not have asked for the key.
    assert!(!peer.log().contains("previous session reused"), "{}", peer.log());
}

/// Ours accepts the tunnel, theirs opens it.
async fn deployed_client_to(flags: &[&str]) {
    for uid in uids() {
        let app = App::start().await;
        let ours = TestGateway::start(&[flags, &["--protection", "integrity"]].concat()).await;
        let half = open_prod(&uid, &ours, &endpoint(&app), PARALLEL).await;
        let theirs = DeployedStunnel::start(End::Client, &uid, &half.listeners).await;

        let listeners: Vec<_> = theirs.listeners.iter().map(ToString::to_string).collect();
        exchange_through(&listeners).await;
        let exchanges = 2 * usize::from(PARALLEL);
        eventually("the producer has every payload whole", || app.whole() == exchanges).await;
        assert_the_key_took_part(&theirs, exchanges);

        ours.client().await.release(&uid).await.expect("released");
        ours.assert_nothing_left();
    }
}

/// Ours opens the tunnel, theirs accepts it.
async fn deployed_server_from(flags: &[&str]) {
    for uid in uids() {
        let app = App::start().await;
        let targets = vec![app.endpoint(); usize::from(PARALLEL)];
        let theirs = DeployedStunnel::start(End::Server, &uid, &targets).await;
        let ours = TestGateway::start(&[flags, &["--protection", "integrity"]].concat()).await;
        let targets = theirs.listeners.iter().map(ToString::to_string).collect();
        let half = open_cons(&uid, &ours, targets, PARALLEL).await;

        exchange_through(&half.listeners).await;
        let exchanges = 2 * usize::from(PARALLEL);
        eventually("the producer has every payload whole", || app.whole() == exchanges).await;
        assert_the_key_took_part(&theirs, exchanges);

        ours.client().await.release(&uid).await.expect("released");
        ours.assert_nothing_left();
    }
}

/// A consumer that wants an echo and gets the end of its connection.
async fn assert_nothing_comes_back(listener: &str) {
    let mut stream = match TcpStream::connect(listener).await {
        // It was accepted, and ended before we looked.
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return,
        connected => connected.expect("the listener accepts"),
    };
    // The connection may be gone already.
    drop(stream.write_all(b"Eis anybody there").await);
    let mut answer = Vec::new();
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(end.is_ok(), "the connection was neither served nor ended");
    assert!(answer.is_empty(), "an answer came back: {answer:?}");
}

/// The default floor has no room for a peer without encryption.
async fn the_default_floor_refuses_it_at(flags: &[&str]) {
    for uid in uids() {
        let app = App::start().await;
        let ours = TestGateway::start(flags).await;
        let half = open_prod(&uid, &ours, &endpoint(&app), 1).await;
        let client = DeployedStunnel::start(End::Client, &uid, &half.listeners).await;
        assert_nothing_comes_back(&client.listeners[0].to_string()).await;
        assert_eq!(client.connections(), 1, "the consumer did not even get to the peer");
        assert_eq!(client.suites(), Vec::<String>::new(), "a handshake came to an end");
        assert_eq!((app.connections(), app.bytes()), (0, 0), "bytes came through");

        // The same key and listener serve a peer that encrypts.
        let good = TestGateway::start(&[]).await;
        let other = open_cons(&uid, &good, half.listeners.clone(), 1).await;
        Echo::connect(&other.listeners[0]).await.say("encrypted").await;
        assert_eq!(app.connections(), 1);
        good.client().await.release(&uid).await.expect("released");
        ours.client().await.release(&uid).await.expect("released");

        let app = App::start().await;
        let server = DeployedStunnel::start(End::Server, &uid, &[app.endpoint()]).await;
        let half = open_cons(&uid, &ours, vec![server.listeners[0].to_string()], 1).await;
        assert_nothing_comes_back(&half.listeners[0]).await;
        eventually("our half tried the peer", || server.connections() == 1).await;
        assert_eq!(server.suites(), Vec::<String>::new(), "a handshake came to an end");
        assert_eq!((app.connections(), app.bytes()), (0, 0), "bytes came through");
        ours.client().await.release(&uid).await.expect("released");
        ours.assert_nothing_left();
    }
}

macro_rules! for_each_data_path {
    ($what:ident: $($name:ident: $($flag:literal)*;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $what(&[$($flag),*]).await;
            }
        )*
    };
}

for_each_data_path! {
    deployed_client_to:
    a_deployed_client_reaches_native: "--backend" "native";
    a_deployed_client_reaches_stunnel: "--backend" "stunnel";
    a_deployed_client_reaches_haproxy: "--backend" "haproxy";
    a_deployed_client_reaches_nginx: "--backend" "nginx";
    a_deployed_client_reaches_haproxy_behind_stunnel: "--backend" "haproxy" "--terminator" "stunnel";
}

for_each_data_path! {
    deployed_server_from:
    native_reaches_a_deployed_server: "--backend" "native";
    stunnel_reaches_a_deployed_server: "--backend" "stunnel";
    haproxy_reaches_a_deployed_server: "--backend" "haproxy";
    nginx_reaches_a_deployed_server: "--backend" "nginx";
    nginx_behind_stunnel_reaches_a_deployed_server: "--backend" "nginx" "--terminator" "stunnel";
}

for_each_data_path! {
    the_default_floor_refuses_it_at:
    the_default_floor_of_native_refuses_a_deployed_peer: "--backend" "native";
    the_default_floor_of_stunnel_refuses_a_deployed_peer: "--backend" "stunnel";
    the_default_floor_of_haproxy_refuses_a_deployed_peer: "--backend" "haproxy";
    the_default_floor_of_nginx_refuses_a_deployed_peer: "--backend" "nginx";
}

/// What this is about: left to themselves, two deployed peers let in anyone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_deployed_peers_would_be_anonymous_to_each_other() {
    let [uid, _] = uids();
    let app = App::start().await;
    let server = DeployedStunnel::start(End::Server, &uid, &[app.endpoint()]).await;
    let client = DeployedStunnel::start(End::Client, &uid, &[server.listeners[0].to_string()]).await;
    exchange(&client.listeners[0].to_string(), First::Consumer).await;
    assert_eq!(client.suites(), ["AECDH-NULL-SHA"]);
    assert_eq!(server.suites(), ["AECDH-NULL-SHA"]);
}

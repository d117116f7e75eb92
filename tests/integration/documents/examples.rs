//! The backends of the documents, as a site would install them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use regex::Regex;
use scistream::backend::{Address, Catalog, Circumstances, Duty, Folder, Hop, Program, Stage, Wire, render};
use scistream::session::{Role, SessionId, Sources, Uid};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::root;
use crate::support::app::{Echo, First};
use crate::support::gateway::GatewayPlan;
use crate::support::tunnel::{open_cons, open_prod};
use crate::support::{App, Talk, TestGateway, Tunnel, exchange};

const SOCAT: [&str; 2] = ["socat", "socat.pl.tera"];
const ENVOY: [&str; 2] = ["envoy", "envoy.pl.tera"];

fn read(example: &str, name: &str) -> String {
    fs::read_to_string(root().join("packaging/doc/examples").join(example).join(name)).expect("an example")
}

/// A gateway of a site that has installed it.
fn with([name, template]: [&str; 2], flags: &[&str]) -> GatewayPlan {
    TestGateway::plan(&[&["--backend", name], flags].concat())
        .file(&format!("backends/{name}/backend.toml"), &read(name, "backend.toml"))
        .file(&format!("templates/{template}"), &read(name, template))
}

/// Streams through two gateways that have it, an UPDATE while one runs, and nothing left.
async fn carries(example: [&str; 2], flags: &[&str]) {
    let app = App::start().await;
    let (prod, cons) = (with(example, flags).start().await, with(example, flags).start().await);
    let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 2).await;
    for listener in &tunnel.cons.listeners {
        exchange(listener, First::Consumer).await;
        exchange(listener, First::Producer).await;
    }
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;
    talk.goes_on().await;

    let other = App::start().await;
    let client = prod.client().await;
    client.update(&tunnel.uid, Role::Prod, vec![other.endpoint()]).await.unwrap_or_else(|e| panic!("{}", e.story()));
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    assert_eq!((other.connections(), other.whole()), (1, 1), "UPDATE moves new connections");
    talk.goes_on().await;
    assert!(talk.end().await > 0);

    tunnel.release(&prod, &cons).await;
    prod.assert_nothing_left();
    cons.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_socat_carries_streams() {
    carries(SOCAT, &[]).await;
}

/// What socat cannot do is done before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_socat_keeps_strangers_out() {
    let app = App::start().await;
    let gateway = with(SOCAT, &["--wan-sources", "127.0.0.1", "--lan-sources", "127.0.0.3"]).start().await;
    let uid = Uid::random().expect("randomness");
    let half = open_prod(&uid, &gateway, &app.endpoint().parse().expect("an endpoint"), 1).await;
    let cons = open_cons(&uid, &gateway, half.listeners, 1).await;
    let listener: SocketAddr = cons.listeners[0].parse().expect("an address");
    let mut nothing = Vec::new();
    // Closed, or reset, perhaps before the connection is seen to stand.
    if let Ok(mut stranger) = TcpStream::connect(listener).await {
        drop(stranger.read_to_end(&mut nothing).await);
    }
    assert_eq!((nothing.len(), app.connections()), (0, 0));

    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.3:0".parse().expect("an address")).expect("an address of this host");
    let mut friend = Echo::over(socket.connect(listener).await.expect("let in")).await.expect("written");
    friend.say("to one of the sources").await;
    drop(friend);
    gateway.client().await.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

/// Only where there is an Envoy; Debian has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_envoy_carries_streams_where_it_is_installed() {
    match ["/usr/bin/envoy", "/usr/local/bin/envoy"].iter().any(|path| Path::new(path).is_file()) {
        true => carries(ENVOY, &[]).await,
        false => eprintln!("not run: there is no envoy here"),
    }
}

fn hop(accept: Address, target: Address) -> Hop {
    let (accept_wire, target_wire) = (Wire::Plain, Wire::Plain);
    Hop {
        accept,
        accept_wire,
        accept_header: None,
        sources: Sources::default(),
        target,
        target_wire,
        target_header: None,
    }
}

/// Envoy's own configuration in the script that is rendered for it, as it reads it.
#[test]
fn the_example_of_envoy_renders_to_what_envoy_reads() {
    let site = tempfile::tempdir().expect("a folder");
    for [name, template] in [SOCAT, ENVOY] {
        let folder = site.path().join("backends").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::create_dir_all(site.path().join("templates")).expect("a folder");
        fs::write(folder.join("backend.toml"), read(name, "backend.toml")).expect("written");
        fs::write(site.path().join("templates").join(template), read(name, template)).expect("written");
    }
    let catalog = Catalog::load(Some(site.path())).expect("both load");
    let manifest = catalog.get("envoy").expect("it is there");
    let hops = vec![
        hop(Address::Tcp("10.0.0.1:5100".parse().expect("an address")), Address::Unix("/run/s/0.sock".into())),
        hop(Address::Unix("/run/s/1.sock".into()), Address::Tcp("[fd00::9]:5300".parse().expect("an address"))),
    ];
    let stage = Stage { manifest: manifest.clone(), duty: Duty::Carry, limits: false, hops };
    let files = [("envoy", "/usr/bin/envoy"), ("socat", "/usr/bin/socat")];
    let files = files.map(|(name, path)| (name.to_owned(), path.into())).into_iter().collect();
    let program = Program { path: "/usr/bin/perl".into(), version: "5.36.0".into(), files };
    let folder = Folder { path: "/run/s".into() };
    let session = SessionId { uid: Uid::random().expect("randomness").digest(), role: Role::Prod };
    let template = catalog.template(&manifest).expect("it has one");
    let circumstances = Circumstances { connections: 64, ..Circumstances::default() };
    let script = render(&template, &stage, &program, &folder, session, circumstances).expect("it renders");

    let yaml = Regex::new(r"(?s)<<'END';\n(.*)\nEND\n").expect("a pattern").captures(&script).expect("a document")[1]
        .replace("GENERATION", "0");
    assert!(!yaml.contains('$') && !yaml.contains("{{"), "more would be filled in: {yaml}");
    let documents = super::yaml::read(&yaml);
    let all = &documents[0]["static_resources"];
    let targets = [
        json!({ "pipe": { "path": "/run/s/0.sock" } }),
        json!({ "socket_address": { "address": "fd00::9", "port_value": 5300 } }),
    ];
    for (nth, target) in targets.into_iter().enumerate() {
        let (listener, cluster) = (&all["listeners"][nth], &all["clusters"][nth]);
        assert_eq!(listener["address"]["pipe"]["path"], format!("/run/s/scratch/0-{nth}"));
        let filter = &listener["filter_chains"][0]["filters"][0]["typed_config"];
        assert_eq!(filter["cluster"], cluster["name"]);
        assert_eq!(cluster["circuit_breakers"]["thresholds"][0]["max_connections"], 64);
        let address = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
        assert_eq!(*address, target);
    }
    assert_eq!(all["listeners"].as_array().map(Vec::len), Some(2));
}

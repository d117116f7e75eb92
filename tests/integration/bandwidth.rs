//! How much a session may move: asked for, bounded, kept, shown, and kept to.

mod limits;
mod shares;

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use scistream::client::{Ask, Half};
use scistream::session::{Endpoint, Role, TcpWishes, Uid};
use scistream_proto as wire;
use serde_json::json;
use tonic::Code;
use wire::control_client::ControlClient;

use crate::support::app::{Echo, First};
use crate::support::command::run;
use crate::support::gateway::{S2CS, S2UC};
use crate::support::raw::{assert_refused, channel, named_fields, new_uid};
use crate::support::tunnel::ask;
use crate::support::{App, TestGateway, exchange, session};

/// Which stage keeps a session to its bandwidth: a backend and a terminator, the role, and the file of the stage.
const LIMITERS: [(&str, &str, [&str; 2]); 6] = [
    ("native", "native", ["s2ds.toml", "s2ds.toml"]),
    ("haproxy", "native", ["s2ds.toml", "s2ds.toml"]),
    ("nginx", "native", ["s2ds.toml", "s2ds.toml"]),
    ("stunnel", "native", ["gate+s2ds.toml", "gate+s2ds.toml"]),
    ("haproxy", "stunnel", ["gate+s2ds.toml", "gate+s2ds.toml"]),
    ("nginx", "stunnel", ["gate+s2ds.toml", "gate+s2ds.toml"]),
];

fn target(app: &App) -> Endpoint {
    app.endpoint().parse().expect("an endpoint")
}

/// Both halves of a tunnel through one gateway, asked for with a rate.
async fn open(gateway: &TestGateway, app: &App, rate: i32) -> (Uid, Half, Half) {
    let (uid, client) = (Uid::random().expect("randomness"), gateway.client().await);
    let prod = Ask { rate, ..ask(&uid, Role::Prod, 1, vec![target(app)]) };
    let prod = prod.open(&client, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
    let cons = Ask { rate, ..ask(&uid, Role::Cons, 1, vec![]) };
    let cons = cons.open(&client, Some(prod.listeners.clone())).await.unwrap_or_else(|e| panic!("{}", e.story()));
    (uid, prod, cons)
}

/// The lines about bandwidth in a session's configurations, with the file's name.
fn lines(gateway: &TestGateway, uid: &Uid, role: Role) -> Vec<(String, String)> {
    let folder = session::folder(gateway, uid, role);
    let files = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let configurations =
        files.filter(|path| path.extension().is_some_and(|e| ["toml", "conf", "cfg"].iter().any(|x| e == *x)));
    let mut found = Vec::new();
    for path in configurations.collect::<Vec<PathBuf>>() {
        let text = fs::read_to_string(&path).expect("read");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        found.extend(
            text.lines().filter(|line| line.starts_with("bandwidth")).map(|line| (name.clone(), line.to_owned())),
        );
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_that_nobody_means_changes_nothing() {
    let (gateway, app) = (TestGateway::start(&[]).await, App::start().await);
    let client = gateway.client().await;
    let (uid, prod, cons) = open(&gateway, &app, 10_000).await;
    assert_eq!((prod.bandwidth, cons.bandwidth), (0, 0));
    for role in [Role::Prod, Role::Cons] {
        let shown = client.get(&session::id(&uid, role)).await.expect("it is there");
        assert_eq!((shown.rate, shown.bandwidth, shown.share, shown.weight), (10_000, 0, 0, 1), "{role}");
        assert_eq!(lines(&gateway, &uid, role), vec![], "{role}");
    }
    exchange(&cons.listeners[0], First::Consumer).await;
    client.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

/// In the files as they are rendered, through all that may happen to a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_lasts_on_every_backend() {
    for (backend, terminator, files) in LIMITERS {
        let what = format!("{backend} with {terminator}");
        let flags = ["--enforce-rate", "--max-bandwidth=8000", "--backend", backend, "--terminator", terminator];
        let mut gateway = TestGateway::start(&flags).await;
        let (app, other) = (App::start().await, App::start().await);
        let (uid, prod, cons) = open(&gateway, &app, 5000).await;
        assert_eq!((prod.bandwidth, cons.bandwidth), (5000, 5000), "{what}");
        let assert_kept = |gateway: &TestGateway, when: &str| {
            for (role, file) in [Role::Prod, Role::Cons].into_iter().zip(files) {
                let expected = (file.to_owned(), "bandwidth = 5000000".to_owned());
                assert_eq!(lines(gateway, &uid, role), [expected], "{what}, {role}, {when}");
            }
        };
        assert_kept(&gateway, "at first");
        Echo::connect(&cons.listeners[0]).await.say("through").await;
        let client = gateway.client().await;
        client.update(&uid, Role::Prod, vec![other.endpoint()]).await.expect("moved");
        assert_kept(&gateway, "after UPDATE");
        gateway.end(Signal::SIGKILL).await;
        let before = gateway.processes();
        gateway.run().await;
        assert_eq!(gateway.processes(), before, "{what}: not adopted as they were");
        assert_kept(&gateway, "after adoption");
        let client = gateway.client().await;
        let shown = client.get(&session::id(&uid, Role::Cons)).await.expect("it is there");
        assert_eq!((shown.rate, shown.bandwidth), (5000, 5000), "{what}");
        client.update(&uid, Role::Prod, vec![app.endpoint()]).await.expect("moved again");
        assert_kept(&gateway, "after UPDATE and adoption");
        Echo::connect(&cons.listeners[0]).await.say("still through").await;

        let (greedy, prod, cons) = open(&gateway, &app, 0).await;
        assert_eq!((prod.bandwidth, cons.bandwidth), (8000, 8000), "{what}: who asks for all gets what there may be");
        for uid in [uid, greedy] {
            client.release(&uid).await.expect("released");
        }
        gateway.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2uc_asks_for_a_rate_and_shows_what_became_of_it() {
    let (gateway, app) = (TestGateway::start(&["--ssl=False", "--enforce-rate"]).await, App::start().await);
    let (at, folder) = (gateway.address().to_string(), gateway.folder());
    let endpoint = app.endpoint();
    let (tunnel, channel) = (["tunnel", "--ssl=False", "--prod", &at, "--cons", &at], ["--ssl=False", "--s2cs", &at]);
    let wish = ["--prod-target", &endpoint, "--rate", "20000", "--detach", "--json"];
    let opened = run(S2UC, &[&tunnel[..], &wish].concat(), folder).await.json();
    assert_eq!((&opened["prod"]["bandwidth"], &opened["cons"]["bandwidth"]), (&json!(20_000), &json!(20_000)));
    let listed = run(S2UC, &[&["list", "--json"][..], &channel].concat(), folder).await.json();
    let first = &listed["sessions"][0];
    assert_eq!((&first["bandwidth"], &first["rate"], &first["weight"]), (&json!(20_000), &json!(20_000), &json!(1)));
    let id = first["id"].as_str().expect("an id");
    let shown = run(S2UC, &[&["show", id][..], &channel].concat(), folder).await;
    assert!(shown.succeeded().contains("bandwidth   kept to 20000 kB/s (asked for 20000)\n"), "{shown:?}");
    let status = run(S2UC, &[&["status"][..], &channel].concat(), folder).await;
    assert!(status.succeeded().contains("kept to the rate that it is asked for with\n"), "{status:?}");
    let status = run(S2UC, &[&["status", "--json"][..], &channel].concat(), folder).await.json();
    let limits: Vec<_> =
        status["backends"].as_array().expect("a list").iter().filter(|b| b["limits_bandwidth"] == true).collect();
    assert!(limits.len() == 1 && limits[0]["name"] == "native", "{status}");
    let backends = run(S2CS, &["backends", "--json"], folder).await.json();
    let able = |name: &str| {
        backends["backends"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|b| b["name"] == name && b["limits_bandwidth"] == true)
    };
    assert!(able("native") && !able("stunnel") && !able("haproxy"), "{backends}");
    let uid = opened["uid"].as_str().expect("a UID");
    run(S2UC, &[&["release", uid][..], &channel].concat(), folder).await.succeeded();
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_set_as_asked_within_the_sites_bounds() {
    let tcp = "memory_mib = 64\n[tcp]\nnodelay = false\nmax_buffer = 1048576\ncongestions = [\"reno\"]\n";
    let plan = TestGateway::plan(&["--ssl=False", "--config", "s2cs.toml"]).file("s2cs.toml", tcp);
    let (mut gateway, app) = (plan.start().await, App::start().await);
    let client = gateway.client().await;
    let uid = Uid::random().expect("randomness");
    let wishes = TcpWishes {
        send_buffer: Some(8 << 20),
        receive_buffer: Some(65_536),
        congestion: Some("reno".parse().expect("a name")),
    };
    let asked = Ask { tcp: wishes.clone(), ..ask(&uid, Role::Prod, 1, vec![target(&app)]) };
    asked.open(&client, None).await.unwrap_or_else(|e| panic!("{}", e.story()));
    let file = session::folder(&gateway, &uid, Role::Prod).join("s2ds.toml");
    let expected = "\n[tcp]\nnodelay = false\nsend_buffer = 1048576\nreceive_buffer = 65536\ncongestion = \"reno\"\n";
    let assert_set = |when: &str| {
        let text = fs::read_to_string(&file).expect("read");
        assert!(text.contains(expected) && text.contains("\nmemory_mib = 64\n"), "{when}: {text}");
    };
    assert_set("at first");
    let shown = client.get(&session::id(&uid, Role::Prod)).await.expect("it is there").tcp.expect("its own");
    assert_eq!((shown.send_buffer, shown.receive_buffer, shown.congestion.as_str()), (1 << 20, 65_536, "reno"));
    gateway.end(Signal::SIGKILL).await;
    gateway.run().await;
    assert_set("after adoption");
    gateway.client().await.release(&uid).await.expect("released");

    let mut raw = ControlClient::new(channel(&gateway).await);
    let request = || wire::Request { uid: new_uid(), role: "PROD".into(), num_conn: 1, ..wire::Request::default() };
    for (field, request) in [
        ("send_buffer", wire::Request { send_buffer: 1, ..request() }),
        ("receive_buffer", wire::Request { receive_buffer: u32::MAX, ..request() }),
        ("congestion", wire::Request { congestion: "cubic\"\n[psk]".into(), ..request() }),
        ("rate", wire::Request { rate: -1, ..request() }),
    ] {
        let outcome = raw.req(request).await.map(tonic::Response::into_inner);
        let (message, details) = assert_refused(field, outcome, Code::InvalidArgument, "BAD_FORMAT");
        assert_eq!(named_fields(&details), [field], "{message}");
    }
    let request = wire::Request { congestion: "bbr".into(), ..request() };
    let outcome = raw.req(request).await.map(tonic::Response::into_inner);
    let (message, _) = assert_refused("bbr", outcome, Code::PermissionDenied, "AUTH_ERROR");
    assert!(message.contains("choose the congestion control bbr"), "{message}");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_is_told_what_is_granted() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "gateway_bandwidth = 100000\nmax_bandwidth = 20000\n[[allow]]\nname = \"slow\"\n\
                  who = [\"user:alice@facility.example\"]\nmax_bandwidth = 5000\nweight = 3\n\
                  [[allow]]\nname = \"rest\"\nwho = [\"anyone\"]\n";
    fs::write(folder.path().join("s2cs.toml"), config).expect("written");
    fs::write(folder.path().join("secret"), "x").expect("written");
    let base = ["policy", "explain", "--config", "s2cs.toml", "--ssl=False", "--state-dir", "state"];
    let globus = ["--client-id", "x", "--client-secret-file", "secret", "--role", "PROD"];
    let explain = async |words: &[&str]| run(S2CS, &[&base[..], &globus, words].concat(), folder.path()).await;
    let alice = explain(&["--as", "alice@facility.example", "--rate", "9000"]).await;
    let words = "yes, by rule slow, kept to 5000 kB/s, with the weight 3 in the gateway's bandwidth";
    assert!(alice.succeeded().contains(words), "{alice:?}");
    let bob = explain(&["--as", "bob@facility.example", "--rate", "9000", "--json"]).await.json();
    assert_eq!((&bob["bandwidth"], &bob["weight"]), (&json!(20_000), &json!(1)), "a rate is not meant by itself");
    let bob = explain(&["--as", "bob@facility.example", "--rate", "9000", "--enforce-rate", "--json"]).await.json();
    assert_eq!(bob["bandwidth"], json!(9000));
    for (bad, why) in [("max_bandwidth = 0", "at least 1 kB/s"), ("weight = 0", "from 1 to")] {
        let config = format!("{config}{bad}\n");
        fs::write(folder.path().join("s2cs.toml"), config).expect("written");
        let refused = explain(&["--as", "alice@facility.example"]).await.failed(78);
        assert!(refused.contains("[[allow]] rest: ") && refused.contains(why), "{refused}");
    }
}

//! From where connections may come: asked for, bounded, kept, shown.

mod enforced;
mod families;

use scistream::session::{Role, Sources, Uid, parse_network};
use scistream_proto as wire;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Code, Status};
use wire::control_client::ControlClient;

use crate::support::command::run;
use crate::support::gateway::S2UC;
use crate::support::raw::{assert_refused, channel, named_fields, new_uid};
use crate::support::tunnel::ask;
use crate::support::{App, TestGateway, session};

fn sources(texts: &[&str]) -> Sources {
    texts.iter().map(|text| parse_network(text).expect("a network")).collect()
}

fn request(role: &str, sources: &[&str]) -> wire::Request {
    let sources = sources.iter().map(ToString::to_string).collect();
    wire::Request { uid: new_uid(), role: role.into(), num_conn: 1, sources, ..wire::Request::default() }
}

async fn refused(gateway: &TestGateway, request: wire::Request) -> Result<wire::Response, Status> {
    ControlClient::new(channel(gateway).await).req(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_network_is_refused_by_name() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let many: Vec<String> = (0..65).map(|n| format!("10.0.{n}.0/24")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "1".repeat(5000);
    let long = [long.as_str()];
    let table: Vec<(&[&str], &str)> = vec![
        (&["10.0.0.0/8", ""], "number 2: it is neither"),
        (&["everyone"], "number 1: it is neither"),
        (&["gw.example.org"], "it is neither"),
        (&["10.0.0.0/33"], "it is neither"),
        (&["10.0.0.0/8,192.0.2.7"], "it is neither"),
        (&["10.0.0.0/8; allow all"], "it is neither"),
        (&["10.0.0.0/8\"]\n[[listener]]"], "it is neither"),
        (&["10.0.0.0/8 }\n    tcp-request connection accept"], "it is neither"),
        (&["{{ session }}"], "it is neither"),
        (&["010.0.0.0/8"], "it is neither"),
        (&["fe80::%lo/64"], "it is neither"),
        (&long, "it is neither"),
        (&["192.0.2.7/24"], "write 192.0.2.0/24 for the network, or 192.0.2.7"),
        (&["::ffff:192.0.2.7/120"], "write 192.0.2.0/24 for the network, or 192.0.2.7"),
        (&many, "there are 65, and at most 64 may be"),
    ];
    println!("{} lists of sources refused by name", table.len());
    for (list, why) in table {
        for role in ["PROD", "CONS"] {
            let outcome = refused(&gateway, request(role, list)).await;
            let (message, details) = assert_refused(why, outcome, Code::InvalidArgument, "BAD_FORMAT");
            assert_eq!(named_fields(&details), ["sources"], "{message}");
            assert!(message.contains(why), "{list:?}: {message}");
        }
    }
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_site_bounds_what_may_be_asked_for() {
    let bounds = ["--wan-sources", "198.51.100.0/24,2001:db8::/32", "--lan-sources=127.0.0.0/8"];
    let gateway = TestGateway::start(&[&bounds[..], &["--ssl=False"]].concat()).await;
    for (role, list, outside, bound) in [
        (
            "PROD",
            &["198.51.100.7", "192.0.2.7"][..],
            "192.0.2.7/32",
            "198.51.100.0/24, 2001:db8::/32 at most (wan_sources)",
        ),
        ("PROD", &["198.51.0.0/16"], "198.51.0.0/16", "(wan_sources)"),
        ("PROD", &["::/0"], "::/0", "(wan_sources)"),
        ("CONS", &["10.0.0.0/8"], "10.0.0.0/8", "127.0.0.0/8 at most (lan_sources)"),
        ("CONS", &["0.0.0.0/0"], "0.0.0.0/0", "(lan_sources)"),
    ] {
        let outcome = refused(&gateway, request(role, list)).await;
        let (message, _) = assert_refused(outside, outcome, Code::PermissionDenied, "AUTH_ERROR");
        assert!(message.contains(&format!("the source {outside} is not allowed")), "{message}");
        assert!(message.contains(bound), "{message}");
    }
    gateway.assert_nothing_left();

    let app = App::start().await;
    let client = gateway.client().await;
    for (asked, granted) in [
        (&[][..], &["198.51.100.0/24", "2001:db8::/32"][..]),
        (&["198.51.100.7", "::ffff:198.51.100.6"], &["198.51.100.6/31"]),
    ] {
        let uid = Uid::random().expect("randomness");
        let mut ask = ask(&uid, Role::Prod, 1, vec![app.endpoint().parse().expect("an endpoint")]);
        ask.sources = sources(asked);
        ask.reserve(&client).await.unwrap_or_else(|e| panic!("{}", e.story()));
        let shown = client.get(&session::id(&uid, Role::Prod)).await.expect("it is there");
        assert_eq!(shown.sources, granted);
        client.release(&uid).await.expect("released");
    }
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2uc_asks_for_sources_and_shows_them() {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let (folder, at) = (TempDir::with_prefix("cli-").expect("a folder"), gateway.address().to_string());
    let (target, channel) = (app.endpoint(), ["--ssl=False", "--s2cs", &at]);
    let tunnel =
        ["tunnel", "--ssl=False", "--prod", &at, "--cons", &at, "--prod-target", &target, "--detach", "--json"];
    let asked = ["--prod-source=127.0.0.1", "--cons-source", "127.0.0.2, ::1", "--cons-source=10.0.0.0/8"];
    let opened = run(S2UC, &[&tunnel[..], &asked].concat(), folder.path()).await;
    opened.succeeded();
    let listed = run(S2UC, &[&["list", "--json"][..], &channel].concat(), folder.path()).await.json();
    let found = |role: &str| {
        let all = listed["sessions"].as_array().expect("a list").iter();
        all.clone().find(|session| session["role"] == role).expect("both halves").clone()
    };
    assert_eq!(found("PROD")["sources"], json!(["127.0.0.1/32"]));
    assert_eq!(found("CONS")["sources"], json!(["10.0.0.0/8", "127.0.0.2/32", "::1/128"]));
    let id = found("CONS")["id"].as_str().expect("an id").to_owned();
    let shown = run(S2UC, &[&["show", &id][..], &channel].concat(), folder.path()).await;
    assert!(shown.succeeded().contains("sources     10.0.0.0/8, 127.0.0.2/32, ::1/128\n"), "{shown:?}");
    for command in ["inbound-request", "outbound-request", "prod-req"] {
        let bad = run(S2UC, &[command, "--source", "10.0.0.1/8"], folder.path()).await.failed(2);
        assert!(bad.contains("--source") && bad.contains("write 10.0.0.0/8"), "{command}: {bad}");
    }
    let uid = opened.json()["uid"].as_str().expect("a UID").to_owned();
    run(S2UC, &[&["release", &uid][..], &channel].concat(), folder.path()).await.succeeded();
    gateway.assert_nothing_left();
}

/// The deployed release passes over what it does not know, and would let everyone in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_knows_no_sources_is_not_asked_for_any() {
    // All that matters of such a gateway here: it has no service of ours.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound").to_string();
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().add_service(health).serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let folder = TempDir::with_prefix("cli-").expect("a folder");
    let command = ["--json", "inbound-request", "--ssl=False", "--s2cs", &at, "--source", "192.0.2.7"];
    let said = run(S2UC, &command, folder.path()).await.failed(1);
    assert!(said.contains("its release knows no sources; leave them out"), "{said}");
    server.abort();
}

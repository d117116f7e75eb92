//! Every backend to every backend: bytes both ways, half-close, parallel
//! listeners, and nothing left.

use crate::support::app::{Echo, First};
use crate::support::leftovers::files_under;
use crate::support::{App, TestGateway, Tunnel, eventually, exchange};

/// Listeners of one session.
const PARALLEL: u16 = 5;

async fn pair(prod_backend: &str, cons_backend: &str) {
    let app = App::start().await;
    let prod = TestGateway::start(&["--backend", prod_backend]).await;
    let cons = TestGateway::start(&["--backend", cons_backend]).await;
    let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), PARALLEL).await;
    assert_eq!((tunnel.prod.listeners.len(), tunnel.cons.listeners.len()), (5, 5));

    let mut work = tokio::task::JoinSet::new();
    for listener in tunnel.cons.listeners.clone() {
        for first in [First::Consumer, First::Producer] {
            let listener = listener.clone();
            work.spawn(async move { exchange(&listener, first).await });
        }
    }
    work.join_all().await;
    eventually("the producer has every payload whole", || app.whole() == 2 * usize::from(PARALLEL)).await;

    tunnel.release(&prod, &cons).await;
    prod.assert_nothing_left();
    cons.assert_nothing_left();
}

macro_rules! pairs {
    ($($name:ident: $prod:literal to $cons:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                pair($prod, $cons).await;
            }
        )*
    };
}

pairs! {
    native_to_native: "native" to "native";
    native_to_stunnel: "native" to "stunnel";
    native_to_haproxy: "native" to "haproxy";
    native_to_nginx: "native" to "nginx";
    stunnel_to_native: "stunnel" to "native";
    stunnel_to_stunnel: "stunnel" to "stunnel";
    stunnel_to_haproxy: "stunnel" to "haproxy";
    stunnel_to_nginx: "stunnel" to "nginx";
    haproxy_to_native: "haproxy" to "native";
    haproxy_to_stunnel: "haproxy" to "stunnel";
    haproxy_to_haproxy: "haproxy" to "haproxy";
    haproxy_to_nginx: "haproxy" to "nginx";
    nginx_to_native: "nginx" to "native";
    nginx_to_stunnel: "nginx" to "stunnel";
    nginx_to_haproxy: "nginx" to "haproxy";
    nginx_to_nginx: "nginx" to "nginx";
}

/// One gateway may serve both ends of a stream, under one UID.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_serves_both_ends() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 2).await;
    for listener in &tunnel.cons.listeners {
        exchange(listener, First::Consumer).await;
    }
    tunnel.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

/// The terminator that sites with stunnel prefer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_chained_with_stunnel() {
    for backend in ["haproxy", "nginx"] {
        let app = App::start().await;
        let prod = TestGateway::start(&["--backend", backend, "--terminator", "stunnel"]).await;
        let cons = TestGateway::start(&["--backend", backend, "--terminator", "stunnel"]).await;
        let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 3).await;
        for listener in &tunnel.cons.listeners {
            exchange(listener, First::Consumer).await;
            exchange(listener, First::Producer).await;
        }
        let mut names: Vec<_> = prod.processes().into_iter().map(|(_, name)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names, [backend, "stunnel"]);
        tunnel.release(&prod, &cons).await;
        prod.assert_nothing_left();
        cons.assert_nothing_left();
    }
}

/// A second UPDATE moves a live session; open connections stay with the old target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_moves_new_connections_and_keeps_open_ones() {
    for backend in crate::support::BACKENDS {
        let (old, new) = (App::start().await, App::start().await);
        let prod = TestGateway::start(&["--backend", backend]).await;
        let cons = TestGateway::start(&["--backend", backend]).await;
        let tunnel = Tunnel::open(&prod, &cons, &old.endpoint(), 1).await;
        let listener = &tunnel.cons.listeners[0];
        let mut open = Echo::connect(listener).await;
        open.say("before").await;

        let client = prod.client().await;
        let role = scistream::session::Role::Prod;
        let answer = client.update(&tunnel.uid, role, vec![new.endpoint()]).await.expect("moved");
        assert_eq!(answer.prod_listeners, [new.endpoint()], "{backend}");

        exchange(listener, First::Consumer).await;
        assert_eq!(new.connections(), 1, "{backend}: a new connection went to the old target");
        open.say("after").await;
        assert_eq!(old.connections(), 1, "{backend}: the open connection was moved");
        tunnel.release(&prod, &cons).await;
        prod.assert_nothing_left();
        cons.assert_nothing_left();
    }
}

/// The proxy behind a terminator is told who connected to the gateway, and logs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chained_proxy_logs_the_real_source() {
    let source = regex::Regex::new(r"(?m)127\.0\.0\.1:\d+ .*up=\d{7} ").expect("a pattern");
    for backend in ["haproxy", "nginx"] {
        for terminator in ["native", "stunnel"] {
            let app = App::start().await;
            let prod = TestGateway::start(&["--backend", backend, "--terminator", terminator]).await;
            let cons = TestGateway::start(&[]).await;
            let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 1).await;
            exchange(&tunnel.cons.listeners[0], First::Consumer).await;
            let log =
                files_under(&prod.sessions_dir()).into_iter().find(|path| path.ends_with(format!("{backend}.log")));
            let log = log.expect("the proxy has a log");
            let what = format!("{backend} behind {terminator} logs a source and the bytes");
            eventually(&what, || source.is_match(&std::fs::read_to_string(&log).unwrap_or_default())).await;
        }
    }
}

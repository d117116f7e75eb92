//! What the gateways say went through: the kernel's numbers, for every backend,
//! across the ends of connections, proxies and controllers.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scistream_proto::gateway::{SessionFlows, Traffic};
use serde_json::Value;

use crate::support::app::{Echo, First, PAYLOAD};
use crate::support::gateway::S2UC;
use crate::support::program::Program;
use crate::support::{App, BACKENDS, TestGateway, Tunnel, eventually, exchange};

/// What one echo says.
const WORDS: usize = 256 << 10;
/// The first byte of an echo tells the producer what is wanted.
const ECHO_IN: u64 = 1 + WORDS as u64;
const ECHO_OUT: u64 = WORDS as u64;
/// An exchange is a byte, a payload each way, and a digest of 32 where the consumer ends first.
const EXCHANGE_IN: u64 = 1 + PAYLOAD as u64;
const EXCHANGE_OUT: u64 = 32 + PAYLOAD as u64;

/// Asks until the gateway's only session says what is waited for.
async fn until(gateway: &TestGateway, what: &str, good: impl Fn(&SessionFlows, &Traffic) -> bool) -> SessionFlows {
    let client = gateway.client().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut sessions = client.flows("").await.expect("flows");
        assert_eq!(sessions.len(), 1);
        let session = sessions.remove(0);
        if session.session.as_ref().and_then(|s| s.traffic).is_some_and(|traffic| good(&session, &traffic)) {
            return session;
        }
        assert!(Instant::now() < deadline, "not in time: {what}: {session:?}");
        tokio::task::yield_now().await;
    }
}

fn traffic(session: &SessionFlows) -> Traffic {
    session.session.as_ref().and_then(|session| session.traffic).unwrap_or_default()
}

/// The tunnel's side: the application's bytes with what TLS adds, a few percent and a handshake.
fn tunnelled(actual: u64, plain: u64, connections: u64) -> bool {
    (plain..=plain + plain * 3 / 100 + connections * 4000).contains(&actual)
}

/// The application's side: its bytes, and the end of a stream as one more.
fn plain(actual: u64, plain: u64, connections: u64) -> bool {
    (plain..=plain + connections).contains(&actual)
}

async fn open_echoes(tunnel: &Tunnel, number: usize) -> Vec<Echo> {
    let words = "x".repeat(WORDS);
    let mut open = Vec::new();
    for index in 0..number {
        let listener = &tunnel.cons.listeners[index % tunnel.cons.listeners.len()];
        let mut echo = Echo::connect(listener).await;
        echo.say(&words).await;
        open.push(echo);
    }
    open
}

async fn counted_by(backend: &str) {
    let app = App::start().await;
    let prod = TestGateway::start(&["--backend", backend]).await;
    let cons = TestGateway::start(&["--backend", backend]).await;
    let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 2).await;
    let open = open_echoes(&tunnel, 3).await;

    let (echo_in, echo_out) = (3 * ECHO_IN, 3 * ECHO_OUT);
    let at_cons = until(&cons, "CONS counts the open connections", |_, t| {
        plain(t.bytes_in, echo_in, 0) && plain(t.bytes_out, echo_out, 0)
    });
    let at_cons = at_cons.await;
    let at_prod = until(&prod, "PROD counts the open connections", |_, t| {
        tunnelled(t.bytes_in, echo_in, 3) && tunnelled(t.bytes_out, echo_out, 3)
    });
    let at_prod = at_prod.await;
    for session in [&at_cons, &at_prod] {
        let traffic = traffic(session);
        assert_eq!((traffic.connections, traffic.connections_ever), (3, 3), "{backend}");
        assert_eq!(session.flows.len(), 3, "{backend}");
        assert_eq!(session.flows.iter().map(|flow| flow.bytes_in).sum::<u64>(), traffic.bytes_in, "{backend}");
        assert!(session.flows.iter().all(|flow| flow.rtt_us > 0 && flow.congestion_window > 0), "{session:?}");
    }
    let listeners: Vec<_> = at_cons.flows.iter().map(|flow| flow.listener.clone()).collect();
    assert!(tunnel.cons.listeners.iter().all(|listener| listeners.contains(listener)), "{listeners:?}");

    // Over at once, and so most likely never seen while it was open.
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    drop(open);
    let (all_in, all_out) = (echo_in + EXCHANGE_IN, echo_out + EXCHANGE_OUT);
    let at_cons = until(&cons, "CONS counts what has ended", |_, t| t.connections == 0 && t.bytes_out >= all_out);
    let at_cons = traffic(&at_cons.await);
    let at_prod = until(&prod, "PROD counts what has ended", |_, t| t.connections == 0 && t.bytes_out >= all_out);
    let at_prod = traffic(&at_prod.await);
    assert!(plain(at_cons.bytes_in, all_in, 4) && plain(at_cons.bytes_out, all_out, 4), "{backend}: {at_cons:?}");
    assert!(tunnelled(at_prod.bytes_in, all_in, 4) && tunnelled(at_prod.bytes_out, all_out, 4), "{at_prod:?}");
    assert_eq!((at_cons.connections_ever, at_prod.connections_ever), (4, 4), "{backend}");
    println!(
        "{backend}: of {all_in} in and {all_out} out CONS counts {} and {}, PROD {} and {}",
        at_cons.bytes_in, at_cons.bytes_out, at_prod.bytes_in, at_prod.bytes_out
    );
    tunnel.release(&prod, &cons).await;
    prod.assert_nothing_left();
    cons.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_are_what_went_through_any_backend() {
    for backend in BACKENDS {
        counted_by(backend).await;
    }
}

/// One gateway at both ends: each connection counts once in each session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_on_one_host_count_each_their_own() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let open = open_echoes(&tunnel, 1).await;
    let client = gateway.client().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let counted: Vec<_> = client.flows("").await.expect("flows").iter().map(traffic).collect();
        if counted.iter().all(|traffic| traffic.bytes_in >= ECHO_IN && traffic.bytes_out >= ECHO_OUT) {
            assert!(counted.iter().all(|traffic| traffic.connections_ever == 1), "{counted:?}");
            break;
        }
        assert!(Instant::now() < deadline, "not in time: {counted:?}");
        tokio::task::yield_now().await;
    }
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_outlast_the_controller() {
    for backend in ["native", "haproxy"] {
        let app = App::start().await;
        let prod = TestGateway::start(&[]).await;
        let mut cons = TestGateway::start(&["--backend", backend]).await;
        let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 1).await;
        exchange(&tunnel.cons.listeners[0], First::Consumer).await;
        let mut open = open_echoes(&tunnel, 2).await;
        let mut ends_meanwhile = open.pop().expect("two");
        // What the file knows is what is left of connections that end while nobody counts.
        let ended_in = format!("\"bytes_in\":{}", EXCHANGE_IN + 1);
        eventually("the books have the exchange and both echoes", || {
            let folder = fs::read_dir(cons.sessions_dir()).expect("sessions").flatten().next().expect("a session");
            let books = fs::read_to_string(folder.path().join("traffic.json")).unwrap_or_default();
            books.contains(&ended_in) && books.matches(&format!("\"bytes_in\":{ECHO_IN},")).count() == 2
        })
        .await;

        cons.end(Signal::SIGKILL).await;
        ends_meanwhile.say("unseen").await;
        drop(ends_meanwhile);
        open[0].say("nobody counts").await;
        cons.run().await;
        open[0].say("again").await;
        let said = ("nobody counts".len() + "again".len()) as u64;
        let (all_in, all_out) = (EXCHANGE_IN + 2 * ECHO_IN + said, EXCHANGE_OUT + 2 * ECHO_OUT + said);
        let after = until(&cons, "all is counted", |_, t| t.connections == 1 && t.bytes_out >= all_out).await;
        let after = traffic(&after);
        assert!(plain(after.bytes_in, all_in, 1) && plain(after.bytes_out, all_out, 1), "{backend}: {after:?}");
        assert_eq!(after.connections_ever, 3, "{backend}");
        tunnel.release(&prod, &cons).await;
        cons.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_outlast_a_proxy() {
    for backend in BACKENDS {
        let app = App::start().await;
        let prod = TestGateway::start(&[]).await;
        let cons = TestGateway::start(&["--backend", backend]).await;
        let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 1).await;
        let open = open_echoes(&tunnel, 2).await;
        let (pid, _) = cons.processes().into_iter().min().expect("a proxy");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
        eventually("the proxy is gone", || !cons.processes().iter().any(|(other, _)| *other == pid)).await;
        drop(open);
        // Another one accepts on the same port, once it has been started.
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut echo = loop {
            let mut echo = Echo::connect(&tunnel.cons.listeners[0]).await;
            if echo.try_say("here again").await.is_ok() {
                break echo;
            }
            assert!(Instant::now() < deadline, "{backend}: the proxy did not come back");
        };
        echo.say(&"x".repeat(WORDS)).await;
        let (all_in, all_out) = (3 * ECHO_IN + 10, 3 * ECHO_OUT + 10);
        let after = until(&cons, "all is counted", |_, t| t.connections == 1 && t.bytes_out >= all_out).await;
        let after = traffic(&after);
        // Attempts that came to nothing count as little as they said.
        let attempts = 11 * after.connections_ever;
        assert!(plain(after.bytes_in, all_in, attempts), "{backend}: {all_in} {after:?}");
        assert!(plain(after.bytes_out, all_out, attempts), "{backend}: {all_out} {after:?}");
        tunnel.release(&prod, &cons).await;
        cons.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_that_cannot_be_used_stop_nothing() {
    let app = App::start().await;
    let prod = TestGateway::start(&[]).await;
    let mut cons = TestGateway::start(&[]).await;
    let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 1).await;
    let open = open_echoes(&tunnel, 1).await;
    cons.end(Signal::SIGKILL).await;
    let folder = fs::read_dir(cons.sessions_dir()).expect("sessions").flatten().next().expect("a session");
    fs::write(folder.path().join("traffic.json"), "{\"format\": 1").expect("spoilt");
    cons.run().await;
    assert!(cons.stderr().contains("its books cannot be used"), "{}", cons.stderr());
    until(&cons, "what is open counts still", |_, t| t.bytes_in == ECHO_IN).await;
    drop(open);
    tunnel.release(&prod, &cons).await;
    cons.assert_nothing_left();
}

/// Open connections do not keep a session; bytes do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_a_byte_ends_where_the_operator_wants_it() {
    let app = App::start().await;
    let prod = TestGateway::start(&["--max-idle", "3"]).await;
    let mut cons = TestGateway::start(&["--max-idle", "3"]).await;
    let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 1).await;
    let mut echo = Echo::connect(&tunnel.cons.listeners[0]).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        echo.say("busy").await;
    }
    cons.end(Signal::SIGKILL).await;
    cons.run().await;
    echo.say("still here").await;
    eventually("both ends are released", || prod.listening().is_empty() && cons.listening().is_empty()).await;
    assert!(start.elapsed() > Duration::from_secs(8), "it ended after {:?}", start.elapsed());
    for gateway in [&prod, &cons] {
        assert!(gateway.stderr().contains("nothing went through it for 3 seconds"), "{}", gateway.stderr());
        eventually("its folder is gone", || {
            fs::read_dir(gateway.sessions_dir()).is_ok_and(|mut folders| folders.next().is_none())
        })
        .await;
        gateway.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2uc_top_shows_it() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let cons = TestGateway::start(&[]).await;
    let tunnel = Tunnel::open(&gateway, &cons, &app.endpoint(), 1).await;
    let open = open_echoes(&tunnel, 1).await;
    until(&cons, "it is counted", |_, t| t.bytes_out == ECHO_OUT && t.bytes_in == ECHO_IN).await;
    let (address, certificate) = (cons.address().to_string(), cons.certificate().display().to_string());
    let at = ["--s2cs", &address, "--server_cert", &certificate];

    let once = Program::run(S2UC, &[&["top", "--once", "--json"], &at[..]].concat(), b"").await;
    let told: Value = serde_json::from_str(&once.succeeded("top")).expect("JSON");
    let session = &told["sessions"][0];
    assert_eq!(session["role"], "CONS");
    assert_eq!(session["traffic"]["bytes_in"], ECHO_IN);
    assert_eq!(session["flows"][0]["bytes_out"], ECHO_OUT);
    assert_eq!(session["flows"][0]["listener"], tunnel.cons.listeners[0].as_str());

    let listed = Program::run(S2UC, &[&["list", "--json"], &at[..]].concat(), b"").await.succeeded("list");
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["sessions"][0]["traffic"]["bytes_in"], ECHO_IN);
    let id = session["id"].as_str().expect("an id");
    let shown = Program::run(S2UC, &[&["show", id], &at[..]].concat(), b"").await.succeeded("show");
    assert!(shown.contains("262 kB in, 262 kB out"), "{shown}");

    let mut live = Program::start(S2UC, &[&["top", id, "--interval", "0.1"], &at[..]].concat());
    eventually("three blocks", || live.stdout().matches("SESSION, PEER").count() >= 3).await;
    assert!(!live.stdout().contains('\x1b'), "a file is no screen");
    live.signal(Signal::SIGINT);
    assert!(live.ended().await.success());
    let strange = Program::run(S2UC, &[&["top", "0123456789ab-prod", "--once"], &at[..]].concat(), b"").await;
    assert!(!strange.status.success() && strange.stderr.contains("no session with this id"), "{}", strange.stderr);
    drop(open);
}

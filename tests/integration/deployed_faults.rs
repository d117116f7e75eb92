//! What goes wrong in the deployed release, each fault as a test that ours has not got it.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use scistream::session::{Role, Uid};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::support::app::{Echo, First};
use crate::support::command::run;
use crate::support::gateway::{S2CS, S2UC};
use crate::support::leftovers::{files_under, listening_addresses};
use crate::support::raw::{assert_refused, named_fields, new_uid};
use crate::support::tunnel::{open_cons, open_prod};
use crate::support::{App, BACKENDS, Raw, TestGateway, Tunnel, eventually, exchange};

/// One test for each backend, with the same body.
macro_rules! for_each_backend {
    ($($body:ident: $($name:ident $backend:literal)*;)*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $body($backend).await;
            }
        )*)*
    };
}

for_each_backend! {
    a_killed_gateway_leaves_streams_running_and_its_successor_goes_on_with_them:
        native_outlives_its_gateway "native"
        stunnel_outlives_its_gateway "stunnel"
        haproxy_outlives_its_gateway "haproxy"
        nginx_outlives_its_gateway "nginx";
    forty_connections_at_once:
        native_carries_forty_connections_at_once "native"
        stunnel_carries_forty_connections_at_once "stunnel"
        haproxy_carries_forty_connections_at_once "haproxy"
        nginx_carries_forty_connections_at_once "nginx";
    an_update_answers_when_listeners_serve:
        native_serves_when_update_answers "native"
        stunnel_serves_when_update_answers "stunnel"
        haproxy_serves_when_update_answers "haproxy"
        nginx_serves_when_update_answers "nginx";
    a_killed_proxy_comes_back:
        native_comes_back_on_the_same_port "native"
        stunnel_comes_back_on_the_same_port "stunnel"
        haproxy_comes_back_on_the_same_port "haproxy"
        nginx_comes_back_on_the_same_port "nginx";
}

/// Lines that would run a program when a proxy reads them as its own.
fn injection(marker: &Path) -> String {
    format!("127.0.0.1:1\nexec = /usr/bin/touch\nexecArgs = touch {}", marker.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_cannot_write_lines_into_a_configuration() {
    for backend in BACKENDS {
        let gateway = TestGateway::start(&["--ssl=False", "--backend", backend]).await;
        let raw = Raw::connect(&gateway).await;
        let marker = gateway.folder().join("marker");
        let uid = new_uid();
        let request = tokio::spawn({
            let (raw, uid) = (raw.clone(), uid.clone());
            async move { raw.req(&uid, "PROD", 1, 10_000).await }
        });
        eventually("REQ has made its session", || gateway.reservations() == 1).await;
        let refused = raw.hello(&uid, "PROD", &[injection(&marker)]).await;
        let (_, details) = assert_refused(backend, refused, Code::InvalidArgument, "BAD_FORMAT");
        assert_eq!(named_fields(&details), ["prod_listeners"]);
        // The REQ that waited for it does not wait on.
        let ended = request.await.expect("no panic");
        assert_refused(backend, ended, Code::InvalidArgument, "BAD_FORMAT");
        gateway.assert_nothing_left();
        assert!(!marker.exists(), "{backend}: a caller's line was run");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_cannot_write_lines_into_a_configuration() {
    for backend in BACKENDS {
        let app = App::start().await;
        let gateway = TestGateway::start(&["--ssl=False", "--backend", backend]).await;
        let raw = Raw::connect(&gateway).await;
        let marker = gateway.folder().join("marker");
        let uid = new_uid();
        raw.reserve(&uid, "PROD", &[app.endpoint()]).await;
        raw.update(&uid, "PROD", &[app.endpoint()]).await.expect("it serves");
        let before = configurations(&gateway);
        assert!(!before.is_empty());
        let refused = raw.update(&uid, "PROD", &[injection(&marker)]).await;
        assert_refused(backend, refused, Code::InvalidArgument, "BAD_FORMAT");
        assert_eq!(configurations(&gateway), before, "{backend}");
        raw.release(&uid).await.expect("released");
        gateway.assert_nothing_left();
        assert!(!marker.exists(), "{backend}: a caller's line was run");
    }
}

/// The configuration files of all sessions, with what they hold.
fn configurations(gateway: &TestGateway) -> Vec<(String, String)> {
    let is_text = |path: &Path| path.extension().is_some_and(|e| e == "toml" || e == "conf" || e == "cfg");
    files_under(&gateway.sessions_dir())
        .into_iter()
        .filter(|path| is_text(path))
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("readable")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uid_cannot_lead_out_of_the_state_folder() {
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let raw = Raw::connect(&gateway).await;
    let before = files_under(gateway.folder());
    for uid in ["../../../x", "..", "/tmp/x", "../6f9619ff-8b86-11d0-b42d-00cf4fc964ff", "x/../../y\0"] {
        let refused = [
            raw.req(uid, "PROD", 1, 10_000).await.map(drop),
            raw.hello(uid, "PROD", &["127.0.0.1:1"]).await.map(drop),
            raw.update(uid, "PROD", &["127.0.0.1:1"]).await.map(drop),
            raw.release(uid).await.map(drop),
        ];
        for outcome in refused {
            let (_, details) = assert_refused(uid, outcome, Code::InvalidArgument, "INVALID_UID");
            assert_eq!(named_fields(&details), ["uid"]);
        }
    }
    assert_eq!(files_under(gateway.folder()), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_that_wait_hold_nobody_up() {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let raw = Raw::connect(&gateway).await;
    let uids: Vec<String> = (0..100).map(|_| new_uid()).collect();
    let mut waiting = JoinSet::new();
    for uid in uids.clone() {
        let raw = raw.clone();
        waiting.spawn(async move { (raw.req(&uid, "PROD", 1, 10_000).await, uid) });
    }
    eventually("all of them wait", || sessions(&gateway) == uids.len()).await;

    let mut others = JoinSet::new();
    for _ in 0..4 {
        let (raw, endpoint) = (raw.clone(), app.endpoint());
        others.spawn(async move {
            let (prod, cons) = (new_uid(), new_uid());
            raw.reserve(&prod, "PROD", &[&endpoint]).await;
            let listeners = raw.update(&prod, "PROD", &[&endpoint]).await.expect("it serves").listeners;
            raw.reserve::<&str>(&cons, "CONS", &[]).await;
            raw.update(&cons, "CONS", &listeners).await.expect("it serves");
            raw.release(&prod).await.expect("released");
            raw.release(&cons).await.expect("released");
        });
    }
    timeout(Duration::from_secs(20), others.join_all()).await.expect("others are served meanwhile");
    assert_eq!(sessions(&gateway), uids.len());

    for uid in &uids {
        raw.hello(uid, "PROD", &[app.endpoint()]).await.expect("HELLO is taken");
    }
    let mut listeners = BTreeSet::new();
    while let Some(answered) = waiting.join_next().await {
        let (answer, uid) = answered.expect("no panic");
        let answer = answer.expect("REQ is answered");
        assert_eq!(answer.prod_listeners, [app.endpoint()]);
        listeners.extend(answer.listeners);
        raw.release(&uid).await.expect("released");
    }
    assert_eq!(listeners.len(), uids.len(), "a port was given twice");
    gateway.assert_nothing_left();
}

fn sessions(gateway: &TestGateway) -> usize {
    fs::read_dir(gateway.sessions_dir()).expect("the folder of sessions").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_sessions_at_once_share_no_port() {
    sessions_at_once(8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_sessions_at_once_share_no_port() {
    sessions_at_once(32).await;
}

async fn sessions_at_once(number: usize) {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--ssl=False"]).await;
    let mut opening = JoinSet::new();
    for index in 0..number {
        let client = gateway.client().await;
        let target = app.endpoint().parse().expect("an endpoint");
        opening.spawn(async move {
            let uid = Uid::random().expect("randomness");
            // Either end: both take their ports from the same range.
            let (role, announced) = if index % 2 == 0 { (Role::Prod, vec![target]) } else { (Role::Cons, vec![]) };
            let ask = crate::support::tunnel::ask(&uid, role, 3, announced);
            let targets = (role == Role::Cons).then(|| vec!["127.0.0.1:9".to_owned()]);
            let half = ask.open(&client, targets).await.unwrap_or_else(|e| panic!("{}", e.story()));
            assert_eq!(half.listeners.len(), 3);
            (uid, half.listeners)
        });
    }
    let opened = opening.join_all().await;
    let listeners: BTreeSet<_> = opened.iter().flat_map(|(_, listeners)| listeners).collect();
    assert_eq!(listeners.len(), 3 * number, "a port was given twice");
    let client = gateway.client().await;
    for (uid, _) in &opened {
        client.release(uid).await.expect("released");
    }
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_beyond_the_port_range_is_told_so_and_freed_ports_serve_again() {
    let app = App::start().await;
    let gateway = TestGateway::plan(&["--ssl=False"]).ports(3).start().await;
    let raw = Raw::connect(&gateway).await;
    let uids: Vec<String> = (0..3).map(|_| new_uid()).collect();
    for uid in &uids {
        raw.reserve(uid, "PROD", &[app.endpoint()]).await;
    }
    let (message, _) = assert_refused(
        "a fourth session",
        raw.req(&new_uid(), "PROD", 1, 10_000).await,
        Code::ResourceExhausted,
        "NO_RESOURCE",
    );
    let range = format!("{}-{}", gateway.port_range().start(), gateway.port_range().end());
    assert!(message.contains(&range), "{message}");
    raw.release(&uids[0]).await.expect("released");
    // Two do not fit in one, and the one is not lost to the attempt.
    let two = raw.req(&new_uid(), "PROD", 2, 10_000).await;
    assert_refused("two listeners in one port", two, Code::ResourceExhausted, "NO_RESOURCE");
    raw.reserve(&new_uid(), "PROD", &[app.endpoint()]).await;
    raw.release(&uids[1]).await.expect("released");
    raw.release(&uids[2]).await.expect("released");

    // Twice as many set-ups as the deployed release has ports.
    let mut ports = BTreeSet::new();
    for round in 0..200 {
        let uid = new_uid();
        let reserved = raw.reserve(&uid, "PROD", &[app.endpoint()]).await;
        assert_eq!(reserved.listeners.len(), 1);
        if round % 10 == 0 {
            raw.update(&uid, "PROD", &[app.endpoint()]).await.expect("it serves");
        }
        ports.extend(reserved.listeners);
        raw.release(&uid).await.expect("released");
    }
    assert!(ports.len() <= 2, "{ports:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_leaves_nothing() {
    for backend in BACKENDS {
        let app = App::start().await;
        let mut gateway = TestGateway::start(&["--backend", backend]).await;
        let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 2).await;
        let mut open = Echo::connect(&tunnel.cons.listeners[0]).await;
        open.say("before").await;
        assert!(!gateway.processes().is_empty());
        let status = gateway.end(Signal::SIGTERM).await;
        assert!(status.success(), "{backend}: {status}");
        gateway.assert_nothing_left();
    }
}

async fn a_killed_gateway_leaves_streams_running_and_its_successor_goes_on_with_them(backend: &str) {
    let (app, later) = (App::start().await, App::start().await);
    let mut gateway = TestGateway::start(&["--backend", backend]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 2).await;
    let mut open = Echo::connect(&tunnel.cons.listeners[0]).await;
    open.say("before").await;
    let running = gateway.processes();
    gateway.end(Signal::SIGKILL).await;

    open.say("without a gateway").await;
    exchange(&tunnel.cons.listeners[1], First::Consumer).await;
    assert_eq!(gateway.processes(), running);

    gateway.run().await;
    assert_eq!(gateway.processes(), running, "{backend}: {}", gateway.stderr());
    open.say("under the next one").await;
    let client = gateway.client().await;
    client.update(&tunnel.uid, Role::Prod, vec![later.endpoint()]).await.expect("it can be moved");
    exchange(&tunnel.cons.listeners[0], First::Producer).await;
    assert_eq!(later.connections(), 1);
    open.say("with its old target").await;

    client.release(&tunnel.uid).await.expect("released");
    gateway.assert_nothing_left();
    assert!(open.try_say("the end").await.is_err(), "{backend}: a stream of nobody goes on");
}

async fn forty_connections_at_once(backend: &str) {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--backend", backend]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(Echo::connect(&tunnel.cons.listeners[0]).await);
    }
    for word in ["first", "second"] {
        for echo in &mut open {
            echo.say(word).await;
        }
    }
    assert_eq!(app.connections(), 40);
    drop(open);
    tunnel.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_process_of_a_session_outlives_its_release() {
    for backend in BACKENDS {
        let app = App::start().await;
        let gateway = TestGateway::start(&["--backend", backend]).await;
        let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 2).await;
        let mut open = Echo::connect(&tunnel.cons.listeners[0]).await;
        open.say("before").await;
        let before = gateway.processes();
        let groups: BTreeSet<_> =
            before.iter().map(|(pid, _)| getpgid(Some(Pid::from_raw(*pid))).expect("it runs")).collect();
        let (session_groups, own) = (groups.len(), getpgid(Some(gateway.pid())).expect("it runs"));
        assert!(session_groups >= 2 && !groups.contains(&own), "{backend}: a proxy is in the gateway's own group");
        tunnel.release(&gateway, &gateway).await;
        let left: Vec<_> = all_processes()
            .into_iter()
            .filter(|pid| getpgid(Some(*pid)).is_ok_and(|group| groups.contains(&group)))
            .collect();
        assert_eq!(left, vec![], "{backend}: {before:?}");
        gateway.assert_nothing_left();
    }
}

fn all_processes() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_for_the_gateway_alone_and_goes_with_its_session() {
    for backend in BACKENDS {
        let app = App::start().await;
        let gateway = TestGateway::start(&["--verbose", "--backend", backend]).await;
        let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
        exchange(&tunnel.cons.listeners[0], First::Consumer).await;
        let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        let holders = files_with(&gateway, tunnel.uid.wire());
        assert_eq!(holders.len(), 2, "{backend}: {holders:?}");
        for path in &holders {
            assert_eq!(path.file_name().and_then(|name| name.to_str()), Some("psk"), "{backend}");
            assert_eq!(mode(path), 0o600, "{backend}");
            assert_eq!(mode(path.parent().expect("a folder")), 0o700, "{backend}");
        }
        assert_eq!(mode(&gateway.sessions_dir()), 0o700);
        for (pid, name) in gateway.processes() {
            for what in ["cmdline", "environ"] {
                let text = fs::read(format!("/proc/{pid}/{what}")).expect("our process");
                assert!(!String::from_utf8_lossy(&text).contains(tunnel.uid.wire()), "{name} shows the key: {what}");
            }
        }
        tunnel.release(&gateway, &gateway).await;
        gateway.assert_nothing_left();
        assert_eq!(files_with(&gateway, tunnel.uid.wire()), Vec::<std::path::PathBuf>::new(), "{backend}");
    }
}

/// The files in a gateway's folder, its log among them, that hold `text`.
fn files_with(gateway: &TestGateway, text: &str) -> Vec<std::path::PathBuf> {
    let holds = |path: &Path| fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text));
    files_under(gateway.folder()).into_iter().filter(|path| path.is_file() && holds(path)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_listens_on_its_own_address_only() {
    for backend in BACKENDS {
        let app = App::start().await;
        let flags = ["--listener-ip", "127.0.0.1", "--wan-ip", "127.0.0.2", "--lan-ip", "127.0.0.3"];
        let gateway = TestGateway::start(&[&flags[..], &["--backend", backend]].concat()).await;
        let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
        let address = |listener: &String| listener.parse::<SocketAddr>().expect("IP:PORT");
        let (prod, cons) = (address(&tunnel.prod.listeners[0]), address(&tunnel.cons.listeners[0]));
        assert_eq!((prod.ip().to_string(), cons.ip().to_string()), ("127.0.0.2".into(), "127.0.0.3".into()));

        let mut seen = listening_addresses(&gateway.port_range());
        seen.sort();
        assert_eq!(seen, [prod, cons], "{backend}");
        exchange(&cons.to_string(), First::Consumer).await;
        for (mine, other) in [(prod, cons), (cons, prod)] {
            for ip in ["127.0.0.1".parse().expect("an address"), "::1".parse().expect("an address"), other.ip()] {
                let elsewhere = SocketAddr::new(ip, mine.port());
                if elsewhere != other {
                    let refused = TcpStream::connect(elsewhere).await;
                    assert!(refused.is_err(), "{backend}: {elsewhere} accepts, which is for {mine}");
                }
            }
        }
        tunnel.release(&gateway, &gateway).await;
        gateway.assert_nothing_left();
    }
}

/// HAProxy as deployed cuts after 50 s. This one really waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_idle_for_55_seconds_goes_on() {
    let app = App::start().await;
    let mut held = Vec::new();
    for backend in BACKENDS {
        let gateway = TestGateway::start(&["--backend", backend]).await;
        let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
        let mut echo = Echo::connect(&tunnel.cons.listeners[0]).await;
        echo.say("before").await;
        held.push((backend, gateway, tunnel, echo));
    }
    sleep(Duration::from_secs(55)).await;
    for (backend, gateway, tunnel, mut echo) in held {
        echo.try_say("after").await.unwrap_or_else(|e| panic!("{backend}: the stream was cut: {e}"));
        tunnel.release(&gateway, &gateway).await;
        gateway.assert_nothing_left();
    }
    assert_eq!(app.connections(), BACKENDS.len(), "a stream was connected again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_backend_is_no_mock_but_a_refusal_to_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state").display().to_string();
    for (flag, name, known) in [
        ("--type", "Mock", vec!["StunnelSubprocess", "HaproxySubprocess", "Haproxy", "Nginx", "Stunnel", "S2DS"]),
        ("--type", "stunel", vec!["StunnelSubprocess"]),
        ("--backend", "mock", vec!["native", "stunnel", "haproxy", "nginx"]),
        ("--backend", "", vec!["native"]),
        ("--terminator", "haproxi", vec!["native", "stunnel"]),
    ] {
        let arguments = ["--ssl=False", "--port", "0", "--state-dir", &state, flag, name];
        let said = run(S2CS, &arguments, folder.path()).await.failed(78);
        assert!(said.contains(&format!("{name:?}")), "{flag} {name}: {said}");
        for word in known {
            assert!(said.contains(word), "{flag} {name}: {word} is not named: {said}");
        }
        assert!(!folder.path().join("state").exists(), "it began work before it refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_ends_with_an_exit_code() {
    let gateway = TestGateway::start(&[]).await;
    let stranger = TestGateway::start(&[]).await;
    let here = gateway.address().to_string();
    let cert = gateway.certificate().display().to_string();
    let wrong = stranger.certificate().display().to_string();
    let uid = new_uid();
    let ask = ["--remote_ip", "127.0.0.1", "--receiver_ports", "5300", "--num_conn", "1"];
    let table: Vec<(&str, i32, Vec<&str>)> = vec![
        ("nobody is there", 1, [&["inbound-request", "--s2cs", "127.0.0.1:1"], &ask[..]].concat()),
        ("a name of nobody", 1, [&["inbound-request", "--s2cs", "nobody.invalid:5000"], &ask[..]].concat()),
        (
            "the certificate of another",
            1,
            [&["inbound-request", "--s2cs", &here, "--server_cert", &wrong], &ask[..]].concat(),
        ),
        ("no certificate file", 1, vec!["release", &uid, "--s2cs", &here, "--server_cert", "/nowhere/server.crt"]),
        ("an unknown UID", 1, vec!["release", &uid, "--s2cs", &here, "--server_cert", &cert]),
        ("a malformed UID", 2, vec!["release", "../../x", "--s2cs", &here, "--server_cert", &cert]),
        ("no UID", 2, vec!["release", "--s2cs", &here]),
        ("an unknown command", 2, vec!["inbound"]),
        ("an unknown flag", 2, vec!["release", &uid, "--server", "x"]),
        ("no number", 2, vec!["inbound-request", "--num_conn", "many"]),
        ("no connections", 2, vec!["inbound-request", "--num_conn", "0"]),
        ("a negative rate", 2, vec!["inbound-request", "--rate=-1"]),
        ("no port", 2, vec!["inbound-request", "--receiver_ports", "70000"]),
        (
            "too many listeners",
            1,
            vec!["inbound-request", "--s2cs", &here, "--server_cert", &cert, "--num_conn", "60000"],
        ),
        (
            "a target that cannot be",
            1,
            vec!["inbound-request", "--s2cs", &here, "--server_cert", &cert, "--remote_ip", "224.0.0.1"],
        ),
    ];
    for (what, code, arguments) in table {
        let ran = run(S2UC, &arguments, stranger.folder()).await;
        assert_eq!(ran.code, Some(code), "{what}: {ran:#?}");
        assert!(!ran.stderr.is_empty(), "{what}: nothing is said");
    }
    for (what, code, arguments) in [
        ("an unknown flag", 2, vec!["--bogus"]),
        ("no such port", 78, vec!["--ssl=False", "--port", "70000"]),
        ("a folder that is taken", 1, vec!["--ssl=False", "--port", "0", "--state-dir", "state"]),
        ("an address of another host", 1, vec!["--listen", "192.0.2.1:0", "--no-auth", "--state-dir", "other"]),
    ] {
        let ran = run(S2CS, &arguments, gateway.folder()).await;
        assert_eq!(ran.code, Some(code), "{what}: {ran:#?}");
        assert!(!ran.stderr.is_empty(), "{what}: nothing is said");
    }
    gateway.assert_nothing_left();
}

async fn an_update_answers_when_listeners_serve(backend: &str) {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--backend", backend]).await;
    for round in 1..=10 {
        let uid = Uid::random().expect("randomness");
        let prod = open_prod(&uid, &gateway, &app.endpoint().parse().expect("an endpoint"), 1).await;
        let cons = open_cons(&uid, &gateway, prod.listeners, 1).await;
        // At once, and the first one has to do.
        exchange(&cons.listeners[0], First::Consumer).await;
        assert_eq!(app.connections(), round, "{backend}");
        gateway.client().await.release(&uid).await.expect("released");
    }
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_says_of_its_configuration_reaches_the_user() {
    // One has a check of its own, one can only be started, one never comes up.
    let plans = [
        (
            "haproxy",
            "unknown keyword 'bogus_word'",
            TestGateway::plan(&["--ssl=False", "--backend", "broken"]).backend(
                "broken",
                "haproxy",
                |manifest| manifest,
                |template| format!("bogus_word\n{template}"),
            ),
        ),
        (
            "stunnel",
            "bogusOption",
            TestGateway::plan(&["--ssl=False", "--backend", "broken"]).backend(
                "broken",
                "stunnel",
                |manifest| manifest,
                |template| format!("bogusOption = 1\n{template}"),
            ),
        ),
        (
            "s2ds",
            "did not confirm",
            TestGateway::plan(&["--ssl=False", "--backend", "broken"]).backend(
                "broken",
                "native",
                |manifest| {
                    manifest.replace("ready = [\"^s2ds: ready$\"]", "ready = [\"^never$\"]\ntimeout_seconds = 0.3")
                },
                |template| template,
            ),
        ),
    ];
    for (program, words, plan) in plans {
        let app = App::start().await;
        let gateway = plan.start().await;
        let raw = Raw::connect(&gateway).await;
        let uid = new_uid();
        raw.reserve(&uid, "PROD", &[app.endpoint()]).await;
        for _ in 0..2 {
            let refused = raw.update(&uid, "PROD", &[app.endpoint()]).await;
            let (message, _) = assert_refused(program, refused, Code::Unavailable, "CONN_ERROR");
            assert!(message.contains(words) && message.contains("broken"), "{program}: {message}");
            eventually("what was started is gone", || gateway.processes().is_empty()).await;
        }
        raw.release(&uid).await.expect("released");
        gateway.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_program_is_named_at_the_first_request() {
    let gateway = TestGateway::plan(&["--ssl=False", "--backend", "missing"])
        .backend(
            "missing",
            "stunnel",
            |manifest| {
                manifest
                    .replace("program = \"stunnel\"", "program = \"no-such-proxy\"")
                    .replace("apt install stunnel4", "apt install no-such-package")
            },
            |template| template,
        )
        .start()
        .await;
    assert!(gateway.stdout().contains("no-such-proxy"), "the operator is not warned: {}", gateway.stdout());
    let refused = Raw::connect(&gateway).await.req(&new_uid(), "PROD", 1, 10_000).await;
    let (message, _) = assert_refused("REQ", refused, Code::ResourceExhausted, "NO_RESOURCE");
    assert!(message.contains("no-such-proxy") && message.contains("apt install no-such-package"), "{message}");
    gateway.assert_nothing_left();

    let arguments = ["check", "--ssl=False", "--backend", "missing", "--site-dir", ".", "--state-dir", "other"];
    let said = run(S2CS, &arguments, gateway.folder()).await.failed(78);
    assert!(said.contains("no-such-proxy") && said.contains("apt install no-such-package"), "{said}");
}

async fn a_killed_proxy_comes_back(backend: &str) {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--backend", backend]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let listener = &tunnel.cons.listeners[0];
    exchange(listener, First::Consumer).await;
    let kinds: Vec<_> = gateway.processes();
    // Each in turn: leaders and workers, of the proxy and of what it is chained with.
    for (pid, name) in kinds {
        if kill(Pid::from_raw(pid), Signal::SIGKILL).is_err() {
            // It went with its leader.
            continue;
        }
        eventually("it is dead", || getpgid(Some(Pid::from_raw(pid))).is_err() || is_zombie(pid)).await;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !echo_works(listener).await {
            assert!(Instant::now() < deadline, "{backend}: no stream any more since {name} was killed");
            sleep(Duration::from_millis(20)).await;
        }
    }
    eventually("it is healthy again", || gateway.stderr().contains("healthy again")).await;
    exchange(listener, First::Producer).await;
    tunnel.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

fn is_zombie(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Whether one word goes all the way and comes back.
async fn echo_works(listener: &str) -> bool {
    let attempt = async {
        match TcpStream::connect(listener).await {
            Ok(stream) => Echo::over(stream).await?.try_say("still here").await,
            Err(e) => Err(e),
        }
    };
    timeout(Duration::from_secs(2), attempt).await.is_ok_and(|outcome| outcome.is_ok())
}

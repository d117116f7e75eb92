//! The gateway service: what is told of sessions, and what ends or prolongs them.

use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use scistream::client::{Ask, ClientError, Gateway};
use scistream::session::{Role, Uid};
use scistream_proto::gateway::{Event, Session};
use serde_json::Value;
use tonic::Code;

use crate::support::gateway::S2UC;
use crate::support::program::{Ended, Program};
use crate::support::tunnel::ask;
use crate::support::{App, TestGateway, Tunnel, eventually, session};

fn code(error: &ClientError) -> Code {
    match error {
        ClientError::Refused { status, .. } => status.code(),
        other => panic!("no answer: {}", other.story()),
    }
}

/// A PROD half towards an application.
fn half(uid: &Uid, app: &App, lifetime: Option<Duration>) -> Ask {
    Ask { lifetime, ..ask(uid, Role::Prod, 1, vec![app.endpoint().parse().expect("an endpoint")]) }
}

/// The next events of a watch, up to the one that says this.
async fn up_to(client: &Gateway, after: u64, id: &str, last: &str) -> Vec<Event> {
    let mut events = client.watch(after, id).await.expect("watched");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &Event| event.what != last) {
        seen.push(session::event(client, &mut events, |_| true).await);
    }
    seen
}

fn words(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.what.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_comes_back_misses_nothing() {
    let app = App::start().await;
    let mut gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let start = client.list().await.expect("listed").sequence;
    let uid = Uid::random().expect("randomness");
    half(&uid, &app, None).open(&client, None).await.expect("serving");
    client.release(&uid).await.expect("released");

    let all = up_to(&client, start, "", "released").await;
    let life = ["reserved", "announced", "starting", "active", "ending: released on request", "released"];
    assert_eq!(words(&all), life);
    assert!(all.is_sorted_by(|one, next| one.sequence < next.sequence));
    for (index, event) in all.iter().enumerate().take(all.len() - 1) {
        let rest = up_to(&client, event.sequence, "", "released").await;
        assert_eq!(rest, all[index + 1..], "from event {index} on");
    }
    let mine = session::id(&uid, Role::Prod);
    assert_eq!(up_to(&client, start, &mine, "released").await, all);
    println!("{} of {} events came again, from each of them on", all.len(), all.len());

    let gone = client.watch(1, "").await.expect_err("events that were never kept");
    assert_eq!(code(&gone), Code::OutOfRange);
    gateway.end(Signal::SIGKILL).await;
    gateway.run().await;
    let gone = gateway.client().await.watch(all[0].sequence, "").await.expect_err("events of an earlier run");
    assert_eq!(code(&gone), Code::OutOfRange);
}

/// A session without what its processes use, which may change between two looks.
fn without_usage(session: &Session) -> Session {
    let mut session = session.clone();
    for process in &mut session.processes {
        (process.cpu_ms, process.memory_bytes) = (None, None);
    }
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_found_by_its_id() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 2).await;
    let listed = session::all_well(&client).await;
    assert_eq!(listed.len(), 2);
    for (role, half) in [(Role::Prod, &tunnel.prod), (Role::Cons, &tunnel.cons)] {
        let id = session::id(&tunnel.uid, role);
        let one = client.get(&id).await.expect("it is there");
        let same = listed.iter().find(|session| session.id == id).expect("listed");
        assert_eq!(without_usage(same), without_usage(&one), "get and list tell different things");
        assert_eq!((one.role.as_str(), one.revision, one.expires_ms), (role.as_str(), 1, 0));
        assert_eq!((&one.listeners, &one.targets), (&half.listeners, &half.targets));
        assert!(!format!("{one:?}").contains(&tunnel.uid.wire().to_string()), "the UID is told");
    }
    let unknown = client.get("0123456789ab-prod").await.expect_err("nobody's");
    assert_eq!(code(&unknown), Code::NotFound);
    tunnel.release(&gateway, &gateway).await;
    println!("{} sessions found by their ids", listed.len());
}

fn in_milliseconds(from_now: Duration) -> u64 {
    let then = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970") + from_now;
    u64::try_from(then.as_millis()).expect("soon")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lifetime_ends_announced_and_leaves_nothing() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let sequence = client.list().await.expect("listed").sequence;
    let (uid, start) = (Uid::random().expect("randomness"), Instant::now());
    half(&uid, &app, Some(Duration::from_secs(1))).open(&client, None).await.expect("serving");
    let events = up_to(&client, sequence, "", "released").await;
    let lasted = start.elapsed();
    assert_eq!(words(&events)[3..], ["active", "expires soon", "ending: its lifetime is over", "released"]);
    println!("a lifetime of 1000 ms ended after {} ms", lasted.as_millis());
    assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(4), "{lasted:?}");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lifetime_is_bounded_and_renewed() {
    let app = App::start().await;
    let mut gateway = TestGateway::start(&["--max-lifetime", "100"]).await;
    let client = gateway.client().await;
    let uid = Uid::random().expect("randomness");
    half(&uid, &app, None).open(&client, None).await.expect("serving");
    let id = session::id(&uid, Role::Prod);
    let expires = async |client: &Gateway| client.get(&id).await.expect("it is there").expires_ms;
    let most = in_milliseconds(Duration::from_secs(100));
    assert!((most - 20_000..=most).contains(&expires(&client).await), "not the site's bound");

    for (asked, granted) in [(Some(50), 50), (Some(1_000_000), 100), (None, 100)] {
        let renewed = client.renew(&uid, asked.map(Duration::from_secs)).await.expect("renewed");
        let end = in_milliseconds(Duration::from_secs(granted));
        assert_eq!(renewed.len(), 1);
        assert!((end - 5000..=end).contains(&renewed[0].expires_ms), "asked for {asked:?}");
    }
    let before = expires(&client).await;
    gateway.end(Signal::SIGKILL).await;
    gateway.run().await;
    let client = gateway.client().await;
    let after = expires(&client).await;
    println!("the end moved by {} ms over a restart", after.abs_diff(before));
    assert!(after.abs_diff(before) < 1000, "another end after a restart");
    let stranger = client.renew(&Uid::random().expect("randomness"), None).await.expect_err("nobody's");
    assert_eq!(code(&stranger), Code::NotFound);
    client.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_learns_why_a_session_was_released() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let sequence = client.list().await.expect("listed").sequence;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let released = client.release_because(&tunnel.uid, "the beam is off").await.expect("released");
    assert_eq!(released, 2);
    for role in [Role::Prod, Role::Cons] {
        let events = up_to(&client, sequence, &session::id(&tunnel.uid, role), "released").await;
        assert!(words(&events).contains(&"ending: released on request: the beam is off"), "{:?}", words(&events));
    }
    gateway.assert_nothing_left();
    println!("{released} sessions released with a reason that watchers saw");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_the_end_and_does_not_hold_it_up() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let app = App::start().await;
        let mut gateway = TestGateway::start(&[]).await;
        let client = gateway.client().await;
        let mut events = client.watch(0, "").await.expect("watched");
        half(&Uid::random().expect("randomness"), &app, None).open(&client, None).await.expect("serving");
        let start = Instant::now();
        assert!(gateway.end(signal).await.success());
        let ended = start.elapsed();
        session::event(&client, &mut events, |event| event.what == "ending: the gateway is shutting down").await;
        session::event(&client, &mut events, |event| event.what == "released").await;
        assert_eq!(client.next_event(&mut events).await.expect("a clean end"), None);
        println!("{signal}: ended after {} ms under a watcher", ended.as_millis());
        assert!(ended < Duration::from_secs(2), "{signal}: ended after {ended:?}");
        gateway.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_drains_ends_its_sessions_and_takes_no_new_ones() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    for _ in 0..3 {
        half(&Uid::random().expect("randomness"), &app, None).open(&client, None).await.expect("serving");
    }
    let brief = Uid::random().expect("randomness");
    half(&brief, &app, Some(Duration::from_secs(2))).open(&client, None).await.expect("serving");
    let draining = tokio::spawn({
        let client = client.clone();
        async move { client.drain(Duration::from_secs(4)).await }
    });
    let mut drains = false;
    while !drains {
        drains = client.capabilities().await.expect("told").draining;
    }
    let late = half(&Uid::random().expect("randomness"), &app, None).open(&client, None).await;
    assert_eq!(code(&late.expect_err("a new session")), Code::Unavailable);
    // One ended by itself in that time.
    let released = draining.await.expect("no panic").expect("drained");
    println!("drained: {released} of 4 sessions had to be released");
    assert_eq!(released, 3);
    assert_eq!(client.list().await.expect("listed").sessions, vec![]);
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_tells_what_it_can_do() {
    let app = App::start().await;
    let flags = ["--backend", "haproxy", "--max-sessions", "7", "--max-listeners", "5", "--max-lifetime", "60"];
    let gateway = TestGateway::start(&flags).await;
    let client = gateway.client().await;
    let uid = Uid::random().expect("randomness");
    half(&uid, &app, None).open(&client, None).await.expect("serving");
    let told = client.capabilities().await.expect("told");
    let range = gateway.port_range();
    assert_eq!(told.version, env!("CARGO_PKG_VERSION"));
    assert_eq!((told.first_port, told.last_port), ((*range.start()).into(), (*range.end()).into()));
    assert_eq!((told.free_ports, told.sessions), (u32::try_from(range.len()).expect("few") - 1, 1));
    assert_eq!((told.max_sessions, told.max_listeners, told.max_lifetime_seconds), (7, 5, 60));
    assert_eq!((told.backend.as_str(), told.terminator.as_str(), told.draining), ("haproxy", "native", false));
    let mut names: Vec<_> = told.backends.iter().map(|backend| (backend.name.as_str(), backend.chained)).collect();
    names.sort_unstable();
    assert_eq!(names, [("haproxy", true), ("native", false), ("nginx", true), ("stunnel", false)]);
    for backend in &told.backends {
        assert!(backend.missing.is_empty() && !backend.version.is_empty(), "{backend:?}");
        let floors: &[&str] = match backend.name.as_str() {
            "stunnel" => &["integrity", "confidentiality"],
            _ => &["none", "integrity", "confidentiality"],
        };
        assert_eq!(backend.protections, floors, "{backend:?}");
        assert_eq!(backend.filters_sources, backend.name != "stunnel", "{backend:?}");
    }
    client.release(&uid).await.expect("released");
    println!("{} backends told, with their versions", told.backends.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cancels_its_req_releases_it() {
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let sequence = client.list().await.expect("listed").sequence;
    let uid = Uid::random().expect("randomness");
    let request = tokio::spawn({
        let (client, asked) = (client.clone(), ask(&uid, Role::Prod, 3, vec![]));
        async move { client.request(&asked).await }
    });
    eventually("three ports are held", || gateway.listening().len() == 3).await;
    let start = Instant::now();
    request.abort();
    let events = up_to(&client, sequence, "", "released").await;
    println!("a cancelled REQ was released after {} ms", start.elapsed().as_millis());
    assert_eq!(words(&events)[1], "ending: the client that asked for it went away");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2uc_tells_all_of_it_as_json() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let sequence = client.list().await.expect("listed").sequence.to_string();
    let uid = Uid::random().expect("randomness");
    half(&uid, &app, None).open(&client, None).await.expect("serving");
    let (address, certificate) = (gateway.address().to_string(), gateway.certificate());
    let certificate = certificate.to_str().expect("text");
    let (id, secret) = (session::id(&uid, Role::Prod), uid.wire().to_string());

    let arguments = |words: &[&str]| -> Vec<String> {
        let at = ["--s2cs", &address, "--server-cert", certificate, "--json"];
        words.iter().chain(&at).map(ToString::to_string).collect()
    };
    let told = async |words: &[&str], input: &str| -> Value {
        let arguments = arguments(words);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let ended: Ended = Program::run(S2UC, &arguments, input.as_bytes()).await;
        let said = ended.succeeded(words[0]);
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{words:?}: {e}: {said}"))
    };

    let list = told(&["list"], "").await;
    assert_eq!(list["sessions"][0]["id"], id.as_str());
    let (shown, listed) = (told(&["show", &id], "").await, &list["sessions"][0]);
    assert_eq!(shown["processes"][0]["pid"], listed["processes"][0]["pid"]);
    for key in ["id", "role", "state", "listeners", "targets", "created_ms", "expires_ms"] {
        assert_eq!(shown[key], listed[key], "{key}");
    }
    assert_eq!(told(&["status"], "").await["sessions"]["now"], 1);
    let renewed = told(&["renew", "-", "--lifetime", "60"], &secret).await;
    assert!(renewed["sessions"][0]["expires_ms"].as_u64().is_some_and(|end| end > 0), "{renewed}");

    let arguments = arguments(&["watch", "--after", &sequence, &id]);
    let watch = Program::start(S2UC, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("the renewal is seen", || watch.stdout().lines().count() == 5).await;
    assert_eq!(told(&["drain"], "").await["released"], 1);
    eventually("the end is seen", || watch.stdout().lines().count() == 7).await;
    let events: Vec<Value> =
        watch.stdout().lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    assert_eq!(events[4]["what"], "renewed");
    assert_eq!(events[6]["session"]["state"], "released");
    println!("5 commands and {} events told as JSON", events.len());
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_never_sees_its_update_gives_everything_back() {
    let gateway = TestGateway::start(&["--update-timeout", "0.3"]).await;
    let app = App::start().await;
    let uid = Uid::random().expect("randomness");
    let ask = ask(&uid, Role::Prod, 2, vec![app.endpoint().parse().expect("an endpoint")]);
    let start = Instant::now();
    ask.reserve(&gateway.client().await).await.expect("announced");
    let folders = || std::fs::read_dir(gateway.sessions_dir()).expect("the folder is there").count();
    eventually("its folder, the last thing, is gone", || folders() == 0).await;
    println!("without an UPDATE the session was gone after {} ms", start.elapsed().as_millis());
    assert!(gateway.stderr().contains("no UPDATE came in time"));
    gateway.assert_nothing_left();
}

//! The controller ends at every step of REQ, HELLO, UPDATE and RELEASE, as in a
//! power cut, and is started again: then the journal, the processes and the
//! ports agree. A session is there and works, or is gone with all it had.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use scistream::client::{ClientError, Gateway};
use scistream::session::{Role, Uid};
use scistream::store::Record;
use tokio::task::JoinSet;

use crate::support::app::First;
use crate::support::manager::Manager;
use crate::support::tunnel::{ask, open_cons};
use crate::support::{App, TestGateway, eventually, exchange, session};

/// Each point, and how often it is passed in [`life`].
const POINTS: [(&str, usize); 23] = [
    ("session-folder-made", 1),
    ("key-written", 1),
    ("before-the-journal", 4),
    // The journal's first record, and one for each process that is written down.
    ("before-a-file-is-replaced", 2),
    ("before-a-record-is-on-disk", 3),
    ("after-the-journal", 4),
    ("before-req-is-answered", 1),
    ("before-hello-is-answered", 1),
    ("before-the-plan-is-served", 2),
    ("configurations-checked", 2),
    ("configuration-in-place", 1),
    ("process-started", 1),
    ("process-written-down", 1),
    ("process-ready", 1),
    ("changed-configuration-in-place", 1),
    ("change-signalled", 1),
    ("change-confirmed", 1),
    ("before-update-is-answered", 2),
    ("before-release", 1),
    ("processes-stopped", 1),
    ("ports-given-back", 1),
    ("key-removed", 1),
    ("session-folder-removed", 1),
];

/// A session's whole life, as far as the controller goes along.
async fn life(client: &Gateway, uid: &Uid, first: &App, second: &App) -> Result<(), ClientError> {
    let asked = ask(uid, Role::Prod, 1, vec![first.endpoint().parse().expect("an endpoint")]);
    asked.open(client, None).await?;
    client.update(uid, Role::Prod, vec![second.endpoint()]).await?;
    client.release(uid).await
}

/// What became of a session after the restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Gone,
    Announced,
    Serving,
}

async fn ended_at(backend: &str, point: &str, passed_before: usize) -> Fate {
    let place = format!("{backend}: {point} after {passed_before}");
    let (first, second) = (App::start().await, App::start().await);
    let mut prod = TestGateway::start(&["--backend", backend]).await;
    let cons = TestGateway::start(&[]).await;
    prod.end(Signal::SIGKILL).await;
    // The start replaces a file too, the one with the number from which events are counted.
    let passed = passed_before + usize::from(point == "before-a-file-is-replaced");
    prod.run_in(&[("FAILPOINTS", &format!("{point}={passed}*off->return"))]).await;
    let uid = Uid::random().expect("randomness");
    let outcome = life(&prod.client().await, &uid, &first, &second).await;
    assert!(outcome.is_err(), "{place}: never passed");
    let status = prod.end(Signal::SIGKILL).await;
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{place}: {status}");

    prod.run().await;
    assert!(!prod.state_dir().join("set-aside").exists(), "{place}: set aside: {}", prod.stderr());
    let client = prod.client().await;
    let sessions = client.list().await.expect("listed").sessions;
    let fate = match sessions.first() {
        None => Fate::Gone,
        Some(session) => {
            let record = Record::read(&session::folder(&prod, &uid, Role::Prod)).expect("a journal");
            let listeners: Vec<_> = record.listeners.iter().map(ToString::to_string).collect();
            assert_eq!(session.listeners, listeners, "{place}: the journal says other ports");
            assert_eq!(session.state == "active", record.live.is_some(), "{place}: the journal says another state");
            let fate = if session.state == "active" { Fate::Serving } else { Fate::Announced };
            if fate == Fate::Announced {
                eventually("no process is left of what was not confirmed", || prod.processes().is_empty()).await;
                client.update(&uid, Role::Prod, vec![]).await.expect("it can be started");
            }
            let session = session::all_well(&client).await.remove(0);
            let leaders = session::leaders_and_workers(&prod, &uid, Role::Prod).0.len();
            assert_eq!(
                leaders,
                if ["native", "stunnel"].contains(&backend) { 1 } else { 2 },
                "{place}: {:?}",
                prod.processes()
            );
            let half = open_cons(&uid, &cons, session.listeners, 1).await;
            exchange(&half.listeners[0], First::Consumer).await;
            let target = [&first, &second].into_iter().find(|app| app.endpoint() == session.targets[0]);
            assert_eq!(target.expect("one of ours").connections(), 1, "{place}: it serves another plan than it says");
            client.release(&uid).await.expect("released");
            cons.client().await.release(&uid).await.expect("released");
            fate
        }
    };
    prod.assert_nothing_left();
    fate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_directory_hangs_gives_no_sign_of_life() {
    let mut gateway = TestGateway::start(&[]).await;
    gateway.end(Signal::SIGTERM).await;
    let manager = Manager::listen(gateway.folder());
    let mut environment = manager.environment("300000");
    environment.push(("FAILPOINTS".into(), "directory-held=8*off->pause".into()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    gateway.run_in(&environment).await;
    manager.hears("WATCHDOG=1", 3).await;
    // Each sign waits for the last; when none has come for long, there are no more.
    let mut signs = 0;
    while manager.times("WATCHDOG=1") > signs {
        signs = manager.times("WATCHDOG=1");
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    assert!(signs <= 8, "{signs} signs of life");
    assert!(!manager.said().iter().any(|word| word == "STOPPING=1"));
    kill(gateway.pid(), None).expect("it runs, and nobody else would notice");
    gateway.end(Signal::SIGKILL).await;
    gateway.run().await;
}

async fn ended_everywhere(backend: &'static str) {
    let mut places = POINTS.iter().flat_map(|(point, times)| (0..*times).map(|before| (*point, before)));
    let (mut running, mut fates) = (JoinSet::new(), Vec::new());
    loop {
        while running.len() < 3
            && let Some((point, before)) = places.next()
        {
            running.spawn(async move { (point, before, ended_at(backend, point, before).await) });
        }
        let Some(ended) = running.join_next().await else { break };
        fates.push(ended.expect("no panic"));
    }
    for (point, before, fate) in &fates {
        println!("{backend}: ended at {point}, passed {before} times before: {fate:?}");
    }
    let count = |wanted| fates.iter().filter(|(_, _, fate)| *fate == wanted).count();
    println!(
        "{backend}: ended at {} places: {} gone, {} announced, {} serving; journal, processes and ports agree at all",
        fates.len(),
        count(Fate::Gone),
        count(Fate::Announced),
        count(Fate::Serving),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn native_ended_at_every_step() {
    ended_everywhere("native").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn stunnel_ended_at_every_step() {
    ended_everywhere("stunnel").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_chain_of_haproxy_ended_at_every_step() {
    ended_everywhere("haproxy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_chain_of_nginx_ended_at_every_step() {
    ended_everywhere("nginx").await;
}

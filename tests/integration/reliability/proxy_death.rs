//! Each kind of proxy is killed, at either end of a tunnel: noticed, told, and
//! brought back on its port, while the next session on the same gateway notices
//! nothing.

use std::time::{Duration, Instant};

use scistream::session::Role;

use crate::support::app::First;
use crate::support::session::{Proxy, leaders_and_workers};
use crate::support::{App, BACKENDS, Talk, TestGateway, Tunnel, eventually, exchange, session};

const NOTICED: Duration = Duration::from_secs(1);
/// The pause before a process is started again, which doubles with each death in
/// a row; and what a busy machine takes to start it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const START: Duration = Duration::from_secs(3);

async fn each_leader_is_killed(backend: &str, terminator: &str) {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--backend", backend, "--terminator", terminator]).await;
    let victim = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let neighbour = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let talk = Talk::start(&neighbour.cons.listeners[0]).await;
    let client = gateway.client().await;
    for (role, half) in [(Role::Prod, &victim.prod), (Role::Cons, &victim.cons)] {
        let id = session::id(&victim.uid, role);
        let mut events = client.watch(0, &id).await.expect("watched");
        let proxies = || leaders_and_workers(&gateway, &victim.uid, role);
        let names: Vec<_> = proxies().0.into_iter().map(|leader| leader.name).collect();
        assert_eq!(names.len(), if ["haproxy", "nginx"].contains(&backend) { 2 } else { 1 }, "{names:?}");
        let mut pause = FIRST_PAUSE;
        // A worker of HAProxy's takes its master with it; nginx replaces one by itself.
        let workers = if backend == "haproxy" { vec!["worker of haproxy".to_owned()] } else { vec![] };
        for name in names.iter().chain(&workers) {
            let what = format!("{backend} with {terminator}, {role}: {name}");
            let (leaders, workers) = proxies();
            let mut candidates = if name.starts_with("worker") { workers } else { leaders }.into_iter();
            let proxy = candidates.find(|proxy| name.ends_with(&proxy.name)).expect("it runs");
            let killed = Instant::now();
            proxy.kill();
            session::event(&client, &mut events, |event| event.what == "degraded").await;
            let noticed = killed.elapsed();
            session::event(&client, &mut events, |event| event.what == "healthy again").await;
            let back = killed.elapsed();
            exchange(&victim.cons.listeners[0], First::Consumer).await;
            println!("{what} killed: noticed after {} ms, back after {} ms", noticed.as_millis(), back.as_millis());
            assert!(noticed < NOTICED, "{what}: noticed after {noticed:?}");
            assert!(back < noticed + pause + START, "{what}: back after {back:?}");
            pause *= 2;
        }
        let seen = client.get(&id).await.expect("still there");
        assert_eq!(seen.listeners, half.listeners, "{backend}: not on the same port");
    }
    let bytes = talk.end().await;
    println!("{backend} with {terminator}: 0 of {bytes} bytes of the next session lost or wrong");
    victim.release(&gateway, &gateway).await;
    neighbour.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_killed_is_back_on_its_port_and_others_notice_nothing() {
    for backend in BACKENDS {
        each_leader_is_killed(backend, "native").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_one_that_has_stunnel_as_its_terminator() {
    for backend in ["haproxy", "nginx"] {
        each_leader_is_killed(backend, "stunnel").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_replaces_a_worker_that_is_killed() {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--backend", "nginx"]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let workers = || leaders_and_workers(&gateway, &tunnel.uid, Role::Prod).1;
    let before = workers();
    let [worker] = before.as_slice() else { panic!("one worker, not {before:?}") };
    let killed = Instant::now();
    worker.kill();
    let replaced = |now: Vec<Proxy>| now.len() == 1 && now[0] != *worker;
    eventually("there is another worker", || replaced(workers())).await;
    println!("nginx: a worker killed: replaced by its master after {} ms", killed.elapsed().as_millis());
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    session::all_well(&gateway.client().await).await;
    tunnel.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

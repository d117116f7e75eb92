//! What is told of the processes that serve a session, against what the system shows of them.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgid};
use scistream::client::Gateway;
use scistream::session::Role;
use scistream_proto::gateway::{Process, Session};

use crate::support::app::First;
use crate::support::gateway::S2UC;
use crate::support::leftovers::processes_in;
use crate::support::measure::memory;
use crate::support::program::Program;
use crate::support::session::{self, Proxy};
use crate::support::{App, BACKENDS, TestGateway, Tunnel, exchange};

/// What the system counts CPU time in.
const TICK_MS: u64 = 10;
/// What one that is told about may use before it is looked at, on a busy machine.
const SLACK_MS: u64 = 100;
/// So much work that the system's clock has counted it.
const WORK_MS: u64 = 30;
const DEADLINE: Duration = Duration::from_secs(30);

/// CPU time of a group by its members' `stat`, with those that their parents have waited for.
fn cpu_ms(group: Pid, folder: &std::path::Path) -> u64 {
    members(group, folder).iter().map(|pid| ticks(*pid) * TICK_MS).sum()
}

fn members(group: Pid, folder: &std::path::Path) -> Vec<Pid> {
    let all = processes_in(folder).into_iter().map(|(pid, _)| Pid::from_raw(pid));
    all.filter(|pid| getpgid(Some(*pid)) == Ok(group)).collect()
}

fn ticks(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    fields.split_whitespace().skip(11).take(4).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

fn now_ms() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    u64::try_from(now.as_millis()).expect("soon")
}

fn pid(process: &Process) -> Pid {
    Pid::from_raw(i32::try_from(process.pid).expect("a pid"))
}

fn by_backend(session: &Session) -> BTreeMap<String, Process> {
    session.processes.iter().map(|process| (process.backend.clone(), process.clone())).collect()
}

/// Looks at a session until it is as it should be.
async fn until(client: &Gateway, id: &str, what: &str, is: impl Fn(&Session) -> bool) -> Session {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let session = client.get(id).await.expect("it is there");
        if is(&session) {
            return session;
        }
        assert!(Instant::now() < deadline, "not in time: {what}: {:?}", session.processes);
    }
}

/// Sends through a tunnel until each process of a session has worked.
async fn work(client: &Gateway, id: &str, tunnel: &Tunnel) -> Session {
    let before = by_backend(&client.get(id).await.expect("it is there"));
    let worked = |process: &Process| process.cpu_ms >= before[&process.backend].cpu_ms.map(|ms| ms + WORK_MS);
    let deadline = Instant::now() + DEADLINE;
    loop {
        exchange(&tunnel.cons.listeners[0], First::Consumer).await;
        let session = client.get(id).await.expect("it is there");
        if session.processes.iter().all(worked) {
            return session;
        }
        assert!(Instant::now() < deadline, "no CPU time counted: {:?}", session.processes);
    }
}

async fn all_is_told(backend: &str) {
    let app = App::start().await;
    let begun = now_ms();
    let mut gateway = TestGateway::start(&["--backend", backend]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let (client, id) = (gateway.client().await, session::id(&tunnel.uid, Role::Prod));
    let folder = session::folder(&gateway, &tunnel.uid, Role::Prod);
    let versions: BTreeMap<_, _> =
        client.capabilities().await.expect("told").backends.into_iter().map(|b| (b.name, b.version)).collect();

    let told = client.get(&id).await.expect("it is there");
    let chained = ["haproxy", "nginx"].contains(&backend);
    assert_eq!(told.processes.len(), if chained { 2 } else { 1 }, "{backend}: {:?}", told.processes);
    for process in &told.processes {
        assert_eq!(process.version, versions[&process.backend], "{backend}");
        assert_eq!(getpgid(Some(pid(process))), Ok(pid(process)), "{backend}: not a leader");
        assert!((begun..=now_ms() + 2 * TICK_MS).contains(&(process.started_ms + TICK_MS)), "{backend}: {process:?}");
        assert!(process.ready_after_ms.is_some_and(|ms| ms < 10_000), "{backend}: {process:?}");
        assert_eq!((process.restarts, process.last_end.as_str()), (0, ""), "{backend}");
        let resident: u64 = members(pid(process), &folder).into_iter().map(memory).sum::<u64>() * 1024;
        let told = process.memory_bytes.expect("the kernel tells");
        println!(
            "{backend}: {} {}: listened after {} ms, {told} bytes resident",
            process.backend,
            process.version,
            process.ready_after_ms.unwrap_or_default()
        );
        assert!(told.abs_diff(resident) < resident / 5, "{backend}: {told} told, {resident} shown by the system");
    }

    let worked = work(&client, &id, &tunnel).await;
    for process in &worked.processes {
        let (told, shown) = (process.cpu_ms.expect("the kernel tells"), cpu_ms(pid(process), &folder));
        println!("{backend}: {}: {told} ms of CPU time told, {shown} ms shown by the system", process.backend);
        assert!(told.abs_diff(shown) <= SLACK_MS, "{backend}: {told} ms told, {shown} ms shown");
    }
    // Old workers of a reload end; what they have used stays.
    let other = App::start().await;
    client.update(&tunnel.uid, Role::Prod, vec![other.endpoint()]).await.expect("moved");
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    let moved = by_backend(&client.get(&id).await.expect("it is there"));
    for process in &worked.processes {
        assert!(moved[&process.backend].cpu_ms >= process.cpu_ms, "{backend}: CPU time lost in a reload");
        assert_eq!((moved[&process.backend].pid, moved[&process.backend].restarts), (process.pid, 0), "{backend}");
    }

    gateway.end(Signal::SIGKILL).await;
    gateway.run().await;
    let client = gateway.client().await;
    let adopted = by_backend(&client.get(&id).await.expect("it is there"));
    for process in moved.values() {
        let same = &adopted[&process.backend];
        assert_eq!((same.pid, &same.version, same.restarts), (process.pid, &process.version, 0), "{backend}");
        assert_eq!((same.ready_after_ms, same.last_end.as_str()), (None, ""), "{backend}");
        assert!(same.started_ms.abs_diff(process.started_ms) <= 5 * TICK_MS, "{backend}: {process:?} {same:?}");
        assert!(same.cpu_ms >= process.cpu_ms, "{backend}: CPU time lost in an adoption");
    }
    each_is_killed(backend, &client, &id, &tunnel).await;
    tunnel.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

/// The first of them was adopted; what is started after it is a child of the controller's.
async fn each_is_killed(backend: &str, client: &Gateway, id: &str, tunnel: &Tunnel) {
    let names: Vec<_> = by_backend(&client.get(id).await.expect("it is there")).into_keys().collect();
    for (round, name) in names.iter().flat_map(|name| [(1, name), (2, name)]) {
        let before = by_backend(&client.get(id).await.expect("it is there"))[name].clone();
        Proxy { pid: pid(&before).as_raw(), name: name.clone() }.kill();
        let back = |session: &Session| {
            let now = &by_backend(session)[name];
            now.pid != 0 && now.pid != before.pid && session.degraded.is_empty()
        };
        let session = until(client, id, "it is back", back).await;
        let after = &by_backend(&session)[name];
        println!(
            "{backend}: {name} killed: {} ms of CPU time before, {} ms after: {}",
            before.cpu_ms.unwrap_or_default(),
            after.cpu_ms.unwrap_or_default(),
            after.last_end
        );
        let end = if round == 1 { "ended; it said" } else { "was ended by SIGKILL; it said: " };
        assert!(after.last_end.starts_with(end), "{backend}: {name}: {}", after.last_end);
        assert_eq!(after.restarts, round, "{backend}: {name}");
        assert!(after.ready_after_ms.is_some() && after.started_ms > before.started_ms, "{backend}: {after:?}");
        // Of adopted ones the last look may come too late: only their parent is waited for.
        if round == 2 {
            assert!(after.cpu_ms >= before.cpu_ms, "{backend}: {name}: CPU time lost with the process");
        }
        exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_told_as_the_system_shows_them() {
    for backend in BACKENDS {
        all_is_told(backend).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_down_is_told_as_down() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let (client, id) = (gateway.client().await, session::id(&tunnel.uid, Role::Prod));
    let used = work(&client, &id, &tunnel).await.processes[0].cpu_ms;
    let mut looks_down = 0;
    // The pause before the next start doubles with each death.
    for deaths in 1..=4 {
        let up = until(&client, &id, "it is up", |session| session.processes[0].pid != 0).await;
        Proxy { pid: pid(&up.processes[0]).as_raw(), name: "s2ds".into() }.kill();
        let seen =
            until(&client, &id, "it is down, or another", |session| session.processes[0].pid != up.processes[0].pid)
                .await;
        let process = &seen.processes[0];
        assert!(process.last_end.starts_with("was ended by SIGKILL; it said: "), "{process:?}");
        assert!(process.cpu_ms >= used, "{process:?}");
        if process.pid == 0 {
            looks_down += 1;
            assert_eq!((process.started_ms, process.ready_after_ms, process.memory_bytes), (0, None, Some(0)));
            assert_eq!(process.restarts, deaths - 1);
        }
    }
    println!("4 deaths, {looks_down} of them seen before the next start");
    assert!(looks_down > 0, "nobody saw it down");
    tunnel.release(&gateway, &gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_of_a_program_that_was_replaced_is_not_known_to_a_later_run() {
    let app = App::start().await;
    let s2ds = std::path::Path::new(S2UC).with_file_name("s2ds");
    let plan = TestGateway::plan(&["--backend", "ours"]);
    let program = plan.path("ours");
    let named = format!("program = \"{}\"", program.display());
    fs::copy(&s2ds, &program).expect("copied");
    let mut gateway = plan
        .backend("ours", "native", |manifest| manifest.replace("program = \"s2ds\"", &named), |template| template)
        .start()
        .await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let id = session::id(&tunnel.uid, Role::Prod);
    let told = gateway.client().await.get(&id).await.expect("it is there").processes.remove(0);
    assert_eq!(told.version, env!("CARGO_PKG_VERSION"));
    fs::remove_file(&program).and_then(|()| fs::copy(&s2ds, &program)).expect("replaced");
    gateway.end(Signal::SIGKILL).await;
    gateway.run().await;
    let client = gateway.client().await;
    let adopted = client.get(&id).await.expect("it is there").processes.remove(0);
    assert_eq!((adopted.pid, adopted.version.as_str()), (told.pid, ""));
    Proxy { pid: pid(&adopted).as_raw(), name: "ours".into() }.kill();
    let back = until(&client, &id, "it is back", |session| ![0, told.pid].contains(&session.processes[0].pid)).await;
    assert_eq!(back.processes[0].version, env!("CARGO_PKG_VERSION"));
    println!("{} {}, replaced: known again after a restart", told.backend, told.version);
    tunnel.release(&gateway, &gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2uc_shows_a_line_for_each_process() {
    let app = App::start().await;
    let gateway = TestGateway::start(&["--backend", "haproxy"]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let id = session::id(&tunnel.uid, Role::Prod);
    let (address, certificate) = (gateway.address().to_string(), gateway.certificate().display().to_string());
    let at = ["--s2cs", &address, "--server_cert", &certificate];
    let shown = Program::run(S2UC, &[&["show", &id], &at[..]].concat(), b"").await.succeeded("show");
    let lines: Vec<_> = shown.lines().filter(|line| line.starts_with("process     ")).collect();
    println!("{}", lines.join("\n"));
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("haproxy ") && lines[1].contains("native "), "{shown}");
    assert!(lines.iter().all(|line| line.contains(", listened after ") && line.contains(", CPU ")), "{shown}");
    let told = Program::run(S2UC, &[&["show", &id, "--json"], &at[..]].concat(), b"").await.succeeded("show");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let pid = told["processes"][0]["pid"].as_u64().expect("a pid");
    assert!(lines[0].contains(&format!(", pid {pid}, ")), "{shown}");
    let top = Program::run(S2UC, &[&["top", "--once", "--json"], &at[..]].concat(), b"").await.succeeded("top");
    assert!(!top.contains("\"processes\""), "only list and show are told: {top}");
    tunnel.release(&gateway, &gateway).await;
}

/// One look serves them all, and does not keep files open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_many_sessions_is_quick() {
    const TUNNELS: usize = 20;
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let mut tunnels = Vec::new();
    for _ in 0..TUNNELS {
        tunnels.push(Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await);
    }
    let client = gateway.client().await;
    let files = crate::support::measure::open_files(gateway.pid());
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        let sessions = client.list().await.expect("listed").sessions;
        quickest = quickest.min(start.elapsed());
        assert_eq!(sessions.len(), 2 * TUNNELS);
        assert!(sessions.iter().all(|s| s.processes.len() == 1 && s.processes[0].memory_bytes > Some(0)));
    }
    println!("{} sessions listed with their processes in {} µs", 2 * TUNNELS, quickest.as_micros());
    assert_eq!(crate::support::measure::open_files(gateway.pid()), files, "files are left open");
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}

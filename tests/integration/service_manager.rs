//! What the service manager is told, on a real socket: ready once the sessions of an
//! earlier run serve again, alive, reloading, stopping.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::join;

use crate::support::gateway::S2CS;
use crate::support::manager::Manager;
use crate::support::{App, Talk, TestGateway, Tunnel, eventually, session};

fn pairs(environment: &[(String, String)]) -> Vec<(&str, &str)> {
    environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// s2ds, which when it is started says so in a file, and waits for the door to open.
fn behind_a_door(folder: &Path) -> String {
    let s2ds = Path::new(S2CS).with_file_name("s2ds");
    let (s2ds, folder) = (s2ds.display(), folder.display());
    format!(
        "#!/bin/sh\ncase $1 in --*) exec {s2ds} \"$@\";; esac\n: > {folder}/waits\n\
         while [ ! -e {folder}/door ]; do sleep 0.05; done\nexec {s2ds} \"$@\"\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_once_the_sessions_of_an_earlier_run_serve_again() {
    let plan = TestGateway::plan(&["--keep-sessions-on-exit", "--sandbox", "off", "--backend", "doored"]);
    let program = plan.path("doored");
    let plan = plan.backend(
        "doored",
        "native",
        |manifest| manifest.replace("program = \"s2ds\"", &format!("program = \"{}\"", program.display())),
        |template| template,
    );
    fs::write(&program, behind_a_door(plan.folder())).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
    let door = plan.path("door");
    fs::write(&door, "").expect("open");
    let mut gateway = plan.start().await;
    let (cons, app) = (TestGateway::start(&[]).await, App::start().await);
    Tunnel::open(&gateway, &cons, &app.endpoint(), 1).await;
    let manager = Manager::listen(gateway.folder());
    gateway.end(Signal::SIGTERM).await;
    for (pid, _) in gateway.processes() {
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it ran on");
    }
    let waits = gateway.folder().join("waits");
    fs::remove_file(&door).expect("shut");
    fs::remove_file(&waits).expect("it has waited before");

    let environment = manager.environment("");
    let environment = pairs(&environment);
    let opens = async {
        eventually("the session is brought back", || waits.exists()).await;
        assert_eq!(manager.status(), "going on with the sessions of an earlier run");
        assert_eq!(manager.times("READY=1"), 0, "{:?}", manager.said());
        fs::write(&door, "").expect("open");
    };
    join!(gateway.run_in(&environment), opens);
    manager.hears("READY=1", 1).await;
    assert_eq!(manager.status(), format!("ready on {}, sessions: 1", gateway.address()));
    session::all_well(&gateway.client().await).await;

    gateway.end(Signal::SIGTERM).await;
    manager.hears("STOPPING=1", 1).await;
    assert_eq!(manager.status(), "stopping; sessions run on");
    assert_eq!(gateway.processes().len(), 1, "it runs on");
    gateway.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_that_it_lives_and_how_it_stands() {
    let mut gateway = TestGateway::start(&[]).await;
    let (cons, app) = (TestGateway::start(&[]).await, App::start().await);
    gateway.end(Signal::SIGTERM).await;
    let manager = Manager::listen(gateway.folder());
    gateway.run_in(&pairs(&manager.environment("400000"))).await;
    manager.hears("WATCHDOG=1", 2).await;
    let tunnel = Tunnel::open(&gateway, &cons, &app.endpoint(), 1).await;
    let status = |sessions| format!("ready on {}, sessions: {sessions}", gateway.address());
    eventually("the session is counted", || manager.status() == status(1)).await;
    tunnel.release(&gateway, &cons).await;
    eventually("its end is counted", || manager.status() == status(0)).await;
    assert_eq!(manager.times("READY=1"), 1);
    assert_eq!(gateway.processes(), vec![]);
    gateway.end(Signal::SIGINT).await;
    manager.hears("STOPPING=1", 1).await;
    assert_eq!(manager.status(), "stopping; releasing all sessions");
    gateway.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_told_from_its_beginning_to_its_end() {
    let mut gateway =
        TestGateway::plan(&["--config", "s2cs.toml"]).file("s2cs.toml", "max_sessions = 5\n").start().await;
    let cons = TestGateway::start(&[]).await;
    let app = App::start().await;
    gateway.end(Signal::SIGTERM).await;
    let manager = Manager::listen(gateway.folder());
    gateway.run_in(&pairs(&manager.environment("1000000"))).await;
    let tunnel = Tunnel::open(&gateway, &cons, &app.endpoint(), 1).await;
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;

    gateway.reread("max_sessions = 0\nnonsense = true\n").await;
    manager.hears("READY=1", 2).await;
    let status = manager.status();
    for fault in ["is not in force", "max_sessions must be at least 1", "nonsense"] {
        assert!(status.contains(fault), "{status}");
    }
    gateway.reread("max_sessions = 6\n").await;
    manager.hears("READY=1", 3).await;
    assert_eq!(manager.status(), format!("ready on {}, sessions: 1", gateway.address()));
    let told: Vec<_> = manager.said().into_iter().filter(|word| !word.starts_with("STATUS=")).collect();
    let told: Vec<&str> = told.iter().map(|word| word.split('=').next().unwrap_or_default()).collect();
    let told: Vec<&str> = told.into_iter().filter(|word| *word != "WATCHDOG").collect();
    let reload = ["RELOADING", "MONOTONIC_USEC", "READY"];
    assert_eq!(told, [&["READY"][..], &reload, &reload].concat());
    let bytes = talk.end().await;
    println!("0 of {bytes} bytes lost over 2 reloads");
}

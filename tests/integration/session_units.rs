//! Proxies that systemd makes, in units of their own: here by its `systemd-socket-activate`,
//! which starts a program for each connection as a socket unit with `Accept=yes` does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use scistream::session::{Role, Uid};

use crate::support::app::First;
use crate::support::gateway::S2CS;
use crate::support::tunnel::ask;
use crate::support::{App, BACKENDS, Talk, TestGateway, Tunnel, eventually, exchange, session};

/// Starts an instance of s2cs for each connection. Killed, by id, when dropped.
struct Activator {
    child: Child,
    socket: PathBuf,
    folder: PathBuf,
}

impl Activator {
    async fn start(folder: &Path, state_dir: &Path) -> Self {
        let socket = folder.join("session.sock");
        let log = fs::File::create(folder.join("activator.log")).expect("a file");
        let child = Command::new("systemd-socket-activate")
            .args(["--accept", "--inetd", "--listen"])
            .arg(&socket)
            .args([S2CS, "session-unit", "--state-dir"])
            .arg(state_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("systemd is not installed: run packaging/test");
        eventually("it listens", || socket.exists()).await;
        Self { child, socket, folder: folder.to_owned() }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("activator.log")).unwrap_or_default()
    }
}

impl Drop for Activator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn parent(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("everybody has one").trim().to_owned()
}

/// A gateway whose proxies systemd makes, and who does.
async fn gateway(flags: &[&str]) -> (TestGateway, Activator) {
    let plan = TestGateway::plan(&[&["--session-units", "session.sock"], flags].concat());
    let activator = Activator::start(plan.folder(), &plan.path("state")).await;
    (plan.start().await, activator)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backend_runs_in_a_unit_of_its_own_and_ends_with_its_session() {
    for backend in BACKENDS {
        let (prod, activator) = gateway(&["--backend", backend]).await;
        let (cons, app) = (TestGateway::start(&[]).await, App::start().await);
        let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 2).await;
        for listener in &tunnel.cons.listeners {
            exchange(listener, First::Consumer).await;
        }
        let (leaders, workers) = session::leaders_and_workers(&prod, &tunnel.uid, Role::Prod);
        for process in &leaders {
            let pid = process.pid();
            assert_eq!(parent(pid.as_raw()), activator.child.id().to_string(), "{backend}: who made it");
            assert_eq!(getpgid(Some(pid)), Ok(pid), "{backend}: it leads a group");
        }
        println!("{backend}: {} units, {} workers", leaders.len(), workers.len());
        session::all_well(&prod.client().await).await;
        tunnel.release(&prod, &cons).await;
        prod.assert_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_are_gone_on_with_and_made_again() {
    let (mut prod, _activator) = gateway(&["--keep-sessions-on-exit"]).await;
    let (cons, app) = (TestGateway::start(&[]).await, App::start().await);
    let tunnel = Tunnel::open(&prod, &cons, &app.endpoint(), 1).await;
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;
    let before = prod.processes();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        prod.end(signal).await;
        talk.goes_on().await;
        prod.run().await;
        assert_eq!(prod.processes(), before, "they are others now");
    }
    talk.goes_on().await;
    let bytes = talk.end().await;
    println!("0 of {bytes} bytes lost over 2 restarts");
    // One that dies comes back, by the same way.
    kill(Pid::from_raw(before[0].0), Signal::SIGKILL).expect("it runs");
    let client = prod.client().await;
    eventually("it is brought back", || {
        let now = prod.processes();
        now.len() == 1 && now != before
    })
    .await;
    let id = session::id(&tunnel.uid, Role::Prod);
    let mut well = false;
    while !well {
        let shown = client.get(&id).await.expect("it is there");
        well = shown.degraded.is_empty() && shown.processes[0].restarts == 1;
    }
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    tunnel.release(&prod, &cons).await;
    prod.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_without_the_word_has_a_unit_do_anything() {
    let (gateway, activator) = gateway(&[]).await;
    let proof = gateway.folder().join("proof");
    let order = |word: &[u8]| {
        let arguments = serde_json::json!({
            "arguments": ["launch", "--", "/usr/bin/touch", proof],
            "folder": gateway.folder(),
            "sockets": "config",
        });
        [word, arguments.to_string().as_bytes(), b"\n"].concat()
    };
    for word in [&[0; 32][..], &[b'\n'; 32], b"", &[7; 31]] {
        let mut stream = UnixStream::connect(&activator.socket).expect("it listens");
        stream.write_all(&order(word)).expect("it reads");
        stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        let mut answer = Vec::new();
        // It may end with what it has not read.
        drop(stream.read_to_end(&mut answer));
        assert_eq!(answer, b"", "it has told its number");
    }
    eventually("all have been looked at", || activator.log().matches("s2cs: failed to").count() == 4).await;
    assert!(activator.log().contains("cannot read the state folder"), "{}", activator.log());
    assert!(!proof.exists(), "it has done what a stranger said");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_socket_a_session_does_not_start_and_says_why() {
    let prod = TestGateway::start(&["--session-units", "nowhere.sock"]).await;
    assert!(prod.stdout().contains("systemctl enable --now scistream-session.socket"), "{}", prod.stdout());
    let app = App::start().await;
    let uid = Uid::random().expect("randomness");
    let asked = ask(&uid, Role::Prod, 1, vec![app.endpoint().parse().expect("an endpoint")]);
    asked.open(&prod.client().await, None).await.expect_err("nobody makes its process");
    prod.client().await.release(&uid).await.ok();
    eventually("nothing is left", || prod.processes().is_empty()).await;
}

//! The operator on the gateway itself: `s2cs drain`, over the socket in the state folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use scistream::client::Gateway;

use crate::support::app::{Echo, First};
use crate::support::command::{Ran, Running, run};
use crate::support::gateway::S2CS;
use crate::support::{App, TestGateway, Tunnel, eventually, exchange};

fn socket(gateway: &TestGateway) -> PathBuf {
    gateway.state_dir().join("control.sock")
}

async fn drain(gateway: &TestGateway, flags: &[&str]) -> Ran {
    let state_dir = gateway.state_dir();
    let state_dir = state_dir.to_str().expect("text");
    run(S2CS, &[&["drain", "--state-dir", state_dir], flags].concat(), Path::new("/")).await
}

fn assert_nobody(ran: &Ran, state_dir: &Path) {
    let said = ran.failed(1);
    assert!(said.contains(&format!("no s2cs runs with the state folder {};", state_dir.display())), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_ends_all_sessions() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    for _ in 0..3 {
        Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    }
    let file = socket(&gateway).symlink_metadata().expect("it is there");
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);

    let start = Instant::now();
    let ran = drain(&gateway, &["--json"]).await;
    println!("6 sessions drained by the operator in {} ms", start.elapsed().as_millis());
    ran.succeeded();
    assert_eq!(ran.json(), serde_json::json!({ "drained": true, "released": 6 }));
    gateway.assert_nothing_left();
    assert!(gateway.client().await.capabilities().await.expect("told").draining);
    assert_eq!(drain(&gateway, &[]).await.succeeded(), "drained; 0 sessions had to be released\n");
}

/// The file says where the state is; what else it says may be wrong here and now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_of_a_control_server_find_it() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let file = gateway.folder().join("s2cs.toml");
    let text = format!("state_dir = {:?}\nserver_crt = \"/not/there\"\n", gateway.state_dir());
    fs::write(&file, text).expect("written");
    let arguments = ["drain", "--config", file.to_str().expect("text")];
    assert_eq!(run(S2CS, &arguments, Path::new("/")).await.succeeded(), "drained; 2 sessions had to be released\n");
    gateway.assert_nothing_left();

    fs::write(&file, "state_dir = 7\n").expect("written");
    let said = run(S2CS, &arguments, Path::new("/")).await.failed(78);
    assert!(said.contains("state_dir"), "{said}");
    println!("found by its settings; settings that cannot be read are refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_there_while_s2cs_runs_and_no_longer() {
    let app = App::start().await;
    let mut gateway = TestGateway::start(&["--keep-sessions-on-exit"]).await;
    let (state, socket) = (gateway.state_dir(), socket(&gateway));
    Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;

    gateway.end(Signal::SIGKILL).await;
    assert!(socket.exists(), "a stale one is left");
    assert_nobody(&drain(&gateway, &[]).await, &state);
    gateway.run().await;
    gateway.end(Signal::SIGTERM).await;
    assert!(!socket.exists(), "left behind, with sessions that run on");
    assert_nobody(&drain(&gateway, &[]).await, &state);
    gateway.run().await;
    gateway.end(Signal::SIGINT).await;
    assert!(!socket.exists(), "left behind");
    let ran = drain(&gateway, &["--json"]).await;
    assert_nobody(&ran, &state);
    assert_eq!(ran.json()["error"]["code"], "NOT_RUNNING");
    gateway.assert_nothing_left();

    gateway.run().await;
    Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    assert_eq!(drain(&gateway, &[]).await.succeeded(), "drained; 2 sessions had to be released\n");
    println!("no socket after SIGTERM and SIGINT, a stale one after SIGKILL replaced");
}

async fn sessions(client: &Gateway) -> usize {
    client.list().await.expect("listed").sessions.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_interrupts_the_wait_leaves_the_gateway_draining() {
    const WAIT: Duration = Duration::from_secs(6);
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let mut echo = Echo::connect(&tunnel.cons.listeners[0]).await;
    let (state, seconds) = (gateway.state_dir(), WAIT.as_secs().to_string());
    let waiting = ["drain", "--wait", &seconds, "--state-dir", state.to_str().expect("text")];

    let start = Instant::now();
    let command = Running::start(S2CS, &waiting, Path::new("/"));
    while !client.capabilities().await.expect("told").draining {}
    command.signal(Signal::SIGINT);
    let said = command.end().await.failed(130);
    assert!(said.contains("the gateway goes on draining"), "{said}");
    assert_eq!(sessions(&client).await, 2, "a session did not outlive the interruption");
    assert!(client.capabilities().await.expect("told").draining);
    echo.say("still here").await;
    eventually("what is left is released", || gateway.listening().is_empty()).await;
    let ended = start.elapsed();
    println!("interrupted; what was left was released {} ms after the command began", ended.as_millis());
    assert!(ended >= WAIT, "released after {ended:?}");
    eventually("nothing is left", || gateway.processes().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_drain_need_not_wait_for_the_first() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let client = gateway.client().await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let state = gateway.state_dir();
    let patient = ["drain", "--wait", "3600", "--state-dir", state.to_str().expect("text")];
    let patient = Running::start(S2CS, &patient, Path::new("/"));
    while !client.capabilities().await.expect("told").draining {}
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    assert_eq!(drain(&gateway, &[]).await.succeeded(), "drained; 2 sessions had to be released\n");
    assert_eq!(patient.end().await.succeeded(), "drained; 0 sessions had to be released\n");
    println!("2 sessions released by the second of two drains");
    gateway.assert_nothing_left();
}

/// Another user's, where the tests run as root; only root can become another user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_on_the_host_are_no_operators() {
    assert!(nix::unistd::geteuid().is_root(), "only root can show what another user cannot do");
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let program = gateway.folder().join("s2cs");
    fs::copy(S2CS, &program).expect("copied");
    for folder in [gateway.folder(), &gateway.state_dir()] {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("ours");
    }
    let state = gateway.state_dir();
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", program.to_str().expect("text")];
    let arguments = [&as_nobody[..], &["drain", "--state-dir", state.to_str().expect("text")]].concat();

    let said = run("setpriv", &arguments, Path::new("/")).await.failed(1);
    assert!(said.contains("Permission denied") && said.contains("do this as root"), "{said}");
    fs::set_permissions(socket(&gateway), Permissions::from_mode(0o666)).expect("ours");
    let said = run("setpriv", &arguments, Path::new("/")).await.failed(1);
    println!("through a socket that is open to all: {}", said.trim());
    // It may be told after who was turned away has gone.
    eventually("the log tells of it", || gateway.stderr().contains("who is not the operator")).await;
    let client = gateway.client().await;
    assert_eq!(sessions(&client).await, 2);
    assert!(!client.capabilities().await.expect("told").draining);
    assert_eq!(drain(&gateway, &[]).await.succeeded(), "drained; 2 sessions had to be released\n");
}

/// Proxies are of the same user, and may open the socket; the file beside it they cannot read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_read_the_state_folder_is_no_operator() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut wrong = UnixStream::connect(socket(&gateway)).expect("the user is the right one");
    wrong.write_all(preface).expect("written");
    wrong.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let answered = wrong.read(&mut [0; 64]);
    assert!(
        matches!(&answered, Ok(0)) || answered.as_ref().is_err_and(|e| e.raw_os_error() == Some(104)),
        "{answered:?}"
    );
    let told = || gateway.stderr().contains("who cannot read the state folder came");
    eventually("the operator is told", told).await;
    // Those who say nothing keep nobody else out.
    let silent: Vec<_> = (0..300).map(|_| UnixStream::connect(socket(&gateway)).expect("a connection")).collect();
    let start = Instant::now();
    assert_eq!(drain(&gateway, &[]).await.succeeded(), "drained; 2 sessions had to be released\n");
    println!("drained in {} ms beside {} who say nothing", start.elapsed().as_millis(), silent.len());
    assert!(!gateway.state_dir().join("control.sock.tmp").exists());
    gateway.assert_nothing_left();
}

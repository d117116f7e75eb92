//! The host lets the controller down: old sessions live, new ones get an honest
//! answer, nothing on disk is torn, and afterwards all is as before.

use std::time::Duration;

use nix::sys::signal::Signal;
use scistream::client::ClientError;
use scistream::session::{Endpoint, Role, Uid};
use scistream::store::Record;
use tonic::Code;

use crate::support::app::First;
use crate::support::hardship::{Filler, Mount, NoDescriptors, NoProcesses, Stopped, nobody_else};
use crate::support::tunnel::ask;
use crate::support::{App, Talk, TestGateway, Tunnel, exchange, session};

/// The caller is told that it is no fault of theirs, in words.
fn assert_honest(what: &str, words: &str, error: &ClientError) {
    let ClientError::Refused { status, .. } = error else { panic!("{what}: no answer: {error}") };
    assert!(matches!(status.code(), Code::ResourceExhausted | Code::Internal), "{what}: {status}");
    assert!(status.message().contains(words), "{what}: {status}");
    println!("{what}: {:?}: {}", status.code(), status.message());
}

/// What a caller is told.
struct Told<'a> {
    /// By REQ, HELLO or UPDATE of a new session.
    new: &'a str,
    /// By UPDATE of a live one.
    moved: &'a str,
}

/// The journal cannot be written.
const NO_JOURNAL: &str = "failed to write the session's journal";

async fn endured<H>(what: &str, told: Told<'_>, gateway: &mut TestGateway, begin: impl FnOnce(&TestGateway) -> H) {
    let (app, other) = (App::start().await, App::start().await);
    let tunnel = Tunnel::open(gateway, gateway, &app.endpoint(), 1).await;
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;
    let client = gateway.client().await;
    let folder = session::folder(gateway, &tunnel.uid, Role::Prod);
    let record = Record::read(&folder).expect("a journal");

    let hardship = begin(gateway);
    let uid = Uid::random().expect("randomness");
    let request = ask(&uid, Role::Prod, 1, vec![endpoint(&app)]);
    assert_honest(&format!("{what}: REQ"), told.new, &request.open(&client, None).await.expect_err("a new session"));
    let moved = client.update(&tunnel.uid, Role::Prod, vec![other.endpoint()]).await;
    assert_honest(&format!("{what}: UPDATE"), told.moved, &moved.expect_err("a move"));
    talk.goes_on().await;
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    assert_eq!(other.connections(), 0, "{what}: moved all the same");
    assert_eq!(Record::read(&folder).expect("a whole journal"), record, "{what}: the journal says other things");
    drop(hardship);

    client.update(&tunnel.uid, Role::Prod, vec![other.endpoint()]).await.expect("moved");
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    assert_eq!(other.connections(), 1, "{what}: not moved");
    let new = Tunnel::open(gateway, gateway, &app.endpoint(), 1).await;
    exchange(&new.cons.listeners[0], First::Producer).await;
    gateway.end(Signal::SIGKILL).await;
    gateway.run().await;
    assert_eq!(session::all_well(&gateway.client().await).await.len(), 4);
    talk.goes_on().await;
    let bytes = talk.end().await;
    println!("{what}: 0 of {bytes} bytes of an old session lost or wrong; 4 of 4 sessions go on afterwards");
    tunnel.release(gateway, gateway).await;
    new.release(gateway, gateway).await;
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk() {
    let mut gateway = TestGateway::start(&[]).await;
    gateway.end(Signal::SIGTERM).await;
    let disk = Mount::small(&gateway.state_dir()).expect("run this as root, where mounts are allowed");
    gateway.run().await;
    // The journal of a session that lives has room for a line in what it has of the disk.
    let told = Told { new: "failed to write the session's key", moved: "write the configuration for native" };
    endured("a full disk", told, &mut gateway, |gateway| Filler::of(&gateway.state_dir())).await;
    gateway.end(Signal::SIGTERM).await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_cannot_be_written() {
    let mut gateway = TestGateway::start(&[]).await;
    let probe = tempfile::tempdir().expect("a folder");
    Mount::read_only(probe.path()).expect("run this as root, where mounts are allowed");
    let begin = |gateway: &TestGateway| Mount::read_only(&gateway.state_dir()).expect("mounted");
    let told = Told { new: "failed to make the session's folder", moved: NO_JOURNAL };
    endured("a state folder that cannot be written", told, &mut gateway, begin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_descriptors_left() {
    let mut gateway = TestGateway::start(&[]).await;
    let told = Told { new: "file descriptors left", moved: NO_JOURNAL };
    endured("no descriptors left", told, &mut gateway, |gateway| NoDescriptors::of(gateway.pid())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_process_and_no_thread_can_be_started() {
    assert!(nix::unistd::geteuid().is_root(), "only root can run s2cs as a user of its own");
    for backend in ["native", "haproxy", "nginx"] {
        let user = nobody_else();
        let mut gateway = TestGateway::plan(&["--backend", backend]).user(user).start().await;
        let words = "the gateway may start no more processes";
        let told = Told { new: words, moved: words };
        endured(&format!("{backend}: no processes left"), told, &mut gateway, |gateway| {
            NoProcesses::of(gateway.pid(), user)
        })
        .await;
    }
}

/// The runtime makes threads for files, and lets them go when they have had nothing to do for 10 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_thread_can_be_started_after_a_quiet_time() {
    assert!(nix::unistd::geteuid().is_root(), "only root can run s2cs as a user of its own");
    let (app, user) = (App::start().await, nobody_else());
    let gateway = TestGateway::plan(&[]).user(user).start().await;
    let client = gateway.client().await;
    // That it keeps them shows only once the time is over.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let none = NoProcesses::of(gateway.pid(), user);
    for _ in 0..5 {
        let request = ask(&Uid::random().expect("randomness"), Role::Prod, 1, vec![endpoint(&app)]);
        let error = request.open(&client, None).await.expect_err("a new session");
        assert_honest("no thread after a quiet time: REQ", "the gateway may start no more processes", &error);
    }
    drop(none);
    Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

fn endpoint(app: &App) -> Endpoint {
    app.endpoint().parse().expect("an endpoint")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_stands_still() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;
    let client = gateway.client().await;
    let uid = Uid::random().expect("randomness");
    let request = ask(&uid, Role::Prod, 1, vec![endpoint(&app)]);

    let stopped = Stopped::at(gateway.pid());
    let asked = tokio::spawn({
        let client = client.clone();
        async move { request.open(&client, None).await }
    });
    talk.goes_on().await;
    exchange(&tunnel.cons.listeners[0], First::Consumer).await;
    assert!(!asked.is_finished(), "a controller that stands still has answered");
    drop(stopped);

    asked.await.expect("no panic").expect("answered once it goes on");
    let bytes = talk.end().await;
    println!("a controller that stands still: 0 of {bytes} bytes lost or wrong; a call that waited was answered");
    client.release(&uid).await.expect("released");
    tunnel.release(&gateway, &gateway).await;
    gateway.assert_nothing_left();
}

//! The host lets the controller down: old sessions live, new ones get an honest
//! answer, nothing on disk is torn, and afterwards all is as before.
//!
//! Not tried here: fork refused, because no limit on processes binds root; and a
//! clock that jumps, because there is one for the whole host.

use nix::sys::signal::Signal;
use scistream::client::ClientError;
use scistream::session::{Role, Uid};
use scistream::store::Record;
use tonic::Code;

use crate::support::app::First;
use crate::support::hardship::{Filler, Mount, NoDescriptors, Stopped};
use crate::support::tunnel::ask;
use crate::support::{App, Talk, TestGateway, Tunnel, exchange, session};

/// The caller is told that it is no fault of theirs, in words.
fn assert_honest(what: &str, words: &str, error: &ClientError) {
    let ClientError::Refused { status, .. } = error else { panic!("{what}: no answer: {error}") };
    assert!(matches!(status.code(), Code::ResourceExhausted | Code::Internal), "{what}: {status}");
    assert!(status.message().contains(words), "{what}: {status}");
    println!("{what}: {:?}: {}", status.code(), status.message());
}

async fn endured<H>(what: &str, words: &str, gateway: &mut TestGateway, begin: impl FnOnce(&TestGateway) -> H) {
    let (app, other) = (App::start().await, App::start().await);
    let tunnel = Tunnel::open(gateway, gateway, &app.endpoint(), 1).await;
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;
    let client = gateway.client().await;
    let folder = session::folder(gateway, &tunnel.uid, Role::Prod);
    let record = Record::read(&folder).expect("a journal");

    let hardship = begin(gateway);
    let uid = Uid::random().expect("randomness");
    let request = ask(&uid, Role::Prod, 1, vec![app.endpoint().parse().expect("an endpoint")]);
    assert_honest(&format!("{what}: REQ"), words, &request.open(&client, None).await.expect_err("a new session"));
    let moved = client.update(&tunnel.uid, Role::Prod, vec![other.endpoint()]).await;
    assert_honest(&format!("{what}: UPDATE"), "failed to write the session's journal", &moved.expect_err("a move"));
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
    let Some(disk) = Mount::small(&gateway.state_dir()) else {
        println!("a full disk: SKIPPED: this host lets nobody mount");
        return;
    };
    gateway.run().await;
    endured("a full disk", "failed to write the session's key", &mut gateway, |gateway| {
        Filler::of(&gateway.state_dir())
    })
    .await;
    gateway.end(Signal::SIGTERM).await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_cannot_be_written() {
    let mut gateway = TestGateway::start(&[]).await;
    let probe = tempfile::tempdir().expect("a folder");
    if Mount::read_only(probe.path()).is_none() {
        println!("a state folder that cannot be written: SKIPPED: this host lets nobody mount");
        return;
    }
    let begin = |gateway: &TestGateway| Mount::read_only(&gateway.state_dir()).expect("mounted");
    endured("a state folder that cannot be written", "failed to make the session's folder", &mut gateway, begin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_descriptors_left() {
    let mut gateway = TestGateway::start(&[]).await;
    endured("no descriptors left", "file descriptors left", &mut gateway, |gateway| NoDescriptors::of(gateway.pid()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_stands_still() {
    let app = App::start().await;
    let gateway = TestGateway::start(&[]).await;
    let tunnel = Tunnel::open(&gateway, &gateway, &app.endpoint(), 1).await;
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;
    let client = gateway.client().await;
    let uid = Uid::random().expect("randomness");
    let request = ask(&uid, Role::Prod, 1, vec![app.endpoint().parse().expect("an endpoint")]);

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

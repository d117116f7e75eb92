//! SIGHUP: a configuration that is good takes the place of the one in force, as a whole;
//! one that is not changes nothing. With the real programs, and streams that run.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use scistream::client::{Ask, Gateway, Security};
use scistream::session::{Role, Uid};
use tonic::Code;

use crate::support::app::Echo;
use crate::support::authority::{Authority, ClientFiles};
use crate::support::authorization_server::AuthorizationServer;
use crate::support::gateway::S2CS;
use crate::support::guarded::{ask, audit, client, introspected, plan, status, token};
use crate::support::tunnel::open_cons;
use crate::support::{App, BACKENDS, Talk, TestGateway, Tunnel, eventually, session};

const OPERATORS: &str = "[[allow]]\nname = \"operators\"\nwho = [\"user:olga@facility.example\"]\noperator = true\n";
const BOTH: &str = "[[allow]]\nname = \"alice\"\nwho = [\"user:alice@facility.example\"]\ntargets = [\"127.0.0.0/8\"]\n\
                    [[allow]]\nname = \"beamline\"\nwho = [\"group:beamline-7\"]\ntargets = [\"127.0.0.0/8\"]\n";

fn prod(app: &App) -> Ask {
    ask(&Uid::random().expect("randomness"), Role::Prod, &app.endpoint())
}

/// A session of somebody's, and its listener.
async fn open(client: &Gateway, asked: &Ask) -> String {
    asked.open(client, None).await.unwrap_or_else(|e| panic!("{}", e.story())).listeners[0].clone()
}

fn new_certificate(folder: &Path) {
    let made = Command::new(S2CS)
        .args(["cert", "--force", "--host", "localhost", "--ip", "127.0.0.1"])
        .current_dir(folder)
        .output()
        .expect("s2cs runs");
    assert!(made.status.success(), "{made:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_new_rules_do_not_let_be_ends_and_the_rest_goes_on() {
    let server = AuthorizationServer::start().await;
    let flags = ["--listen", "0.0.0.0:0", "--wan-ip", "127.0.0.1", "--lan-ip", "127.0.0.1", "--insecure"];
    let rules = |rules: &str| introspected(&server) + OPERATORS + rules;
    let gateway = plan(&flags, &rules(BOTH)).start().await;
    let (cons, app, other) = (TestGateway::start(&[]).await, App::start().await, App::start().await);
    let alice = client(&gateway, &token(&server, "alice").await).await;
    let bob = client(&gateway, &token(&server, "bob").await).await;
    let olga = client(&gateway, &token(&server, "olga").await).await;

    let mut talks = Vec::new();
    for _ in 0..2 {
        let kept = prod(&app);
        let listener = open(&alice, &kept).await;
        let half = open_cons(&kept.uid, &cons, vec![listener], 1).await;
        talks.push(Talk::start(&half.listeners[0]).await);
    }
    let lapses = prod(&app);
    let listener = open(&bob, &lapses).await;
    let half = open_cons(&lapses.uid, &cons, vec![listener], 1).await;
    let mut cut = Echo::connect(&half.listeners[0]).await;
    cut.say("it serves").await;
    // Announced, and not served yet.
    let waits = prod(&other);
    waits.reserve(&alice).await.expect("reserved");
    let processes = gateway.processes();
    let events = olga.list().await.expect("listed").sequence;

    let only_alice = format!(
        "[[allow]]\nname = \"less\"\nwho = [\"user:alice@facility.example\"]\ntargets = [\"{}\"]\n",
        app.endpoint()
    );
    gateway.reread(&rules(&only_alice)).await;
    for (asked, why) in [(&lapses, "no rule of this gateway is for its owner any more"), (&waits, "is not allowed")] {
        let id = session::id(&asked.uid, Role::Prod);
        let mut watched = olga.watch(events, &id).await.expect("kept");
        let event = session::event(&olga, &mut watched, |event| event.what == "released").await;
        let told = event.session.expect("it tells of one").end;
        assert!(told.starts_with("it may not go on by the gateway's policy: ") && told.contains(why), "{told}");
    }
    cut.try_say("it serves still").await.expect_err("a stream that may not be goes on");
    assert_eq!(status("bob", prod(&app).open(&bob, None).await).code(), Code::PermissionDenied);
    for talk in &talks {
        talk.goes_on().await;
    }
    session::all_well(&olga).await;
    let left = gateway.processes();
    assert!(left.len() == 2 && left.iter().all(|process| processes.contains(process)), "{processes:?}, then {left:?}");
    let judged = audit(&gateway).into_iter().filter(|line| line["call"] == "REVIEW").count();
    assert_eq!(judged, 4, "each session is judged once");

    // And back: who may again, may.
    gateway.reread(&rules(BOTH)).await;
    let again = prod(&app);
    open(&bob, &again).await;
    let mut bytes = 0;
    for talk in talks {
        bytes += talk.end().await;
    }
    println!("0 of {bytes} bytes lost over 2 reloads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_known_by_the_providers_that_are_named_now() {
    let gateway = plan(&[], "").start().await;
    let app = App::start().await;
    open(&gateway.client().await, &prod(&app)).await;
    let server = AuthorizationServer::start().await;
    gateway.reread(&(introspected(&server) + OPERATORS + BOTH)).await;
    let refused = status("a stranger", gateway.client().await.list().await);
    assert_eq!(refused.code(), Code::Unauthenticated, "{}", refused.message());
    eventually("what nobody's name is on has ended", || gateway.processes().is_empty()).await;
    let alice = client(&gateway, &token(&server, "alice").await).await;
    open(&alice, &prod(&app)).await;
    // The file is good, its secret is not there: nothing of it counts.
    let missing = introspected(&server).replace("\"secret\"", "\"nothing\"") + OPERATORS;
    gateway.reread(&missing).await;
    assert!(gateway.stderr().contains("client_secret_file nothing"), "{}", gateway.stderr());
    assert_eq!(alice.list().await.expect("known still").sessions.len(), 1);
    gateway.reread("").await;
    gateway.client().await.list().await.expect("anyone is served again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_read_again_and_bad_ones_are_not_taken() {
    let mut gateway = TestGateway::start(&[]).await;
    let (cons, app) = (TestGateway::start(&[]).await, App::start().await);
    let tunnel = Tunnel::open(&gateway, &cons, &app.endpoint(), 1).await;
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;
    let (before, folder) = (gateway.client().await, gateway.folder().to_owned());
    let old = folder.join("old.crt");
    fs::copy(gateway.certificate(), &old).expect("copied");
    let trusts = async |certificate: &Path| {
        let security = Security::Tls(Some(certificate.to_owned()));
        match Gateway::connect(gateway.address(), &security).await {
            Ok(client) => client.list().await.is_ok(),
            Err(_) => false,
        }
    };
    // A key of another certificate, none at all, and no certificate.
    let key = fs::read(folder.join("server.key")).expect("read");
    let other = tempfile::tempdir().expect("a folder");
    new_certificate(other.path());
    let others = fs::read(other.path().join("server.key")).expect("read");
    for (file, text, why) in [
        ("server.key", &others[..], "key values mismatch"),
        ("server.key", b"nonsense", "use the private key"),
        ("server.crt", b"nonsense", "use the certificate"),
    ] {
        let good = fs::read(folder.join(file)).expect("read");
        fs::write(folder.join(file), text).expect("written");
        reread(&gateway, false).await;
        assert!(gateway.stderr().contains(why), "{why}: {}", gateway.stderr());
        fs::write(folder.join(file), good).expect("written");
        assert!(trusts(&old).await, "{why}: the old one is in force");
    }
    assert_eq!(fs::read(folder.join("server.key")).expect("read"), key);
    new_certificate(&folder);
    assert!(trusts(&old).await, "not before it is told");
    reread(&gateway, true).await;
    assert!(!trusts(&old).await, "the old certificate is shown still");
    assert!(trusts(&folder.join("server.crt")).await);
    before.list().await.expect("a connection that stands is left alone");
    let bytes = talk.end().await;
    println!("0 of {bytes} bytes lost over 4 reloads");
    gateway.end(Signal::SIGTERM).await;
    gateway.run().await;
}

/// Has it read the same configuration again.
async fn reread(gateway: &TestGateway, good: bool) {
    let before = gateway.reloads();
    kill(gateway.pid(), Signal::SIGHUP).expect("our child");
    eventually("it is read", || gateway.reloads() != before).await;
    let (taken, refused) = gateway.reloads();
    assert_eq!((taken - before.0 == 1, refused > before.1), (good, !good), "{}", gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_an_authority_vouched_for_is_known_for_as_long_as_it_is_trusted() {
    let (first, second) = (Authority::new("First"), Authority::new("Second"));
    let rules = "client_ca = \"clients.crt\"\n[[allow]]\nwho = [\"user:alice@facility.example\"]\n";
    let gateway = TestGateway::plan(&["--config", "s2cs.toml"])
        .file("s2cs.toml", rules)
        .file("clients.crt", &first.pem())
        .start()
        .await;
    let folder = gateway.folder();
    let connect = async |files: &ClientFiles| {
        let (certificate, key) = (files.certificate.clone(), files.key.clone());
        let security = Security::Mutual { trusted: Some(gateway.certificate()), certificate, key };
        Gateway::connect(gateway.address(), &security).await
    };
    let alice = connect(&first.vouch(folder, "alice", (-1, 30))).await.expect("let in");
    alice.list().await.expect("known");
    reread(&gateway, true).await;
    alice.list().await.expect("the same authority is trusted");
    fs::write(folder.join("clients.crt"), second.pem()).expect("written");
    reread(&gateway, true).await;
    assert_eq!(status("alice", alice.list().await).code(), Code::Unauthenticated, "on the connection that stands");
    let alice = connect(&second.vouch(folder, "alice", (-1, 30))).await.expect("let in");
    alice.list().await.expect("known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_are_those_of_today_and_what_needs_a_restart_waits_for_one() {
    let limit = |kilobytes: u32| format!("max_bandwidth = {kilobytes}\n");
    let gateway = plan(&[], &limit(50_000)).start().await;
    let (cons, app) = (TestGateway::start(&[]).await, App::start().await);
    let tunnel = Tunnel::open(&gateway, &cons, &app.endpoint(), 1).await;
    let talk = Talk::start(&tunnel.cons.listeners[0]).await;
    let (client, id) = (gateway.client().await, session::id(&tunnel.uid, Role::Prod));
    let file = session::folder(&gateway, &tunnel.uid, Role::Prod).join("s2ds.toml");
    let (pids, events) = (gateway.processes(), client.list().await.expect("listed").sequence);
    gateway.reread(&(limit(20_000) + "listen = \"127.0.0.1:1\"\nmax_sessions = 1\n")).await;
    eventually("s2ds is told", || fs::read_to_string(&file).is_ok_and(|text| text.contains("20000"))).await;
    let mut watched = client.watch(events, &id).await.expect("kept");
    session::event(&client, &mut watched, |event| {
        event.session.as_ref().is_some_and(|session| (session.bandwidth, session.revision) == (20_000, 2))
    })
    .await;
    assert!(gateway.stderr().contains("needs a restart: it stays as it was until then setting=\"listen\""));
    let full = status("one more", prod(&app).open(&gateway.client().await, None).await);
    assert_eq!(full.code(), Code::ResourceExhausted, "the rest counts: {}", full.message());
    assert_eq!(gateway.processes(), pids);
    let bytes = talk.end().await;
    println!("0 of {bytes} bytes lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_of_any_backend_minds_a_hundred_reloads() {
    let rules = "[[allow]]\nwho = [\"user:alice@facility.example\"]\ntargets = [\"127.0.0.0/8\"]\n\
                 remotes = [\"127.0.0.0/8\"]\nbackends = [\"native\", \"stunnel\", \"haproxy\", \"nginx\"]\n";
    let server = AuthorizationServer::start().await;
    let good = introspected(&server) + rules;
    let (gateway, app) = (plan(&[], &good).start().await, App::start().await);
    let alice = client(&gateway, &token(&server, "alice").await).await;
    let mut talks = Vec::new();
    for backend in BACKENDS {
        let uid = Uid::random().expect("randomness");
        let backend = Some(backend.to_owned());
        let asked = Ask { backend: backend.clone(), ..ask(&uid, Role::Prod, &app.endpoint()) };
        let listener = open(&alice, &asked).await;
        let asked = Ask { backend, ..ask(&uid, Role::Cons, "localhost:1") };
        let half = asked.open(&alice, Some(vec![listener])).await.unwrap_or_else(|e| panic!("{}", e.story()));
        talks.push(Talk::start(&half.listeners[0]).await);
    }
    let processes = gateway.processes();
    for round in 0..100 {
        let text = if round % 2 == 0 { format!("{good}max_sessions = {round}0000\n[[[") } else { good.clone() };
        fs::write(gateway.folder().join("s2cs.toml"), text).expect("written");
        reread(&gateway, round % 2 != 0).await;
    }
    for talk in &talks {
        talk.goes_on().await;
    }
    assert_eq!(session::all_well(&alice).await.len(), 8);
    assert_eq!(gateway.processes(), processes, "they are others now");
    let mut bytes = 0;
    for talk in talks {
        bytes += talk.end().await;
    }
    println!("0 of {bytes} bytes lost over 100 reloads, 50 of them of a bad file");
}

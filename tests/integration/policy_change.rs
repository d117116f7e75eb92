//! A gateway that starts with another policy ends what that does not let be, and
//! nothing else: with the real programs, over a restart of s2cs.

use std::fs;

use nix::sys::signal::Signal;
use scistream::client::{Ask, Gateway};
use scistream::session::{Protection, Role, Uid};
use scistream_proto::gateway::Session;
use serde_json::Value;
use tonic::Code;

use crate::support::app::{Echo, First};
use crate::support::authorization_server::AuthorizationServer;
use crate::support::command::{Ran, run};
use crate::support::gateway::{S2UC, TestGateway};
use crate::support::guarded::{ask, audit, client, introspected, plan, status, token};
use crate::support::{App, BACKENDS, Talk, exchange, session, tunnel};

const OPERATORS: &str = "[[allow]]\nname = \"operators\"\nwho = [\"user:olga@facility.example\"]\noperator = true\n";
const WIDE: &str = r#"
[[allow]]
name = "alice"
who = ["user:alice@facility.example"]
targets = ["127.0.0.0/8"]
remotes = ["127.0.0.0/8"]
protections = ["integrity"]
backends = ["nginx"]

[[allow]]
name = "beamline"
who = ["group:beamline-7"]
targets = ["127.0.0.0/8"]
"#;

struct Site {
    server: AuthorizationServer,
    gateway: TestGateway,
}

impl Site {
    /// A gateway that others can reach, so that nothing on loopback is a target but by a
    /// rule, and that leaves its sessions running at SIGTERM.
    async fn start(rules: &str, flags: &[&str]) -> Self {
        let server = AuthorizationServer::start().await;
        let ours = ["--listen", "0.0.0.0:0", "--wan-ip", "127.0.0.1", "--lan-ip", "127.0.0.1", "--insecure"];
        let flags = [&ours[..], &["--keep-sessions-on-exit"], flags].concat();
        let gateway = plan(&flags, &Self::configuration(&server, rules)).start().await;
        Self { server, gateway }
    }

    fn configuration(server: &AuthorizationServer, rules: &str) -> String {
        introspected(server) + OPERATORS + rules
    }

    async fn client(&self, person: &str) -> Gateway {
        client(&self.gateway, &token(&self.server, person).await).await
    }

    /// Opens a session; answers with its short id and its listener.
    async fn open(&self, person: &str, ask: &Ask, targets: Option<Vec<String>>) -> (String, String) {
        let half = ask.open(&self.client(person).await, targets).await;
        let half = half.unwrap_or_else(|e| panic!("{person}'s: {}", e.story()));
        (session::id(&ask.uid, ask.role), half.listeners[0].clone())
    }

    /// Starts s2cs again with these rules, after `signal`.
    async fn again(&mut self, rules: &str, signal: Signal) {
        again(&mut self.gateway, &Self::configuration(&self.server, rules), signal).await;
    }

    /// s2uc with a person's token.
    async fn s2uc(&self, person: &str, command: &[&str]) -> Ran {
        let file = self.gateway.folder().join(format!("{person}.token"));
        fs::write(&file, token(&self.server, person).await).expect("written");
        let (address, file) = (self.gateway.address().to_string(), file.display().to_string());
        let ours = ["--s2cs", &address, "--ssl", "False", "--token-file", &file];
        run(S2UC, &[command, &ours].concat(), self.gateway.folder()).await
    }
}

/// Starts s2cs again with this configuration, after `signal`.
async fn again(gateway: &mut TestGateway, configuration: &str, signal: Signal) {
    gateway.end(signal).await;
    fs::write(gateway.folder().join("s2cs.toml"), configuration).expect("written");
    gateway.run().await;
}

fn prod(app: &App, change: impl FnOnce(&mut Ask)) -> Ask {
    let mut asked = ask(&Uid::random().expect("randomness"), Role::Prod, &app.endpoint());
    asked.sources = ["127.0.0.0/8".parse().expect("a network")].into_iter().collect();
    change(&mut asked);
    asked
}

/// The consumer's gateway, whose policy stays as it is.
async fn talk_through(uid: &Uid, cons: &TestGateway, listener: &str) -> (Talk, String) {
    let half = tunnel::open_cons(uid, cons, vec![listener.into()], 1).await;
    (Talk::start(&half.listeners[0]).await, half.listeners[0].clone())
}

fn ended(sessions: &[Session], id: &str) -> String {
    let found = sessions.iter().find(|session| session.id == id).unwrap_or_else(|| panic!("{id} is not told of"));
    assert_eq!(found.state, "released", "{found:?}");
    found.end.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_rules_no_longer_let_be_ends_and_says_why() {
    let mut site = Site::start(WIDE, &[]).await;
    let cons = TestGateway::start(&[]).await;
    let (app, other) = (App::start().await, App::start().await);
    let kept = prod(&app, |_| {});
    let (kept_id, listener) = site.open("alice", &kept, None).await;
    let (talk, consumer) = talk_through(&kept.uid, &cons, &listener).await;
    let moved = prod(&other, |_| {});
    let (moved_id, _) = site.open("alice", &moved, Some(vec![app.endpoint()])).await;

    let target = prod(&other, |_| {});
    let (target_id, listener) = site.open("alice", &target, None).await;
    let half = tunnel::open_cons(&target.uid, &cons, vec![listener], 1).await;
    let mut cut = Echo::connect(&half.listeners[0]).await;
    cut.say("it serves").await;
    let mut ends = vec![(target_id, format!("its target {} is not allowed any more", other.endpoint()))];
    let remote = vec![consumer.clone()];
    for (person, asked, targets, why) in [
        ("alice", prod(&app, |a| a.protection = Some(Protection::Integrity)), None, "protection integrity any more"),
        ("alice", prod(&app, |a| a.backend = Some("nginx".into())), None, "choose the backend \"nginx\" any more"),
        ("alice", prod(&app, |a| a.connections = 3), None, "have 3 connections in one session, but at most 2"),
        ("alice", prod(&app, |a| a.sources = Default::default()), None, "take connections from 0.0.0.0/0 any more"),
        ("alice", ask(&Uid::random().expect("randomness"), Role::Cons, "x:1"), Some(remote), "have CONS sessions"),
        ("bob", prod(&app, |_| {}), None, "no rule of this gateway is for its owner any more"),
    ] {
        ends.push((site.open(person, &asked, targets).await.0, why.into()));
    }
    // Announced, and not served yet.
    let waiting = prod(&other, |_| {});
    waiting.reserve(&site.client("alice").await).await.expect("reserved");
    ends.push((session::id(&waiting.uid, Role::Prod), "is not allowed any more".into()));
    let olga = site.client("olga").await;
    let before = olga.list().await.expect("listed");
    assert_eq!(before.sessions.len(), ends.len() + 2);

    let narrow = format!(
        "[[allow]]\nname = \"less\"\nwho = [\"user:alice@facility.example\"]\nroles = [\"PROD\"]\n\
         targets = [\"{}\"]\nsources = [\"127.0.0.0/8\"]\nmax_connections = 2\nmax_lifetime = 3600\n",
        app.endpoint()
    );
    site.again(&narrow, Signal::SIGTERM).await;

    assert_eq!(site.gateway.listening().len(), 2, "ports of sessions that ended are left");
    assert_eq!(fs::read_dir(site.gateway.sessions_dir()).expect("sessions").count(), 2, "folders are left");
    cut.try_say("it serves still").await.expect_err("a stream that may not be goes on");
    talk.goes_on().await;
    let olga = site.client("olga").await;
    let all = olga.list_with_ended().await.expect("listed");
    let events = site.s2uc("olga", &["list", "--json", "--ended"]).await.json();
    for (id, why) in &ends {
        let told = ended(&all.sessions, id);
        assert!(told.starts_with("it may not go on by the gateway's policy: ") && told.contains(why), "{told}");
        assert!(site.gateway.stderr().contains(why.as_str()), "{why} is not in the log");
        let listed = events["sessions"].as_array().expect("sessions");
        assert!(listed.iter().any(|session| session["id"] == **id && session["end"] == *told), "{listed:#?}");
        let shown = site.s2uc("olga", &["show", id]).await;
        assert!(shown.succeeded().contains(&format!("end         {told}")), "{shown:?}");
        println!("{told}");
    }
    // Whose it was is told too; whose it was not is not.
    let bobs = ends.iter().find(|(_, why)| why.contains("is for its owner")).expect("bob's");
    assert!(site.s2uc("bob", &["list", "--ended"]).await.succeeded().contains(&bobs.1));
    let alices = site.client("alice").await.list_with_ended().await.expect("listed").sessions;
    assert_eq!(alices.len(), all.sessions.len() - 1, "alice is told of bob's");

    // Who watches on from before the restart has missed nothing.
    let mut watched = olga.watch(before.sequence, "").await.expect("the events since are kept");
    for (id, why) in &ends {
        let mut again = olga.watch(before.sequence, id).await.expect("kept");
        let event = session::event(&olga, &mut again, |event| event.what.starts_with("ending: ")).await;
        assert!(event.what.contains(why), "{}", event.what);
    }
    let first = session::event(&olga, &mut watched, |_| true).await;
    assert_eq!(first.sequence, before.sequence + 1);

    // Written down before it happened, and by which rule the others go on.
    let lines = audit(&site.gateway);
    let about = |id: &str, wanted: &dyn Fn(&Value) -> bool| {
        lines
            .iter()
            .rposition(|line| line["session"] == *id && wanted(line))
            .unwrap_or_else(|| panic!("{id}: {lines:#?}"))
    };
    for (id, why) in &ends {
        let judged = about(id, &|line| line["call"] == "REVIEW" && line["allowed"] == false);
        let ending = about(id, &|line| line["why"].as_str().is_some_and(|what| what.starts_with("ending: ")));
        let released = about(id, &|line| line["why"] == "released");
        assert!(judged < ending && ending < released, "{judged} {ending} {released}");
        assert!(lines[judged]["why"].as_str().is_some_and(|told| told.contains(why)), "{}", lines[judged]);
        assert!(lines[judged]["owner"].as_str().is_some_and(|owner| owner.starts_with("facility:")));
    }
    for id in [&kept_id, &moved_id] {
        let judged = &lines[about(id, &|line| line["call"] == "REVIEW")];
        assert_eq!((&judged["allowed"], &judged["rule"]), (&true.into(), &"less".into()));
    }

    // What goes on, does so within what is granted today.
    let alice = site.client("alice").await;
    let seen = session::all_well(&alice).await;
    assert_eq!(seen.len(), 2);
    let hour = u128::from(seen[0].expires_ms);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    assert!(hour > now && hour <= now + 3_600_000, "it lasts longer than the rule says");
    let refused = status("where it was announced", alice.update(&moved.uid, Role::Prod, vec![]).await);
    assert_eq!(refused.code(), Code::FailedPrecondition, "{}", refused.message());
    let bytes = talk.end().await;
    exchange(&consumer, First::Consumer).await;
    println!("{} sessions ended, 2 went on, 0 of {bytes} bytes lost or wrong", ends.len());
    for uid in [&kept.uid, &moved.uid] {
        alice.release(uid).await.expect("released");
    }
    site.gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_it_whatever_served_it() {
    for backend in BACKENDS {
        let mut site = Site::start(WIDE, &["--backend", backend]).await;
        let (app, cons) = (App::start().await, TestGateway::start(&[]).await);
        let asked = prod(&app, |a| a.connections = 2);
        let (id, listener) = site.open("bob", &asked, None).await;
        let half = tunnel::open_cons(&asked.uid, &cons, vec![listener], 1).await;
        let mut echo = Echo::connect(&half.listeners[0]).await;
        echo.say("it serves").await;
        let processes = site.gateway.processes().len();
        site.again("", Signal::SIGKILL).await;
        site.gateway.assert_nothing_left();
        echo.try_say("and still").await.expect_err("a stream that may not be goes on");
        let all = site.client("olga").await.list_with_ended().await.expect("listed").sessions;
        assert!(ended(&all, &id).contains("no rule of this gateway is for its owner"));
        println!("{backend}: {processes} processes ended, nothing left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_rules_let_be_goes_on_though_no_provider_answers() {
    let site = Site::start(WIDE, &[]).await;
    let cons = TestGateway::start(&[]).await;
    let app = App::start().await;
    let mut talks = Vec::new();
    for person in ["alice", "bob"] {
        let asked = prod(&app, |_| {});
        let (_, listener) = site.open(person, &asked, None).await;
        talks.push(talk_through(&asked.uid, &cons, &listener).await.0);
    }
    let Site { server, mut gateway } = site;
    let (processes, port) = (gateway.processes(), server.port());
    let same = Site::configuration(&server, WIDE);
    let wider = format!("{same}\n[[allow]]\nname = \"all\"\nwho = [\"anyone\"]\n");
    let mut server = Some(server);
    for configuration in [&same, &wider] {
        // First it accepts and is silent, then it is gone. Bob is of the group still, as far as anybody can tell.
        match configuration == &same {
            true => server.as_ref().expect("it runs").pause(),
            false => server.take().expect("it runs").end().await,
        }
        again(&mut gateway, configuration, Signal::SIGKILL).await;
        assert_eq!(gateway.processes(), processes, "they are others now");
        for talk in &talks {
            talk.goes_on().await;
        }
    }
    let site = Site { server: AuthorizationServer::start_on(port).await, gateway };
    let olga = site.client("olga").await;
    assert_eq!(session::all_well(&olga).await.len(), 2);
    assert_eq!(olga.list_with_ended().await.expect("listed").sessions.len(), 2, "one has ended");
    let mut bytes = 0;
    for talk in talks {
        bytes += talk.end().await;
    }
    println!("2 streams went on over 2 restarts without their provider: 0 of {bytes} bytes lost or wrong");
    let reviewed = audit(&site.gateway).into_iter().filter(|line| line["call"] == "REVIEW");
    assert_eq!(reviewed.inspect(|line| assert_eq!(line["allowed"], true, "{line}")).count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_authentication_nothing_changes() {
    let mut gateway = plan(&[], "").start().await;
    let app = App::start().await;
    let weak = Uid::parse("4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3").expect("a UUID of version 1");
    let half = ask(&weak, Role::Prod, &app.endpoint()).open(&gateway.client().await, None).await.expect("open");
    let cons = TestGateway::start(&[]).await;
    let (talk, _) = talk_through(&weak, &cons, &half.listeners[0]).await;
    let less = "weak_keys = \"refuse\"\nsite_networks = [\"10.0.0.0/8\"]\nwan_sources = [\"10.0.0.0/8\"]\n\
                max_lifetime = 60.0\n";
    again(&mut gateway, less, Signal::SIGKILL).await;
    talk.goes_on().await;
    let client = gateway.client().await;
    let seen = session::all_well(&client).await;
    assert_eq!((seen.len(), seen[0].expires_ms), (1, 0));
    let refused = status("a new one", ask(&weak, Role::Cons, "x:1").open(&client, None).await);
    assert_eq!(refused.code(), Code::InvalidArgument, "the new settings are not in force: {}", refused.message());
    let bytes = talk.end().await;
    println!("0 of {bytes} bytes lost or wrong");
    client.release(&weak).await.expect("released");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_anybody_had_ends_when_callers_must_say_who_they_are() {
    let server = AuthorizationServer::start().await;
    let app = App::start().await;
    let mut gateway = plan(&[], "").start().await;
    let uid = Uid::random().expect("randomness");
    ask(&uid, Role::Prod, &app.endpoint()).open(&gateway.client().await, None).await.expect("open to anyone");
    again(&mut gateway, &Site::configuration(&server, WIDE), Signal::SIGKILL).await;
    gateway.assert_nothing_left();
    let olga = client(&gateway, &token(&server, "olga").await).await;
    let told = ended(&olga.list_with_ended().await.expect("listed").sessions, &session::id(&uid, Role::Prod));
    assert!(told.ends_with("nobody said whose it is, and this gateway asks by now"), "{told}");
    let alice = client(&gateway, &token(&server, "alice").await).await;
    assert_eq!(alice.list_with_ended().await.expect("listed").sessions, vec![], "nobody's is everybody's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_none_any_more_vouches_for_nobody() {
    let mut site = Site::start(WIDE, &[]).await;
    let app = App::start().await;
    let asked = prod(&app, |_| {});
    let (id, _) = site.open("alice", &asked, None).await;
    // Another one says the same name, of somebody else.
    let renamed = Site::configuration(&site.server, WIDE).replace("name = \"facility\"", "name = \"partner\"");
    again(&mut site.gateway, &renamed, Signal::SIGTERM).await;
    let all = site.client("olga").await.list_with_ended().await.expect("listed").sessions;
    let told = ended(&all, &id);
    assert!(told.ends_with("this gateway has no provider facility"), "{told}");
    site.gateway.assert_nothing_left();
}

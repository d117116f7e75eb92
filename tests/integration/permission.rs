//! Who may do what: sessions belong to their owners, and rules say the rest.

use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use scistream::client::{Ask, Gateway};
use scistream::session::{Protection, Role, Uid};
use tonic::Code;

use crate::support::app::{Echo, First};
use crate::support::authorization_server::AuthorizationServer;
use crate::support::command::run;
use crate::support::gateway::{S2CS, TestGateway};
use crate::support::guarded::{
    ask, assert_all, audit, client, every_call, introspected, plan, raw_hello, status, token,
};
use crate::support::raw::new_uid;
use crate::support::{App, eventually, exchange, session, tunnel};

/// Alice and Bob have rules, the controller speaks for Alice, Olga operates, and
/// nobody is for Mallory.
const RULES: &str = r#"
[[allow]]
name = "alice"
who = ["user:alice@facility.example"]
targets = ["127.0.0.0/8"]
remotes = ["127.0.0.0/8"]
max_sessions = 2
max_connections = 3
max_lifetime = 3600
protections = ["integrity"]
backends = ["stunnel"]

[[allow]]
name = "bob"
who = ["group:beamline-7"]
roles = ["CONS"]

[[allow]]
name = "controller"
who = ["user:daq@facility.example"]
roles = []
hello_for = ["user:alice@facility.example"]

[[allow]]
name = "operators"
who = ["user:olga@facility.example"]
roles = []
operator = true
"#;

struct Site {
    server: AuthorizationServer,
    gateway: TestGateway,
}

impl Site {
    /// A gateway that others can reach, so that nothing on loopback is a target but by a rule.
    async fn start(rules: &str) -> Self {
        let server = AuthorizationServer::start().await;
        let flags = ["--listen", "0.0.0.0:0", "--wan-ip", "127.0.0.1", "--lan-ip", "127.0.0.1", "--insecure"];
        let gateway = plan(&flags, &(introspected(&server) + rules)).start().await;
        Self { server, gateway }
    }

    async fn client(&self, person: &str) -> Gateway {
        client(&self.gateway, &token(&self.server, person).await).await
    }

    /// Alice's session, which serves.
    async fn alices(&self, app: &App) -> (Uid, Gateway, Vec<String>) {
        let (uid, alice) = (Uid::random().expect("randomness"), self.client("alice").await);
        let half = ask(&uid, Role::Prod, &app.endpoint()).open(&alice, None).await;
        let half = half.unwrap_or_else(|e| panic!("alice's session: {}", e.story()));
        (uid, alice, half.listeners)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_users_uid_opens_nothing() {
    let mut site = Site::start(RULES).await;
    let app = App::start().await;
    let (uid, alice, listeners) = site.alices(&app).await;
    let cons = TestGateway::start(&[]).await;
    let half = tunnel::open_cons(&uid, &cons, listeners, 1).await;
    let mut echo = Echo::connect(&half.listeners[0]).await;
    let id = session::id(&uid, Role::Prod);
    let mut watching = Vec::new();
    for person in ["bob", "mallory"] {
        let theirs = token(&site.server, person).await;
        let mut calls = 0;
        // What is hers is to them as what nobody has.
        let (hers, nobodys) = (every_call(&site.gateway, Some(&theirs), uid.wire()).await, new_uid());
        for ((call, one), (_, other)) in hers.iter().zip(every_call(&site.gateway, Some(&theirs), &nobodys).await) {
            let code = one.as_ref().map(tonic::Status::code);
            assert_eq!(code, other.as_ref().map(tonic::Status::code), "{person}: {call} tells them apart");
            let allowed = [None, Some(Code::NotFound), Some(Code::PermissionDenied), Some(Code::DeadlineExceeded)];
            assert!(allowed.contains(&code), "{person}: {call}: {one:?}");
            calls += 1;
        }
        let them = client(&site.gateway, &theirs).await;
        assert_eq!(them.list().await.expect("their own").sessions, vec![], "{person} sees it");
        assert_eq!(them.flows("").await.expect("their own").len(), 0, "{person} sees what goes through it");
        assert_eq!(status("hers", them.get(&id).await).code(), Code::NotFound);
        match them.watch(0, &id).await {
            Ok(watch) => watching.push((person, them, watch)),
            refused => assert_eq!((status("hers", refused).code(), person), (Code::PermissionDenied, "mallory")),
        }
        println!("{person}: {calls} calls with another's UID: as with nobody's");
        echo.say("it goes on").await;
    }
    let seen = alice.get(&id).await.expect("it is there");
    assert_eq!((seen.state.as_str(), seen.revision, seen.targets), ("active", 1, vec![app.endpoint()]));
    assert_eq!(seen.owner, "alice@facility.example");
    cons.client().await.release(&uid).await.expect("released");
    alice.release(&uid).await.expect("released");
    site.gateway.assert_nothing_left();
    assert_eq!(alice.list_with_ended().await.expect("hers").sessions.len(), 1);
    for (person, them, _) in &watching {
        assert_eq!(them.list_with_ended().await.expect("their own").sessions, vec![], "{person} sees how it ended");
        assert_eq!(status("hers", them.get(&id).await).code(), Code::NotFound);
    }
    site.gateway.end(Signal::SIGTERM).await;
    for (person, them, mut watch) in watching {
        let heard = them.next_event(&mut watch).await.expect("the watch ends with the gateway");
        assert_eq!(heard, None, "{person} hears what happens to it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whom_a_rule_lets_speaks_for_another() {
    let site = Site::start(RULES).await;
    let app = App::start().await;
    let (alice, controller) = (site.client("alice").await, site.client("daq").await);
    let endpoint = [app.endpoint().parse().expect("an endpoint")];
    // A stranger who knows the UID comes first, and gets nothing for it.
    let uid = Uid::random().expect("randomness");
    let early = tokio::spawn({
        let (bob, uid) = (site.client("bob").await, uid.clone());
        async move { bob.hello(&uid, Role::Prod, &["127.0.0.1:9".parse().expect("an endpoint")]).await }
    });
    let request = tokio::spawn({
        let (alice, asked) = (alice.clone(), ask(&uid, Role::Prod, &app.endpoint()));
        async move { alice.request(&asked).await }
    });
    eventually("the REQ waits", || site.gateway.reservations() == 1).await;
    let start = Instant::now();
    controller.hello(&uid, Role::Prod, &endpoint).await.expect("alice's controller");
    let answer = request.await.expect("no panic").expect("answered by the controller's HELLO");
    assert_eq!(answer.prod_listeners, [app.endpoint()], "somebody else's HELLO was taken");
    assert!(!early.is_finished(), "a stranger's HELLO was answered");
    early.abort();
    println!("the controller's HELLO was taken after {} ms, a stranger's never", start.elapsed().as_millis());
    let refused = status("a controller's UPDATE", controller.update(&uid, Role::Prod, vec![]).await);
    assert_eq!(refused.code(), Code::NotFound, "it may say HELLO, and nothing else");
    alice.release(&uid).await.expect("released");
    // For itself it may nothing.
    let own = ask(&Uid::random().expect("randomness"), Role::Prod, &app.endpoint()).open(&controller, None).await;
    assert_eq!(status("its own session", own).code(), Code::PermissionDenied);
    site.gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_no_rule_is_for_takes_nothing_that_is_shared() {
    let site = Site::start(RULES).await;
    let mallory = site.client("mallory").await;
    let (uid, endpoints) = (Uid::random().expect("randomness"), ["127.0.0.1:9".parse().expect("an endpoint")]);
    let hello = mallory.hello(&uid, Role::Prod, &endpoints);
    assert_eq!(status("HELLO", hello.await).code(), Code::PermissionDenied, "it waits among those of others");
    assert_eq!(status("watch", mallory.watch(0, "").await).code(), Code::PermissionDenied);
    // Who may watch, may not take all the places.
    let alice = site.client("alice").await;
    let mut watches = Vec::new();
    let refused = loop {
        match alice.watch(0, "").await {
            Ok(watch) => watches.push(watch),
            outcome => break status("one more", outcome),
        }
        assert!(watches.len() < 200, "nobody stops it");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{}", refused.message());
    site.client("bob").await.watch(0, "").await.expect("somebody else");
    println!("{} watches of one caller, then RATE_LIMIT; others go on", watches.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cannot_fill_the_audit_log() {
    let site = Site::start(RULES).await;
    let before = audit(&site.gateway).len();
    for _ in 0..50 {
        assert_all(&every_call(&site.gateway, None, &new_uid()).await, Code::Unauthenticated, "missing");
    }
    let lines = audit(&site.gateway).len() - before;
    println!("550 calls without a token: {lines} audit lines");
    assert!((1..=40).contains(&lines), "{lines}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_and_end_all() {
    let site = Site::start(RULES).await;
    let app = App::start().await;
    let (uid, alice, _) = site.alices(&app).await;
    let olga = site.client("olga").await;
    assert_eq!(olga.list().await.expect("listed").sessions.len(), 1);
    olga.renew(&uid, Some(Duration::from_secs(60))).await.expect("renewed");
    olga.release_because(&uid, "the beam is off").await.expect("released");
    assert_eq!(alice.list().await.expect("listed").sessions, vec![]);
    for person in ["alice", "bob", "mallory"] {
        let refused = status(person, site.client(person).await.drain(Duration::ZERO).await);
        assert_eq!(refused.code(), Code::PermissionDenied, "{person}: {}", refused.message());
    }
    assert_eq!(olga.drain(Duration::ZERO).await.expect("drained"), 0);
    site.gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_outside_the_rules_are_no_targets() {
    let rules =
        "[[allow]]\nwho = [\"anyone\"]\ntargets = [\"10.7.0.0/16:5000-5999\", \"0.0.0.0/0:7000\", \"[::/0]:7000\"]\n";
    let site = Site::start(rules).await;
    let alice = site.client("alice").await;
    let refused = async |target: &str, how: &str| {
        let uid = Uid::random().expect("randomness");
        let open = ask(&uid, Role::Prod, target).open(&alice, None).await;
        let refused = status(target, open);
        assert_eq!(refused.code(), Code::PermissionDenied, "{target}: {}", refused.message());
        assert!(refused.message().contains(how), "{target}: {}", refused.message());
    };
    let mut count = 0;
    for (target, how) in [
        // Outside by network, and by port.
        ("10.8.0.1:5300", "no rule"),
        ("10.7.0.1:22", "no rule"),
        ("198.51.100.7:5300", "no rule"),
        ("[2001:db8::7]:5300", "no rule"),
        // The same in other clothes: mapped, and compatible, IPv6.
        ("[::ffff:10.8.0.1]:5300", "no rule"),
        ("[::10.8.0.1]:5300", "no rule"),
        // A rule for everything does not mean what is special.
        ("127.0.0.1:7000", "loopback"),
        ("[::ffff:127.0.0.1]:7000", "loopback"),
        ("[::1]:7000", "loopback"),
        ("localhost:7000", "loopback"),
        ("169.254.169.254:7000", "link-local"),
        ("[fe80::1]:7000", "link-local"),
        ("224.0.0.1:7000", "multicast"),
        ("0.0.0.0:7000", "unspecified"),
        ("[::]:7000", "unspecified"),
    ] {
        refused(target, how).await;
        count += 1;
    }
    let token = token(&site.server, "alice").await;
    // Spellings that resolvers would take for addresses are no names.
    for target in ["2130706433:7000", "0x7f000001:7000", "0177.0.0.1:7000", "127.1:7000", "10.8.1:7000"] {
        let refused = raw_hello(&site.gateway, &token, target).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{target}: {}", refused.message());
        count += 1;
    }
    println!("{count} targets outside the rules refused");
    site.gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_changes_its_answer_moves_nothing() {
    let app = App::start_at("127.0.0.2:0").await;
    let port = app.address.port();
    let other = App::start_at(&format!("127.0.0.3:{port}")).await;
    let server = AuthorizationServer::start().await;
    let rule = "[[allow]]\nwho = [\"anyone\"]\ntargets = [\"127.0.0.2\"]\n";
    let flags = ["--listen", "0.0.0.0:0", "--wan-ip", "127.0.0.1", "--lan-ip", "127.0.0.1", "--insecure"];
    // A host table of its own, in a mount namespace of its own.
    let own_table = ["unshare", "--mount", "sh", "-c", "mount --bind hosts /etc/hosts && exec \"$@\"", "sh"];
    let gateway = plan(&flags, &(introspected(&server) + rule))
        .file("hosts", "127.0.0.2 daq.facility.example\n")
        .through(&own_table)
        .start()
        .await;
    let say = |answers: &str| std::fs::write(gateway.folder().join("hosts"), answers).expect("written");
    let alice = client(&gateway, &token(&server, "alice").await).await;
    let (uid, named) = (Uid::random().expect("randomness"), format!("daq.facility.example:{port}"));
    let half = ask(&uid, Role::Prod, &named).open(&alice, None).await.unwrap_or_else(|e| panic!("{}", e.story()));
    assert_eq!(half.targets, [app.endpoint()], "not the address that it was resolved to");
    let cons = TestGateway::start(&[]).await;
    let cons_half = tunnel::open_cons(&uid, &cons, half.listeners, 1).await;
    exchange(&cons_half.listeners[0], First::Consumer).await;

    say("127.0.0.3 daq.facility.example\n");
    exchange(&cons_half.listeners[0], First::Consumer).await;
    for proxy in session::leaders_and_workers(&gateway, &uid, Role::Prod).0 {
        proxy.kill();
    }
    let id = session::id(&uid, Role::Prod);
    let mut restarts = 0;
    while restarts == 0 {
        let seen = alice.get(&id).await.expect("it is there");
        restarts = if seen.degraded.is_empty() { seen.processes[0].restarts } else { 0 };
    }
    exchange(&cons_half.listeners[0], First::Consumer).await;
    let moved = status("UPDATE", alice.update(&uid, Role::Prod, vec![named.clone()]).await);
    assert_eq!(moved.code(), Code::PermissionDenied, "{}", moved.message());
    // One good address among others makes a name no better.
    say("127.0.0.2 daq.facility.example\n127.0.0.3 daq.facility.example\n");
    let both = ask(&Uid::random().expect("randomness"), Role::Prod, &named).open(&alice, None).await;
    assert_eq!(status("two addresses", both).code(), Code::PermissionDenied);
    assert_eq!((app.connections(), other.connections()), (3, 0), "somewhere else was reached");
    cons.client().await.release(&uid).await.expect("released");
    alice.release(&uid).await.expect("released");
    println!("a name that changed its answer: 3 of 3 streams went where it first led, 2 of 2 new uses were refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_session_stays_inside_its_rules() {
    let site = Site::start(RULES).await;
    let (app, other) = (App::start().await, App::start().await);
    let (uid, alice, _) = site.alices(&app).await;
    let moved = status("outside", alice.update(&uid, Role::Prod, vec!["10.0.0.9:5300".into()]).await);
    assert_eq!(moved.code(), Code::PermissionDenied, "{}", moved.message());
    assert!(moved.message().contains("10.0.0.9:5300"), "{}", moved.message());
    // An operator's powers are not the owner's rules.
    let olga = site.client("olga").await;
    let moved = status("by the operator", olga.update(&uid, Role::Prod, vec!["10.0.0.9:5300".into()]).await);
    assert_eq!(moved.code(), Code::PermissionDenied, "{}", moved.message());
    alice.update(&uid, Role::Prod, vec![other.endpoint()]).await.expect("inside");
    alice.release(&uid).await.expect("released");
    site.gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_bounds_what_one_may_have() {
    let site = Site::start(RULES).await;
    let app = App::start().await;
    let (alice, bob) = (site.client("alice").await, site.client("bob").await);
    let asked = |change: &dyn Fn(&mut Ask)| {
        let mut asked = ask(&Uid::random().expect("randomness"), Role::Prod, &app.endpoint());
        change(&mut asked);
        asked
    };
    let denied = async |what: &str, who: &Gateway, asked: Ask, words: &str| {
        let refused = status(what, asked.open(who, None).await);
        assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {}", refused.message());
        assert!(refused.message().contains(words), "{what}: {}", refused.message());
    };
    denied("no rule", &site.client("mallory").await, asked(&|_| {}), "no rule of it is for you").await;
    denied("his role", &bob, asked(&|_| {}), "have PROD sessions").await;
    denied("too many listeners", &alice, asked(&|a| a.connections = 4), "4 connections").await;
    denied("too weak", &alice, asked(&|a| a.protection = Some(Protection::None)), "protection none").await;
    denied("another backend", &alice, asked(&|a| a.backend = Some("nginx".into())), "nginx").await;

    let chosen = asked(&|a| {
        a.protection = Some(Protection::Integrity);
        a.backend = Some("stunnel".into());
    });
    chosen.open(&alice, None).await.unwrap_or_else(|e| panic!("{}", e.story()));
    let seen = alice.get(&session::id(&chosen.uid, Role::Prod)).await.expect("it is there");
    assert_eq!((seen.protection.as_str(), seen.backend.as_str()), ("integrity", "stunnel"), "not shown");
    let end = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970") + Duration::from_secs(3600);
    assert!(seen.expires_ms > 0 && u128::from(seen.expires_ms) <= end.as_millis(), "longer than the rule says");
    let renewed = alice.renew(&chosen.uid, Some(Duration::from_secs(100_000))).await.expect("renewed");
    let end = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970") + Duration::from_secs(3600);
    assert!(u128::from(renewed[0].expires_ms) <= end.as_millis(), "renewed beyond the rule");

    let second = asked(&|_| {});
    second.open(&alice, None).await.expect("her second");
    let third = status("her third", asked(&|_| {}).open(&alice, None).await);
    assert_eq!(third.code(), Code::ResourceExhausted, "{}", third.message());
    assert!(third.message().starts_with("RATE_LIMIT: you have 2 sessions"), "{}", third.message());
    alice.release(&second.uid).await.expect("released");
    asked(&|_| {}).open(&alice, None).await.expect("room again");
    println!("5 requests beyond the rules refused; 2 sessions granted, the third not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_outlast_the_controller() {
    let mut site = Site::start(RULES).await;
    let app = App::start().await;
    let (uid, ..) = site.alices(&app).await;
    site.gateway.end(Signal::SIGKILL).await;
    site.gateway.run().await;
    let bob = site.client("bob").await;
    assert_eq!(bob.list().await.expect("listed").sessions, vec![], "it is anybody's after a restart");
    assert_eq!(status("bob", bob.release(&uid).await).code(), Code::NotFound);
    let alice = site.client("alice").await;
    let seen = session::all_well(&alice).await;
    assert_eq!((seen.len(), seen[0].owner.as_str()), (1, "alice@facility.example"));
    let renewed = alice.renew(&uid, None).await.expect("renewed");
    assert!(renewed[0].expires_ms > 0, "the rule's limit is forgotten");
    alice.release(&uid).await.expect("released");
    site.gateway.assert_nothing_left();
    println!("an adopted session is its owner's still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weak_keys_are_shown_and_refused_where_the_site_says_so() {
    let app = App::start().await;
    let weak = "4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3";
    let uid = Uid::parse(weak).expect("a UUID of version 1");
    let lax = TestGateway::start(&[]).await;
    let client = lax.client().await;
    ask(&uid, Role::Prod, &app.endpoint()).open(&client, None).await.expect("deployed clients have no other");
    let seen = client.get(&session::id(&uid, Role::Prod)).await.expect("it is there");
    assert!(seen.weakness.contains("can be guessed"), "{:?}", seen.weakness);
    client.release(&uid).await.expect("released");
    let strict = TestGateway::start(&["--weak-keys", "refuse"]).await;
    for (text, word) in [(weak, "guessed"), ("4f8583bc-a4d3-41ee-9fd6-034d1fcbd7c3", "short")] {
        let uid = Uid::parse(text).expect("a UUID");
        let refused = status(text, ask(&uid, Role::Prod, &app.endpoint()).open(&strict.client().await, None).await);
        assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
        assert!(refused.message().contains(word), "{}", refused.message());
    }
    let strong = Uid::random().expect("randomness");
    ask(&strong, Role::Prod, &app.endpoint()).open(&strict.client().await, None).await.expect("256 random bits");
    strict.client().await.release(&strong).await.expect("released");
    strict.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_written_down_before_it_happens_and_no_secret_with_it() {
    let site = Site::start(RULES).await;
    let app = App::start().await;
    let (uid, alice, _) = site.alices(&app).await;
    let mallory = token(&site.server, "mallory").await;
    status("mallory", client(&site.gateway, &mallory).await.release(&uid).await);
    status("guess", client(&site.gateway, "a-guessed-token").await.list().await);
    alice.release(&uid).await.expect("released");
    let lines = audit(&site.gateway);
    let id = session::id(&uid, Role::Prod);
    let of = |event: &str, call: &str, allowed: bool| {
        lines.iter().position(|line| {
            line["event"] == event
                && (call.is_empty() || line["call"] == call)
                && line["allowed"].as_bool().unwrap_or_default() == allowed
        })
    };
    let changed = |why: &str| lines.iter().position(|line| line["event"] == "session" && line["why"] == why);
    let order = [
        of("decision", "REQ", true),
        changed("reserved"),
        of("decision", "HELLO", true),
        changed("announced"),
        of("decision", "UPDATE", true),
        changed("active"),
        of("decision", "RELEASE", false),
        of("login", "", false),
        of("decision", "RELEASE", true),
        changed("ending: released on request"),
        changed("released"),
    ];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}: {lines:#?}");
    let req = &lines[order[0].expect("just seen")];
    assert_eq!((&req["who"], &req["name"]), (&"facility:alice".into(), &"alice@facility.example".into()));
    assert_eq!((&req["session"], &req["rule"], &req["address"]), (&id.into(), &"alice".into(), &"127.0.0.1".into()));
    let text = std::fs::read_to_string(site.gateway.folder().join("audit.log")).expect("the log");
    for secret in [uid.wire(), mallory.as_str(), "a-guessed-token"] {
        assert!(!text.contains(secret) && !site.gateway.stderr().contains(secret), "a secret is written down");
    }
    println!("{} audit lines, in order, and no secret in them", lines.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_down_does_not_happen() {
    let site = Site::start(RULES).await;
    let app = App::start().await;
    let (uid, alice, _) = site.alices(&app).await;
    let log = site.gateway.folder().join("audit.log");
    std::fs::remove_file(&log).and_then(|()| std::fs::create_dir(&log)).expect("no file any more");
    let another = ask(&Uid::random().expect("randomness"), Role::Prod, &app.endpoint());
    let refused = status("a new session", another.open(&alice, None).await);
    assert_eq!(refused.code(), Code::Internal, "{}", refused.message());
    assert!(refused.message().contains("write the audit log"), "{}", refused.message());
    assert_eq!(session::all_well(&alice).await.len(), 1, "the old one goes on");
    std::fs::remove_dir(&log).expect("gone");
    another.open(&alice, None).await.expect("and all is well again");
    alice.release(&uid).await.expect("released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_is_told_what_the_rules_say() {
    let gateway = Site::start(RULES).await.gateway;
    let explain = async |words: &[&str]| {
        let all = [&["policy", "explain", "--config", "s2cs.toml", "--ssl=False", "--insecure"], words].concat();
        run(S2CS, &all, gateway.folder()).await
    };
    let alice = ["--as", "alice@facility.example", "--role", "PROD"];
    let yes = explain(&[&alice[..], &["--target", "127.0.0.1:5300", "--json"]].concat()).await;
    assert_eq!(yes.code, Some(0), "{yes:?}");
    let told = yes.json();
    assert_eq!((&told["allowed"], &told["rule"]), (&true.into(), &"alice".into()), "{told}");
    let no = explain(&[&alice[..], &["--target", "10.0.0.9:5300"]].concat()).await;
    assert!(no.failed(1).contains("no: the target is not allowed"), "{no:?}");
    let nobody = explain(&["--as", "mallory@elsewhere.example", "--role", "CONS"]).await;
    assert!(nobody.failed(1).contains("no rule of it is for you"), "{nobody:?}");
    let group = explain(&["--group", "beamline-7", "--role", "CONS", "--target", "198.51.100.7:5100"]).await;
    assert!(group.succeeded().contains("yes, by rule bob"), "{group:?}");
    assert!(explain(&["--role", "PROD"]).await.failed(2).contains("say who"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_could_let_nobody_in_says_so_and_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("secret"), "x").expect("written");
    let client = ["--client-id", "x", "--client-secret-file", "secret", "--ssl=False", "--state-dir", "state"];
    let check = async |more: &[&str]| run(S2CS, &[&["check"][..], &client[..], more].concat(), folder.path()).await;
    assert!(check(&[]).await.failed(78).contains("no rule says who may use this gateway"));
    check(&["--allow", "domain:facility.example,group:beamline-7"]).await.succeeded();
    assert!(check(&["--allow", "everybody"]).await.failed(78).contains("domain:DOMAIN"));
    assert!(check(&["--allow", "anyone", "--no-auth"]).await.failed(78).contains("no_auth"));
    let told = check(&["--allow", "anyone", "--client-secret", "y"]).await;
    assert_eq!(told.code, Some(0), "the deployed flag works: {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rules_nobody_weakens_a_tunnel_or_chooses_programs() {
    let gateway = TestGateway::start(&[]).await;
    let (client, app) = (gateway.client().await, App::start().await);
    let asked = |protection, backend: Option<&str>| Ask {
        protection,
        backend: backend.map(ToOwned::to_owned),
        ..ask(&Uid::random().expect("randomness"), Role::Prod, &app.endpoint())
    };
    for (what, asked) in [
        ("a weaker tunnel", asked(Some(Protection::Integrity), None)),
        ("no tunnel", asked(Some(Protection::None), None)),
        ("another backend", asked(None, Some("haproxy"))),
    ] {
        let refused = status(what, asked.open(&client, None).await);
        assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {}", refused.message());
    }
    let same = asked(Some(Protection::Confidentiality), Some("native"));
    same.open(&client, None).await.expect("what it has anyway");
    let half =
        tunnel::open_cons(&same.uid, &gateway, client.list().await.expect("listed").sessions[0].listeners.clone(), 1)
            .await;
    exchange(&half.listeners[0], First::Consumer).await;
    client.release(&same.uid).await.expect("released");
    gateway.assert_nothing_left();
}

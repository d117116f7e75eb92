//! Sessions share what the gateway may move: by weight while all are busy, and
//! nobody's rest is lost. The sum of what they are kept to never exceeds the cap.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use scistream::client::Gateway;
use scistream::session::{Role, Uid};
use tokio::time::sleep;

use crate::support::authorization_server::AuthorizationServer;
use crate::support::flood::{Consumers, Flood};
use crate::support::guarded::{audit, client, introspected, plan, token};
use crate::support::leftovers::files_under;
use crate::support::tunnel::{ask, open_cons};
use crate::support::{TestGateway, session};

/// In kB/s.
const CAP: u32 = 8000;
const RULES: &str = r#"
[[allow]]
name = "one"
who = ["user:alice@facility.example"]
targets = ["127.0.0.0/8"]

[[allow]]
name = "three"
who = ["group:beamline-7"]
roles = ["PROD", "CONS"]
targets = ["127.0.0.0/8"]
weight = 3
"#;
/// Kept to a cap, a session is given its share in this time.
const SOON: Duration = Duration::from_secs(12);

/// A session at the gateway with the cap, and where its consumers connect to.
struct Sharer {
    uid: Uid,
    client: Gateway,
    entry: String,
}

impl Sharer {
    async fn open(gateway: &TestGateway, other: &TestGateway, token: &str, flood: &Flood) -> Self {
        let (uid, client) = (Uid::random().expect("randomness"), client(gateway, token).await);
        let prod = ask(&uid, Role::Prod, 1, vec![flood.endpoint()]);
        let prod = prod.open(&client, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
        let cons = open_cons(&uid, other, prod.listeners, 1).await;
        Self { uid, client, entry: cons.listeners[0].clone() }
    }

    async fn share(&self) -> u32 {
        self.client.get(&session::id(&self.uid, Role::Prod)).await.expect("it is there").share
    }

    async fn reaches(&self, what: &str, wanted: impl Fn(u32) -> bool) -> u32 {
        let began = Instant::now();
        loop {
            let share = self.share().await;
            if wanted(share) {
                println!("{what}: {share} kB/s after {:.1} s", began.elapsed().as_secs_f64());
                return share;
            }
            assert!(began.elapsed() < SOON, "{what}: it has {share}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What the configurations of all sessions allow together, in bytes a second. Files may go while it looks.
fn allowed(gateway: &TestGateway) -> u64 {
    let files =
        files_under(&gateway.sessions_dir()).into_iter().filter(|path| path.extension().is_some_and(|e| e == "toml"));
    let texts: Vec<_> = files.filter_map(|path| fs::read_to_string(path).ok()).collect();
    let numbers = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("bandwidth = "));
    numbers.map(|number| number.parse::<u64>().expect("a number")).sum()
}

fn is_about(expected: u32) -> impl Fn(u32) -> bool {
    move |share| share.abs_diff(expected) * 100 <= expected * 5
}

/// Shares are divided anew every second: that something stays as it is shows after some.
const SEVERAL_LOOKS: Duration = Duration::from_secs(4);

async fn shared_by_weight(backend: &str) {
    let server = AuthorizationServer::start().await;
    let flags = ["--gateway-bandwidth", &CAP.to_string(), "--backend", backend];
    let mut gateway = plan(&flags, &(introspected(&server) + RULES)).start().await;
    let (other, flood) = (TestGateway::start(&["--backend", backend]).await, Flood::start().await);
    let (alices, bobs) = (token(&server, "alice").await, token(&server, "bob").await);
    let one = Sharer::open(&gateway, &other, &alices, &flood).await;
    one.reaches("alone, it has all", is_about(CAP)).await;
    let first = Consumers::connect(&one.entry, 4).await;
    sleep(SEVERAL_LOOKS).await;
    one.reaches("alone and busy, it has all", is_about(CAP)).await;

    let three = Sharer::open(&gateway, &other, &bobs, &flood).await;
    assert!(three.share().await >= CAP / 20, "who comes late may begin");
    let second = Consumers::connect(&three.entry, 4).await;
    three.reaches("its three parts", is_about(CAP * 3 / 4)).await;
    one.reaches("its one part", is_about(CAP / 4)).await;
    // What was under way at the old shares has come.
    sleep(Duration::from_secs(1)).await;
    let window = Duration::from_secs(8);
    let (of_one, of_three) = tokio::join!(first.rate_over(window), second.rate_over(window));
    println!("{backend}: {:.0} and {:.0} kB/s of {CAP}", of_one / 1000.0, of_three / 1000.0);
    assert!(of_one + of_three < f64::from(CAP) * 1030.0, "{of_one} and {of_three}");
    let ratio = of_three / of_one;
    assert!((2.7..3.3).contains(&ratio), "{ratio}: {of_one} and {of_three}");

    // What one leaves, the other gets; and who begins again, has its part again.
    drop(second);
    one.reaches("what the other leaves", |share| share > CAP * 8 / 10).await;
    let floor = three.share().await;
    assert!(floor >= CAP / 20, "the idle one may begin: {floor}");
    let second = Consumers::connect(&three.entry, 4).await;
    three.reaches("its three parts again", is_about(CAP * 3 / 4)).await;
    assert!(allowed(&gateway) <= u64::from(CAP) * 1000);

    let before = gateway.processes();
    gateway.end(Signal::SIGKILL).await;
    let kept = allowed(&gateway);
    gateway.run().await;
    assert_eq!(gateway.processes(), before, "not adopted as they were");
    assert_eq!(allowed(&gateway), kept, "adoption alone changes nothing");
    let again = |sharer: Sharer, client| Sharer { client, ..sharer };
    let one = again(one, client(&gateway, &alices).await);
    let three = again(three, client(&gateway, &bobs).await);
    sleep(SEVERAL_LOOKS).await;
    three.reaches("its three parts after adoption", is_about(CAP * 3 / 4)).await;
    drop((first, second));
    for sharer in [one, three] {
        sharer.client.release(&sharer.uid).await.expect("released");
        other.client().await.release(&sharer.uid).await.expect("released");
    }
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bandwidth_is_shared_by_weight() {
    shared_by_weight("native").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bandwidth_is_shared_by_weight_behind_gates() {
    shared_by_weight("stunnel").await;
}

/// Sessions come, and are busy; it is looked at their configurations meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bandwidth_of_all_sessions_together_stays_below_the_cap() {
    let gateway = Arc::new(TestGateway::start(&["--gateway-bandwidth", &CAP.to_string()]).await);
    let (flood, client) = (Flood::start().await, gateway.client().await);
    let done = Arc::new(AtomicBool::new(false));
    let (looked_at, over) = (Arc::clone(&gateway), Arc::clone(&done));
    let watch = tokio::task::spawn_blocking(move || {
        let (mut looks, mut most) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            let (before, now) = (allowed(&looked_at), allowed(&looked_at));
            // Read while one was lowered and another raised, it would be neither.
            if before == now {
                (looks, most) = (looks + 1, now.max(most));
            }
        }
        (looks, most)
    });
    let mut busy = Vec::new();
    for _ in 0..6 {
        let uid = Uid::random().expect("randomness");
        let prod = ask(&uid, Role::Prod, 1, vec![flood.endpoint()]);
        let prod = prod.open(&client, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
        let cons = open_cons(&uid, &gateway, prod.listeners, 1).await;
        busy.push((Consumers::connect(&cons.listeners[0], 2).await, uid));
    }
    sleep(SEVERAL_LOOKS).await;
    // The files of those that end go after their processes, whose share others have by then.
    done.store(true, Ordering::Relaxed);
    let (looks, most) = watch.await.expect("it looks");
    for (consumers, uid) in busy {
        assert!(consumers.bytes() > 0);
        drop(consumers);
        client.release(&uid).await.expect("released");
    }
    println!("{looks} looks, at most {most} bytes a second");
    assert!(looks > 10 && most <= u64::from(CAP) * 1000, "{most} of {CAP}000 after {looks} looks");
    gateway.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_says_how_much() {
    let server = AuthorizationServer::start().await;
    let rules = format!(
        "enforce_rate = true\n{}{}",
        introspected(&server),
        RULES.replace("weight = 3", "max_bandwidth = 3000")
    );
    let gateway = plan(&[], &rules).start().await;
    let (flood, bobs) = (Flood::start().await, token(&server, "bob").await);
    let (uid, client) = (Uid::random().expect("randomness"), client(&gateway, &bobs).await);
    let asked = ask(&uid, Role::Prod, 1, vec![flood.endpoint()]);
    let half = asked.open(&client, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
    assert_eq!(half.bandwidth, 3000, "the rule's, which is less than what it asks for");
    let lines = audit(&gateway);
    let decision = lines.iter().find(|line| line["call"] == "REQ").expect("a line");
    assert_eq!((&decision["rate"], &decision["bandwidth"]), (&10_000.into(), &3000.into()), "{decision}");
    let active = lines.iter().find(|line| line["event"] == "session" && line["why"] == "active").expect("a line");
    assert_eq!(active["bandwidth"], 3000, "{active}");
    client.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

//! A session with a limit moves as much as that and no more, whichever program carries it.

use scistream::client::Ask;
use scistream::session::{Role, Uid};

use super::{LIMITERS, target};
use crate::support::TestGateway;
use crate::support::flood::{Consumers, Flood, assert_moves};
use crate::support::tunnel::ask;

/// In kB/s.
const LIMIT: i32 = 5000;

/// One half is limited, the one side's or the other's, and the other is not; four streams beside
/// each other.
async fn kept_to_its_limit(backend: &str, terminator: &str) {
    let like = ["--backend", backend, "--terminator", terminator];
    let strict = TestGateway::start(&[&like[..], &["--enforce-rate"]].concat()).await;
    let (lax, flood) = (TestGateway::start(&like).await, Flood::start().await);
    let stream = async |limited, connections| {
        let (prod, cons) = match limited {
            Role::Prod => (strict.client().await, lax.client().await),
            Role::Cons => (lax.client().await, strict.client().await),
        };
        let uid = Uid::random().expect("randomness");
        let asked = Ask { rate: LIMIT, ..ask(&uid, Role::Prod, 1, vec![flood.endpoint()]) };
        let half = asked.open(&prod, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
        let asked = Ask { rate: LIMIT, ..ask(&uid, Role::Cons, 1, vec![]) };
        let other = asked.open(&cons, Some(half.listeners)).await.unwrap_or_else(|e| panic!("CONS: {}", e.story()));
        let what = format!("{backend} with {terminator}, {limited} limited, {connections} connections");
        let consumers = Consumers::connect(&other.listeners[0], connections).await;
        assert_moves(&what, &consumers, f64::from(LIMIT) * 1000.0).await;
        drop(consumers);
        prod.release(&uid).await.expect("released");
        cons.release(&uid).await.expect("released");
    };
    tokio::join!(stream(Role::Prod, 1), stream(Role::Prod, 32), stream(Role::Cons, 1), stream(Role::Cons, 32));
    strict.assert_nothing_left();
    lax.assert_nothing_left();
}

macro_rules! kept {
    ($($name:ident: $index:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (backend, terminator, _) = LIMITERS[$index];
                kept_to_its_limit(backend, terminator).await;
            }
        )*
    };
}

kept! {
    bandwidth_is_kept_by_native: 0;
    bandwidth_is_kept_by_haproxy: 1;
    bandwidth_is_kept_by_nginx: 2;
    bandwidth_is_kept_by_stunnel_behind_a_gate: 3;
    bandwidth_is_kept_by_haproxy_and_stunnel_behind_a_gate: 4;
    bandwidth_is_kept_by_nginx_and_stunnel_behind_a_gate: 5;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bandwidth_is_not_kept_where_the_rate_is_not_meant() {
    let (gateway, flood) = (TestGateway::start(&[]).await, Flood::start().await);
    let uid = Uid::random().expect("randomness");
    let client = gateway.client().await;
    let prod = Ask { rate: 1000, ..ask(&uid, Role::Prod, 1, vec![flood.endpoint()]) };
    let prod = prod.open(&client, None).await.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
    let cons = Ask { rate: 1000, ..ask(&uid, Role::Cons, 1, vec![]) };
    let cons = cons.open(&client, Some(prod.listeners)).await.unwrap_or_else(|e| panic!("CONS: {}", e.story()));
    let consumers = Consumers::connect(&cons.listeners[0], 1).await;
    let moved = consumers.rate_over(std::time::Duration::from_secs(2)).await;
    println!("not limited: {:.0} MB/s where 1 was asked for", moved / 1e6);
    assert!(moved > 10e6, "{moved} bytes a second");
    drop(consumers);
    client.release(&uid).await.expect("released");
    gateway.assert_nothing_left();
}

/// What the policy says counts for those who ask for more, or for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bandwidth_is_capped_by_the_site_whatever_is_asked_for() {
    let gateway = TestGateway::start(&["--max-bandwidth", "4000"]).await;
    let (flood, app) = (Flood::start().await, crate::support::App::start().await);
    let client = gateway.client().await;
    for rate in [0, 10_000] {
        let uid = Uid::random().expect("randomness");
        let asked = Ask { rate, ..ask(&uid, Role::Prod, 1, vec![target(&app)]) };
        let half = asked.open(&client, Some(vec![flood.endpoint().to_string()])).await;
        let half = half.unwrap_or_else(|e| panic!("PROD: {}", e.story()));
        assert_eq!(half.bandwidth, 4000, "asked for {rate}");
        let asked = Ask { rate, ..ask(&uid, Role::Cons, 1, vec![]) };
        let cons = asked.open(&client, Some(half.listeners)).await.unwrap_or_else(|e| panic!("CONS: {}", e.story()));
        let consumers = Consumers::connect(&cons.listeners[0], 4).await;
        assert_moves(&format!("the site's cap, asked for {rate}"), &consumers, 4e6).await;
        drop(consumers);
        client.release(&uid).await.expect("released");
    }
    gateway.assert_nothing_left();
}

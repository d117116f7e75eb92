//! Who records what goes between two gateways learns nothing of a stream, which
//! is always in TLS 1.3 when both ends are ours.

use scistream::session::Uid;

use crate::support::app::Echo;
use crate::support::deployed_stunnel::{DeployedStunnel, End};
use crate::support::recorder::Recorder;
use crate::support::tunnel::{open_cons, open_prod};
use crate::support::{App, TestGateway};

/// What goes through each stream, and comes back.
const CANARY: &str = "the canary that nobody between the gateways shall hear";

/// Every terminator with every terminator, and those in front of other proxies.
const PAIRS: [[&[&str]; 2]; 7] = [
    [NATIVE, NATIVE],
    [NATIVE, STUNNEL],
    [STUNNEL, NATIVE],
    [STUNNEL, STUNNEL],
    [&["--backend", "haproxy"], &["--backend", "nginx"]],
    [&["--backend", "nginx", "--terminator", "stunnel"], &["--backend", "haproxy"]],
    [&["--backend", "haproxy"], &["--backend", "nginx", "--terminator", "stunnel"]],
];
const NATIVE: &[&str] = &["--backend", "native"];
const STUNNEL: &[&str] = &["--backend", "stunnel"];

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}

/// Whether the first record of a server's is a hello that chooses TLS 1.3 (RFC
/// 8446 section 4.2.1): its extension 43, two bytes long, says 0x0304.
fn chooses_tls13(answered: &[u8]) -> bool {
    let handshake = 0x16;
    assert_eq!(answered[0], handshake, "the answer does not begin with a handshake");
    let length = usize::from(u16::from_be_bytes([answered[3], answered[4]]));
    holds(&answered[5..5 + length], &[0, 0x2b, 0, 2, 3, 4])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_stream_can_be_read_between_the_gateways() {
    for [prod_flags, cons_flags] in PAIRS {
        let pair = format!("{prod_flags:?} to {cons_flags:?}");
        let uid = Uid::random().expect("randomness");
        let app = App::start().await;
        let inside = Recorder::start(&app.endpoint()).await;
        let target = inside.address.to_string().parse().expect("an endpoint");
        let (prod, cons) = (TestGateway::start(prod_flags).await, TestGateway::start(cons_flags).await);
        let half = open_prod(&uid, &prod, &target, 1).await;
        let between = Recorder::start(&half.listeners[0]).await;
        let half = open_cons(&uid, &cons, vec![between.address.to_string()], 1).await;
        Echo::connect(&half.listeners[0]).await.say(CANARY).await;

        for bytes in [inside.sent(), inside.answered()] {
            assert!(holds(&bytes, CANARY.as_bytes()), "{pair}: the application did not get the canary");
        }
        for bytes in [between.sent(), between.answered()] {
            assert!(bytes.len() > CANARY.len(), "{pair}: the stream did not come this way");
            assert!(!holds(&bytes, CANARY.as_bytes()), "{pair}: the canary can be read between the gateways");
        }
        assert!(chooses_tls13(&between.answered()), "{pair}: the tunnel is not TLS 1.3");
        prod.client().await.release(&uid).await.expect("released");
        cons.client().await.release(&uid).await.expect("released");
    }
}

/// What the lower floor costs, and that the recorder would have heard a canary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_a_deployed_peer_can_be_read_by_anyone() {
    let uid = Uid::random().expect("randomness");
    let app = App::start().await;
    let prod = TestGateway::start(&["--protection", "integrity"]).await;
    let half = open_prod(&uid, &prod, &app.endpoint().parse().expect("an endpoint"), 1).await;
    let between = Recorder::start(&half.listeners[0]).await;
    let peer = DeployedStunnel::start(End::Client, &uid, &[between.address.to_string()]).await;
    Echo::connect(&peer.listeners[0].to_string()).await.say(CANARY).await;
    for bytes in [between.sent(), between.answered()] {
        assert!(holds(&bytes, CANARY.as_bytes()), "a suite without encryption hid the canary");
    }
    assert!(!chooses_tls13(&between.answered()));
    prod.client().await.release(&uid).await.expect("released");
}

/// A lower floor does not lower what two of ours agree on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_floor_of_integrity_is_no_ceiling() {
    for [prod_flags, cons_flags] in PAIRS {
        let pair = format!("{prod_flags:?} to {cons_flags:?}");
        let floor = ["--protection", "integrity"];
        let uid = Uid::random().expect("randomness");
        let app = App::start().await;
        let prod = TestGateway::start(&[prod_flags, &floor].concat()).await;
        let cons = TestGateway::start(&[cons_flags, &floor].concat()).await;
        let half = open_prod(&uid, &prod, &app.endpoint().parse().expect("an endpoint"), 1).await;
        let between = Recorder::start(&half.listeners[0]).await;
        let half = open_cons(&uid, &cons, vec![between.address.to_string()], 1).await;
        Echo::connect(&half.listeners[0]).await.say(CANARY).await;
        assert!(chooses_tls13(&between.answered()), "{pair}: the tunnel is not TLS 1.3");
        assert!(!holds(&between.sent(), CANARY.as_bytes()), "{pair}: the canary can be read");
        prod.client().await.release(&uid).await.expect("released");
        cons.client().await.release(&uid).await.expect("released");
    }
}

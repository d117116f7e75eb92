//! IPv6, and IPv4 that wears its clothes, in a network namespace of the test's own.

use std::net::IpAddr;
use std::process::Command;

use super::enforced::{Cast, Guarded};
use crate::support::{App, BACKENDS, TestGateway};

/// Set where the test runs in its namespace.
const INSIDE: &str = "SCISTREAM_TEST_NAMESPACE";
/// Addresses of a host that are no one's elsewhere.
const GATEWAY: &str = "2001:db8:1::1";
const CONSUMER: &str = "2001:db8:2::2";
const PEER: &str = "2001:db8:3::3";
/// A neighbour; 6to4 of IPv4 friends, and one in IPv6 of old (RFC 3056, RFC 4291 section 2.5.5.1).
const STRANGERS: [&str; 4] = ["2001:db8:4::4", "2002:7f00:1::1", "::127.0.0.1", "2002:7f00:2::1"];
/// IPv4 that some of these pretend to be.
const FRIENDS: [&str; 2] = ["127.0.0.1", "127.0.0.2"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Runs this one test again in a new network namespace whose loopback has the addresses.
fn again_inside(test: &str) {
    let addresses = [GATEWAY, CONSUMER, PEER].iter().chain(&STRANGERS);
    let add: String = addresses.map(|ip| format!("ip address add {ip}/128 dev lo nodad && ")).collect();
    let script = format!("ip link set lo up && {add}exec \"$0\" --exact --nocapture \"$1\"");
    let me = std::env::current_exe().expect("our own file");
    let status = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", &script])
        .arg(me)
        .arg(test)
        .env(INSIDE, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "in the namespace: {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_sources_are_these_alone() {
    if std::env::var_os(INSIDE).is_none() {
        return again_inside("sources::families::ipv6_sources_are_these_alone");
    }
    for backend in BACKENDS {
        let app = App::start().await;
        let gateway = TestGateway::start(&["--backend", backend, "--wan-ip", GATEWAY, "--lan-ip", GATEWAY]).await;
        let (strangers, absent) = (STRANGERS.map(ip).into(), FRIENDS.map(ip).into());
        let cast = Cast { consumer: ip(CONSUMER), gateway: ip(GATEWAY), peer: ip(PEER), absent, strangers };
        let mut guarded = Guarded::open(&gateway, &app, cast).await;
        guarded.holds(&app, &format!("{backend} over IPv6")).await;
        println!("{backend}: {} strangers over IPv6 got nowhere", STRANGERS.len());
        guarded.release(&gateway).await;
    }
}

//! Pseudorandom bytes in small, odd and huge writes, with pauses, stalls, half-closes and
//! resets, through every mode: never one wrong, and nothing left over afterwards.
//!
//! `SCISTREAM_STREAM_GB` sets how many GB all modes move together, by default 2;
//! `SCISTREAM_STREAM_SEED` has them decide anew what they do.

use std::time::Instant;

use tokio::task::JoinSet;

use crate::support::lane::{Lane, MODES, Mode};
use crate::support::pattern::Dice;
use crate::support::plan::Plan;

/// How many connections there are at the same time, one round after the other.
const AT_ONCE: [u64; 4] = [1, 4, 16, 64];
const WARM_UP: u64 = 32 << 20;
const LARGEST_ROUND: u64 = 256 << 20;

/// How many KiB more a process may have in the end than after the warm-up.
///
/// What 64 connections need at most, which the allocator may keep: two buffers of 64 KiB
/// each and some 40 KiB of TLS. A leak of one buffer a connection comes to more than that
/// with the some hundred connections that each mode has even at 2 GB.
const MEMORY_MARGIN: u64 = 64 * (2 * 64 + 40);

fn variable(name: &str, default: f64) -> f64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: not a number: {text}")))
}

/// Runs random plans at the same time, with a reload amid them, and gives how many bytes arrived.
async fn round(lane: &mut Lane, dice: &mut Dice, connections: u64, volume: u64) -> u64 {
    let mut plans = JoinSet::new();
    for (client, server) in lane.connect_many(connections).await {
        let (plan, rules) = (Plan::random(dice, volume / connections), lane.rules);
        plans.spawn(async move { plan.run(client, server, rules).await });
    }
    lane.reload("");
    let mut moved = 0;
    while let Some(ended) = plans.join_next().await {
        moved += ended.expect("no panic").unwrap_or_else(|fault| panic!("{connections} connections: {fault}"));
    }
    moved
}

/// KiB that each program allocated.
fn memory(lane: &Lane) -> Vec<u64> {
    lane.memory().iter().map(|memory| memory.private >> 10).collect()
}

async fn endure(mode: Mode) {
    let seed = variable("SCISTREAM_STREAM_SEED", 1.0).to_bits();
    let volume = variable("SCISTREAM_STREAM_GB", 2.0) * 1e9 / MODES.len() as f64;
    let mut dice = Dice::new(seed ^ MODES.iter().position(|known| *known == mode).expect("a known mode") as u64);
    let mut lane = Lane::open(mode, "");
    let holdings = lane.holdings();
    round(&mut lane, &mut dice, 64, WARM_UP).await;
    lane.holds_no_more_than(&holdings);
    let before = memory(&lane);
    let (began, mut moved, mut connections) = (Instant::now(), 0, 0);
    while (moved as f64) < volume {
        for count in AT_ONCE {
            moved += round(&mut lane, &mut dice, count, (volume as u64 / 8).min(LARGEST_ROUND)).await;
            connections += count;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    lane.holds_no_more_than(&holdings);
    let after = memory(&lane);
    println!(
        "{mode:?}: {moved} bytes, {connections} connections, {seconds:.1} s, KiB before and after: {before:?} {after:?}"
    );
    for (before, after) in before.iter().zip(&after) {
        assert!(*after <= before + MEMORY_MARGIN, "memory grew from {before} to {after} KiB");
    }
}

/// After so many short connections a leak of one KiB in each shows.
const SHORT_CONNECTIONS: u64 = 1000;
const SHORT_MARGIN: u64 = SHORT_CONNECTIONS;

async fn many_short_connections(lane: &mut Lane, dice: &mut Dice, count: u64) {
    const AT_ONCE: u64 = 100;
    for _ in 0..count / AT_ONCE {
        round(lane, dice, AT_ONCE, AT_ONCE * 10_000).await;
    }
}

async fn nothing_is_left_of_many_short_connections(mode: Mode) {
    let mut lane = Lane::open(mode, "");
    let (mut dice, holdings) = (Dice::new(2), lane.holdings());
    many_short_connections(&mut lane, &mut dice, SHORT_CONNECTIONS / 2).await;
    lane.holds_no_more_than(&holdings);
    let before = memory(&lane);
    many_short_connections(&mut lane, &mut dice, SHORT_CONNECTIONS).await;
    lane.holds_no_more_than(&holdings);
    let after = memory(&lane);
    println!("{mode:?}: {SHORT_CONNECTIONS} short connections, KiB before and after: {before:?} {after:?}");
    for (before, after) in before.iter().zip(&after) {
        assert!(*after <= before + SHORT_MARGIN, "memory grew from {before} to {after} KiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_many_short_plain_connections() {
    nothing_is_left_of_many_short_connections(Mode::Plain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_many_short_connections_through_a_tunnel() {
    nothing_is_left_of_many_short_connections(Mode::Tunnel("confidentiality")).await;
}

macro_rules! through {
    ($($name:ident: $mode:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                endure($mode).await;
            }
        )*
    };
}

through! {
    plain: Mode::Plain;
    unix_sockets_at_the_ends: Mode::UnixEnds;
    a_unix_socket_between: Mode::UnixBetween;
    a_tunnel_at_confidentiality: Mode::Tunnel("confidentiality");
    a_tunnel_at_integrity: Mode::Tunnel("integrity");
    a_tunnel_at_none: Mode::Tunnel("none");
    plain_neighbours_at_none: Mode::PlainAtNone;
    a_tunnel_with_proxy_headers_v1: Mode::Proxied("v1");
    a_tunnel_with_proxy_headers_v2: Mode::Proxied("v2");
    stunnel_as_client_with_tls12: Mode::StunnelClient("1.2");
    stunnel_as_client_with_tls13: Mode::StunnelClient("1.3");
    stunnel_as_server_with_tls12: Mode::StunnelServer("1.2");
    stunnel_as_server_with_tls13: Mode::StunnelServer("1.3");
}

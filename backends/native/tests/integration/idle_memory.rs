//! A connection that has moved much and is silent now takes little memory.

use tokio::task::JoinSet;

use crate::support::lane::{Lane, Mode};
use crate::support::pattern::Pattern;
use crate::support::peer::Peer;
use crate::support::plan::{receive, send};
use crate::support::{eventually, raise_descriptor_limit};

const CONNECTIONS: u64 = 1024;
/// Each way, on each connection.
const MOVED: u64 = 1 << 20;
/// What a gateway may need for each.
const MOST_BYTES_EACH: u64 = 48 << 10;
/// So many move their bytes at the same time.
const AT_ONCE: usize = 64;

async fn move_both_ways(pattern: Pattern, client: &Peer, server: &Peer) {
    let (sent, received) = tokio::join!(send(client, pattern, MOVED), receive(server, pattern, MOVED));
    sent.and(received).expect("to the server");
    let (sent, received) = tokio::join!(send(server, pattern, MOVED), receive(client, pattern, MOVED));
    sent.and(received).expect("to the client");
}

async fn is_small_when_idle(mode: Mode) {
    raise_descriptor_limit();
    let lane = Lane::open(mode, "");
    let before = lane.memory();
    let (mut moving, mut ends) = (JoinSet::new(), Vec::new());
    for (seed, (client, server)) in (0..).zip(lane.connect_many(CONNECTIONS).await) {
        if moving.len() == AT_ONCE {
            ends.extend(moving.join_next().await);
        }
        moving.spawn(async move {
            move_both_ways(Pattern(seed), &client, &server).await;
            (client, server)
        });
    }
    ends.extend(moving.join_all().await.into_iter().map(Ok));
    let each = || -> Vec<(u64, u64)> {
        let grown = lane.memory().into_iter().zip(&before).map(|(now, before)| {
            ((now.private - before.private) / CONNECTIONS, (now.resident - before.resident) / CONNECTIONS)
        });
        grown.collect()
    };
    println!("{mode:?}: at once, private and resident bytes for each idle connection: {:?}", each());
    // Buffers may be kept for a while.
    eventually("idle connections are small", || each().iter().all(|(private, _)| *private <= MOST_BYTES_EACH));
    println!("{mode:?}: private and resident bytes for each idle connection: {:?}", each());
    assert_eq!(ends.len() as u64, CONNECTIONS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_plain_connections() {
    is_small_when_idle(Mode::Plain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_tls_connections() {
    is_small_when_idle(Mode::Tunnel("confidentiality")).await;
}

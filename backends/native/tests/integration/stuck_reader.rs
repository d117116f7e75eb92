//! Ends that never read change nothing for the other connections, and their bytes take
//! no more memory than they may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};

use crate::support::footprint::Memory;
use crate::support::lane::{Lane, Mode};
use crate::support::pattern::Pattern;
use crate::support::peer::Peer;
use crate::support::plan::{receive, send};
use crate::support::{DEADLINE, raise_descriptor_limit};

/// What all connections together move in a round.
const VOLUME: u64 = 64 << 20;
const ROUNDS: usize = 5;
/// How much longer the fastest round may take with stuck readers than without. Both are
/// the best of several rounds in turn, which other work on the machine does not touch
/// much; who waits for a stuck reader waits for ever, or for a time-out.
const SLOWDOWN: f64 = 3.0;
const BUDGET_MIB: u64 = 32;
/// What a connection needs beside its buffers: TLS, sockets, a task.
const EACH: u64 = 48 << 10;

/// An end that never reads, and one that sends to it for as long as that goes.
struct Stuck {
    _ends: Arc<(Peer, Peer)>,
    sent: Arc<AtomicU64>,
    sending: JoinHandle<()>,
}

impl Stuck {
    async fn new(lane: &Lane, to_client: bool) -> Self {
        let ends = Arc::new(lane.connect().await.expect("connect"));
        let sent = Arc::new(AtomicU64::new(0));
        let (sender_ends, counter) = (ends.clone(), sent.clone());
        let sending = tokio::spawn(async move {
            let (client, server) = &*sender_ends;
            let (sender, mut total) = (if to_client { server } else { client }, 0);
            while let Ok(written) = sender.write(&Pattern(0).slices(total, 65_536)).await {
                total += written as u64;
                counter.store(total, Ordering::Relaxed);
            }
        });
        Self { _ends: ends, sent, sending }
    }

    /// So many of them, with everything on the way full: nothing is taken any more.
    async fn several(lane: &Lane, count: u64) -> Vec<Self> {
        let mut stuck = Vec::new();
        for number in 0..count {
            stuck.push(Self::new(lane, number % 2 == 0).await);
        }
        let sent = || -> Vec<u64> { stuck.iter().map(|stuck| stuck.sent.load(Ordering::Relaxed)).collect() };
        let (began, mut before) = (Instant::now(), Vec::new());
        while sent() != before || before.contains(&0) {
            assert!(began.elapsed() < DEADLINE, "nothing held back those who send to stuck readers");
            before = sent();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stuck
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

/// Moves the volume over all of them at the same time, half of it each way, and gives how long it took.
async fn round(ends: &[Arc<(Peer, Peer)>]) -> Duration {
    let (began, each) = (Instant::now(), VOLUME / ends.len() as u64);
    let mut moving = JoinSet::new();
    for (ends, seed) in ends.iter().cloned().zip(0..) {
        moving.spawn(async move {
            let pattern = Pattern(seed);
            let (client, server) = &*ends;
            let (from, to) = if seed % 2 == 0 { (client, server) } else { (server, client) };
            let (sent, received) = tokio::join!(send(from, pattern, each), receive(to, pattern, each));
            sent.and(received)
        });
    }
    while let Some(moved) = moving.join_next().await {
        moved.expect("no panic").expect("a connection whose ends read");
    }
    began.elapsed()
}

async fn change_nothing(mode: Mode, connections: u64) {
    raise_descriptor_limit();
    let lane = Lane::open(mode, &format!("memory_mib = {BUDGET_MIB}"));
    let before = lane.memory();
    let ends: Vec<_> = lane.connect_many(connections).await.into_iter().map(Arc::new).collect();
    let several = connections / 16;
    let mut best = [Duration::MAX; 3];
    lane.programs.iter().for_each(Memory::forget_peak);
    for _ in 0..ROUNDS {
        for (best, count) in best.iter_mut().zip([0, 1, several]) {
            let _stuck = Stuck::several(&lane, count).await;
            *best = round(&ends).await.min(*best);
        }
    }
    let [alone, one, some] = best.map(|duration| duration.as_secs_f64());
    let peaks: Vec<_> = lane.memory().iter().zip(&before).map(|(now, before)| now.peak - before.resident).collect();
    println!(
        "{mode:?}: {connections} connections: {:.3} s, with one stuck reader {:.2} times that, with {several} {:.2}; \
         at most {:?} MiB more in memory",
        alone,
        one / alone,
        some / alone,
        peaks.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(),
    );
    let most = (BUDGET_MIB << 20) + (connections + several) * EACH;
    for peak in peaks {
        assert!(peak <= most, "{peak} bytes in memory, where {most} were allowed");
    }
    for (time, count) in [(one, 1), (some, several)] {
        assert!(time <= alone * SLOWDOWN, "{count} stuck readers: {time:.3} s instead of {alone:.3} s");
    }
}

macro_rules! change_nothing {
    ($($name:ident: $mode:expr, $connections:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                change_nothing($mode, $connections).await;
            }
        )*
    };
}

change_nothing! {
    among_64_plain_connections: Mode::Plain, 64;
    among_1024_plain_connections: Mode::Plain, 1024;
    among_64_connections_of_a_tunnel: Mode::Tunnel("confidentiality"), 64;
    among_1024_connections_of_a_tunnel: Mode::Tunnel("confidentiality"), 1024;
}

//! The threads that s2cs runs on: made at the start, and kept.
//!
//! Files are written and names looked up on threads of the runtime's, which makes
//! one when all are at work, and by default lets it go soon after. On a host that
//! grants no more threads it panics when it has none at all, and would take a
//! session down for a line in its journal. One that it has kept does the work later.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Threads for files and names that are there from the start. More are made in need.
const AT_THE_START: usize = 8;
const NAME: &str = "s2cs-worker";
/// As good as for ever: ten years.
const KEPT_FOR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A runtime that needs no thread later which it cannot do without.
///
/// # Errors
/// What the system says when it grants too few threads.
pub fn runtime() -> io::Result<Runtime> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    try_out(workers + AT_THE_START)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .thread_name(NAME)
        .thread_keep_alive(KEPT_FOR)
        .build()?;
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..AT_THE_START {
        let gate = Arc::clone(&gate);
        // Each waits at the gate, so that none of them is free for the next.
        drop(runtime.spawn_blocking(move || drop(gate.read())));
    }
    drop(closed);
    Ok(runtime)
}

/// Whether so many threads are granted: the runtime would not say so, but panic.
fn try_out(number: usize) -> io::Result<()> {
    let gate = RwLock::new(());
    let closed = gate.write().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let made: io::Result<Vec<_>> =
            (0..number).map(|_| thread::Builder::new().spawn_scoped(scope, || drop(gate.read()))).collect();
        drop(closed);
        made.map(drop)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Barrier;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_blocks_side_by_side_finds_threads_that_are_there() {
        let runtime = runtime().expect("threads");
        let is_ours = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == NAME);
        let tasks = || fs::read_dir("/proc/self/task").expect("/proc").flatten().map(|task| task.path());
        let threads = || tasks().filter(is_ours).count();
        let there = runtime.metrics().num_workers() + AT_THE_START;
        let deadline = Instant::now() + Duration::from_secs(20);
        // Each gives itself its name when it first runs.
        while threads() < there {
            assert!(Instant::now() < deadline, "{} threads of {there} are there", threads());
            thread::yield_now();
        }
        let side_by_side = || {
            let barrier = Arc::new(Barrier::new(AT_THE_START));
            let all: Vec<_> = (0..AT_THE_START)
                .map(|_| {
                    let barrier = Arc::clone(&barrier);
                    runtime.spawn_blocking(move || barrier.wait())
                })
                .collect();
            for one in all {
                runtime.block_on(one).expect("no panic");
            }
        };
        // One that is just done with the last round is not yet free for the next.
        loop {
            let before = threads();
            side_by_side();
            if threads() == before {
                break;
            }
            assert!(Instant::now() < deadline, "threads are made each time: {} by now", threads());
        }
    }
}

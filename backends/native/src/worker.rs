//! The threads that carry connections. A connection stays on its thread; a new
//! one goes to the thread that has the fewest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{buffer, lending, pipe};

/// All threads; clones share them. They end with the last clone.
#[derive(Clone)]
pub struct Workers(Arc<Threads>);

struct Threads {
    workers: Vec<Worker>,
    tracker: TaskTracker,
    _stop: DropGuard,
}

struct Worker {
    runtime: Handle,
    connections: AtomicUsize,
}

impl Workers {
    /// Starts so many threads. All of them at once: later the system may have none left.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let workers = (0..count).map(|number| start(number, stop.clone())).collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Threads { workers, tracker: TaskTracker::new(), _stop: stop.drop_guard() })))
    }

    /// The open connections.
    #[must_use]
    pub fn tracker(&self) -> &TaskTracker {
        &self.0.tracker
    }

    /// Serves a connection on the thread that has the fewest.
    pub fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let load = |index: &usize| self.0.workers[*index].connections.load(Ordering::Relaxed);
        let index = (0..self.0.workers.len()).min_by_key(load).expect("there is a thread at least");
        let place = Place::take(self.0.clone(), index);
        let runtime = &self.0.workers[index].runtime;
        self.0.tracker.spawn_on(
            async move {
                connection.await;
                drop(place);
            },
            runtime,
        );
    }
}

fn start(number: usize, stop: CancellationToken) -> io::Result<Worker> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    let life = move || {
        runtime.block_on(async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = release_unused() => {}
            }
        });
    };
    thread::Builder::new().name(format!("worker-{number}")).spawn(life)?;
    Ok(Worker { runtime: handle, connections: AtomicUsize::new(0) })
}

/// A thread keeps no memory and no descriptors for ever; this never ends.
async fn release_unused() {
    loop {
        lending::ended().await;
        buffer::release();
        pipe::release();
    }
}

/// A connection that is counted on its thread, until this is dropped.
struct Place {
    threads: Arc<Threads>,
    index: usize,
}

impl Place {
    fn take(threads: Arc<Threads>, index: usize) -> Self {
        threads.workers[index].connections.fetch_add(1, Ordering::Relaxed);
        Self { threads, index }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.threads.workers[self.index].connections.fetch_sub(1, Ordering::Relaxed);
    }
}

//! Tells when a log grows, so that whoever waits for a program's words need not look
//! again and again. One inotify instance (`inotify(7)`) serves all sessions: a user
//! may have few of them.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Watches files for whoever waits for them. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Growth(Option<Arc<Watching>>);

#[derive(Debug)]
struct Watching {
    watches: Arc<Watches>,
    task: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Watches {
    kernel: AsyncFd<Kernel>,
    waiting: Mutex<HashMap<WatchDescriptor, Arc<Notify>>>,
}

#[derive(Debug)]
struct Kernel(Inotify);

impl AsRawFd for Kernel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Somebody waits for a file to grow. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Watch {
    watches: Arc<Watches>,
    descriptor: WatchDescriptor,
    changed: Arc<Notify>,
}

impl Growth {
    /// Starts watching, in the runtime of the caller. Where the system does not let us,
    /// nobody is told anything, and whoever waits must look now and then.
    #[must_use]
    pub fn start() -> Self {
        match Watches::new() {
            Ok(watches) => {
                let watches = Arc::new(watches);
                let task = tokio::spawn(Arc::clone(&watches).tell());
                Self(Some(Arc::new(Watching { watches, task })))
            }
            Err(e) => {
                tracing::warn!("the system does not tell when logs grow, so they are looked at again and again: {e}");
                Self(None)
            }
        }
    }

    /// Watches a file that nobody else waits for; `None` where the system does not let us.
    pub(super) fn watch(&self, file: &Path) -> Option<Watch> {
        let watches = &self.0.as_ref()?.watches;
        // Held until it is entered, so that its first event finds it.
        let mut waiting = watches.waiting();
        let descriptor = watches.kernel.get_ref().0.add_watch(file, AddWatchFlags::IN_MODIFY);
        let descriptor = descriptor.inspect_err(|e| tracing::debug!("cannot watch a log: {e}")).ok()?;
        let changed = Arc::new(Notify::new());
        waiting.insert(descriptor, Arc::clone(&changed));
        Some(Watch { watches: Arc::clone(watches), descriptor, changed })
    }
}

impl Watches {
    fn new() -> io::Result<Self> {
        let kernel = Kernel(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?);
        #[expect(
            deprecated,
            reason = "unsound for types that may close their descriptor early, which this one does not"
        )]
        let kernel = AsyncFd::with_interest(kernel, Interest::READABLE)?;
        Ok(Self { kernel, waiting: Mutex::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what the kernel tells, for as long as anybody may want to know.
    async fn tell(self: Arc<Self>) {
        while let Ok(mut ready) = self.kernel.readable().await {
            match ready.try_io(|kernel| kernel.get_ref().0.read_events().map_err(io::Error::from)) {
                Ok(Ok(events)) => {
                    let waiting = self.waiting();
                    for event in events {
                        match waiting.get(&event.wd) {
                            Some(changed) => changed.notify_one(),
                            // The kernel dropped some: anybody's.
                            None if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) => {
                                waiting.values().for_each(|changed| changed.notify_one());
                            }
                            None => {}
                        }
                    }
                }
                Ok(Err(e)) => tracing::warn!("cannot read which logs have grown: {e}"),
                // Not yet.
                Err(_) => {}
            }
        }
    }
}

impl Watch {
    /// Resolves when the file has changed since the last time. Pends for ever without a watch.
    pub(super) async fn change(watch: Option<&Self>) {
        match watch {
            Some(watch) => watch.changed.notified().await,
            None => pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.watches.waiting();
        waiting.remove(&self.descriptor);
        match self.watches.kernel.get_ref().0.rm_watch(self.descriptor) {
            // The file is gone, and the watch with it.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(e) => tracing::warn!("cannot stop watching a log: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn whoever_waits_for_a_file_is_told_of_that_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "").and_then(|()| fs::write(&other, "")).expect("written");
        let growth = Growth::start();
        let (of_one, of_other) = (growth.watch(&one).expect("a watch"), growth.watch(&other).expect("a watch"));
        let mut file = OpenOptions::new().append(true).open(&one).expect("it is there");
        for _ in 0..3 {
            file.write_all(b"a line\n").expect("written");
            timeout(SOON, Watch::change(Some(&of_one))).await.expect("told");
        }
        // Before anybody waits: it is not lost.
        fs::write(&other, "x").expect("written");
        timeout(SOON, Watch::change(Some(&of_other))).await.expect("told");
        drop((of_one, of_other));
        assert!(growth.0.expect("it watches").watches.waiting().is_empty(), "a watch is left");
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_not_watched() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Growth::start().watch(&folder.path().join("none")).is_none());
        assert!(Growth::default().watch(folder.path()).is_none());
    }
}

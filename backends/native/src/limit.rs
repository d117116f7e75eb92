//! How many connections are served at once.
//!
//! Counted so that listeners can stop accepting before the limit is passed:
//! those who come then wait in the kernel's backlog.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Debug, Clone, Copy)]
struct Count {
    open: usize,
    most: usize,
}

impl Count {
    fn has_room(&self) -> bool {
        self.open < self.most
    }
}

/// The count of the process; clones share it.
#[derive(Debug, Clone)]
pub struct Limit(Arc<watch::Sender<Count>>);

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub struct Place(Limit);

impl Limit {
    /// Lets this many in.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(watch::Sender::new(Count { open: 0, most })))
    }

    /// Changes how many are let in; those inside stay.
    pub fn set(&self, most: usize) {
        self.change(|count| count.most = most);
    }

    /// How many are inside.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.borrow().open
    }

    /// Waits for room.
    pub async fn room(&self) {
        self.wait(Count::has_room).await;
    }

    /// Waits until there is no room.
    pub async fn full(&self) {
        self.wait(|count| !count.has_room()).await;
    }

    /// Waits for room and takes it.
    pub async fn take(&self) -> Place {
        loop {
            let mut taken = false;
            self.change(|count| {
                taken = count.has_room();
                count.open += usize::from(taken);
            });
            if taken {
                return Place(self.clone());
            }
            self.room().await;
        }
    }

    /// Wakes those who wait only when there is room again, or no more: connections
    /// come and go far more often.
    fn change(&self, change: impl FnOnce(&mut Count)) {
        self.0.send_if_modified(|count| {
            let before = count.has_room();
            change(count);
            count.has_room() != before
        });
    }

    async fn wait(&self, condition: impl Fn(&Count) -> bool) {
        let mut watcher = self.0.subscribe();
        watcher.wait_for(condition).await.expect("the sender lives in self");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.change(|count| count.open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_ready(future: impl Future) -> bool {
        pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn lets_in_as_many_as_it_says() {
        let limit = Limit::new(2);
        let first = limit.take().await;
        assert!(is_ready(limit.room()) && !is_ready(limit.full()));
        let _second = limit.take().await;
        assert!(!is_ready(limit.room()) && is_ready(limit.full()) && !is_ready(limit.take()));
        drop(first);
        assert_eq!(limit.open(), 1);
        assert!(is_ready(limit.take()));
    }

    #[tokio::test]
    async fn wakes_nobody_for_nothing() {
        let limit = Limit::new(2);
        let mut watcher = limit.0.subscribe();
        let mut is_told = || {
            let changed = watcher.has_changed().expect("the sender lives");
            watcher.mark_unchanged();
            changed
        };
        let first = limit.take().await;
        assert!(!is_told());
        let second = limit.take().await;
        assert!(is_told(), "there is no more room");
        drop(first);
        assert!(is_told(), "there is room");
        drop(second);
        assert!(!is_told());
    }

    #[tokio::test]
    async fn a_lower_limit_waits_for_those_inside() {
        let limit = Limit::new(2);
        let places = (limit.take().await, limit.take().await);
        limit.set(1);
        drop(places.0);
        assert!(!is_ready(limit.room()));
        drop(places.1);
        assert!(is_ready(limit.room()));
    }
}

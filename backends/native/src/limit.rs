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
        self.0.send_modify(|count| count.most = most);
    }

    /// How many are inside.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.borrow().open
    }

    /// Waits for room.
    pub async fn room(&self) {
        self.wait(|count| count.open < count.most).await;
    }

    /// Waits until there is no room.
    pub async fn full(&self) {
        self.wait(|count| count.open >= count.most).await;
    }

    /// Waits for room and takes it.
    pub async fn take(&self) -> Place {
        loop {
            let taken = self.0.send_if_modified(|count| {
                let room = count.open < count.most;
                count.open += usize::from(room);
                room
            });
            if taken {
                return Place(self.clone());
            }
            self.room().await;
        }
    }

    async fn wait(&self, condition: impl Fn(&Count) -> bool) {
        let mut watcher = self.0.subscribe();
        watcher.wait_for(condition).await.expect("the sender lives in self");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.open -= 1);
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

//! What is remembered of UIDs for a while: the newest ones, and not for long.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::auth::Caller;
use crate::session::UidDigest;

/// How long a UID is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// How many are; the oldest make room.
const MOST: usize = 2000;

/// UIDs, each with whose it was and something about it.
#[derive(Debug)]
pub(super) struct Memories<T = ()> {
    of: HashMap<UidDigest, Memory<T>>,
    /// In the order in which they came; what came again stands in it again.
    order: VecDeque<(UidDigest, Instant)>,
}

/// What is remembered of one UID.
#[derive(Debug)]
pub(super) struct Memory<T> {
    when: Instant,
    pub(super) whose: Caller,
    pub(super) what: T,
}

impl<T> Default for Memories<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Memories<T> {
    pub(super) fn insert(&mut self, uid: UidDigest, whose: Caller, what: T) {
        let when = Instant::now();
        self.of.insert(uid, Memory { when, whose, what });
        self.order.push_back((uid, when));
        while let Some((oldest, since)) = self.order.front().copied()
            && (self.order.len() > MOST || since.elapsed() > MEMORY)
        {
            self.order.pop_front();
            if self.of.get(&oldest).is_some_and(|memory| memory.when == since) {
                self.of.remove(&oldest);
            }
        }
    }

    /// What is remembered of a UID, if it is no older than that.
    pub(super) fn get(&self, uid: UidDigest, most: Duration) -> Option<&Memory<T>> {
        self.of.get(&uid).filter(|memory| memory.when.elapsed() < most.min(MEMORY))
    }

    pub(super) fn remove(&mut self, uid: UidDigest) -> Option<Memory<T>> {
        self.of.remove(&uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Uid;

    fn uid() -> UidDigest {
        Uid::random().expect("random").digest()
    }

    #[test]
    fn the_newest_are_remembered() {
        let mut memories = Memories::default();
        let (first, second) = (uid(), uid());
        memories.insert(first, Caller::Anyone, 1);
        memories.insert(second, Caller::Anyone, 2);
        for _ in 0..MOST - 2 {
            memories.insert(uid(), Caller::Anyone, 0);
        }
        // It came again, and is new.
        memories.insert(first, Caller::Anyone, 3);
        memories.insert(uid(), Caller::Anyone, 0);
        assert_eq!(memories.get(first, MEMORY).map(|memory| memory.what), Some(3));
        assert!(memories.get(second, MEMORY).is_none(), "one of the oldest");
        assert!(memories.of.len() <= MOST && memories.order.len() <= MOST);
        assert!(memories.get(first, Duration::ZERO).is_none(), "too old");
        assert_eq!(memories.remove(first).map(|memory| memory.what), Some(3));
        assert!(memories.get(first, MEMORY).is_none());
    }
}

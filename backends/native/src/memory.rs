//! What the buffers of all connections take, and how much each may.
//!
//! A connection holds bytes only while its receiver is slower than its sender. It
//! may then take its even share, or an eighth of what is left if that is less, so
//! that those who do not read cannot take what the others need. Nobody is given
//! less than [`LEAST`], so the budget can be passed by that much a direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One TLS record, or a pipe's worth of small messages.
pub const LEAST: usize = 16 * 1024;
/// For one among few: with turns of a quarter of it TLS costs up to a fifth more.
pub const MOST: usize = 512 * 1024;
/// More than [`FEW`] get less, for a direction may hold three such pieces.
const MOST_OF_MANY: usize = 128 * 1024;
const FEW: usize = 16;

/// The budget of the process; clones share it.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    budget: AtomicUsize,
    held: AtomicUsize,
    connections: AtomicUsize,
}

/// Bytes that are counted, until this is dropped.
#[derive(Debug)]
pub struct Held {
    memory: Memory,
    bytes: usize,
}

/// A connection among those that share the budget, until this is dropped.
#[derive(Debug)]
pub struct Sharer(Memory);

impl Memory {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        let counts = Counts { budget: budget.into(), held: 0.into(), connections: 0.into() };
        Self(Arc::new(counts))
    }

    /// Changes the budget; what is held stays so.
    pub fn set(&self, budget: usize) {
        self.0.budget.store(budget, Ordering::Relaxed);
    }

    /// Counts a connection.
    #[must_use]
    pub fn join(&self) -> Sharer {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        Sharer(self.clone())
    }
}

impl Sharer {
    /// How many bytes one direction of the connection may take now.
    #[must_use]
    pub fn share(&self) -> usize {
        let counts = &self.0.0;
        let budget = counts.budget.load(Ordering::Relaxed);
        let left = budget.saturating_sub(counts.held.load(Ordering::Relaxed));
        let connections = counts.connections.load(Ordering::Relaxed).max(1);
        let most = if connections > FEW { MOST_OF_MANY } else { MOST };
        (budget / (2 * connections)).min(left / 8).clamp(LEAST, most)
    }

    /// Whether who has to wait should take no more than its bytes need.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.share() < MOST
    }

    /// Counts what a direction holds.
    #[must_use]
    pub fn hold(&self, bytes: usize) -> Held {
        self.0.0.held.fetch_add(bytes, Ordering::Relaxed);
        Held { memory: self.0.clone(), bytes }
    }
}

impl Drop for Sharer {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_get_much_and_many_get_their_share() {
        let memory = Memory::new(64 << 20);
        let first = memory.join();
        assert_eq!(first.share(), MOST);
        let _others: Vec<_> = (0..1023).map(|_| memory.join()).collect();
        assert_eq!(first.share(), (64 << 20) / 2048);
        memory.set(256 << 20);
        assert_eq!(first.share(), MOST_OF_MANY);
    }

    #[test]
    fn those_who_hold_leave_the_others_their_part() {
        let memory = Memory::new(8 << 20);
        let connections: Vec<_> = (0..100).map(|_| memory.join()).collect();
        let held: Vec<_> = connections.iter().flat_map(|one| (0..2).map(|_| one.hold(one.share()))).collect();
        let total: usize = held.iter().map(|held| held.bytes).sum();
        assert!(total <= (8 << 20) + 200 * LEAST, "{total} bytes are held");
        assert!(connections[0].share() >= LEAST);
        drop(held);
        assert_eq!(connections[0].share(), (8 << 20) / 200);
    }
}

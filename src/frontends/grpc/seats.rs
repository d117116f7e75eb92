//! Places for control connections: when all are taken, one that nobody has a use
//! for makes room, so that whoever holds connections open keeps nobody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::sys::resource::{Resource, getrlimit};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Control connections at once, where the system allows four times as many descriptors.
const MOST: usize = 1024;

/// All places.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    most: usize,
    /// Those that are taken, the oldest first.
    taken: Arc<Mutex<Vec<Weak<Seat>>>>,
}

/// A place that a connection has for as long as it holds this.
#[derive(Debug)]
pub(super) struct Seat {
    address: IpAddr,
    /// Whether anybody who was let in has called over it.
    used: AtomicBool,
    end: CancellationToken,
}

impl Seats {
    pub(super) fn new() -> Self {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
        let quarter = usize::try_from(soft / 4).unwrap_or(MOST);
        Self { most: MOST.min(quarter).max(1), taken: Arc::default() }
    }

    /// Takes a place for a connection from an address.
    pub(super) fn take(&self, address: IpAddr) -> Arc<Seat> {
        let seat = Arc::new(Seat { address, used: AtomicBool::new(false), end: CancellationToken::new() });
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|seat| seat.strong_count() > 0);
        if taken.len() >= self.most {
            let seated: Vec<_> = taken.iter().filter_map(Weak::upgrade).collect();
            if let Some(least) = least_useful(&seated) {
                tracing::info!(address = %least.address, "a control connection without use made room for another");
                least.end.cancel();
                taken.retain(|seat| !std::ptr::eq(seat.as_ptr(), Arc::as_ptr(least)));
            }
        }
        taken.push(Arc::downgrade(&seat));
        seat
    }
}

/// The oldest over which nobody was let in; if there is none, the oldest of the
/// address that has the most.
fn least_useful(seated: &[Arc<Seat>]) -> Option<&Arc<Seat>> {
    let unused = seated.iter().find(|seat| !seat.used.load(Ordering::Relaxed));
    let of_most = || {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        seated.iter().for_each(|seat| *counts.entry(seat.address).or_default() += 1);
        seated.iter().max_by_key(|seat| counts[&seat.address]).map(|most| most.address)
    };
    unused.or_else(|| {
        let address = of_most()?;
        seated.iter().find(|seat| seat.address == address)
    })
}

impl Seat {
    /// Somebody who was let in calls over it.
    pub(super) fn used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Resolves when it has to make room.
    pub(super) fn ended(&self) -> WaitForCancellationFutureOwned {
        self.end.clone().cancelled_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(most: usize) -> Seats {
        Seats { most, taken: Arc::default() }
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn ended(seats: &[Arc<Seat>]) -> Vec<bool> {
        seats.iter().map(|seat| seat.end.is_cancelled()).collect()
    }

    #[test]
    fn the_oldest_that_is_of_no_use_makes_room() {
        let seats = seats(3);
        let mut held: Vec<_> = (0..3).map(|_| seats.take(from(1))).collect();
        held[0].used();
        held.push(seats.take(from(2)));
        assert_eq!(ended(&held), [false, true, false, false]);
        held[2].used();
        held[3].used();
        held.push(seats.take(from(3)));
        assert_eq!(ended(&held), [true, true, false, false, false], "the oldest of the address that has the most");
    }

    #[test]
    fn whoever_goes_makes_room_by_that() {
        let seats = seats(2);
        let (first, second) = (seats.take(from(1)), seats.take(from(1)));
        drop(first);
        let third = seats.take(from(1));
        assert_eq!(ended(&[second, third]), [false, false]);
    }
}

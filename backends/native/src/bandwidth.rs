//! How fast all connections together may be.
//!
//! A direction that has something to read reserves the time on the wire that its
//! bytes take, one reservation after the other, and reads when its time has come.
//! Everybody gets a turn before anybody gets a second one, so connections share
//! evenly, and a turn is short enough that all have theirs within [`ROUND`].

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// In this time everybody who waits gets a turn, while turns are no shorter than [`SHORTEST`].
const ROUND: Duration = Duration::from_millis(50);
/// A turn's length at most, so that the rate is even where few wait.
const LONGEST: Duration = Duration::from_millis(5);
/// What a late timer may make up for.
const CREDIT: Duration = Duration::from_millis(25);
/// A turn's bytes at least.
const SHORTEST: u64 = 1024;

/// The limit of the process; clones share it.
#[derive(Debug, Clone)]
pub struct Bandwidth(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Looked at before the lock is taken: most have no limit.
    limited: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes_per_second: Option<NonZeroU64>,
    /// When the wire is free again.
    free_at: Instant,
    waiting: u64,
}

/// A direction's place in the queue.
#[derive(Default)]
pub struct Turn {
    reserved: Option<Reserved>,
}

struct Reserved {
    bandwidth: Bandwidth,
    bytes: usize,
    begins: Pin<Box<Sleep>>,
}

impl Bandwidth {
    /// A limit of so many bytes a second, if any.
    #[must_use]
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        let state = State { bytes_per_second, free_at: Instant::now(), waiting: 0 };
        Self(Arc::new(Shared { limited: bytes_per_second.is_some().into(), state: Mutex::new(state) }))
    }

    /// Changes the limit, for open connections too.
    pub fn set(&self, bytes_per_second: Option<NonZeroU64>) {
        let mut state = self.state();
        // What was reserved at the old rate would be waited for at the new one.
        state.free_at = Instant::now();
        state.bytes_per_second = bytes_per_second;
        self.0.limited.store(bytes_per_second.is_some(), Ordering::Relaxed);
    }

    /// What was read of a turn that allowed more.
    pub fn give_back(&self, bytes: usize) {
        if bytes == 0 || !self.0.limited.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        if let Some(rate) = state.bytes_per_second
            && let Some(earlier) = state.free_at.checked_sub(time_of(bytes as u64, rate))
        {
            state.free_at = earlier;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a turn: how many bytes, and from when on.
    fn reserve(&self, most: usize) -> Option<(usize, Instant)> {
        if !self.0.limited.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state();
        let rate = state.bytes_per_second?;
        let length = LONGEST.min(ROUND / u32::try_from(state.waiting + 1).unwrap_or(u32::MAX));
        let bytes = bytes_in(length, rate).max(SHORTEST).min(most as u64);
        let begins = state.free_at.max(Instant::now() - CREDIT);
        state.free_at = begins + time_of(bytes, rate);
        Some((usize::try_from(bytes).unwrap_or(most), begins))
    }
}

impl Turn {
    /// Ready with how many bytes may be read now, `most` at most. It is asked only
    /// by who has something to read.
    pub fn poll(&mut self, context: &mut Context<'_>, bandwidth: &Bandwidth, most: usize) -> Poll<usize> {
        let reserved = match &mut self.reserved {
            Some(reserved) => reserved,
            none => {
                let Some((bytes, begins)) = bandwidth.reserve(most) else {
                    return Poll::Ready(most);
                };
                if begins <= Instant::now() {
                    return Poll::Ready(bytes);
                }
                none.insert(Reserved::new(bandwidth.clone(), bytes, begins))
            }
        };
        ready!(reserved.begins.as_mut().poll(context));
        let bytes = reserved.bytes;
        self.reserved = None;
        Poll::Ready(bytes)
    }
}

impl Reserved {
    fn new(bandwidth: Bandwidth, bytes: usize, begins: Instant) -> Self {
        bandwidth.state().waiting += 1;
        Self { bandwidth, bytes, begins: Box::pin(sleep_until(begins)) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.bandwidth.state().waiting -= 1;
    }
}

fn bytes_in(time: Duration, rate: NonZeroU64) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(rate.get()) / 1_000_000_000).unwrap_or(u64::MAX)
}

fn time_of(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const RATE: u64 = 5_000_000;

    fn limit(rate: u64) -> Bandwidth {
        Bandwidth::new(NonZeroU64::new(rate))
    }

    /// Takes turns until `until`, and gives what they allowed.
    async fn read(bandwidth: Bandwidth, until: Instant) -> u64 {
        let mut turn = Turn::default();
        let mut total = 0;
        while Instant::now() < until {
            total += poll_fn(|context| turn.poll(context, &bandwidth, 256 * 1024)).await as u64;
        }
        total
    }

    async fn shares(bandwidth: &Bandwidth, count: usize, time: Duration) -> Vec<u64> {
        let until = Instant::now() + time;
        let readers: Vec<_> = (0..count).map(|_| tokio::spawn(read(bandwidth.clone(), until))).collect();
        let mut shares = Vec::new();
        for reader in readers {
            shares.push(reader.await.expect("a reader"));
        }
        shares
    }

    #[tokio::test(start_paused = true)]
    async fn one_and_many_get_what_was_asked_for_together() {
        for count in [1, 2, 32, 200] {
            let shares = shares(&limit(RATE), count, Duration::from_secs(10)).await;
            let ratio = shares.iter().sum::<u64>() as f64 / (10 * RATE) as f64;
            assert!((0.98..1.02).contains(&ratio), "{count} connections got {ratio} of the rate");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_evenly_and_often() {
        let shares = shares(&limit(RATE), 32, Duration::from_secs(5)).await;
        let (least, most) = (shares.iter().min().copied(), shares.iter().max().copied());
        let ratio = least.unwrap_or(0) as f64 / most.unwrap_or(1) as f64;
        assert!(ratio > 0.9, "one got {ratio} of what another got");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_holds_at_once() {
        let bandwidth = limit(1000);
        let slow = tokio::spawn(read(bandwidth.clone(), Instant::now() + Duration::from_secs(2)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        bandwidth.set(NonZeroU64::new(RATE));
        let total = slow.await.expect("the reader");
        assert!(total > RATE / 2, "{total} bytes in the second after the change");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_read_is_not_counted() {
        let bandwidth = limit(RATE);
        let mut turn = Turn::default();
        let began = Instant::now();
        for _ in 0..1000 {
            let allowed = poll_fn(|context| turn.poll(context, &bandwidth, 256 * 1024)).await;
            bandwidth.give_back(allowed - 1);
        }
        assert!(began.elapsed() < Duration::from_millis(20), "1,000 bytes took {:?}", began.elapsed());
    }
}

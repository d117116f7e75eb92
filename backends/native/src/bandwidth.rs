//! How fast all connections together may be.
//!
//! Directions that have something to read queue. The first of the queue waits until
//! the wire is free, and takes the time that its bytes need there; the second goes when
//! the wire will be free after that, and so on, so none waits for the processor to come
//! to another. Everybody gets a turn before anybody gets a second one, so connections
//! share evenly; a turn is short enough that all have theirs within [`ROUND`]. What a
//! turn allows and does not use, the next uses.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
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
    /// How often the limit was changed.
    changes: u64,
    /// When the wire is free again.
    free_at: Instant,
    /// Who waits, by rising numbers.
    queue: VecDeque<(Place, Waker)>,
    next: Place,
}

/// A place in the queue; none is given twice.
type Place = u64;

/// A direction's place in the queue.
pub struct Turn {
    bandwidth: Bandwidth,
    place: Option<Place>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What may be read now. What is not used of it goes back when this is dropped.
#[must_use]
pub struct Grant {
    bytes: usize,
    used: usize,
    /// Where it goes back to, if the limit has not changed since.
    from: Option<(Bandwidth, u64)>,
}

impl Bandwidth {
    /// A limit of so many bytes a second, if any.
    #[must_use]
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        let state = State { bytes_per_second, changes: 0, free_at: Instant::now(), queue: VecDeque::new(), next: 0 };
        Self(Arc::new(Shared { limited: bytes_per_second.is_some().into(), state: Mutex::new(state) }))
    }

    /// Changes the limit, at once for who waits too.
    pub fn set(&self, bytes_per_second: Option<NonZeroU64>) {
        let mut state = self.state();
        // What was taken at the old rate would be waited for at the new one.
        state.free_at = Instant::now();
        state.bytes_per_second = bytes_per_second;
        state.changes += 1;
        self.0.limited.store(bytes_per_second.is_some(), Ordering::Relaxed);
        for (_, waker) in &state.queue {
            waker.wake_by_ref();
        }
    }

    fn is_limited(&self) -> bool {
        self.0.limited.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_first(&self) {
        if let Some((_, waker)) = self.queue.front() {
            waker.wake_by_ref();
        }
    }

    fn join(&mut self, waker: &Waker) -> Place {
        let place = self.next;
        self.next += 1;
        self.queue.push_back((place, waker.clone()));
        place
    }

    fn index(&self, place: Place) -> Option<usize> {
        self.queue.binary_search_by_key(&place, |(place, _)| *place).ok()
    }

    fn remove(&mut self, place: Place) {
        if let Some(index) = self.index(place) {
            self.queue.remove(index);
            if index == 0 {
                self.wake_first();
            }
        }
    }

    /// How many bytes one of those who wait may have.
    fn share(&self, rate: NonZeroU64) -> u64 {
        let waiting = u32::try_from(self.queue.len()).unwrap_or(u32::MAX).max(1);
        bytes_in(LONGEST.min(ROUND / waiting), rate).max(SHORTEST)
    }

    /// When the wire is free for one before whom so many are, each with so many bytes.
    fn due(&self, rate: NonZeroU64, before: usize, share: u64, now: Instant) -> Instant {
        self.free_at.max(now - CREDIT) + time_of(share.saturating_mul(before as u64), rate)
    }
}

impl Turn {
    /// A direction that does not wait yet.
    #[must_use]
    pub fn new(bandwidth: Bandwidth) -> Self {
        Self { bandwidth, place: None, timer: None }
    }

    /// Ready with how many bytes may be read now, `most` at most. It is asked only
    /// by who has something to read.
    pub fn poll(&mut self, context: &mut Context<'_>, most: usize) -> Poll<Grant> {
        loop {
            let due = {
                if !self.bandwidth.is_limited() {
                    self.leave();
                    return Poll::Ready(Grant { bytes: most, used: 0, from: None });
                }
                let mut state = self.bandwidth.state();
                let Some(rate) = state.bytes_per_second else { continue };
                let place = *self.place.get_or_insert_with(|| state.join(context.waker()));
                let index = state.index(place).expect("who has a place is in the queue");
                let (share, now) = (state.share(rate), Instant::now());
                let due = state.due(rate, index, share, now);
                if due <= now {
                    let bytes = share.min(most as u64);
                    state.free_at = state.due(rate, 0, share, now) + time_of(bytes, rate);
                    state.remove(place);
                    self.place = None;
                    let from = Some((self.bandwidth.clone(), state.changes));
                    return Poll::Ready(Grant { bytes: usize::try_from(bytes).unwrap_or(most), used: 0, from });
                }
                state.queue[index].1.clone_from(context.waker());
                due
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(context));
        }
    }

    /// Gives the place up: there is nothing to read after all.
    pub fn leave(&mut self) {
        self.timer = None;
        if let Some(place) = self.place.take() {
            self.bandwidth.state().remove(place);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Grant {
    /// How many bytes may be read.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Says that so many were.
    pub fn used(mut self, bytes: usize) {
        self.used = bytes.min(self.bytes);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let unused = self.bytes - self.used;
        let Some((bandwidth, changes)) = self.from.take().filter(|_| unused > 0) else { return };
        let mut state = bandwidth.state();
        if let Some(rate) = state.bytes_per_second
            && state.changes == changes
            && let Some(earlier) = state.free_at.checked_sub(time_of(unused as u64, rate))
        {
            state.free_at = earlier;
            state.wake_first();
        }
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

    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    const RATE: u64 = 5_000_000;
    const MOST: usize = 256 * 1024;

    fn limit(rate: u64) -> Bandwidth {
        Bandwidth::new(NonZeroU64::new(rate))
    }

    /// Takes turns until `until`, and gives what they allowed.
    async fn read(bandwidth: Bandwidth, until: Instant) -> u64 {
        let mut turn = Turn::new(bandwidth);
        let mut total = 0;
        while Instant::now() < until {
            let grant = poll_fn(|context| turn.poll(context, MOST)).await;
            let bytes = grant.bytes();
            grant.used(bytes);
            total += bytes as u64;
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
        let mut turn = Turn::new(limit(RATE));
        let began = Instant::now();
        for _ in 0..1000 {
            poll_fn(|context| turn.poll(context, MOST)).await.used(1);
        }
        assert!(began.elapsed() < Duration::from_millis(20), "1,000 bytes took {:?}", began.elapsed());
    }

    /// Reads ten bytes every now and then.
    async fn chat(bandwidth: Bandwidth, until: Instant) {
        let mut turn = Turn::new(bandwidth);
        while Instant::now() < until {
            poll_fn(|context| turn.poll(context, MOST)).await.used(10);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_little_leaves_the_rest_to_others() {
        let bandwidth = limit(RATE);
        let until = Instant::now() + Duration::from_secs(10);
        for _ in 0..30 {
            tokio::spawn(chat(bandwidth.clone(), until));
        }
        let ratio = read(bandwidth, until).await as f64 / (10 * RATE) as f64;
        assert!((0.93..1.0).contains(&ratio), "beside 30 that chat, one got {ratio} of the rate");
    }

    /// Queues, and goes before its turn or with it.
    async fn come_and_go(bandwidth: Bandwidth, until: Instant, patience: Duration) {
        while Instant::now() < until {
            let mut turn = Turn::new(bandwidth.clone());
            drop(timeout(patience, poll_fn(|context| turn.poll(context, MOST))).await);
            turn.leave();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_queue_leaves_no_hole() {
        let bandwidth = limit(RATE);
        let until = Instant::now() + Duration::from_secs(10);
        for number in 1..=30 {
            tokio::spawn(come_and_go(bandwidth.clone(), until, Duration::from_micros(300) * number));
        }
        let ratio = read(bandwidth, until).await as f64 / (10 * RATE) as f64;
        assert!(ratio > 0.97, "beside 30 that come and go, one got {ratio} of the rate");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_reaches_all_who_wait() {
        for (faster, wanted) in [(NonZeroU64::new(RATE), RATE), (None, 60 * MOST as u64)] {
            let bandwidth = limit(1000);
            let mut readers = JoinSet::new();
            for _ in 0..60 {
                let mut turn = Turn::new(bandwidth.clone());
                readers.spawn(async move {
                    let mut total = 0;
                    while total < wanted / 60 {
                        let grant = poll_fn(|context| turn.poll(context, MOST)).await;
                        let bytes = grant.bytes();
                        grant.used(bytes);
                        total += bytes as u64;
                    }
                });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let changed = Instant::now();
            bandwidth.set(faster);
            while let Some(reader) = readers.join_next().await {
                reader.expect("a reader");
            }
            assert!(changed.elapsed() < Duration::from_millis(1100), "{faster:?}: {:?}", changed.elapsed());
        }
    }
}

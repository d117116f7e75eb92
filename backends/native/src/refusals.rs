//! Connections that were refused: told of one by one while they are few, so that each
//! can be looked into, and together beyond that, so that who knocks without end cannot
//! fill the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::address::Source;

/// In so long,
const INTERVAL: Duration = Duration::from_secs(10);
/// so many have a line of their own.
const SINGLY: u64 = 20;

/// What a listener has to tell; clones share it. What is untold at the end of the last
/// of them is told then.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    untold: Notify,
}

#[derive(Debug, Default)]
struct State {
    interval: Option<Interval>,
    /// The last of those that no line has told of yet, and how many there are.
    last: Option<Refused>,
    untold: u64,
}

#[derive(Debug)]
struct Interval {
    ends: Instant,
    told: u64,
}

#[derive(Debug)]
struct Refused {
    listener: String,
    source: Source,
    reason: String,
}

impl Refusals {
    /// Counts one that was refused, and tells of it if it is among the first.
    pub fn refused(&self, listener: &str, source: Source, reason: &str) {
        let mut state = self.0.state();
        if state.may_have_a_line() {
            warn!(listener, %source, reason, "connection refused");
            return;
        }
        state.untold += 1;
        state.last = Some(Refused { listener: listener.into(), source, reason: reason.into() });
        self.0.untold.notify_one();
    }

    /// Ready when those that have no line of their own may be told of.
    pub async fn due(&self) {
        loop {
            let ends = self.0.state().told_after();
            match ends {
                Some(ends) => return sleep_until(ends).await,
                None => self.0.untold.notified().await,
            }
        }
    }

    /// Tells of those that no line has told of yet.
    pub fn tell(&self) {
        self.0.state().tell();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_have_a_line(&mut self) -> bool {
        let now = Instant::now();
        let interval = match &mut self.interval {
            Some(interval) if now < interval.ends || self.untold > 0 => interval,
            ended => ended.insert(Interval { ends: now + INTERVAL, told: 0 }),
        };
        let may = interval.told < SINGLY;
        interval.told += u64::from(may);
        may
    }

    fn told_after(&self) -> Option<Instant> {
        self.interval.as_ref().filter(|_| self.untold > 0).map(|interval| interval.ends)
    }

    fn tell(&mut self) {
        let connections = std::mem::take(&mut self.untold);
        if let Some(Refused { listener, source, reason }) = self.last.take() {
            warn!(listener, connections, last_source = %source, last_reason = reason, "more connections refused");
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn knock(refusals: &Refusals, times: u64) {
        for _ in 0..times {
            refusals.refused("0", Source(None), "no key");
        }
    }

    fn untold(refusals: &Refusals) -> u64 {
        refusals.0.state().untold
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_are_told_of_at_once_and_the_others_together() {
        let (refusals, began) = (Refusals::default(), Instant::now());
        knock(&refusals, SINGLY);
        assert_eq!(untold(&refusals), 0, "one of the first was not told of");
        assert!(timeout(INTERVAL * 10, refusals.due()).await.is_err(), "there is nothing to tell");
        assert_eq!(began.elapsed(), INTERVAL * 10);

        let began = Instant::now();
        knock(&refusals, SINGLY + 1000);
        assert_eq!(untold(&refusals), 1000, "a flood is told of line by line");
        refusals.due().await;
        assert_eq!(began.elapsed(), INTERVAL);
        knock(&refusals, 1);
        assert_eq!(untold(&refusals), 1001, "it is not the first before the others are told of");
        refusals.tell();
        knock(&refusals, 1);
        assert_eq!(untold(&refusals), 0, "a new interval has begun");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_learns_of_what_comes_later() {
        let refusals = Refusals::default();
        let (due, ()) = tokio::join!(timeout(INTERVAL * 2, refusals.due()), async {
            tokio::task::yield_now().await;
            knock(&refusals, SINGLY + 1);
        });
        due.expect("there is something to tell");
    }
}

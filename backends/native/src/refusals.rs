//! Connections that were refused: told of one by one while they are few, so that each
//! can be looked into, and together beyond that, so that who knocks without end cannot
//! fill the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::address::Source;

/// So many lines may follow each other at once,
const AT_ONCE: u32 = 20;
/// and one more in so long.
const INTERVAL: Duration = Duration::from_secs(10);

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
    /// When all lines that there were will have had an interval each.
    worked_off: Option<Instant>,
    /// The last of those that no line has told of yet, and how many there are.
    last: Option<Refused>,
    untold: u64,
}

#[derive(Debug)]
struct Refused {
    listener: String,
    source: Source,
    reason: String,
}

impl Refusals {
    /// Counts one that was refused, and tells of it if there is a line for it.
    pub fn refused(&self, listener: &str, source: Source, reason: &str) {
        let mut state = self.0.state();
        if state.untold == 0 && state.until_a_line().is_zero() {
            state.take_a_line();
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
            let wait = {
                let state = self.0.state();
                (state.untold > 0).then(|| state.until_a_line())
            };
            match wait {
                Some(wait) => return sleep(wait).await,
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
    /// How long until there may be another line.
    fn until_a_line(&self) -> Duration {
        let behind = self.worked_off.map_or(Duration::ZERO, |then| then.saturating_duration_since(Instant::now()));
        behind.saturating_sub(INTERVAL * (AT_ONCE - 1))
    }

    fn take_a_line(&mut self) {
        let now = Instant::now();
        self.worked_off = Some(self.worked_off.map_or(now, |then| then.max(now)) + INTERVAL);
    }

    fn tell(&mut self) {
        let connections = std::mem::take(&mut self.untold);
        if let Some(Refused { listener, source, reason }) = self.last.take() {
            self.take_a_line();
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
        let (refusals, at_once) = (Refusals::default(), u64::from(AT_ONCE));
        knock(&refusals, at_once);
        assert_eq!(untold(&refusals), 0, "one of the first was not told of");
        assert!(timeout(INTERVAL * (AT_ONCE + 1), refusals.due()).await.is_err(), "there is nothing to tell");

        let began = Instant::now();
        knock(&refusals, at_once + 1000);
        assert_eq!(untold(&refusals), 1000, "a flood is told of line by line");
        for lines in 1..=AT_ONCE {
            refusals.due().await;
            assert_eq!(began.elapsed(), INTERVAL * lines, "a flood that goes on has more than a line an interval");
            refusals.tell();
            knock(&refusals, 1000);
            assert_eq!(untold(&refusals), 1000);
        }
        refusals.due().await;
        knock(&refusals, 1);
        assert_eq!(untold(&refusals), 1001, "one is told of before those that came before it");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_learns_of_what_comes_later() {
        let refusals = Refusals::default();
        let (due, ()) = tokio::join!(timeout(INTERVAL * 2, refusals.due()), async {
            tokio::task::yield_now().await;
            knock(&refusals, u64::from(AT_ONCE) + 1);
        });
        due.expect("there is something to tell");
    }
}

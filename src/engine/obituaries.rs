//! How sessions ended: the last that was seen of the newest of them, for those who ask later.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::SessionView;

/// How long it is told.
const MEMORY: Duration = Duration::from_secs(86_400);
/// Of how many; the oldest make room.
const MOST: usize = 1000;

/// Sessions that have ended.
#[derive(Debug, Default)]
pub(super) struct Obituaries(Mutex<VecDeque<(Instant, SessionView)>>);

impl Obituaries {
    /// A session is over, and this is how it ended.
    pub(super) fn note(&self, view: SessionView) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), view));
    }

    /// All of them that `concerns` is for, the oldest first. A UID may have come again.
    pub(super) fn of(&self, concerns: impl Fn(&SessionView) -> bool) -> Vec<SessionView> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.front().is_some_and(|(since, _)| since.elapsed() > MEMORY) {
            kept.pop_front();
        }
        kept.iter().map(|(_, view)| view).filter(|view| concerns(view)).cloned().collect()
    }
}

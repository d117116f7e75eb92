//! What the service manager is told, where one has started us (`sd_notify(3)`): when
//! calls are taken, how things stand, and that we live.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

/// The way to the service manager. Without one, nothing is said.
#[derive(Debug, Default)]
pub struct ServiceManager {
    /// It takes us for hung after so long without a sign of life.
    watchdog: Option<Duration>,
    is_there: bool,
    shown: Mutex<String>,
}

/// How often it is told how things stand, where it wants no sign of life.
const LOOK: Duration = Duration::from_secs(10);

impl ServiceManager {
    /// The one that the environment names.
    #[must_use]
    pub fn from_environment() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = sd_notify::watchdog_enabled().filter(|length| is_there && !length.is_zero());
        Self { watchdog, is_there, shown: Mutex::default() }
    }

    /// How often it is to be told that we live, and how things stand; `None`: nobody listens.
    #[must_use]
    pub fn period(&self) -> Option<Duration> {
        // As sd_watchdog_enabled(3) recommends.
        self.is_there.then(|| self.watchdog.map_or(LOOK, |watchdog| watchdog / 2))
    }

    /// Says what we are at, if that is news.
    pub fn shows(&self, status: &str) {
        let status = in_a_line(status);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != status {
            self.say(&[NotifyState::Status(&status)]);
            *shown = status;
        }
    }

    /// Calls are taken, or a reload is over.
    pub fn ready(&self) {
        self.say(&[NotifyState::Ready]);
    }

    /// A reload begins.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.say(&[NotifyState::Reloading, now]),
            Err(e) => tracing::warn!("cannot tell the service manager of a reload: {e}"),
        }
    }

    /// The end begins.
    pub fn stopping(&self, status: &str) {
        self.shows(status);
        self.say(&[NotifyState::Stopping]);
    }

    /// We live.
    pub fn lives(&self) {
        if self.watchdog.is_some() {
            self.say(&[NotifyState::Watchdog]);
        }
    }

    fn say(&self, words: &[NotifyState<'_>]) {
        // Nobody to tell is no reason to stop.
        if let Err(e) = sd_notify::notify(words) {
            tracing::warn!("cannot tell the service manager: {e}");
        }
    }
}

/// A line ends a word of this protocol.
fn in_a_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_status_can_say_more_than_itself() {
        assert_eq!(in_a_line("refused: a\n  READY=1\n"), "refused: a; READY=1");
    }
}

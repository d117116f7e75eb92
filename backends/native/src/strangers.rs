//! Connections from elsewhere than the sources: counted, and told of so that
//! who knocks without end cannot fill the log.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// One line in so long.
const INTERVAL: Duration = Duration::from_secs(10);

/// What a listener has to tell of strangers.
#[derive(Debug, Default)]
pub struct Strangers {
    /// Those that no line has told of yet.
    untold: u64,
    last: Option<SocketAddr>,
    /// When the next line may be written.
    quiet_until: Option<Instant>,
}

impl Strangers {
    /// Counts one that was refused. The first is told of at once.
    pub fn refused(&mut self, listener: &str, source: Option<SocketAddr>) {
        self.untold += 1;
        self.last = source;
        if self.quiet_until.is_none_or(|until| until <= Instant::now()) {
            self.tell(listener);
        }
    }

    /// Ready when those that came since the last line may be told of.
    pub async fn due(&self) {
        match self.quiet_until {
            Some(until) if self.untold > 0 => sleep_until(until).await,
            _ => pending().await,
        }
    }

    /// Tells of those that no line has told of yet.
    pub fn tell(&mut self, listener: &str) {
        if self.untold == 0 {
            return;
        }
        let source = self.last.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
        warn!(listener, source, connections = self.untold, reason = "not among the sources", "connection refused");
        self.untold = 0;
        self.quiet_until = Some(Instant::now() + INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_at_once_and_the_others_together() {
        let mut strangers = Strangers::default();
        strangers.refused("0", None);
        assert_eq!(strangers.untold, 0, "the first was not told of");
        for _ in 0..1000 {
            strangers.refused("0", None);
        }
        assert_eq!(strangers.untold, 1000, "a flood is told of line by line");
        let began = Instant::now();
        strangers.due().await;
        assert_eq!(began.elapsed(), INTERVAL);
        strangers.tell("0");
        assert_eq!(strangers.untold, 0);
    }
}

//! The end of all sessions.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::{Engine, end_all};
use crate::session::ReleaseReason;

impl Engine {
    /// Takes no new sessions, gives the present ones `wait` to end by themselves,
    /// then releases them. Answers with how many those were; what has been begun
    /// goes on when nobody waits for the answer any more.
    pub async fn drain(&self, wait: Duration) -> usize {
        self.shared.directory.close();
        let engine = self.clone();
        // It fails only when the whole program goes.
        tokio::spawn(async move { engine.end_all_after(wait).await }).await.unwrap_or_default()
    }

    async fn end_all_after(&self, wait: Duration) -> usize {
        if let Some(mut watch) = self.shared.feed.since(0) {
            let all_gone = async {
                while !self.shared.directory.all().is_empty() {
                    // A watcher that lags has still seen that something happened.
                    if let Err(RecvError::Closed) = watch.live.recv().await {
                        break;
                    }
                }
            };
            // Running out of time is what releasing is for.
            drop(timeout(wait, all_gone).await);
        }
        let left = self.shared.directory.all();
        let released = left.len();
        end_all(left, &ReleaseReason::Shutdown).await;
        released
    }
}

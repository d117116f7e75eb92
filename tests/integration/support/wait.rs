//! Waiting for conditions.

use std::time::{Duration, Instant};

/// Looks until `condition` holds; panics with `what` when it does not in time.
pub async fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(Duration::from_secs(20), what, condition).await;
}

/// The same, for what may take longer.
pub async fn eventually_within(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

//! How long what died is left alone before it is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(30);

/// Doubles from the first to the most, less up to a quarter so that sessions
/// that died together do not come back together.
pub(super) fn backoff(before: u32) -> Duration {
    let full = FIRST.saturating_mul(1 << before.min(16)).min(MOST);
    full - full.mul_f64(fastrand::f64() / 4.0)
}

//! When a thread gives back to the kernel what it keeps to lend: memory and pipes.
//!
//! That is when none has come back for a while, so nobody needs them often. Sooner,
//! where connections are short, each would have to ask the kernel for new ones.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// When none has come back for so long, all that is kept goes.
const UNUSED: Duration = Duration::from_secs(5);

thread_local! {
    /// Whether any came back since this was last asked,
    static CAME_BACK: Cell<bool> = const { Cell::new(false) };
    /// and who is told when that begins.
    static KEEPS: Rc<Notify> = Rc::default();
}

/// Says that something came back to the thread, which keeps it for the next: however
/// long it was lent, from now on it may be unused.
pub fn came_back() {
    if !CAME_BACK.replace(true) {
        KEEPS.with(|keeps| keeps.notify_one());
    }
}

/// Waits until something has come back, and then until nothing has for a while.
pub async fn ended() {
    KEEPS.with(Rc::clone).notified().await;
    while CAME_BACK.replace(false) {
        sleep(UNUSED).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_when_none_has_come_back_for_a_while() {
        let mut ended = pin!(ended());
        assert!(timeout(UNUSED * 10, ended.as_mut()).await.is_err(), "nothing came back");
        for _ in 0..10 {
            came_back();
            assert!(timeout(UNUSED / 2, ended.as_mut()).await.is_err(), "it came back a moment ago");
        }
        let last = Instant::now();
        ended.await;
        assert!((UNUSED / 2..=UNUSED * 2).contains(&last.elapsed()), "{:?}", last.elapsed());
    }
}

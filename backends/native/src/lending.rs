//! When a thread gives back to the kernel what it keeps to lend: memory and pipes.
//!
//! That is when nobody has needed any for a while. Sooner, where connections are
//! short, each would have to ask the kernel for new ones.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// What nobody has needed for so long is given back.
const UNUSED: Duration = Duration::from_secs(5);

thread_local! {
    /// Whether any was needed since this was last asked,
    static LENT: Cell<bool> = const { Cell::new(false) };
    /// and who is told when that begins.
    static NEEDED: Rc<Notify> = Rc::default();
}

/// Says that the thread lends something.
pub fn lent() {
    if !LENT.replace(true) {
        NEEDED.with(|needed| needed.notify_one());
    }
}

/// Waits until the thread has lent something, and then nothing for a while.
pub async fn ended() {
    NEEDED.with(Rc::clone).notified().await;
    while LENT.replace(false) {
        sleep(UNUSED).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_when_nobody_has_needed_any_for_a_while() {
        let mut ended = pin!(ended());
        assert!(timeout(UNUSED * 10, ended.as_mut()).await.is_err(), "nothing was lent");
        for _ in 0..10 {
            lent();
            assert!(timeout(UNUSED / 2, ended.as_mut()).await.is_err(), "it was lent a moment ago");
        }
        let last = Instant::now();
        ended.await;
        assert!((UNUSED / 2..=UNUSED * 2).contains(&last.elapsed()), "{:?}", last.elapsed());
    }
}

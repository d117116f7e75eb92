//! A session's way to the divider.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::divider::{Order, Outcome};
use crate::flows::Ledger;
use crate::session::{Bandwidth, Capacity};

/// What a session is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// What it may move; `None` before there is something for it.
    pub share: Option<Bandwidth>,
    /// Goes up with each that is told to the session, from 0.
    pub(super) number: u64,
}

/// Where a session hears what it may move, and tells what it is kept to. Dropping
/// it gives its share back: nothing may move any more then.
#[derive(Debug)]
pub struct Seat {
    pub(super) number: u64,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) capacity: Capacity,
    pub(super) in_force: Option<Bandwidth>,
    /// Until the session begins.
    pub(super) tell: Option<watch::Sender<Told>>,
    pub(super) told: watch::Receiver<Told>,
    /// The number of what was taken last.
    pub(super) taken: u64,
    /// What was told last could not be; the divider has yet to answer to that.
    pub(super) stale: bool,
}

impl Seat {
    /// The session begins; `ledger` shows what it moves.
    pub fn begin(&mut self, ledger: watch::Receiver<Arc<Ledger>>) {
        let Some(tell) = self.tell.take() else { return };
        let (number, capacity, in_force) = (self.number, self.capacity, self.in_force);
        self.send(Order::Join { number, capacity, in_force, ledger, tell });
    }

    /// Where its share is seen.
    #[must_use]
    pub fn shown(&self) -> watch::Receiver<Told> {
        self.told.clone()
    }

    /// Takes what the session may move, once there is something: others may have to be
    /// lowered first. [`Self::is_kept_to`] or [`Self::could_not`] answers to it.
    pub async fn take_within(&mut self, patience: Duration) -> Option<Bandwidth> {
        let answer = async {
            if std::mem::take(&mut self.stale) {
                self.told.changed().await?;
            }
            self.told.wait_for(|told| told.share.is_some()).await.map(drop)
        };
        // Without an answer, whatever there is.
        drop(timeout(patience, answer).await);
        let Told { share, number } = *self.told.borrow_and_update();
        self.taken = number;
        share
    }

    /// What its program is known to be kept to.
    #[must_use]
    pub fn in_force(&self) -> Option<Bandwidth> {
        self.in_force
    }

    /// Tells what its program is kept to from now on.
    pub fn is_kept_to(&mut self, in_force: Option<Bandwidth>) {
        self.in_force = in_force;
        self.answer(Outcome::Done);
    }

    /// Tells that its program is kept to what it was kept to before, because it could
    /// not be changed.
    pub fn could_not(&mut self) {
        self.stale = true;
        self.answer(Outcome::Failed);
    }

    fn answer(&self, outcome: Outcome) {
        self.send(Order::InForce { number: self.number, taken: self.taken, in_force: self.in_force, outcome });
    }

    /// Resolves when its share has changed; pends for ever without a seat.
    pub async fn news(seat: Option<&mut Self>) {
        if let Some(seat) = seat
            && seat.told.changed().await.is_ok()
        {
            seat.stale = false;
        } else {
            std::future::pending::<()>().await;
        }
    }

    fn send(&self, order: Order) {
        // The task ends only with the runtime.
        drop(self.orders.send(order));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.send(Order::Leave { number: self.number });
    }
}

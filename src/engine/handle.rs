//! The way to a session's task: what it can be told, and how it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::feed::SessionView;
use super::refusal::{Code, Refusal};
use super::settings::Setup;
use super::{Announced, Serving};
use crate::auth::Caller;
use crate::flows::Ledger;
use crate::session::{Endpoint, ReleaseReason, SessionId, TargetAddr};
use crate::shares::Told;
use crate::supervisor::ProcessView;

/// HELLO as a session takes it: understood, resolved, and permitted.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) endpoints: Vec<Endpoint>,
    /// What the endpoints are, for a PROD session.
    pub(super) targets: Vec<TargetAddr>,
    /// What counted when they were permitted.
    pub(super) under: Arc<Setup>,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// What a session is told to do.
#[derive(Debug)]
pub(super) enum Order {
    Announce {
        announcement: Announcement,
        answer: Answer<Announced>,
    },
    SpoiltHello {
        code: Code,
        why: String,
    },
    Retarget {
        targets: Vec<TargetAddr>,
        /// What counted when they were permitted.
        under: Arc<Setup>,
        answer: Answer<Serving>,
    },
    /// A new lifetime from now on; `None`: unlimited.
    Renew {
        lifetime: Option<Duration>,
        answer: Answer<SessionView>,
    },
    End {
        why: ReleaseReason,
        done: oneshot::Sender<()>,
    },
}

/// The way to a session's task.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    /// Which session.
    pub session: SessionId,
    /// Whose it is.
    pub owner: Caller,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) awaits_hello: Arc<AtomicBool>,
    pub(super) view: watch::Receiver<SessionView>,
    pub(super) ledger: watch::Receiver<Arc<Ledger>>,
    /// `None` where it shares with nobody.
    pub(super) share: Option<watch::Receiver<Told>>,
    pub(super) processes: watch::Receiver<Vec<ProcessView>>,
}

impl SessionHandle {
    pub(super) fn awaits_hello(&self) -> bool {
        self.awaits_hello.load(Ordering::Acquire)
    }

    /// The session as it stands.
    pub(super) fn view(&self) -> SessionView {
        let share = self.share.as_ref().and_then(|told| told.borrow().share);
        SessionView { traffic: self.ledger.borrow().traffic(), share, ..self.view.borrow().clone() }
    }

    /// What goes through it, as it was last looked at.
    pub(super) fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger.borrow())
    }

    /// What serves it.
    pub(super) fn processes(&self) -> Vec<ProcessView> {
        self.processes.borrow().clone()
    }

    pub(super) fn send(&self, order: Order) {
        // A session that has ended needs no orders.
        drop(self.orders.send(order));
    }

    pub(super) async fn ask<T>(&self, order: impl FnOnce(Answer<T>) -> Order) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(order(answer));
        let ended = Refusal::Ended { session: self.session, why: ReleaseReason::Asked };
        answered_over(&self.orders, answered).await.unwrap_or(Err(ended))
    }

    /// Tells the session to end. The receiver resolves when nothing is left of it, for
    /// [`Self::wait_until`].
    pub(super) fn end(&self, why: ReleaseReason) -> oneshot::Receiver<()> {
        let (done, gone) = oneshot::channel();
        self.send(Order::End { why, done });
        gone
    }

    /// Waits until the session is gone.
    pub(super) async fn wait_until(&self, gone: oneshot::Receiver<()>) {
        // No answer says that the task has ended, which is what is waited for.
        answered_over(&self.orders, gone).await;
    }
}

/// What a task answers to an order that it was sent; nothing, if it has ended.
///
/// An order that arrives while the task's end empties the queue stays in there as long as
/// there is a sender, and its answer is neither given nor dropped.
async fn answered_over<O, T>(orders: &mpsc::UnboundedSender<O>, mut answer: oneshot::Receiver<T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = &mut answer => answer.ok(),
        () = orders.closed() => answer.try_recv().ok(),
    }
}

/// Whoever waits may have gone meanwhile; that alone ends nothing here.
pub(super) fn reply<T>(to: Answer<T>, answer: Result<T, Refusal>) {
    drop(to.send(answer));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_that_met_the_end_of_its_task_is_not_waited_for() {
        let (orders, inbox) = mpsc::unbounded_channel::<()>();
        // As if it lay in a queue that nobody empties.
        let (_answer, answered) = oneshot::channel::<()>();
        drop(inbox);
        assert_eq!(answered_over(&orders, answered).await, None);
    }

    #[tokio::test]
    async fn an_answer_counts_though_the_task_has_ended() {
        let (orders, mut inbox) = mpsc::unbounded_channel();
        let (answer, answered) = oneshot::channel();
        orders.send(answer).expect("there is a task");
        inbox.recv().await.expect("an order").send(7).expect("it is waited for");
        drop(inbox);
        assert_eq!(answered_over(&orders, answered).await, Some(7));
    }
}

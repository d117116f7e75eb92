//! What sessions look like from outside, and the feed of what happens to them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use tokio::sync::broadcast;

use super::refusal::Refusal;
use crate::auth::Caller;
use crate::flows::Traffic;
use crate::session::{
    Bandwidth, Capacity, Health, ListenAddr, Protection, SessionId, Sources, State, TargetAddr, TcpWishes, Weakness,
};

/// A session as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Which.
    pub session: SessionId,
    /// Whose it is.
    pub owner: Caller,
    /// What is weak about its key.
    pub weakness: Option<Weakness>,
    /// What carries its bytes.
    pub backend: String,
    /// Where it is in its life.
    pub state: State,
    /// How its data path does.
    pub health: Health,
    /// Its entry points.
    pub listeners: Vec<ListenAddr>,
    /// What each of them forwards to, once it does.
    pub targets: Vec<TargetAddr>,
    /// The floor of its tunnel.
    pub protection: Protection,
    /// From where connections are taken.
    pub sources: Sources,
    /// How much it may move.
    pub capacity: Capacity,
    /// Its share just now of what the gateway may move.
    pub share: Option<Bandwidth>,
    /// What its connections have of their own.
    pub tcp: TcpWishes,
    /// Counts the plans that became live.
    pub revision: u64,
    /// When it was asked for.
    pub created: SystemTime,
    /// When it ends by itself.
    pub expires: Option<SystemTime>,
    /// What went through it; `None` where the kernel does not tell.
    pub traffic: Option<Traffic>,
    /// Why it ends, or has ended.
    pub end: Option<String>,
}

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEvent {
    /// Higher than that of every event before, also of those before a restart.
    pub sequence: u64,
    /// When.
    pub at: SystemTime,
    /// What, for people.
    pub what: String,
    /// The session after it.
    pub session: SessionView,
}

/// Events that are kept for those who come back.
const KEPT: usize = 1000;
/// Events that a slow watcher may lag behind.
const LAG: usize = 1024;
/// Who may watch at once.
pub(super) const MOST_WATCHERS: usize = 256;

/// Of these, so many of one caller.
const MOST_OF_ONE: usize = 32;

/// All events of this gateway.
#[derive(Debug)]
pub(super) struct Feed {
    kept: Mutex<Kept>,
    /// Who watches, each for as long as the other end is held.
    watchers: Mutex<Vec<(String, Weak<()>)>>,
}

#[derive(Debug)]
struct Kept {
    last: u64,
    events: VecDeque<Arc<SessionEvent>>,
    /// `None` once there will be no more.
    live: Option<broadcast::Sender<Arc<SessionEvent>>>,
}

/// Events since a sequence number, and then as they happen.
pub struct Subscription {
    /// Those that have happened.
    pub missed: Vec<Arc<SessionEvent>>,
    /// Those to come.
    pub live: broadcast::Receiver<Arc<SessionEvent>>,
    /// Whether one of those is for the watcher.
    pub concerns: Box<dyn Fn(&SessionEvent) -> bool + Send + Sync>,
}

impl Subscription {
    /// Only those of them that concern the watcher.
    pub(super) fn of(mut self, concerns: impl Fn(&SessionEvent) -> bool + Send + Sync + 'static) -> Self {
        self.missed.retain(|event| concerns(event));
        Self { concerns: Box::new(concerns), ..self }
    }
}

impl Feed {
    /// Counts on from `last`.
    pub(super) fn new(last: u64) -> Self {
        let live = Some(broadcast::Sender::new(LAG));
        let kept = Kept { last, events: VecDeque::new(), live };
        Self { kept: Mutex::new(kept), watchers: Mutex::default() }
    }

    pub(super) fn publish(&self, what: String, session: SessionView) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.live.is_none() {
            // The next run of the controller counts on from the last one that was told.
            return;
        }
        kept.last += 1;
        let event = Arc::new(SessionEvent { sequence: kept.last, at: SystemTime::now(), what, session });
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        if let Some(live) = &kept.live {
            // Nobody need be watching. Sent under the lock, so that events keep their order.
            drop(live.send(event));
        }
    }

    /// There will be no more events: every subscription ends after those that it has.
    pub(super) fn close(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).live = None;
    }

    /// A watcher's share, for as long as it is held.
    pub(super) fn turn(&self, by: &Caller) -> Result<Arc<()>, Refusal> {
        let (principal, turn) = (by.principal(), Arc::new(()));
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|(_, turn)| turn.strong_count() > 0);
        let theirs = watchers.iter().filter(|(other, _)| *other == principal).count();
        if matches!(by, Caller::Known(_)) && theirs >= MOST_OF_ONE {
            return Err(Refusal::Quota { what: "watches", limit: MOST_OF_ONE });
        }
        watchers.push((principal, Arc::downgrade(&turn)));
        Ok(turn)
    }

    /// Whether as many watch as may.
    pub(super) fn is_full(&self) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.live.as_ref().is_some_and(|live| live.receiver_count() >= MOST_WATCHERS)
    }

    /// The sequence number of the last event.
    pub(super) fn last(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Events after `after` (0: none of the past). `None` when some of them are no longer kept.
    pub(super) fn since(&self, after: u64) -> Option<Subscription> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = match &kept.live {
            Some(live) => live.subscribe(),
            None => broadcast::channel(1).1,
        };
        if after == 0 || after == kept.last {
            return Some(Subscription { missed: vec![], live, concerns: Box::new(|_| true) });
        }
        let first = kept.events.front()?.sequence;
        if after + 1 < first || after > kept.last {
            return None;
        }
        let missed = kept.events.iter().filter(|event| event.sequence > after).cloned().collect();
        Some(Subscription { missed, live, concerns: Box::new(|_| true) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Role, Uid};

    fn view() -> SessionView {
        SessionView {
            session: SessionId { uid: Uid::random().expect("random").digest(), role: Role::Prod },
            owner: Caller::Anyone,
            weakness: None,
            backend: "native".into(),
            state: State::Active,
            health: Health::Healthy,
            listeners: vec![],
            targets: vec![],
            protection: Protection::default(),
            sources: Sources::default(),
            capacity: Capacity::default(),
            share: None,
            tcp: TcpWishes::default(),
            revision: 1,
            created: SystemTime::now(),
            expires: None,
            traffic: None,
            end: None,
        }
    }

    #[test]
    fn a_watcher_that_comes_back_misses_nothing() {
        let feed = Feed::new(7);
        let start = feed.last();
        for number in 0..5 {
            feed.publish(number.to_string(), view());
        }
        let mut subscription = feed.since(start + 2).expect("kept");
        feed.publish("5".into(), view());
        let missed: Vec<_> = subscription.missed.iter().map(|event| event.what.as_str()).collect();
        assert_eq!(missed, ["2", "3", "4"]);
        assert_eq!(subscription.live.try_recv().expect("live").what, "5");
        assert!(subscription.live.try_recv().is_err());
    }

    #[test]
    fn a_watcher_is_told_when_events_are_gone() {
        let feed = Feed::new(7);
        let start = feed.last();
        for _ in 0..=KEPT {
            feed.publish(String::new(), view());
        }
        assert!(feed.since(start).is_none(), "the first event is gone");
        assert_eq!(feed.since(start + 1).expect("kept").missed.len(), KEPT);
        assert!(feed.since(start + 1_000_000).is_none(), "from the future");
        assert!(feed.since(0).expect("from now on").missed.is_empty());
    }
}

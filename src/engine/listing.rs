//! What callers see of their sessions: how they stand, what serves them and what that
//! uses of the host, what goes through them, and what happens to them.

use std::sync::Arc;

use super::handle::SessionHandle;
use super::{Engine, Refusal, SessionView, Subscription, feed};
use crate::auth::Caller;
use crate::flows::Ledger;
use crate::supervisor::{ProcessView, Usage};

/// A session as it stands, with what serves it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The session.
    pub view: SessionView,
    /// Its processes, the one nearest to the targets first, and what each uses;
    /// `None` where the kernel does not tell.
    pub processes: Vec<(ProcessView, Option<Usage>)>,
}

impl Engine {
    /// The sessions that are the caller's to see, and the number of the last event before.
    pub async fn list(&self, by: &Caller) -> (Vec<Listed>, u64) {
        let last = self.shared.feed.last();
        let mut listed = self.look(&self.visible(by)).await;
        listed.sort_by_key(|listed| (listed.view.created, listed.view.session));
        (listed, last)
    }

    /// The caller's sessions that have ended, the oldest first, as they were last.
    #[must_use]
    pub fn ended(&self, by: &Caller) -> Vec<SessionView> {
        self.shared.obituaries.of(|view| self.policy().may_control(by, &view.owner))
    }

    /// The session with this short id, if it is the caller's to see; one that has ended, as it was last.
    pub async fn get(&self, by: &Caller, id: &str) -> Option<Listed> {
        let mut handles = self.visible(by);
        handles.retain(|handle| handle.session.is_named(id));
        let here = self.look(&handles).await.pop();
        let gone = || self.ended(by).into_iter().rfind(|view| view.session.is_named(id));
        here.or_else(|| gone().map(|view| Listed { view, processes: vec![] }))
    }

    /// The sessions that are the caller's to see, each with its ledger.
    #[must_use]
    pub fn flows(&self, by: &Caller) -> Vec<(SessionView, Arc<Ledger>)> {
        let mut flows: Vec<_> = self.visible(by).iter().map(|handle| (handle.view(), handle.ledger())).collect();
        flows.sort_by_key(|(view, _)| (view.created, view.session));
        flows
    }

    fn visible(&self, by: &Caller) -> Vec<SessionHandle> {
        let mut handles = self.shared.directory.all();
        handles.retain(|handle| self.policy().may_control(by, &handle.owner));
        handles
    }

    /// Events after a sequence number (0: only those to come), of the sessions that
    /// are the caller's to see.
    ///
    /// # Errors
    /// [`Refusal::EventsGone`] when some of them are no longer kept, and
    /// [`Refusal::Full`] when too many watch.
    pub fn watch(&self, by: &Caller, after: u64) -> Result<Subscription, Refusal> {
        self.policy().knows(by)?;
        let turn = self.shared.feed.turn(by)?;
        if self.shared.feed.is_full() {
            return Err(Refusal::Full { what: "watchers", limit: feed::MOST_WATCHERS });
        }
        let (shared, by) = (Arc::clone(&self.shared), by.clone());
        let since = self.shared.feed.since(after).ok_or(Refusal::EventsGone)?;
        Ok(since.of(move |event| {
            // Its share is the watcher's for as long as it watches.
            let _turn = &turn;
            shared.setup().settings.policy.may_control(&by, &event.session.owner)
        }))
    }

    async fn look(&self, handles: &[SessionHandle]) -> Vec<Listed> {
        let of_each: Vec<_> = handles.iter().map(SessionHandle::processes).collect();
        let usages = self.usages(of_each.concat()).await;
        let mut usages = usages.into_iter().chain(std::iter::repeat(None));
        let listed = |(handle, processes): (&SessionHandle, Vec<ProcessView>)| {
            let processes = processes.into_iter().zip(&mut usages).collect();
            Listed { view: handle.view(), processes }
        };
        handles.iter().zip(of_each).map(listed).collect()
    }

    async fn usages(&self, processes: Vec<ProcessView>) -> Vec<Option<Usage>> {
        if processes.is_empty() {
            return Vec::new();
        }
        let permit = Arc::clone(&self.shared.looks).acquire_owned().await.expect("nobody closes it");
        let look = tokio::task::spawn_blocking(move || {
            let usages = ProcessView::usages(&processes);
            drop(permit);
            usages
        });
        // Without an answer, all else can be told still.
        look.await.unwrap_or_default()
    }
}

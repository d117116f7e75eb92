//! The sessions as they are listed: how they stand, what serves them, and what that uses of the host.

use std::sync::Arc;

use super::handle::SessionHandle;
use super::{Engine, SessionView};
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
    /// All sessions, and the number of the last event before.
    pub async fn list(&self) -> (Vec<Listed>, u64) {
        let last = self.shared.feed.last();
        let mut listed = self.look(&self.shared.directory.all()).await;
        listed.sort_by_key(|listed| (listed.view.created, listed.view.session));
        (listed, last)
    }

    /// The session with this short id.
    pub async fn get(&self, id: &str) -> Option<Listed> {
        let mut handles = self.shared.directory.all();
        handles.retain(|handle| handle.session.is_named(id));
        self.look(&handles).await.pop()
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

//! What a session does when other settings come into force.

use std::sync::Arc;

use super::super::review::{Subject, review};
use super::super::settings::Setup;
use super::Task;
use crate::session::{Capacity, Event};

impl Task {
    /// Something was permitted by what counted then. Should something else count by now,
    /// it is looked at again.
    pub(super) fn was_permitted(&mut self, under: &Arc<Setup>) {
        if !Arc::ptr_eq(under, &self.shared.setup()) {
            self.setup.mark_changed();
        }
    }

    /// Looks at the session by what counts now. No change of it is under way.
    pub(super) async fn review(&mut self) {
        let setup = Arc::clone(&self.setup.borrow_and_update());
        let subject = Subject {
            session: self.session,
            standing: &self.standing,
            live: self.machine.live.as_ref(),
            connections: self.listeners.len(),
            announced_targets: &self.announced_targets,
        };
        let today = match review(&subject, &setup, &self.shared.audit) {
            Ok(today) => today,
            Err(why) => return self.step(Event::Release(why)).await,
        };
        let expired = self.term.expires();
        self.announced_targets = today.announced_targets;
        self.standing.max_lifetime = today.max_lifetime;
        self.term.shorten(today.most);
        let moves_on = self.grant_again(today.capacity).await;
        if !moves_on && let Err(e) = self.write_journal().await {
            tracing::error!(session = %self.session, "cannot write the journal: {e}");
        }
        if self.term.expires() != expired {
            self.publish("its lifetime is shorter by the policy in force");
        }
    }

    /// Has the session move what it would be granted today; answers whether its programs
    /// are being brought to that. One that shares what the gateway may move keeps its
    /// place among the others for as long as this run lasts.
    async fn grant_again(&mut self, today: Capacity) -> bool {
        let before = self.standing.capacity;
        if before.shared || before.limit == today.limit {
            return false;
        }
        self.standing.capacity = today;
        let Some(plan) = self.machine.live.clone() else { return false };
        let outcome = self.begin(Event::Update(plan.bounded_by(today))).await;
        if outcome.is_err() {
            self.standing.capacity = before;
        }
        outcome.is_ok()
    }
}

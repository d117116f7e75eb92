//! How a data path goes on with what an earlier run of the controller has left.

use tokio::time::sleep;

use super::backoff::backoff;
use super::data_path::{MOST_FAILURES, Task};
use super::report::Report;
use super::serve_error::ServeError;
use super::unit::Unit;
use crate::firewall::Opening;
use crate::session::Plan;
use crate::store::Sighting;

/// What a session of an earlier run served.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// Its plan.
    pub plan: Plan,
    /// Whether it was being moved to another one when that run ended.
    pub was_changing: bool,
    /// Who worked where when this run started.
    pub seen: Sighting,
}

impl Task {
    /// Whether the session of an earlier run serves again.
    pub(super) async fn take_over(&mut self, resumed: &Resumed) -> bool {
        if let Some(firewall) = &self.site.firewall {
            // What it has may be open still: nothing of it ends because the helper is away.
            let listeners = self.place.sockets.addresses();
            self.opening = Some(Opening::resume(firewall, listeners, resumed.plan.sources.clone()).await);
        }
        loop {
            let Err(why) = self.try_take_over(resumed).await else {
                self.tell_health().await;
                return true;
            };
            self.failures += 1;
            tracing::warn!(session = %self.session, failures = self.failures, "cannot take over: {why}");
            if self.failures >= MOST_FAILURES {
                self.tell(Report::Lost(why.to_string())).await;
                return false;
            }
            self.tell(Report::Degraded(why.to_string())).await;
            sleep(backoff(self.failures - 1)).await;
        }
    }

    async fn try_take_over(&mut self, resumed: &Resumed) -> Result<(), ServeError> {
        for draft in self.drafts(&resumed.plan)? {
            let known = self.units.iter().any(|unit| unit.stage.name() == draft.stage.name());
            if !known && let Some(mut unit) = Unit::adopt(draft, &self.place)? {
                if resumed.was_changing {
                    // It may have read the new file already, or not.
                    unit.text.clear();
                }
                tracing::info!(session = %self.session, backend = unit.stage.name(), pid = %unit.pid(), "adopted");
                self.units.push(unit);
            }
        }
        let ours: Vec<_> = self.units.iter().map(Unit::pid).collect();
        self.place.end_strays(&ours, &resumed.seen);
        self.serve(&resumed.plan).await
    }
}

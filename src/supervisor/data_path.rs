//! The task that keeps a session's processes at its plan.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::backoff::backoff;
use super::pace::Pace;
use super::place::{Bounds, Place};
use super::report::{Report, Reporter};
use super::serve_error::ServeError;
use super::site::Site;
use super::taking_over::Resumed;
use super::unit::Unit;
use crate::backend::{Folder, Manifest};
use crate::firewall::Opening;
use crate::ports::PortLease;
use crate::session::{Plan, SessionId};
use crate::shares::Seat;

/// A handle on the task. Dropping it ends the processes at once.
#[derive(Debug)]
pub struct DataPath {
    plans: mpsc::Sender<Plan>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// So many deaths and failed starts in a row, and a session is given up.
pub(super) const MOST_FAILURES: u32 = 8;
/// After so long without a death, the count starts anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// What a data path works with.
#[derive(Debug)]
pub struct DataPathParts {
    /// What all of the gateway's have in common.
    pub site: Arc<Site>,
    /// What carries the bytes.
    pub backend: Arc<Manifest>,
    /// Whose it is.
    pub session: SessionId,
    /// Where its files are.
    pub folder: Folder,
    /// Where it accepts.
    pub leases: Vec<PortLease>,
    /// To whom it reports.
    pub reporter: Reporter,
    /// From where it has its share, if it shares what the gateway may move.
    pub seat: Option<Seat>,
}

impl DataPath {
    /// Makes the task; nothing runs until the first plan.
    #[must_use]
    pub fn open(parts: DataPathParts) -> Self {
        Self::begin(parts, None)
    }

    /// Makes the task for a session of an earlier run: takes over the processes
    /// that live, starts those that do not, and brings all of them to `plan`.
    #[must_use]
    pub fn resume(parts: DataPathParts, plan: Resumed) -> Self {
        Self::begin(parts, Some(plan))
    }

    fn begin(parts: DataPathParts, resumed: Option<Resumed>) -> Self {
        let DataPathParts { site, backend, session, folder, leases, reporter, seat } = parts;
        let (plans, inbox) = mpsc::channel(1);
        let bounds = Bounds { sandbox: site.sandbox, connections: site.connections, units: site.units.clone() };
        let growth = site.growth.clone();
        let stop = CancellationToken::new();
        let task = Task {
            site,
            backend,
            session,
            pace: Pace::new(seat, folder.path.clone()),
            place: Place::new(folder, leases, bounds, growth),
            reporter,
            live: None,
            units: Vec::new(),
            opening: None,
            failures: 0,
            down: None,
            again: None,
        };
        let task = tokio::spawn(task.run(resumed, inbox, stop.clone()));
        Self { plans, stop, task }
    }

    /// Hands over a plan. The answer is a [`Report`].
    pub fn serve(&self, plan: Plan) {
        if self.plans.try_send(plan).is_err() {
            tracing::error!("a data path was given a plan while it was busy with another");
        }
    }

    /// Stops every process and gives the sockets back.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(e) = self.task.await {
            tracing::error!("a data path's task failed: {e}");
        }
    }
}

pub(super) struct Task {
    pub(super) site: Arc<Site>,
    pub(super) backend: Arc<Manifest>,
    pub(super) session: SessionId,
    pub(super) place: Place,
    pub(super) pace: Pace,
    reporter: Reporter,
    /// What is served.
    pub(super) live: Option<Plan>,
    /// The one nearest to the targets first.
    pub(super) units: Vec<Unit>,
    /// Through the host's firewall, once a plan is served.
    pub(super) opening: Option<Opening>,
    /// Deaths and failed starts since all was well for [`HEALTHY_AFTER`].
    pub(super) failures: u32,
    /// What died, and has not been brought back yet.
    down: Option<String>,
    /// When what died is started again.
    again: Option<Instant>,
}

impl Task {
    async fn run(mut self, resumed: Option<Resumed>, mut inbox: mpsc::Receiver<Plan>, stop: CancellationToken) {
        let work = async {
            let serves = match &resumed {
                Some(resumed) => self.take_over(resumed).await,
                None => true,
            };
            if serves {
                self.work(&mut inbox).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
        let grace = self.site.drain_grace;
        // Together: a connection runs through all of them, and ends in all of them.
        let mut stopping = tokio::task::JoinSet::new();
        for unit in self.units.drain(..) {
            stopping.spawn(unit.wind_down(grace));
        }
        // Told first, so that none of them takes it for a fault; now new connections are refused.
        self.place.sockets.refuse();
        if let Some(opening) = self.opening.take() {
            stopping.spawn(opening.close());
        }
        while stopping.join_next().await.is_some() {}
        self.reporter.show(Vec::new());
        self.place.vacated().await;
        self.place.end_known();
    }

    /// Runs until the handle is gone, or until the path is lost.
    async fn work(&mut self, inbox: &mut mpsc::Receiver<Plan>) {
        let mut healthy_since = Instant::now();
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let again = self.again;
            let failed = tokio::select! {
                plan = inbox.recv() => {
                    let Some(plan) = plan else { return };
                    let report = match self.serve(&plan).await {
                        Ok(()) => Report::Confirmed,
                        Err(e) => Report::Refused(e),
                    };
                    self.tell(report).await;
                    None
                }
                why = first_death(&mut self.units), if again.is_none() => {
                    if healthy_since.elapsed() > HEALTHY_AFTER {
                        self.failures = 0;
                    }
                    self.down = Some(why.clone());
                    self.tell_health().await;
                    Some(why)
                }
                () = self.pace.news(), if again.is_none() && self.live.is_some() => {
                    self.keep_pace().await;
                    None
                }
                () = Opening::news(self.opening.as_mut()) => {
                    self.tell_health().await;
                    None
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    let outcome = self.revive().await.map_err(|e| e.to_string());
                    if outcome.is_ok() {
                        self.again = None;
                        self.down = None;
                        healthy_since = Instant::now();
                        self.tell_health().await;
                    } else {
                        self.show();
                    }
                    outcome.err()
                }
                _ = housekeeping.tick() => {
                    self.units.iter().for_each(Unit::bound_log);
                    None
                }
            };
            let Some(why) = failed else { continue };
            self.failures += 1;
            tracing::warn!(session = %self.session, failures = self.failures, "{why}");
            if self.failures >= MOST_FAILURES {
                self.tell(Report::Lost(why)).await;
                return;
            }
            self.again = Some(Instant::now() + backoff(self.failures - 1));
        }
    }

    /// Whoever hears a report finds the processes as they were then.
    pub(super) async fn tell(&self, report: Report) {
        self.show();
        self.reporter.tell(report).await;
    }

    /// Tells of processes that are down, or else of a firewall that may be shut.
    pub(super) async fn tell_health(&self) {
        let trouble = self.down.clone().or_else(|| self.opening.as_ref().and_then(Opening::trouble));
        self.tell(trouble.map_or(Report::Recovered, Report::Degraded)).await;
    }

    fn show(&self) {
        self.reporter.show(self.units.iter().map(Unit::view).collect());
    }

    /// Starts every stage again that is down, with its program as it is installed now.
    pub(super) async fn revive(&mut self) -> Result<(), ServeError> {
        for unit in self.units.iter_mut().filter(|unit| !unit.runs()) {
            tracing::info!(session = %self.session, backend = unit.stage.name(), "starting again");
            if let Ok(program) = self.site.programs.find(&unit.stage.manifest) {
                unit.program = program;
            }
            unit.restart(&mut self.place).await?;
        }
        Ok(())
    }
}

/// Resolves when a process ends that should run. Pends for ever without one.
async fn first_death(units: &mut [Unit]) -> String {
    if units.is_empty() {
        return std::future::pending().await;
    }
    let deaths = units.iter_mut().map(|unit| {
        Box::pin(async move {
            let exit = unit.ended().await;
            unit.obituary(exit)
        })
    });
    futures_util::future::select_all(deaths).await.0
}

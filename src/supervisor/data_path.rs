//! The task that keeps a session's processes at its plan.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::place::Place;
use super::unit::{self, Draft, ServeError, Unit};
use crate::backend::{Catalog, Circumstances, Folder, Manifest, Program, ProgramError, Programs, chain, render};
use crate::ports::PortLease;
use crate::session::{Plan, SessionId};

/// What all data paths of this gateway have in common.
#[derive(Debug)]
pub struct Site {
    /// Where templates come from.
    pub catalog: Catalog,
    /// The proxy that operators chose.
    pub backend: Arc<Manifest>,
    /// The end of the tunnel for proxies that have no PSK.
    pub terminator: Arc<Manifest>,
    /// Connections that one process may hold open.
    pub connections: u32,
    /// How long open connections may go on at the end of a session.
    pub drain_grace: Duration,
    /// The programs as they were found last.
    pub programs: Programs,
}

impl Site {
    /// The programs that a session needs, looked for anew: an operator may
    /// install or upgrade while we run.
    ///
    /// # Errors
    /// [`ProgramError`] for the first that is missing.
    pub fn find_programs(&self) -> Result<Vec<Program>, ProgramError> {
        let terminator = (!self.backend.speaks_psk()).then_some(&self.terminator);
        std::iter::once(&self.backend).chain(terminator).map(|manifest| self.programs.find(manifest)).collect()
    }
}

/// What a data path tells its session.
#[derive(Debug)]
pub enum Report {
    /// The plan it was given last is live.
    Confirmed,
    /// The plan it was given last is not; what was live before is.
    Refused(ServeError),
    /// A process died and will be started again.
    Degraded(String),
    /// All processes run again.
    Recovered,
    /// A process died and cannot be brought back.
    Lost(String),
}

/// A handle on the task. Dropping it ends the processes at once.
#[derive(Debug)]
pub struct DataPath {
    plans: mpsc::Sender<Plan>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// So many deaths and failed starts in a row, and a session is given up.
const MOST_FAILURES: u32 = 8;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// After so long without a death, the count starts anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
const HOUSEKEEPING: Duration = Duration::from_secs(10);

impl DataPath {
    /// Makes the task; nothing runs until the first plan. Reports go to `reports`.
    #[must_use]
    pub fn open(
        site: Arc<Site>,
        session: SessionId,
        folder: Folder,
        leases: Vec<PortLease>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let (plans, inbox) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let task = Task {
            site,
            session,
            place: Place::new(folder, leases),
            reports,
            units: Vec::new(),
            failures: 0,
            again: None,
        };
        let task = tokio::spawn(task.run(inbox, stop.clone()));
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

struct Task {
    site: Arc<Site>,
    session: SessionId,
    place: Place,
    reports: mpsc::Sender<Report>,
    /// The one nearest to the targets first.
    units: Vec<Unit>,
    /// Deaths and failed starts since all was well for [`HEALTHY_AFTER`].
    failures: u32,
    /// When what died is started again.
    again: Option<Instant>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Plan>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work(&mut inbox) => {}
        }
        let grace = self.site.drain_grace;
        // Together: a connection runs through all of them, and ends in all of them.
        let mut stopping = tokio::task::JoinSet::new();
        for unit in self.units.drain(..) {
            unit.wind_down();
            stopping.spawn(unit.stop(grace));
        }
        // Told first, so that none of them takes it for a fault; now new connections are refused.
        self.place.sockets.refuse();
        while stopping.join_next().await.is_some() {}
        self.place.vacated().await;
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
                    self.tell(Report::Degraded(why.clone())).await;
                    Some(why)
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    let outcome = self.start_again().await;
                    if outcome.is_ok() {
                        self.again = None;
                        healthy_since = Instant::now();
                        self.tell(Report::Recovered).await;
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

    async fn tell(&self, report: Report) {
        // The session goes only after it has stopped this task.
        if self.reports.send(report).await.is_err() {
            tracing::debug!(session = %self.session, "nobody listens to a data path any more");
        }
    }

    async fn start_again(&mut self) -> Result<(), String> {
        for unit in self.units.iter_mut().filter(|unit| !unit.runs()) {
            tracing::info!(session = %self.session, backend = unit.stage.manifest.name, "starting again");
            unit.restart(&mut self.place).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Brings the processes to `plan`, all of them or none.
    async fn serve(&mut self, plan: &Plan) -> Result<(), ServeError> {
        let drafts = self.drafts(plan)?;
        for draft in &drafts {
            unit::check(draft, &mut self.place).await?;
        }
        if self.units.is_empty() {
            return self.start_all(drafts).await;
        }
        self.change_all(drafts).await
    }

    /// What must be started or changed; a stage whose text stays the same is left alone.
    fn drafts(&self, plan: &Plan) -> Result<Vec<Draft>, ServeError> {
        let stages = chain::design(&self.site.backend, &self.site.terminator, plan, &self.place.folder.path);
        let circumstances = Circumstances {
            protection: plan.protection,
            connections: self.site.connections,
            root: nix::unistd::geteuid().is_root(),
        };
        let mut drafts = Vec::with_capacity(stages.len());
        for stage in stages {
            let program = self.site.programs.find(&stage.manifest)?;
            let template = self.site.catalog.template(&stage.manifest).unwrap_or_default();
            let text = render(&template, &stage, &program, &self.place.folder, self.session, circumstances)?;
            let in_force = self.units.iter().find(|unit| unit.stage.manifest.name == stage.manifest.name);
            if in_force.is_none_or(|unit| unit.text != text) {
                drafts.push(Draft { stage, program, text });
            }
        }
        Ok(drafts)
    }

    async fn start_all(&mut self, drafts: Vec<Draft>) -> Result<(), ServeError> {
        let mut started: Vec<Unit> = Vec::with_capacity(drafts.len());
        for draft in drafts {
            // What has been started goes with the error: dropping a unit kills its group.
            started.push(Unit::start(draft, &mut self.place).await?);
        }
        self.units = started;
        Ok(())
    }

    async fn change_all(&mut self, drafts: Vec<Draft>) -> Result<(), ServeError> {
        let mut before = HashMap::new();
        for draft in drafts {
            let name = draft.stage.manifest.name.clone();
            let Some(unit) = self.units.iter_mut().find(|unit| unit.stage.manifest.name == name) else {
                continue;
            };
            let old = (unit.stage.clone(), unit.text.clone());
            if let Err(e) = unit.change(draft).await {
                for unit in &mut self.units {
                    let Some((stage, text)) = before.remove(&unit.stage.manifest.name) else { continue };
                    if let Err(e) = unit.put_back(stage, text).await {
                        tracing::error!(session = %self.session, "cannot go back to the old plan: {e}");
                    }
                }
                return Err(e);
            }
            before.insert(name, old);
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

/// Doubles from the first to the most, less up to a quarter so that sessions
/// that died together do not come back together.
fn backoff(before: u32) -> Duration {
    let full = BACKOFF_FIRST.saturating_mul(1 << before.min(16)).min(BACKOFF_MOST);
    full - full.mul_f64(fastrand::f64() / 4.0)
}

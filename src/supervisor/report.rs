//! What a data path tells its session, and how.

use std::time::{Duration, SystemTime};

use nix::unistd::Pid;
use tokio::sync::{mpsc, watch};

use super::identity::Identity;
use super::serve_error::ServeError;
use super::usage::{self, Usage};

/// What has happened.
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

/// A process of a session as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessView {
    /// The backend that it runs.
    pub backend: String,
    /// Its program's version. `None`: an earlier run of the controller started it,
    /// and its file has been replaced since.
    pub version: Option<String>,
    /// `None` while it is down.
    pub running: Option<Running>,
    /// How often it was started again in this run of the controller.
    pub restarts: u32,
    /// How the one before it ended in this run of the controller, for people.
    pub last_end: Option<String>,
    /// CPU time of those before it.
    pub(super) cpu_before: Duration,
}

/// A process that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub(super) identity: Identity,
    /// When it was started, if the kernel tells.
    pub started: Option<SystemTime>,
    /// How long it took from its start until it said that it serves. `None`: that
    /// was in an earlier run of the controller.
    pub ready_after: Option<Duration>,
}

impl Running {
    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.identity.pid()
    }
}

impl ProcessView {
    /// Asks the kernel what processes use, those before them included; in their
    /// order, `None` where it does not tell. Takes a look at all processes of the host.
    #[must_use]
    pub fn usages(views: &[Self]) -> Vec<Option<Usage>> {
        let found = usage::of_groups(views.iter().filter_map(|view| Some(&view.running.as_ref()?.identity)));
        let usage = |view: &Self| {
            let now = match &view.running {
                Some(running) => *found.get(&running.pid())?,
                None => Usage::default(),
            };
            Some(Usage { cpu: now.cpu + view.cpu_before, ..now })
        };
        views.iter().map(usage).collect()
    }
}

/// A data path's way to its session.
#[derive(Debug, Clone)]
pub struct Reporter {
    reports: mpsc::Sender<Report>,
    processes: watch::Sender<Vec<ProcessView>>,
}

impl Reporter {
    /// A way, and both of its ends: what has happened, and the processes as they stand.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Report>, watch::Receiver<Vec<ProcessView>>) {
        let (reports, happened) = mpsc::channel(4);
        let (processes, shown) = watch::channel(Vec::new());
        (Self { reports, processes }, happened, shown)
    }

    /// Tells what has happened.
    pub(super) async fn tell(&self, report: Report) {
        // The session goes only after it has stopped the data path.
        if self.reports.send(report).await.is_err() {
            tracing::debug!("nobody listens to a data path any more");
        }
    }

    /// Shows the processes as they are now.
    pub(super) fn show(&self, processes: Vec<ProcessView>) {
        self.processes.send_replace(processes);
    }
}

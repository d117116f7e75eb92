//! What the processes of one session have in common: a folder, the sockets that
//! they inherit, and somebody who waits for their ends.

use std::io;
use std::path::Path;

use tokio_util::task::TaskTracker;

use super::log::Log;
use super::process::Spawn;
use super::sockets::SessionSockets;
use crate::backend::{Folder, Program, Stage};
use crate::ports::PortLease;

/// Where a session's processes live.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: Folder,
    pub(super) sockets: SessionSockets,
    /// The tasks that wait for processes. None is left once the session ends.
    pub(super) reapers: TaskTracker,
}

impl Place {
    pub(super) fn new(folder: Folder, leases: Vec<PortLease>) -> Self {
        Self { folder, sockets: SessionSockets::new(leases), reapers: TaskTracker::new() }
    }

    /// All that it takes to run a stage's program with `argv` on `config`.
    pub(super) fn prepare(
        &mut self,
        stage: &Stage,
        program: &Program,
        argv: &[String],
        config: &Path,
    ) -> io::Result<Spawn> {
        let log = self.folder.log_file(stage);
        let fill = |word: &String| {
            word.replace("{config}", &config.to_string_lossy())
                .replace("{folder}", &self.folder.path.to_string_lossy())
                .replace("{log}", &log.to_string_lossy())
        };
        Ok(Spawn {
            program: program.path.clone(),
            arguments: argv.iter().map(fill).collect(),
            sockets: stage.manifest.sockets,
            folder: self.folder.path.clone(),
            inherited: self.sockets.of(stage)?,
            output: Log::new(log).open()?,
            reapers: self.reapers.clone(),
        })
    }

    /// Waits until no process of the session is left.
    pub(super) async fn vacated(&self) {
        self.reapers.close();
        self.reapers.wait().await;
    }
}

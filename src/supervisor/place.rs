//! What the processes of one session have in common: a folder, the sockets that
//! they inherit, and somebody who waits for their ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::{Pid, getpgid};
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use super::growth::Growth;
use super::handover::SessionUnits;
use super::identity::Identity;
use super::launch::Launch;
use super::log::Log;
use super::process::Spawn;
use super::sandbox::{Reach, Sandbox};
use super::sockets::SessionSockets;
use crate::backend::{Folder, Program, Stage};
use crate::ports::PortLease;
use crate::store::{self, Outlasts, Sighting};

/// Where a session's processes live.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: Folder,
    pub(super) sockets: SessionSockets,
    /// The tasks that wait for processes. None is left once the session ends.
    pub(super) reapers: TaskTracker,
    /// Tells when their logs grow.
    pub(super) growth: Growth,
    bounds: Bounds,
    /// The processes by backend, as they stand in the folder for a later run to find.
    identities: Identities,
}

/// What this gateway lets every program have.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) sandbox: Sandbox,
    /// Connections that it may hold open.
    pub(super) connections: u32,
    /// Who makes its process, if that is not us.
    pub(super) units: Option<SessionUnits>,
}

/// Two sockets a connection, and two pipes where a program splices through them.
const DESCRIPTORS_PER_CONNECTION: u64 = 6;
/// What a program takes besides, whatever it is.
const DESCRIPTORS_BESIDES: u64 = 256;

const PROCESSES_FILE: &str = "processes.json";

/// The processes of a session, by backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identities(BTreeMap<String, Identity>);

impl Identities {
    /// Those that an earlier run has left. What cannot be read is as good as not
    /// there: the processes are then strays.
    pub(super) fn left(folder: &Folder) -> Self {
        let path = folder.path.join(PROCESSES_FILE);
        fs::read(&path).ok().and_then(|json| Self::parse(&json).ok()).unwrap_or_default()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Identity> {
        self.0.values()
    }

    /// Reads them as an earlier run has written them.
    ///
    /// # Errors
    /// When they are not whole, or none of ours.
    pub fn parse(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// What is written for a later run.
    ///
    /// # Errors
    /// When the path of a program is no text.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

impl Place {
    pub(super) fn new(folder: Folder, leases: Vec<PortLease>, bounds: Bounds, growth: Growth) -> Self {
        let identities = Identities::left(&folder);
        Self { folder, sockets: SessionSockets::new(leases), reapers: TaskTracker::new(), growth, bounds, identities }
    }

    /// The process that an earlier run has started for a backend.
    pub(super) fn known(&self, backend: &str) -> Option<&Identity> {
        self.identities.0.get(backend)
    }

    /// Writes down which process runs a backend, for a later run on the same host: no
    /// process outlasts that, and the file is believed of no other boot.
    pub(super) fn note(&mut self, backend: &str, identity: &Identity) -> io::Result<()> {
        self.identities.0.insert(backend.to_owned(), identity.clone());
        store::replace(&self.folder.path.join(PROCESSES_FILE), &self.identities.to_json()?, Outlasts::Process)
    }

    /// All that it takes to serve a stage.
    pub(super) fn for_serving(&mut self, stage: &Stage, program: &Program) -> io::Result<Spawn> {
        let inherited = self.sockets.for_serving(stage)?;
        let config = self.folder.config_file(stage);
        let mut spawn = self.prepare(stage, program, &stage.manifest.start.argv, &config, inherited)?;
        spawn.units = self.bounds.units.clone();
        Ok(spawn)
    }

    /// All that it takes to check a stage's configuration.
    pub(super) fn for_checking(
        &self,
        stage: &Stage,
        program: &Program,
        argv: &[String],
        config: &Path,
    ) -> io::Result<Spawn> {
        let mut spawn = self.prepare(stage, program, argv, config, SessionSockets::for_checking(stage)?)?;
        // With sockets that are not the real ones, nginx tries whether it could make those.
        spawn.launch.reach.bind = true;
        Ok(spawn)
    }

    fn prepare(
        &self,
        stage: &Stage,
        program: &Program,
        argv: &[String],
        config: &Path,
        inherited: Vec<OwnedFd>,
    ) -> io::Result<Spawn> {
        let log = self.folder.log_file(stage);
        let fill = |word: &String| {
            let word = word.replace("{config}", &config.to_string_lossy());
            OsString::from(
                word.replace("{folder}", &self.folder.path.to_string_lossy()).replace("{log}", &log.to_string_lossy()),
            )
        };
        let output = Log::new(log.clone()).open()?;
        self.folder.make_nobody()?;
        let launch = Launch {
            sandbox: self.bounds.sandbox,
            reach: Reach {
                // Not to change it: the controller believes what stands there.
                read: std::iter::once(&self.folder.path).chain(program.files.values()).cloned().collect(),
                read_if_there: stage.manifest.sandbox.read.clone(),
                write: vec![self.folder.make_scratch()?, log.clone()],
                // Sockets are inherited: nobody needs a port besides.
                bind: false,
            },
            sockets: inherited.len(),
            descriptors: Some(descriptors(self.bounds.connections, inherited.len())),
            argv: std::iter::once(program.path.clone().into()).chain(argv.iter().map(fill)).collect(),
        };
        Ok(Spawn {
            program: program.path.clone(),
            launch,
            sockets: stage.manifest.sockets,
            folder: self.folder.path.clone(),
            inherited,
            output,
            reapers: self.reapers.clone(),
            units: None,
        })
    }

    /// Ends what works in the folder and is none of `ours`: an earlier run may have
    /// been killed between starting a process and writing it down.
    pub(super) fn end_strays(&self, ours: &[Pid], seen: &Sighting) {
        for pid in seen.still_in(&self.folder.path) {
            let group = getpgid(Some(pid)).unwrap_or(pid);
            if !ours.contains(&group) {
                tracing::warn!(%pid, folder = %self.folder.path.display(), "a process that nobody knows works here; it is ended");
                store::kill_now(pid);
            }
        }
    }

    /// Ends what was written down and runs still: processes of an earlier run that
    /// could not be taken over.
    pub(super) fn end_known(&self) {
        for identity in self.identities.0.values().filter(|identity| identity.is_still()) {
            tracing::warn!(pid = %identity.pid(), "a process of an earlier run was not taken over; it is ended");
            store::kill_now(identity.pid());
        }
    }

    /// Waits until no process of the session is left.
    pub(super) async fn vacated(&self) {
        self.reapers.close();
        self.reapers.wait().await;
    }
}

fn descriptors(connections: u32, listeners: usize) -> u64 {
    let listeners = u64::try_from(listeners).unwrap_or(u64::MAX);
    DESCRIPTORS_PER_CONNECTION * u64::from(connections) + listeners + DESCRIPTORS_BESIDES
}

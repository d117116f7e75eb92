//! Why a plan is not served, for the user who sent it.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

use crate::backend::{ProgramError, RenderError, Stage};
use crate::firewall::FirewallError;

/// Why a plan could not be served. The message is for the user who sent it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The program, or a part of it, is not on this host.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A template is wrong.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The program does not take its configuration, or does not come up with it.
    #[error("{backend} refused its configuration: {said}")]
    Refused {
        /// The backend's name.
        backend: String,
        /// What it said, trimmed.
        said: String,
    },
    /// It neither confirms nor refuses.
    #[error("{backend} did not confirm within {} s; it said: {said}", within.as_secs())]
    Silent {
        /// The backend's name.
        backend: String,
        /// How long it had.
        within: Duration,
        /// What it said, trimmed.
        said: String,
    },
    /// Connections would not get through to it.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// There is nothing left for it of what the gateway may move.
    #[error("the bandwidth of the gateway is spent, and none of it is given back")]
    NoShare,
    /// Its share cannot be written down.
    #[error("write down the session's share of the bandwidth")]
    Share(#[source] io::Error),
    /// The system lets us start nothing more.
    #[error("the gateway may start no more processes, and needs one to {doing} for {backend}")]
    NoProcesses {
        /// What it is for.
        doing: &'static str,
        /// The backend's name.
        backend: String,
    },
    /// The system did not let us.
    #[error("{doing} for {backend}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The backend's name.
        backend: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Says of a stage what the system did not let us do.
pub(super) fn system(stage: &Stage, doing: &'static str) -> impl FnOnce(io::Error) -> ServeError + use<> {
    let backend = stage.name();
    // fork(2) says so at a limit on processes, and nothing else here does.
    move |source| match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => ServeError::NoProcesses { doing, backend },
        _ => ServeError::System { doing, backend, source },
    }
}

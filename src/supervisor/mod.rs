//! Runs the programs that serve a session.
//!
//! [`DataPath`] is one task a session. It takes plans and brings the session's
//! processes to them: render, check, write, start or reload, confirm; what is
//! refused leaves the old plan serving. It watches the processes, starts again
//! what dies, and at the end stops them all; whoever asks is told how they stand,
//! and what they use of the host. Each process leads a group of its
//! own and writes to a file, so it goes on whatever becomes of the controller. Each
//! is boxed in with its session's folder, see [`Sandbox`].

mod backoff;
mod bring;
mod check;
mod data_path;
mod eviction;
mod growth;
mod handover;
mod identity;
mod launch;
mod log;
mod pace;
mod place;
mod process;
mod report;
mod sandbox;
mod serve_error;
mod site;
mod sockets;
mod stat;
mod taking_over;
mod unit;
mod usage;

pub use data_path::{DataPath, DataPathParts};
pub use growth::Growth;
pub use handover::{HandoverError, SessionUnits, take_over};
pub use launch::{Launch, LaunchError};
pub use log::{Verdict, trimmed};
pub use place::Identities;
pub use process::Exit;
pub use report::{ProcessView, Report, Reporter, Running};
pub use sandbox::{Reach, Sandbox, SandboxError, kernel_has_landlock};
pub(crate) use sandbox::{SYSTEM_FOLDERS, enter as box_in};
pub use serve_error::ServeError;
pub use site::Site;
pub use taking_over::Resumed;
pub use usage::Usage;

//! The last step before a proxy: the process that becomes it.
//!
//! `s2cs launch -- PROGRAM ARGUMENTS` sets what only the process itself can
//! know, then executes the program in its own place.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A program that could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No program was named.
    #[error("launch: no program is named")]
    Nothing,
    /// The system refused.
    #[error("execute {}", program.display())]
    Exec {
        /// Which program.
        program: OsString,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Becomes the program `argv[0]`. Returns only when that fails.
#[must_use]
pub fn launch(argv: &[OsString]) -> LaunchError {
    let Some((program, arguments)) = argv.split_first() else {
        return LaunchError::Nothing;
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if std::env::var_os("LISTEN_FDS").is_some() {
        // sd_listen_fds(3): the sockets are for the process with this id, which stays the same.
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    if let Err(e) = set_limits() {
        eprintln!("launch: cannot set the limits of {}: {e}", program.display());
    }
    LaunchError::Exec { program: program.clone(), source: command.exec() }
}

/// As many descriptors as the system allows, because each connection takes some;
/// and no core file, because it would hold the key.
fn set_limits() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

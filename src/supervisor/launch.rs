//! The last step before a proxy: the process that becomes it.
//!
//! `s2cs launch -- PROGRAM ARGUMENTS` sets what only the process itself can
//! know, gives up what the program shall not have, and executes it in its own place.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use rustix::thread::CapabilitySet;

use super::sandbox::{self, Reach, Sandbox, SandboxError};
use crate::privileges::keep_only;

/// How a program is started: what it may reach, and what it becomes.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Launch {
    /// Whether the program is boxed in
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub sandbox: Sandbox,
    /// What it may reach
    #[command(flatten)]
    pub reach: Reach,
    /// How many sockets it inherits, from descriptor 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub sockets: usize,
    /// The most descriptors that it may have open [default: as many as the system allows]
    #[arg(long, value_name = "N")]
    pub descriptors: Option<u64>,
    /// The program and its arguments
    #[arg(last = true)]
    pub argv: Vec<OsString>,
}

/// A program that could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No program was named.
    #[error("launch: no program is named")]
    Nothing,
    /// Its privileges could not be given up.
    #[error("give up privileges for {}", program.display())]
    Privileges {
        /// Which program.
        program: OsString,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It could not be boxed in.
    #[error("start {}", program.display())]
    Sandbox {
        /// Which program.
        program: OsString,
        /// Why.
        #[source]
        source: SandboxError,
    },
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

/// The first descriptor after stdin, stdout and stderr.
const FIRST_INHERITED: usize = 3;
/// What programs that start as root keep of its privileges: to reach their folder
/// whoever owns the way to it, and to choose the user of their workers.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::SETUID).union(CapabilitySet::SETGID);
/// By `core(5)`, what of its memory a process puts into a core: nothing.
const NO_MEMORY: &str = "0";

impl Launch {
    /// The arguments by which s2cs is asked for this.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["launch".into(), "--sandbox".into(), self.sandbox.as_str().into()];
        words.extend(self.reach.arguments());
        words.extend(["--sockets".into(), self.sockets.to_string().into()]);
        if let Some(most) = self.descriptors {
            words.extend(["--descriptors".into(), most.to_string().into()]);
        }
        words.push("--".into());
        words.extend(self.argv.iter().cloned());
        words
    }

    /// Becomes the program. Returns only when that fails.
    #[must_use]
    pub fn run(self) -> LaunchError {
        let Some((program, arguments)) = self.argv.split_first() else {
            return LaunchError::Nothing;
        };
        let mut command = Command::new(program);
        command.args(arguments);
        if std::env::var_os("LISTEN_FDS").is_some() {
            // sd_listen_fds(3): the sockets are for the process with this id, which stays the same.
            command.env("LISTEN_PID", std::process::id().to_string());
        }
        umask(Mode::S_IRWXG | Mode::S_IRWXO);
        if let Err(e) = set_limits(self.descriptors) {
            eprintln!("launch: cannot set the limits of {}: {e}", program.display());
        }
        // Whoever started s2cs may have left it some that are not closed by themselves.
        close_fds::set_fds_cloexec(i32::try_from(FIRST_INHERITED + self.sockets).unwrap_or(i32::MAX), &[]);
        if let Err(source) = keep_only(KEPT, CapabilitySet::empty()) {
            return LaunchError::Privileges { program: program.clone(), source };
        }
        if let Err(source) = sandbox::enter(self.sandbox, Path::new(program), &self.reach) {
            return LaunchError::Sandbox { program: program.clone(), source };
        }
        LaunchError::Exec { program: program.clone(), source: command.exec() }
    }
}

/// As many descriptors as its connections need, and no core with a key in it.
///
/// Memory and threads are not limited here: what a program may take of them follows from
/// its connections, and the system counts threads by user, which all sessions have in common.
fn set_limits(descriptors: Option<u64>) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = descriptors.map_or(hard, |most| most.min(hard));
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // A core that goes to a program is not bound by the limit. This is, and outlives the execution.
    match fs::write("/proc/self/coredump_filter", NO_MEMORY) {
        // A kernel that writes no cores.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        launch: Launch,
    }

    #[test]
    fn what_is_asked_for_is_what_is_read() {
        let asked = Launch {
            sandbox: Sandbox::Required,
            reach: Reach {
                read: vec!["/a".into(), "/b_c".into()],
                read_if_there: vec!["/opt/x".into()],
                write: vec!["/a/work".into()],
                bind: true,
            },
            sockets: 3,
            descriptors: Some(512),
            argv: vec!["/bin/program".into(), "--read".into(), "x".into()],
        };
        for asked in [asked, Launch { argv: vec!["p".into()], ..Launch::default() }] {
            let read = Cli::try_parse_from(asked.arguments()).expect("its own arguments");
            assert_eq!(read.launch, asked);
        }
    }
}

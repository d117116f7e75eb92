//! How a benchmark was run: whoever doubts a number runs it again.

use std::process::{Command, Stdio};
use std::time::SystemTime;

use rustix::process::getpriority_process;
use serde::Serialize;

/// What was run, and when.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// When it began, in UTC.
    pub date: String,
    /// The command line.
    pub command: String,
    /// Of the source, as `git describe` has it.
    pub revision: String,
    /// How much it gave way to others (nice(2)).
    pub nice: i32,
}

impl Run {
    /// Of this benchmark, with these arguments.
    pub fn of(bench: &str, arguments: impl Iterator<Item = String>) -> Self {
        let arguments: Vec<_> = arguments.filter(|argument| argument != "--bench").collect();
        let separator = if arguments.is_empty() { "" } else { " -- " };
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: format!("cargo bench --bench {bench}{separator}{}", arguments.join(" ")),
            revision: revision(),
            nice: getpriority_process(None).unwrap_or_default(),
        }
    }

    /// It in a line.
    pub fn line(&self) -> String {
        let Self { date, command, revision, nice } = self;
        format!("`{command}`, {date}, revision {revision}, nice {nice}.")
    }
}

fn revision() -> String {
    let arguments = ["describe", "--always", "--dirty", "--tags"];
    let said = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let said = said.ok().filter(|said| said.status.success());
    said.map_or_else(|| "unknown".into(), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// Builds s2ds beside the benchmark: cargo builds the programs of its own package alone.
///
/// # Errors
/// What went wrong.
pub fn build_s2ds() -> Result<(), String> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--package", "s2ds"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("run cargo: {e}"))?;
    if built.success() { Ok(()) } else { Err("build s2ds".into()) }
}

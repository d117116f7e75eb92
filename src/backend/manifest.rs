//! The manifest of a backend: what the controller knows of a program.

use std::time::Duration;

use nix::sys::signal::Signal;
use regex::RegexSet;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::chain::ProxyHeader;
use crate::session::Protection;
use crate::shown::toml_fault;

/// `backend.toml`, parsed. Every `argv` is a list; nothing passes through a
/// shell. In it, `{config}` stands for the rendered file, `{folder}` for the
/// session's folder, `{log}` for the file that takes the program's output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name that operators choose it by.
    pub name: String,
    /// One line for `s2cs backends`.
    pub summary: String,
    /// The program's file name, or its absolute path.
    pub program: String,
    /// What to install when it is missing, for people.
    pub install: String,
    /// The file name of the rendered configuration.
    pub config: String,
    /// Its template under `templates/`.
    pub template: String,
    /// How the program takes over listening sockets.
    pub sockets: Sockets,
    /// What it can do.
    pub abilities: Abilities,
    /// How to learn its version.
    pub version: Probe,
    /// Files it needs that distributions put in different places.
    #[serde(default)]
    pub files: Vec<NeededFile>,
    /// What it must reach that is not its session's nor the system's.
    #[serde(default)]
    pub sandbox: Allowance,
    /// How the program itself checks a configuration; absent where it cannot.
    pub check: Option<Check>,
    /// How it is started, and what says that it serves.
    pub start: Start,
    /// How it moves to a changed configuration.
    pub reload: Reload,
    /// How it is stopped.
    pub stop: Stop,
}

/// How a program takes over the listening sockets that the controller holds.
/// They are always inherited, as file descriptors from 3 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sockets {
    /// `LISTEN_FDS` and `LISTEN_PID`, see `sd_listen_fds(3)`.
    Systemd,
    /// The variable `NGINX=3;4;`, by which nginx hands its sockets to a new binary.
    Nginx,
    /// The template names the descriptors itself (HAProxy's `fd@3`).
    Config,
}

/// What a program can do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abilities {
    /// TLS-PSK: what protections it can offer, empty if it has no PSK at all.
    #[serde(default)]
    pub psk: Vec<Protection>,
    /// PROXY protocol headers it understands from the program in front.
    #[serde(default)]
    pub proxy_protocol_in: Vec<ProxyHeader>,
    /// PROXY protocol headers it can send to the program behind.
    #[serde(default)]
    pub proxy_protocol_out: Vec<ProxyHeader>,
    /// Whether it takes connections from a session's sources only, when its
    /// template is told them.
    #[serde(default)]
    pub source_filter: bool,
    /// Whether it keeps all of a session's connections together to a bandwidth,
    /// both directions in one, when its template is told it; a reload changes it
    /// for open connections, too.
    #[serde(default)]
    pub bandwidth_limit: bool,
}

/// How to learn a program's version.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Arguments.
    pub argv: Vec<String>,
    /// The first group is the version.
    #[serde(deserialize_with = "one_pattern")]
    pub pattern: regex::Regex,
    /// The oldest version that has all the template uses.
    pub least: Option<String>,
}

/// A file that the template refers to as `files.NAME`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeededFile {
    /// The name in the template.
    pub name: String,
    /// Where distributions put it; the first that exists is taken.
    pub paths: Vec<std::path::PathBuf>,
    /// What to install when none exists, for people.
    pub install: String,
    /// Nothing is needed when the version probe prints this.
    #[serde(default, deserialize_with = "maybe_pattern")]
    pub unless: Option<regex::Regex>,
}

/// What a program may reach besides what every program may: to read its
/// session's folder, and to write in `scratch` there; to read and execute what is in
/// `/usr`, `/lib`, `/bin` and their like, with the few files of `/etc` that programs
/// start with; `/dev/null` and `/dev/urandom`. Neither a home nor `/etc/scistream`, `/tmp`,
/// `/proc`, `/run` or `/var` is among it, and ports are its own only if it inherits them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Folders and files that it may read and execute, absolute, such as `/opt/haproxy`; what a
    /// host does not have is passed over.
    #[serde(default)]
    pub read: Vec<std::path::PathBuf>,
}

/// How a program checks a configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Arguments.
    pub argv: Vec<String>,
    /// When it is asked.
    #[serde(default)]
    pub when: CheckWhen,
}

/// When a program is asked to check a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckWhen {
    /// Before it starts, and before a running one is moved to it.
    #[default]
    Always,
    /// Before a running one is moved to it. One that starts reads the same file in the same
    /// way, and where it cannot serve what stands there it ends and says why.
    Change,
}

/// How a program is started.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Arguments.
    pub argv: Vec<String>,
    /// A line of its output that says: I serve.
    #[serde(deserialize_with = "patterns")]
    pub ready: RegexSet,
    /// How long that may take.
    #[serde(default = "ten_seconds", deserialize_with = "seconds")]
    pub timeout_seconds: Duration,
}

/// How a running program is brought to read its changed configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// What tells it to.
    #[serde(deserialize_with = "signal")]
    pub signal: Signal,
    /// A line that says: the new configuration serves, the old one takes no more connections.
    #[serde(deserialize_with = "patterns")]
    pub confirmed: RegexSet,
    /// A line that says: the old configuration stays.
    #[serde(default, deserialize_with = "patterns")]
    pub refused: RegexSet,
    /// How long a program must have served before it heeds the signal.
    #[serde(default, deserialize_with = "seconds")]
    pub settle_seconds: Duration,
    /// After how long without an answer the signal is sent again; 0: never.
    #[serde(default, deserialize_with = "seconds")]
    pub again_seconds: Duration,
    /// How long that may take.
    #[serde(default = "ten_seconds", deserialize_with = "seconds")]
    pub timeout_seconds: Duration,
}

/// How a program is stopped. Whatever these do, KILL of the group is the end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Stops taking connections and ends when the open ones have; absent where
    /// the program knows no such thing.
    #[serde(default, deserialize_with = "maybe_signal")]
    pub drain: Option<Signal>,
    /// Ends at once.
    #[serde(deserialize_with = "signal")]
    pub now: Signal,
}

/// A user waits as long for an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let seconds = Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)?;
    if seconds > LONGEST_WAIT {
        return Err(D::Error::custom(format!("it is longer than {} seconds", LONGEST_WAIT.as_secs())));
    }
    Ok(seconds)
}

fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<RegexSet, D::Error> {
    RegexSet::new(Vec::<String>::deserialize(from)?).map_err(D::Error::custom)
}

fn one_pattern<'de, D: Deserializer<'de>>(from: D) -> Result<regex::Regex, D::Error> {
    regex::Regex::new(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn maybe_pattern<'de, D: Deserializer<'de>>(from: D) -> Result<Option<regex::Regex>, D::Error> {
    one_pattern(from).map(Some)
}

fn signal<'de, D: Deserializer<'de>>(from: D) -> Result<Signal, D::Error> {
    let name = String::deserialize(from)?;
    format!("SIG{name}")
        .parse()
        .map_err(|_| D::Error::custom(format!("{name:?} is no signal; write TERM, HUP, USR1 …")))
}

fn maybe_signal<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Signal>, D::Error> {
    signal(from).map(Some)
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// It is not TOML, or has other keys or values than a manifest.
    #[error("{0}")]
    Toml(String),
    /// A name that would lead out of the session's folder or confuse people.
    #[error("{field} {value:?} must be a plain file name")]
    Name {
        /// Which key.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// Where nothing tells what it is relative to.
    #[error("[sandbox] read {path:?} must be an absolute path")]
    Relative {
        /// What stands there.
        path: std::path::PathBuf,
    },
    /// The session has a file of that name.
    #[error("config {0:?} would write over a file of the session")]
    Taken(String),
    /// Without one, nothing says that the program serves.
    #[error("[{table}] needs at least one pattern in {key}")]
    NoPattern {
        /// Which table.
        table: &'static str,
        /// Which key of it.
        key: &'static str,
    },
}

/// What else stands in a session's folder: the key, the journal and its like, the
/// logs, the sockets between programs, and files that are about to replace others.
const FILES_OF_OURS: [&str; 6] = ["psk", "nobody.pem", "session.json", "processes.json", "traffic.json", "share"];
const ENDINGS_OF_OURS: [&str; 4] = [".log", ".sock", ".tmp", ".next"];

impl Manifest {
    /// Reads and checks the text of a `backend.toml`.
    ///
    /// # Errors
    /// The first fault found.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|e| ManifestError::Toml(toml_fault(text, &e)))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// What serde cannot check.
    fn check(&self) -> Result<(), ManifestError> {
        for (field, value) in [("name", &self.name), ("config", &self.config), ("template", &self.template)] {
            let plain = !value.is_empty()
                && !value.starts_with('.')
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !plain {
                return Err(ManifestError::Name { field, value: value.clone() });
            }
        }
        if let Some(path) = self.sandbox.read.iter().find(|path| !path.is_absolute()) {
            return Err(ManifestError::Relative { path: path.clone() });
        }
        let has_ending = ENDINGS_OF_OURS.iter().any(|ending| self.config.ends_with(ending));
        if has_ending || FILES_OF_OURS.contains(&self.config.as_str()) {
            return Err(ManifestError::Taken(self.config.clone()));
        }
        if self.start.ready.is_empty() {
            return Err(ManifestError::NoPattern { table: "start", key: "ready" });
        }
        if self.reload.confirmed.is_empty() {
            return Err(ManifestError::NoPattern { table: "reload", key: "confirmed" });
        }
        Ok(())
    }

    /// Whether it can be the end of the tunnel itself.
    #[must_use]
    pub fn speaks_psk(&self) -> bool {
        !self.abilities.psk.is_empty()
    }
}

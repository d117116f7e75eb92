//! What the operator says: flags and a TOML file → a checked [`Config`].
//!
//! Flags and file have the same settings under the same names (dashes in flags,
//! underscores in the file); a flag wins. Every fault is found before any is
//! reported, so that an operator corrects a file once.

mod access;
mod amounts;
mod check;
mod deployed;
mod programs;
mod reload;
mod settings;
mod values;
pub(crate) use settings::boolean;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Limits, Providers};
use crate::backend::{Catalog, Chosen, Manifest, Needs};
use crate::engine;
use crate::firewall::Firewall;
use crate::session::{Role, Tcp};
use crate::supervisor::{Sandbox, SessionUnits};

pub use reload::{Change, Counts, Reloaded, Source};
pub use settings::{Settings, TcpSettings};

/// Everything that was said, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the control server listens.
    pub listen: SocketAddr,
    /// Its certificate; without one it speaks plain gRPC.
    pub tls: Option<TlsFiles>,
    /// What peers are told instead of the WAN address.
    pub advertise: Option<IpAddr>,
    /// Ports for listeners.
    pub port_range: RangeInclusive<u16>,
    /// Where sessions keep their files.
    pub state_dir: PathBuf,
    /// All backends.
    pub catalog: Catalog,
    /// The one that serves sessions.
    pub backend: Arc<Manifest>,
    /// The end of the tunnel for backends without PSK.
    pub terminator: Arc<Manifest>,
    /// What keeps strangers, and too much, from a program that cannot.
    pub gate: Arc<Manifest>,
    /// How long open connections may go on at the end of a session.
    pub drain_grace: Duration,
    /// Connections that one process may hold open.
    pub connections_per_process: u32,
    /// What the buffers of one process may take together; `None`: as it has it itself.
    pub memory_mib: Option<u32>,
    /// How TCP connections are set, where sessions have nothing of their own.
    pub tcp: Tcp,
    /// Whether proxies are boxed in.
    pub sandbox: Sandbox,
    /// Where processes for sessions are asked for; `None`: they are our own.
    pub session_units: Option<SessionUnits>,
    /// Where openings for sessions are asked for.
    pub firewall: Option<Firewall>,
    /// The most listeners that one session may ask for.
    pub max_listeners: u16,
    /// Whether SIGTERM leaves sessions running.
    pub keep_sessions_on_exit: bool,
    /// Who knows callers.
    pub providers: Providers,
    /// How often one may call.
    pub limits: Limits,
    /// Where decisions are written down.
    pub audit_log: Option<PathBuf>,
    /// What the engine needs.
    pub engine: engine::Settings,
    /// What the operator should know of how the flags were understood.
    pub notes: Vec<String>,
}

/// The control server's certificate and key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, with its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients may prove who they are with a certificate.
    pub client_ca: Option<PathBuf>,
}

/// All that is wrong with what the operator said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.iter().map(|fault| format!("- {fault}")).collect::<Vec<_>>().join("\n"))]
pub struct Faults(pub Vec<String>);

impl Config {
    /// Where the control server that is given these settings keeps its state.
    ///
    /// # Errors
    /// [`Faults`] of the file, and of this setting; all else may be wrong.
    pub fn state_dir(flags: Settings) -> Result<PathBuf, Faults> {
        let mut faults = Vec::new();
        let file = flags.config.as_deref().map(|path| Settings::from_file(path, &mut faults)).unwrap_or_default();
        let state_dir = check::check_state_dir(flags.over(file).state_dir, &mut faults);
        state_dir.filter(|_| faults.is_empty()).ok_or(Faults(faults))
    }

    /// Reads the file that the flags name, if any, and checks everything.
    ///
    /// # Errors
    /// [`Faults`], all of them.
    pub fn load(flags: Settings) -> Result<Self, Faults> {
        let (settings, faults) = Settings::gathered(flags);
        Self::check(settings, faults)
    }

    /// The backends that sessions here may need, by their names.
    #[must_use]
    pub fn taking_part(&self) -> BTreeMap<&str, &Arc<Manifest>> {
        let chosen = Chosen { backend: &self.backend, terminator: &self.terminator, gate: &self.gate };
        let (sources, bounded) =
            (&self.engine.sources, self.engine.bandwidth.may_bound() || self.engine.policy.may_bound());
        let needed = |role| chosen.taking_part(Needs { role, sources: sources.bound(role), bounded });
        let all = [Role::Prod, Role::Cons].into_iter().flat_map(needed);
        all.map(|manifest| (manifest.name.as_str(), manifest)).collect()
    }

    /// Checks settings, wherever they are from. What is wrong joins the `faults` that were found before.
    ///
    /// # Errors
    /// [`Faults`], all of them.
    pub fn check(settings: Settings, mut faults: Vec<String>) -> Result<Self, Faults> {
        match check::check(settings, &mut faults) {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(Faults(faults)),
        }
    }
}

//! From a checked configuration to what serves by it: at the start, and at each reload.

use tokio::task::JoinError;

use crate::auth::{Guard, Providers};
use crate::backend::Programs;
use crate::causes::causes;
use crate::config::{Config, Counts, Faults, Reloaded, Source, TlsFiles};
use crate::engine;
use crate::frontends::grpc::{Authentication, Manners, Reception};
use crate::supervisor::{Growth, Site};
use crate::tls::{self, TlsError};

/// All that another configuration may take the place of.
pub(super) struct Assembly {
    pub(super) reception: Reception,
    pub(super) engine: engine::Settings,
    pub(super) site: Site,
    /// Whether SIGTERM leaves sessions running.
    pub(super) keep_sessions_on_exit: bool,
}

impl Assembly {
    /// Reads the certificates, too.
    pub(super) fn of(config: Config, programs: Programs, growth: Growth) -> Result<Self, TlsError> {
        let tls = config.tls.as_ref().map(tls::server).transpose()?;
        let policy = &config.engine.policy;
        let knows_callers = !policy.is_open();
        let authenticator = knows_callers.then(|| config.providers.authenticator(&policy.claims())).transpose()?;
        let guard = Guard::new(authenticator, config.providers.scope(), config.limits);
        let manners = Manners {
            advertise: config.advertise,
            max_listeners: config.max_listeners,
            authentication: Authentication {
                ways: ways(&config.providers, config.tls.as_ref()),
                logins: config.providers.logins(),
            },
        };
        let site = Site {
            catalog: config.catalog,
            backend: config.backend,
            terminator: config.terminator,
            gate: config.gate,
            connections: config.connections_per_process,
            memory_mib: config.memory_mib,
            tcp: config.tcp,
            sandbox: config.sandbox,
            units: config.session_units,
            firewall: config.firewall,
            drain_grace: config.drain_grace,
            programs,
            growth,
        };
        let (engine, keep_sessions_on_exit) = (config.engine, config.keep_sessions_on_exit);
        Ok(Self { reception: Reception { tls, guard, manners }, engine, site, keep_sessions_on_exit })
    }
}

/// How callers may prove who they are.
fn ways(providers: &Providers, tls: Option<&TlsFiles>) -> Vec<String> {
    let certificate = tls.and_then(|tls| tls.client_ca.as_ref()).map(|_| "certificate".to_owned());
    providers.names().into_iter().chain(certificate).collect()
}

/// Reads the configuration again, with all files that it names. Nothing is changed yet:
/// what cannot be used as a whole is not used at all.
pub(super) fn again(source: &Source, growth: Growth) -> Result<(Source, Assembly), Faults> {
    let Reloaded { source, mut config, changes } = source.reload()?;
    for note in std::mem::take(&mut config.notes) {
        tracing::warn!("{note}");
    }
    let assembly = Assembly::of(config, Programs::default(), growth)
        .map_err(|e| Faults(vec![format!("failed to {}", causes(&e))]))?;
    for change in changes {
        let setting = change.setting;
        match change.counts {
            Counts::Now => tracing::info!(setting, "changed"),
            Counts::NextSession => tracing::info!(setting, "changed, for sessions from now on"),
            Counts::NextStart => {
                tracing::warn!(setting, "needs a restart: it stays as it was until then");
            }
        }
    }
    Ok((source, assembly))
}

/// What came of reading it, which a fault of ours may have kept from its end.
pub(super) fn outcome(
    read: Result<Result<(Source, Assembly), Faults>, JoinError>,
) -> Result<(Source, Assembly), Faults> {
    read.unwrap_or_else(|e| Err(Faults(vec![format!("failed to read the configuration: {e}")])))
}

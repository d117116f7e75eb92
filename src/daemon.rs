//! The composition root of s2cs: the only place that knows every part.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::backend::Programs;
use crate::config::Config;
use crate::engine::Engine;
use crate::frontends::grpc::{self, ControlService, GrpcError};
use crate::ports::Ports;
use crate::store::{Leftovers, StateError, StateFolder};
use crate::supervisor::Site;
use crate::tls::{self, TlsError};

/// Why the control server could not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// What an earlier run left behind.
    #[error("clear away what an earlier run left behind")]
    Leftovers(#[source] io::Error),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its address.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Signals.
    #[error("wait for signals")]
    Signals(#[source] io::Error),
    /// The gRPC server.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
}

/// Runs the control server until SIGTERM or SIGINT, then releases every session.
///
/// `ready` is told the address once calls are taken.
///
/// # Errors
/// [`DaemonError`]
pub async fn run(config: Config, ready: impl FnOnce(SocketAddr)) -> Result<(), DaemonError> {
    let state = StateFolder::open(&config.state_dir)?;
    clear_leftovers(&config, &state).await?;
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let fault = |source| DaemonError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;

    let site = Site {
        catalog: config.catalog,
        backend: config.backend,
        terminator: config.terminator,
        connections: config.connections_per_process,
        drain_grace: config.drain_grace,
        programs: Programs::default(),
    };
    let engine = Engine::new(config.engine, site, state, Ports::new(config.port_range));
    let service =
        ControlService { engine: engine.clone(), advertise: config.advertise, max_listeners: config.max_listeners };
    let stop = CancellationToken::new();
    let server = grpc::serve(service, listener, tls, stop.clone());
    tokio::pin!(server);
    ready(address);
    tokio::select! {
        outcome = &mut server => return Ok(outcome?),
        _ = terminate.recv() => tracing::info!("SIGTERM: releasing all sessions"),
        _ = interrupt.recv() => tracing::info!("SIGINT: releasing all sessions"),
    }
    engine.shut_down().await;
    stop.cancel();
    Ok(server.await?)
}

/// Processes of sessions that a killed controller left behind are nobody's:
/// their UIDs and owners died with it.
async fn clear_leftovers(config: &Config, state: &StateFolder) -> Result<(), DaemonError> {
    let programs = Programs::default();
    let known: BTreeSet<_> = config
        .catalog
        .all()
        .filter_map(|manifest| programs.find(manifest).ok())
        .filter_map(|program| program.path.canonicalize().ok())
        .collect();
    let cleared = Leftovers::clear(state, &known).await.map_err(DaemonError::Leftovers)?;
    if cleared != Leftovers::default() {
        tracing::warn!(
            processes = cleared.processes,
            sessions = cleared.folders,
            "an earlier run was killed and left these behind; they are cleared away"
        );
    }
    Ok(())
}

//! The composition root of s2cs: the only place that knows every part.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::auth::{Guard, Providers};
use crate::backend::Programs;
use crate::config::{Config, TlsFiles};
use crate::engine::{Engine, raise_descriptor_limit};
use crate::frontends::grpc::{self, Authentication, Doors, Gatekeeper, GrpcError, Manners, Operators};
use crate::memory;
use crate::ports::Ports;
use crate::store::{ControlSocket, StateError, StateFolder};
use crate::supervisor::{Growth, Site};
use crate::tls::{self, TlsError};

/// Why the control server could not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The sessions of an earlier run.
    #[error("look for sessions of an earlier run")]
    Adopt(#[source] io::Error),
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

/// How the control server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every session was released.
    Released,
    /// Sessions run on. The process must end without dropping what it holds of
    /// them, as it would if it were killed.
    Left,
}

/// How long clients may take to read their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Runs the control server until SIGTERM or SIGINT, then releases every session,
/// or leaves them to the next run.
///
/// `programs` are those that were found already; `ready` is told the address once
/// calls are taken.
///
/// # Errors
/// [`DaemonError`]
pub async fn run(config: Config, programs: Programs, ready: impl FnOnce(SocketAddr)) -> Result<Ended, DaemonError> {
    if let Err(e) = memory::keep_private().and_then(|()| memory::leave_no_core()) {
        tracing::warn!("cannot keep the keys in memory out of others' sight: {e}");
    }
    if let Err(e) = raise_descriptor_limit() {
        tracing::warn!("cannot raise the limit of file descriptors: {e}");
    }
    let state = StateFolder::open(&config.state_dir)?;
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let fault = |source| DaemonError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;

    let policy = &config.engine.policy;
    let knows_callers = !policy.is_open();
    let authenticator = knows_callers.then(|| config.providers.authenticator(&policy.claims())).transpose()?;
    let guard = Guard::new(authenticator, config.providers.scope(), config.limits);
    let audit = config.audit_log.map(Audit::to).unwrap_or_default();
    let site = Site {
        catalog: config.catalog,
        backend: config.backend,
        terminator: config.terminator,
        gate: config.gate,
        connections: config.connections_per_process,
        memory_mib: config.memory_mib,
        tcp: config.tcp,
        sandbox: config.sandbox,
        firewall: config.firewall,
        drain_grace: config.drain_grace,
        programs,
        growth: Growth::start(),
    };
    let engine = Engine::new(config.engine, site, state, Ports::new(config.port_range), audit.clone());
    // After the engine, which holds the folder's lock: what is made last goes first.
    let (_socket, operators) = match open_control_socket(&config.state_dir) {
        Ok((socket, operators)) => (Some(socket), Some(operators)),
        Err(e) => {
            // Sessions to go on with matter more.
            tracing::error!("cannot make the control socket, so that s2cs drain will not work: {e}");
            (None, None)
        }
    };
    engine.adopt().await.map_err(DaemonError::Adopt)?;
    let manners = Manners {
        advertise: config.advertise,
        max_listeners: config.max_listeners,
        authentication: Authentication {
            ways: ways(&config.providers, config.tls.as_ref()),
            logins: config.providers.logins(),
        },
    };
    let stop = CancellationToken::new();
    let doors = Doors { listener, tls, operators, gatekeeper: Gatekeeper::new(guard, audit) };
    let server = grpc::serve(engine.clone(), manners, doors, stop.clone());
    tokio::pin!(server);
    ready(address);
    tokio::select! {
        outcome = &mut server => {
            outcome?;
            return Ok(Ended::Released);
        }
        _ = terminate.recv() => {
            if config.keep_sessions_on_exit {
                tracing::info!("SIGTERM: sessions run on");
                engine.end_watches();
                return Ok(Ended::Left);
            }
            tracing::info!("SIGTERM: releasing all sessions");
        }
        _ = interrupt.recv() => tracing::info!("SIGINT: releasing all sessions"),
    }
    engine.drain(Duration::ZERO).await;
    engine.end_watches();
    stop.cancel();
    match timeout(LAST_ANSWERS, server).await {
        Ok(outcome) => outcome?,
        Err(_) => tracing::warn!("some clients do not take their last answers; not waiting for them"),
    }
    Ok(Ended::Released)
}

fn open_control_socket(state_dir: &Path) -> io::Result<(ControlSocket, Operators)> {
    let (socket, listener, word) = ControlSocket::bind(state_dir)?;
    Ok((socket, Operators { listener: UnixListener::from_std(listener)?, word }))
}

/// How callers may prove who they are.
fn ways(providers: &Providers, tls: Option<&TlsFiles>) -> Vec<String> {
    let certificate = tls.and_then(|tls| tls.client_ca.as_ref()).map(|_| "certificate".to_owned());
    providers.names().into_iter().chain(certificate).collect()
}

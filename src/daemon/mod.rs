//! The composition root of s2cs: the only place that knows every part.

mod assembly;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::backend::Programs;
use crate::config::{Config, Faults, Source};
use crate::engine::{Engine, raise_descriptor_limit};
use crate::frontends::grpc::{self, Doors, Gatekeeper, GrpcError, Operators, Reception};
use crate::memory;
use crate::ports::Ports;
use crate::service_manager::ServiceManager;
use crate::store::{ControlSocket, StateError, StateFolder};
use crate::supervisor::Growth;
use crate::tls::TlsError;

use assembly::Assembly;

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
/// or leaves them to the next run. At SIGHUP it reads its configuration again.
///
/// `programs` are those that were found already; `ready` is told the address once
/// calls are taken.
///
/// # Errors
/// [`DaemonError`]
pub async fn run(
    source: Source,
    config: Config,
    programs: Programs,
    ready: impl FnOnce(SocketAddr),
) -> Result<Ended, DaemonError> {
    if let Err(e) = memory::keep_private().and_then(|()| memory::leave_no_core()) {
        tracing::warn!("cannot keep the keys in memory out of others' sight: {e}");
    }
    if let Err(e) = raise_descriptor_limit() {
        tracing::warn!("cannot raise the limit of file descriptors: {e}");
    }
    let manager = ServiceManager::from_environment();
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
    let (state_dir, listen, ports) = (config.state_dir.clone(), config.listen, config.port_range.clone());
    let audit = config.audit_log.clone().map(Audit::to).unwrap_or_default();
    let growth = Growth::start();
    let state = StateFolder::open(&state_dir)?;
    let Assembly { reception, engine, site, mut keep_sessions_on_exit } =
        Assembly::of(config, programs, growth.clone())?;
    let fault = |source| DaemonError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;

    let engine = Engine::new(engine, site, state, Ports::new(ports), audit.clone());
    // After the engine, which holds the folder's lock: what is made last goes first.
    let (_socket, operators) = match open_control_socket(&state_dir) {
        Ok((socket, operators)) => (Some(socket), Some(operators)),
        Err(e) => {
            // Sessions to go on with matter more.
            tracing::error!("cannot make the control socket, so that s2cs drain will not work: {e}");
            (None, None)
        }
    };
    manager.shows("going on with the sessions of an earlier run");
    engine.adopt().await.map_err(DaemonError::Adopt)?;
    let reception = watch::Sender::new(reception);
    let gatekeeper = Gatekeeper::new(reception.subscribe(), audit);
    let stop = CancellationToken::new();
    let doors = Doors { listener, operators, gatekeeper };
    let server = grpc::serve(engine.clone(), reception.subscribe(), doors, stop.clone());
    tokio::pin!(server);
    let outlook = Outlook { address, refused: Mutex::default() };
    let signs = signs_of_life(&engine, &manager, &outlook);
    tokio::pin!(signs);
    let mut reload = Reload { source, growth, under_way: None };
    manager.shows(&outlook.with(engine.pulse().await));
    ready(address);
    manager.ready();
    loop {
        tokio::select! {
            outcome = &mut server => {
                outcome?;
                return Ok(Ended::Released);
            }
            never = &mut signs => match never {},
            _ = hangup.recv(), if reload.under_way.is_none() => {
                tracing::info!("SIGHUP: reading the configuration again");
                manager.reloading();
                reload.begin();
            }
            read = reload.read() => {
                if let Some(keep) = take(&mut reload, read, &reception, &engine, &outlook) {
                    keep_sessions_on_exit = keep;
                }
                manager.shows(&outlook.with(engine.sessions()));
                manager.ready();
            }
            _ = terminate.recv() => {
                if keep_sessions_on_exit {
                    tracing::info!("SIGTERM: sessions run on");
                    manager.stopping("stopping; sessions run on");
                    engine.end_watches();
                    return Ok(Ended::Left);
                }
                tracing::info!("SIGTERM: releasing all sessions");
                break;
            }
            _ = interrupt.recv() => {
                tracing::info!("SIGINT: releasing all sessions");
                break;
            }
        }
    }
    manager.stopping("stopping; releasing all sessions");
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

/// What an operator sees of how things stand.
struct Outlook {
    address: SocketAddr,
    /// Why the configuration that was read last is not in force.
    refused: Mutex<Option<Faults>>,
}

impl Outlook {
    fn with(&self, sessions: usize) -> String {
        let Self { address, refused } = self;
        let stands = format!("ready on {address}, sessions: {sessions}");
        match &*refused.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Faults(faults)) => {
                format!("{stands}; the configuration was read again and is not in force: {}", faults.join("; "))
            }
            None => stands,
        }
    }

    fn refuses(&self, faults: Option<Faults>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }
}

/// Tells the service manager that the gateway lives, for as long as the loop that asks
/// for it turns and whoever keeps the sessions answers.
async fn signs_of_life(engine: &Engine, manager: &ServiceManager, outlook: &Outlook) -> Infallible {
    let Some(period) = manager.period() else { return pending().await };
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sessions = engine.pulse().await;
        manager.lives();
        manager.shows(&outlook.with(sessions));
    }
}

/// What becomes of a configuration that is read again.
type Read = Result<(Source, Assembly), Faults>;

/// The configuration, and one that is being read.
struct Reload {
    source: Source,
    growth: Growth,
    under_way: Option<JoinHandle<Read>>,
}

impl Reload {
    fn begin(&mut self) {
        let (source, growth) = (self.source.clone(), self.growth.clone());
        self.under_way = Some(spawn_blocking(move || assembly::again(&source, growth)));
    }

    /// Resolves when one has been read. Dropping this future loses nothing.
    async fn read(&mut self) -> Read {
        let Some(under_way) = &mut self.under_way else { return pending().await };
        let read = assembly::outcome(under_way.await);
        self.under_way = None;
        read
    }
}

/// Puts what was read into force, or says why not. Answers with whether sessions are to
/// be kept at the end, if that is said anew.
fn take(
    reload: &mut Reload,
    read: Read,
    reception: &watch::Sender<Reception>,
    engine: &Engine,
    outlook: &Outlook,
) -> Option<bool> {
    match read {
        Ok((source, assembly)) => {
            reception.send_replace(assembly.reception);
            engine.change(assembly.engine, assembly.site);
            reload.source = source;
            outlook.refuses(None);
            tracing::info!("the configuration is in force");
            Some(assembly.keep_sessions_on_exit)
        }
        Err(faults) => {
            for fault in &faults.0 {
                tracing::error!("the configuration is not taken, and the one before stays in force: {fault}");
            }
            outlook.refuses(Some(faults));
            None
        }
    }
}

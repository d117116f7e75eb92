//! A configuration made ready to serve: one route for each listener.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::{Config, Listener};
use crate::error::Error;
use crate::tcp::TcpSettings;
use crate::tls::Contexts;

/// Unless the configuration says so, no more: every session has its own process.
const MOST_THREADS: usize = 16;

/// Descriptors of a connection's two pipes,
const PIPES: usize = 4;
/// of a thread's runtime and the empty pipes that it keeps,
const A_THREAD: usize = 20;
/// and of everything else: listeners, signals, the log.
const OTHERS: usize = 64;

/// Everything that one reading of the configuration gave.
pub struct Service {
    /// Worker threads; only looked at when the process starts.
    pub threads: usize,
    /// How many connections are served at once.
    pub max_connections: usize,
    /// How long open connections may go on after SIGTERM.
    pub drain: Duration,
    /// What all connections may carry together, in bytes a second.
    pub bandwidth: Option<NonZeroU64>,
    /// What the buffers of all connections may take together, in bytes.
    pub memory: usize,
    /// One for each listener.
    pub routes: Vec<Arc<Route>>,
}

/// What becomes of the connections of one listener. A connection keeps the route
/// that it began with, whatever is read later.
pub struct Route {
    /// The listener's own settings.
    pub listener: Listener,
    /// TLS, when any side of the configuration speaks it.
    pub contexts: Option<Arc<Contexts>>,
    /// How long the target may take to accept.
    pub connect_timeout: Duration,
    /// How long a peer may take to prove itself.
    pub handshake_timeout: Duration,
    /// How TCP sockets are set up.
    pub tcp: Arc<TcpSettings>,
    target_is_plain: AtomicBool,
}

impl Service {
    /// Reads the configuration and the keys, and sets TLS up.
    ///
    /// # Errors
    /// When the configuration cannot be served.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let config = Config::load(path)?;
        let contexts = |keys| Contexts::new(config.protection, keys, config.kernel_tls);
        let contexts = config.keys.map(contexts).transpose()?.map(Arc::new);
        let route = |listener| {
            Arc::new(Route {
                listener,
                contexts: contexts.clone(),
                connect_timeout: config.connect_timeout,
                handshake_timeout: config.handshake_timeout,
                tcp: config.tcp.clone(),
                target_is_plain: AtomicBool::new(false),
            })
        };
        let processors = || std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        Ok(Self {
            threads: config.threads.map_or_else(processors, usize::from),
            max_connections: config.max_connections,
            drain: config.drain,
            bandwidth: config.bandwidth,
            memory: config.memory,
            routes: config.listeners.into_iter().map(route).collect(),
        })
    }

    /// How many descriptors may be needed: for each connection a socket a side, which
    /// OpenSSL needs under a descriptor of its own where it shares the work with the
    /// kernel, and a pipe each way; and what each thread and the process have.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        let in_kernel = |route: &Arc<Route>| route.contexts.as_ref().is_some_and(|contexts| contexts.in_kernel());
        let sockets = if self.routes.iter().any(in_kernel) { 4 } else { 2 };
        (sockets + PIPES) * self.max_connections + A_THREAD * self.threads + OTHERS
    }
}

impl Route {
    /// Whether the target was found to speak no TLS.
    #[must_use]
    pub fn target_is_plain(&self) -> bool {
        self.target_is_plain.load(Ordering::Relaxed)
    }

    /// Spares the target further attempts.
    pub fn remember_plain_target(&self) {
        self.target_is_plain.store(true, Ordering::Relaxed);
    }
}

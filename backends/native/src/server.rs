//! The running server: starts the listeners, reloads, drains, ends.
//!
//! SIGHUP reads the configuration again and swaps it whole or not at all: what
//! is new is bound first, and only when nothing can fail any more are kept
//! listeners given their new routes and dropped ones closed. SIGTERM closes the
//! listeners and lets open connections go on for a while; a second one, or
//! SIGINT, ends them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::address::Address;
use crate::bandwidth::Bandwidth;
use crate::error::Error;
use crate::flow::Common;
use crate::limit::Limit;
use crate::listener::{self, Inherited, Listening, Shared};
use crate::log;
use crate::memory::Memory;
use crate::service::{Route, Service};
use crate::worker::Workers;

/// How long connections that were ended may take to reset their sockets.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

struct Server {
    listeners: HashMap<Address, Running>,
    shared: Shared,
    drain: Duration,
}

struct Running {
    route: watch::Sender<Arc<Route>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Listeners that a reload brings, already bound.
type Added = Vec<(Listening, Arc<Route>)>;

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

/// Serves until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub async fn run(path: &Path, service: Service, inherited: Inherited) -> Result<(), Error> {
    let mut signals = Signals::new().map_err(Error::StartRuntime)?;
    raise_descriptor_limit(service.descriptors());
    let mut server = Server::start(service, inherited)?;
    log::say("ready");
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => server.reload(path).await,
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => {
                server.close().await;
                server.cut().await;
                return Ok(());
            }
        }
    }
    server.close().await;
    let connections = server.shared.workers.tracker().clone();
    info!(connections = server.shared.limit.open(), seconds = server.drain.as_secs(), "draining");
    tokio::select! {
        () = connections.wait() => return Ok(()),
        () = tokio::time::sleep(server.drain) => {}
        _ = signals.terminate.recv() => {}
        _ = signals.interrupt.recv() => {}
    }
    server.cut().await;
    Ok(())
}

impl Server {
    fn start(service: Service, inherited: Inherited) -> Result<Self, Error> {
        let shared = Shared {
            limit: Limit::new(service.max_connections),
            workers: Workers::start(service.threads).map_err(Error::StartRuntime)?,
            common: Common { bandwidth: Bandwidth::new(service.bandwidth), memory: Memory::new(service.memory) },
            cut: CancellationToken::new(),
        };
        let mut server = Self { listeners: HashMap::new(), shared, drain: service.drain };
        let mut inherited: HashMap<_, _> = inherited.into_listening().into_iter().collect();
        let mut sockets = Vec::new();
        for route in service.routes {
            let address = &route.listener.accept;
            let socket = inherited.remove(address).map_or_else(|| Listening::bind(address), Ok)?;
            sockets.push((socket, route));
        }
        for address in inherited.keys() {
            warn!(%address, "inherited socket belongs to no listener, closed");
        }
        for (socket, route) in sockets {
            server.listen(socket, route);
        }
        Ok(server)
    }

    fn listen(&mut self, socket: Listening, route: Arc<Route>) {
        let listener = &route.listener;
        let address = listener.accept.clone();
        info!(listener = listener.name, accept = %address, target = %listener.target, "listener open");
        let (sender, receiver) = watch::channel(route);
        let stop = CancellationToken::new();
        let task = tokio::spawn(listener::serve(socket, receiver, self.shared.clone(), stop.clone()));
        self.listeners.insert(address, Running { route: sender, stop, task });
    }

    async fn reload(&mut self, path: &Path) {
        match self.prepare(path) {
            Ok((service, added)) => {
                self.swap(service, added).await;
                log::say("reloaded");
            }
            Err(error) => log::say(&format!("reload refused: {}", error.chain())),
        }
    }

    /// Everything of a reload that can fail.
    fn prepare(&self, path: &Path) -> Result<(Service, Added), Error> {
        let service = Service::load(path)?;
        let mut added = Vec::new();
        for route in &service.routes {
            if !self.listeners.contains_key(&route.listener.accept) {
                added.push((Listening::bind(&route.listener.accept)?, route.clone()));
            }
        }
        Ok((service, added))
    }

    async fn swap(&mut self, service: Service, added: Added) {
        raise_descriptor_limit(service.descriptors());
        self.shared.limit.set(service.max_connections);
        self.shared.common.bandwidth.set(service.bandwidth);
        self.shared.common.memory.set(service.memory);
        self.drain = service.drain;
        let mut dropped = std::mem::take(&mut self.listeners);
        for route in service.routes {
            if let Some((address, running)) = dropped.remove_entry(&route.listener.accept) {
                running.route.send_replace(route);
                self.listeners.insert(address, running);
            }
        }
        for (socket, route) in added {
            self.listen(socket, route);
        }
        close(dropped).await;
    }

    async fn close(&mut self) {
        close(std::mem::take(&mut self.listeners)).await;
        self.shared.workers.tracker().close();
    }

    async fn cut(&self) {
        info!(connections = self.shared.limit.open(), "ending open connections");
        self.shared.cut.cancel();
        if tokio::time::timeout(CUT_TIMEOUT, self.shared.workers.tracker().wait()).await.is_err() {
            warn!(connections = self.shared.limit.open(), "connections left behind");
        }
    }
}

async fn close(listeners: HashMap<Address, Running>) {
    for running in listeners.values() {
        running.stop.cancel();
    }
    for (address, running) in listeners {
        match running.task.await {
            Ok(()) => info!(accept = %address, "listener closed"),
            Err(error) => warn!(accept = %address, %error, "listener failed"),
        }
    }
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

/// Services are often started with room for 1024 descriptors, and leave to ask for more.
fn raise_descriptor_limit(needed: usize) {
    let needed = needed as u64;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = needed.max(soft).min(hard);
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map(|()| wanted)
    });
    match raised {
        Ok(limit) if limit >= needed => {}
        Ok(limit) => warn!(limit, needed, "too few file descriptors for max_connections"),
        Err(error) => warn!(%error, "limit of file descriptors not raised"),
    }
}

//! The task that asks the kernel, for all sessions at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::ledger::{Ledger, Tick};
use super::sock_diag::{Connection, Snapshot, SockDiag, SockDiagError, SocketFlow};
use crate::causes::causes;

/// How often the kernel is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// Much longer than the kernel takes to tell of all its connections.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);

/// Measures what goes through listeners. Clones share it; its task ends with the last of them.
#[derive(Debug, Clone)]
pub struct Meter {
    orders: mpsc::UnboundedSender<Order>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

/// What goes through one session's listeners. Dropping it ends the measuring.
#[derive(Debug)]
pub struct Gauge {
    number: u64,
    orders: mpsc::UnboundedSender<Order>,
    ledger: watch::Receiver<Arc<Ledger>>,
}

#[derive(Debug)]
enum Order {
    Measure { number: u64, listeners: Vec<SocketAddr>, ledger: watch::Sender<Arc<Ledger>> },
    Move { number: u64, listeners: Vec<SocketAddr> },
    Look { done: oneshot::Sender<()> },
    Forget { number: u64 },
}

impl Meter {
    /// Starts the task.
    #[must_use]
    pub fn start() -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        tokio::spawn(Task::default().run(inbox));
        Self { orders, next: Arc::default() }
    }

    /// Measures these listeners from here on, going on with a ledger.
    #[must_use]
    pub fn gauge(&self, listeners: Vec<SocketAddr>, ledger: Ledger) -> Gauge {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (publish, ledger) = watch::channel(Arc::new(ledger));
        let gauge = Gauge { number, orders: self.orders.clone(), ledger };
        gauge.send(Order::Measure { number, listeners, ledger: publish });
        gauge
    }
}

impl Gauge {
    /// Measures other listeners from here on.
    pub fn move_to(&self, listeners: Vec<SocketAddr>) {
        self.send(Order::Move { number: self.number, listeners });
    }

    /// Where the ledger is seen as it is at the last look.
    #[must_use]
    pub fn ledger(&self) -> watch::Receiver<Arc<Ledger>> {
        self.ledger.clone()
    }

    /// Has the kernel asked now; resolves once that is in the ledger.
    pub async fn look(&self) {
        let (done, looked) = oneshot::channel();
        self.send(Order::Look { done });
        // The books are good without it, as of the look before.
        if timeout(LOOK_DEADLINE, looked).await.is_err() {
            tracing::warn!("the kernel did not tell in time what went through a session to its end");
        }
    }

    fn send(&self, order: Order) {
        // The task ends only with the runtime.
        drop(self.orders.send(order));
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.send(Order::Forget { number: self.number });
    }
}

#[derive(Default)]
struct Task {
    diag: Option<SockDiag>,
    sessions: HashMap<u64, Session>,
    /// Those that begin with the next look: what it still tells is not theirs.
    arriving: Vec<(u64, Session)>,
    /// Whose each connection is, from the first look to its end: a port may have
    /// a new session while connections of the old one still linger.
    owners: HashMap<Connection, u64>,
    /// The same at the look before: last words may come late.
    owners_before: HashMap<Connection, u64>,
    waiting: Vec<oneshot::Sender<()>>,
    failing: bool,
}

struct Session {
    listeners: Vec<SocketAddr>,
    looked: Option<Instant>,
    ledger: watch::Sender<Arc<Ledger>>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = inbox.recv() => {
                    let Some(order) = order else { return };
                    self.obey(order);
                    while let Ok(order) = inbox.try_recv() {
                        self.obey(order);
                    }
                    // One look serves all who wait for one.
                    if self.waiting.is_empty() && self.arriving.is_empty() {
                        continue;
                    }
                }
                _ = ticks.tick(), if !self.sessions.is_empty() => {}
            }
            self.look().await;
            self.welcome();
            for done in self.waiting.drain(..) {
                if done.send(()).is_err() {
                    tracing::debug!("whoever asked for a look did not wait for it");
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Measure { number, listeners, ledger } => {
                self.arriving.push((number, Session { listeners, looked: None, ledger }));
            }
            Order::Move { number, listeners } => {
                let arriving = self.arriving.iter_mut().map(|(number, session)| (&*number, session));
                if let Some((_, session)) = self.sessions.iter_mut().chain(arriving).find(|(it, _)| **it == number) {
                    session.listeners = listeners;
                }
            }
            Order::Look { done } => self.waiting.push(done),
            Order::Forget { number } => {
                self.sessions.remove(&number);
                self.arriving.retain(|(arriving, _)| *arriving != number);
            }
        }
    }

    fn welcome(&mut self) {
        for (number, session) in self.arriving.drain(..) {
            if !self.failing {
                session.ledger.send_modify(|ledger| Arc::make_mut(ledger).begin());
            }
            self.sessions.insert(number, session);
        }
    }

    async fn look(&mut self) {
        let diag = self.diag.take().unwrap_or_else(SockDiag::open);
        let asked = tokio::task::spawn_blocking(move || {
            let outcome = diag.look();
            (diag, outcome)
        });
        let (diag, outcome) = asked.await.expect("asking the kernel does not panic");
        self.diag = Some(diag);
        self.tell(outcome.as_ref().err());
        if let Ok(snapshot) = outcome {
            self.book(&snapshot);
        }
    }

    /// Says once that it fails, and once that it no longer does.
    fn tell(&mut self, fault: Option<&SockDiagError>) {
        match fault {
            Some(e) if !self.failing => tracing::warn!("traffic is not measured: failed to {}", causes(e)),
            None if self.failing => tracing::info!("traffic is measured again"),
            _ => {}
        }
        self.failing = fault.is_some();
    }

    fn book(&mut self, snapshot: &Snapshot) {
        let open = self.assign(&snapshot.open);
        let ended = self.assign(&snapshot.ended);
        let there = snapshot.open.iter().map(|flow| flow.connection);
        let owners = there.filter_map(|connection| Some((connection, *self.owners.get(&connection)?))).collect();
        self.owners_before = std::mem::replace(&mut self.owners, owners);
        let now = Instant::now();
        let at_ms = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
        let at_ms = u64::try_from(at_ms).unwrap_or(u64::MAX);
        for (number, session) in &mut self.sessions {
            let of = |flows: &HashMap<u64, Vec<SocketFlow>>| flows.get(number).cloned().unwrap_or_default();
            let own = Snapshot { open: of(&open), ended: of(&ended) };
            let elapsed = session.looked.map_or(Duration::ZERO, |before| now - before);
            session.looked = Some(now);
            session.ledger.send_modify(|ledger| Arc::make_mut(ledger).take(&own, Tick { at_ms, elapsed }));
        }
    }

    /// The flows of each session.
    fn assign(&mut self, flows: &[SocketFlow]) -> HashMap<u64, Vec<SocketFlow>> {
        let listeners: HashMap<SocketAddr, u64> = self
            .sessions
            .iter()
            .flat_map(|(number, session)| session.listeners.iter().map(|listener| (*listener, *number)))
            .collect();
        let mut assigned: HashMap<u64, Vec<SocketFlow>> = HashMap::new();
        for flow in flows {
            let name = flow.connection;
            let known = self.owners.get(&name).or_else(|| self.owners_before.get(&name)).copied();
            if let Some(owner) = known.or_else(|| owner(&listeners, name.local)) {
                self.owners.insert(name, owner);
                assigned.entry(owner).or_default().push(*flow);
            }
        }
        assigned
    }
}

/// Whose listener has accepted at this address; one may listen on every address of the host.
fn owner(listeners: &HashMap<SocketAddr, u64>, local: SocketAddr) -> Option<u64> {
    let port = local.port();
    let everywhere = [SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0; 8], port))];
    [local].iter().chain(&everywhere).find_map(|address| listeners.get(address)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::Counters;

    fn session(listener: &str) -> (Session, watch::Receiver<Arc<Ledger>>) {
        let (ledger, seen) = watch::channel(Arc::default());
        (Session { listeners: vec![listener.parse().expect("an address")], looked: None, ledger }, seen)
    }

    fn flow(cookie: u64, local: &str) -> SocketFlow {
        let address = |text: &str| text.parse().expect("an address");
        SocketFlow {
            connection: Connection { cookie, local: address(local), peer: address("192.0.2.9:1000") },
            counters: Counters { bytes_in: cookie, ..Counters::default() },
            rtt: Duration::ZERO,
            congestion_window: 0,
        }
    }

    fn bytes(seen: &watch::Receiver<Arc<Ledger>>) -> u64 {
        seen.borrow().traffic().expect("measured").total.bytes_in
    }

    #[test]
    fn connections_go_to_the_session_that_listens_there() {
        let (here, here_seen) = session("192.0.2.1:5100");
        let (everywhere, everywhere_seen) = session("[::]:5101");
        let mut task = Task { sessions: [(1, here), (2, everywhere)].into(), ..Task::default() };
        let open =
            vec![flow(1, "192.0.2.1:5100"), flow(2, "192.0.2.2:5100"), flow(4, "10.0.0.1:5101"), flow(8, "[::1]:5101")];
        task.book(&Snapshot { open, ended: vec![flow(16, "192.0.2.1:5100")] });
        assert_eq!((bytes(&here_seen), bytes(&everywhere_seen)), (17, 12));
    }

    #[test]
    fn a_new_session_on_a_port_does_not_get_the_old_ones_connections() {
        let old = session("192.0.2.1:5100").0;
        let mut task = Task { sessions: [(1, old)].into(), ..Task::default() };
        task.book(&Snapshot { open: vec![flow(7, "192.0.2.1:5100")], ended: vec![] });
        let (new, seen) = session("192.0.2.1:5100");
        task.sessions = [(2, new)].into();
        task.book(&Snapshot { open: vec![flow(7, "192.0.2.1:5100"), flow(5, "192.0.2.1:5100")], ended: vec![] });
        task.book(&Snapshot { open: vec![flow(5, "192.0.2.1:5100")], ended: vec![] });
        task.book(&Snapshot { open: vec![flow(5, "192.0.2.1:5100")], ended: vec![flow(7, "192.0.2.1:5100")] });
        assert_eq!(bytes(&seen), 5);
    }
}

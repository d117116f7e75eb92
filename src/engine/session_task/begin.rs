//! How a session's task begins: with a REQ, or where an earlier run has left it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::super::adoption::{self, Adoption};
use super::super::feed::SessionView;
use super::super::handle::{Answer, Order, SessionHandle};
use super::super::review::Fate;
use super::super::settings::Setup;
use super::super::term::Term;
use super::super::{Reserved, Shared, Standing};
use super::{BOOKS_PERIOD, Task};
use crate::flows::{Books, Ledger};
use crate::ports::PortLease;
use crate::session::{Machine, SessionId};
use crate::shares::{Seat, read_share};
use crate::store::{Journal, SessionFolder, Sighting};
use crate::supervisor::{DataPath, Reporter, Resumed};

/// What a new session starts with.
pub(in crate::engine) struct SessionParts {
    pub(in crate::engine) session: SessionId,
    pub(in crate::engine) standing: Standing,
    pub(in crate::engine) leases: Vec<PortLease>,
    pub(in crate::engine) folder: SessionFolder,
    pub(in crate::engine) answer: Answer<Reserved>,
    pub(in crate::engine) lifetime: Option<Duration>,
    pub(in crate::engine) max_idle: Option<Duration>,
    /// What counts, from when it was let in.
    pub(in crate::engine) setup: watch::Receiver<Arc<Setup>>,
    pub(in crate::engine) shared: Arc<Shared>,
}

/// A session's task, to be spawned once the session is in its place. It ends, and
/// leaves nothing, when the session ends.
pub(in crate::engine) fn open(parts: SessionParts) -> (SessionHandle, impl Future<Output = ()> + use<>) {
    let SessionParts { session, standing, leases, folder, answer, lifetime, max_idle, setup, shared } = parts;
    let (mut task, handle, inbox) =
        Task::new(session, standing, Machine::default(), leases, folder, Books::default(), shared);
    task.setup = setup;
    task.awaits_hello.store(true, Ordering::Release);
    task.waiting_reserve = Some(answer);
    task.term = Term::lasting(lifetime);
    task.limit_idleness(max_idle);
    task.publish("reserved");
    (handle, task.run(inbox))
}

/// A session of an earlier run.
pub(in crate::engine) struct ResumedSession<R> {
    pub(in crate::engine) handle: SessionHandle,
    /// Its task, to be spawned once the session is in its place.
    pub(in crate::engine) run: R,
    /// Resolves once its data path serves, or has been tried.
    pub(in crate::engine) settled: oneshot::Receiver<()>,
}

/// Goes on with a session of an earlier run, or ends what it has.
pub(in crate::engine) async fn resume(
    found: Adoption,
    fate: Fate,
    shared: Arc<Shared>,
    seen: Sighting,
) -> ResumedSession<impl Future<Output = ()> + use<>> {
    let Adoption { session, standing, folder, machine, journal, leases, announced_targets, was_changing, .. } = found;
    let Adoption { created, expires, max_idle, books, .. } = found;
    let (mut task, handle, inbox) = Task::new(session, standing, machine, leases, folder, books, shared);
    task.announced_targets = announced_targets;
    task.created = created;
    task.journal = Journal::of_earlier_run(journal);
    task.term = expires.map_or_else(Term::default, |end| Term::rest(created, end, SystemTime::now()));
    task.limit_idleness(max_idle);
    let settled = match fate {
        Fate::GoesOn { most } => {
            task.term.shorten(most);
            task.go_on(was_changing, seen)
        }
        Fate::Ends(why) => {
            let listeners = task.listeners.iter().map(|listener| listener.0).collect();
            let (folder, sources) = (task.folder.places(), &task.standing.sources);
            task.standing.site.evict(folder, listeners, sources, &seen).await;
            handle.end(why)
        }
    };
    task.publish("taken over from an earlier run");
    ResumedSession { handle, run: task.run(inbox), settled }
}

impl Task {
    /// Takes over what serves the session. The receiver resolves once that serves, or
    /// has been tried.
    fn go_on(&mut self, was_changing: bool, seen: Sighting) -> oneshot::Receiver<()> {
        let (settle, settled) = oneshot::channel();
        if let Some(plan) = self.machine.live.clone() {
            self.settle = Some(settle);
            let parts = self.data_path_parts();
            self.data_path = Some(DataPath::resume(parts, Resumed { plan, was_changing, seen }));
        } else {
            // Whatever was coming up when that run ended was confirmed to nobody.
            adoption::end_processes(&self.folder.places().path, &seen);
            self.deadline = Instant::now() + self.shared.setup().settings.update_timeout;
        }
        settled
    }

    fn new(
        session: SessionId,
        standing: Standing,
        machine: Machine,
        leases: Vec<PortLease>,
        folder: SessionFolder,
        books: Books,
        shared: Arc<Shared>,
    ) -> (Self, SessionHandle, mpsc::UnboundedReceiver<Order>) {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (reporter, reports, processes) = Reporter::new();
        let awaits_hello = Arc::new(AtomicBool::new(false));
        let listeners: Vec<_> = leases.iter().map(PortLease::address).collect();
        let created = SystemTime::now();
        let view = SessionView {
            session,
            owner: standing.owner.clone(),
            weakness: standing.weakness,
            backend: standing.backend.name.clone(),
            state: machine.state,
            health: machine.health.clone(),
            listeners: listeners.clone(),
            targets: vec![],
            protection: standing.protection,
            sources: standing.sources.clone(),
            capacity: standing.capacity,
            share: None,
            tcp: standing.tcp.clone(),
            revision: machine.revision,
            created,
            expires: None,
            traffic: None,
            end: None,
        };
        let gauge = shared.meter.gauge(listeners.iter().map(|l| l.0).collect(), Ledger::resume(books.clone()));
        let (view, seen) = watch::channel(view);
        let sharing = shared.divider.as_ref().filter(|_| standing.capacity.shared);
        // Without a plan that lives, nothing is kept to what the file says.
        let in_force = machine.live.as_ref().and_then(|_| read_share(&folder.places().path));
        let seat = sharing.map(|divider| divider.seat(standing.capacity, in_force));
        let share = seat.as_ref().map(Seat::shown);
        let ledger = gauge.ledger();
        let (owner, awaits) = (standing.owner.clone(), Arc::clone(&awaits_hello));
        let handle =
            SessionHandle { session, owner, orders, awaits_hello: awaits, view: seen, ledger, share, processes };
        let task = Self {
            session,
            standing,
            deadline: Instant::now() + shared.setup().settings.hello_timeout,
            setup: shared.setup.subscribe(),
            shared,
            machine,
            leases,
            listeners,
            announced_targets: Vec::new(),
            folder,
            data_path: None,
            reports,
            reporter,
            awaits_hello,
            waiting_reserve: None,
            waiting_update: None,
            settle: None,
            journal: Journal::new(),
            gauge,
            seat,
            books: books.into(),
            books_due: Instant::now() + BOOKS_PERIOD,
            refused: None,
            end: None,
            created,
            term: Term::default(),
            max_idle: None,
            idle_check: Instant::now(),
            view,
        };
        (task, handle, inbox)
    }
}

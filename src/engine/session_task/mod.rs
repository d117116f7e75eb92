//! One task a session: runs the machine, performs its effects, and holds all
//! that the session holds.

mod begin;
mod effects;
mod journal;
mod reviewing;

pub(super) use begin::{SessionParts, open, resume};

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::feed::SessionView;
use super::handle::{Announcement, Answer, Order, reply};
use super::refusal::{Code, Refusal};
use super::settings::Setup;
use super::term::{FAR, Term};
use super::{Announced, Reserved, Serving, Shared, Standing, minutes, shorter};
use crate::flows::{BooksFile, Gauge};
use crate::ports::PortLease;
use crate::session::{
    Effect, Endpoint, Event, Health, ListenAddr, Machine, Plan, Rejection, ReleaseReason, Role, SessionId, State,
    TargetAddr,
};
use crate::shares::Seat;
use crate::store::{Journal, SessionFolder};
use crate::supervisor::{DataPath, DataPathParts, Report, Reporter, ServeError};

/// How often what went through a session is written down.
const BOOKS_PERIOD: Duration = Duration::from_secs(10);

struct Task {
    session: SessionId,
    standing: Standing,
    shared: Arc<Shared>,
    /// What counts; a new one is one that it has not been looked at by.
    setup: watch::Receiver<Arc<Setup>>,
    machine: Machine,
    /// Empty once the data path has them.
    leases: Vec<PortLease>,
    listeners: Vec<ListenAddr>,
    announced_targets: Vec<TargetAddr>,
    folder: SessionFolder,
    data_path: Option<DataPath>,
    reports: mpsc::Receiver<Report>,
    reporter: Reporter,
    awaits_hello: Arc<AtomicBool>,
    waiting_reserve: Option<Answer<Reserved>>,
    waiting_update: Option<Answer<Serving>>,
    /// Told when the data path of a session of an earlier run has been tried.
    settle: Option<oneshot::Sender<()>>,
    /// What the journal says.
    journal: Journal,
    gauge: Gauge,
    /// From where it has its share of the bandwidth, until the data path has it.
    seat: Option<Seat>,
    /// What is on disk of what it measured, and when to look at that again.
    books: BooksFile,
    books_due: Instant,
    refused: Option<ServeError>,
    /// Why it ends.
    end: Option<String>,
    /// When a session that waits for HELLO, or for its first UPDATE, has waited long enough.
    deadline: Instant,
    created: SystemTime,
    term: Term,
    max_idle: Option<Duration>,
    /// When the session may have been idle for so long.
    idle_check: Instant,
    view: watch::Sender<SessionView>,
}

impl Task {
    /// Shows the session as it is now, and tells what happened to it.
    fn publish(&self, what: &str) {
        let live = self.machine.live.as_ref();
        let view = SessionView {
            session: self.session,
            owner: self.standing.owner.clone(),
            weakness: self.standing.weakness,
            backend: self.standing.backend.name.clone(),
            state: self.machine.state,
            health: self.machine.health.clone(),
            listeners: self.listeners.clone(),
            targets: live.iter().flat_map(|plan| plan.routes.iter().map(|route| route.target)).collect(),
            protection: live.map_or(self.standing.protection, |plan| plan.protection),
            sources: self.standing.sources.clone(),
            capacity: self.standing.capacity,
            share: None,
            tcp: self.standing.tcp.clone(),
            revision: self.machine.revision,
            created: self.created,
            expires: self.term.expires(),
            traffic: self.gauge.ledger().borrow().traffic(),
            end: self.end.clone(),
        };
        tracing::info!(session = %self.session, state = %view.state, "{what}");
        minutes::note_change(&self.shared.audit, what, &view);
        self.view.send_replace(view.clone());
        if view.state == State::Released {
            self.shared.obituaries.note(view.clone());
        }
        self.shared.feed.publish(what.to_owned(), view);
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        while self.machine.state != State::Released {
            let awaited = match self.machine.state {
                State::Reserved => Some(ReleaseReason::NoHello),
                State::Announced => Some(ReleaseReason::NoUpdate),
                _ => None,
            };
            let term = self.term.next();
            let may_idle = self.max_idle.filter(|_| self.machine.state == State::Active);
            tokio::select! {
                Some(order) = inbox.recv() => self.obey(order).await,
                Some(report) = self.reports.recv() => self.heed(report).await,
                () = abandoned(self.waiting_reserve.as_mut()) => {
                    self.step(Event::Release(ReleaseReason::Abandoned)).await;
                }
                Ok(()) = self.setup.changed(), if self.machine.next.is_none() => self.review().await,
                () = sleep_until(self.books_due) => self.write_books().await,
                () = sleep_until(self.deadline), if awaited.is_some() => {
                    if let Some(why) = awaited {
                        self.step(Event::Release(why)).await;
                    }
                }
                () = sleep_until(self.idle_check), if may_idle.is_some() => self.check_idleness().await,
                () = sleep_until(term.unwrap_or(self.deadline)), if term.is_some() => {
                    if self.term.is_over() {
                        self.step(Event::Release(ReleaseReason::Expired)).await;
                    } else {
                        self.term.announced();
                        self.publish("expires soon");
                    }
                }
            }
        }
    }

    /// All that a data path works with, which has the ports and the seat from then on.
    fn data_path_parts(&mut self) -> DataPathParts {
        let mut seat = self.seat.take();
        if let Some(seat) = &mut seat {
            seat.begin(self.gauge.ledger());
        }
        DataPathParts {
            site: Arc::clone(&self.standing.site),
            backend: Arc::clone(&self.standing.backend),
            session: self.session,
            folder: self.folder.places().clone(),
            leases: std::mem::take(&mut self.leases),
            reporter: self.reporter.clone(),
            seat,
        }
    }

    fn limit_idleness(&mut self, limit: Option<Duration>) {
        self.max_idle = limit.map(|limit| limit.min(FAR));
        self.await_idleness();
    }

    /// Whatever happened to the session counts as a sign of life.
    fn await_idleness(&mut self) {
        self.idle_check = Instant::now() + self.max_idle.unwrap_or_default();
    }

    async fn check_idleness(&mut self) {
        let Some(limit) = self.max_idle else { return };
        let idle = self.gauge.ledger().borrow().idle();
        if idle >= limit {
            self.step(Event::Release(ReleaseReason::Idle { limit })).await;
        } else {
            self.idle_check = Instant::now() + (limit - idle);
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Announce { announcement, answer } => self.announce(announcement, answer).await,
            Order::SpoiltHello { code, why } if self.machine.state == State::Reserved => {
                self.spoil(code, why).await;
            }
            Order::SpoiltHello { .. } => {}
            Order::Retarget { targets, under, answer } => {
                self.was_permitted(&under);
                self.retarget(targets, answer).await;
            }
            Order::Renew { lifetime, answer } => {
                let lifetime = shorter(lifetime, self.standing.max_lifetime);
                let before = std::mem::replace(&mut self.term, Term::lasting(lifetime));
                match self.write_journal().await {
                    Ok(()) => {
                        self.publish("renewed");
                        reply(answer, Ok(self.view.borrow().clone()));
                    }
                    Err(source) => {
                        self.term = before;
                        reply(answer, Err(Refusal::Internal { doing: "write the session's journal", source }));
                    }
                }
            }
            Order::End { why, done } => {
                self.step(Event::Release(why)).await;
                failpoint!("before-release-is-answered");
                if done.send(()).is_err() {
                    tracing::debug!(session = %self.session, "whoever asked for the end did not wait for it");
                }
            }
        }
    }

    /// Ends a session whose HELLO could not be.
    async fn spoil(&mut self, code: Code, why: String) {
        if let Some(answer) = self.waiting_reserve.take() {
            reply(answer, Err(Refusal::SpoiltHello { code, why: why.clone() }));
        }
        self.step(Event::Release(ReleaseReason::SpoiltHello { why })).await;
    }

    async fn announce(&mut self, announcement: Announcement, answer: Answer<Announced>) {
        let Announcement { endpoints, targets, under } = announcement;
        self.was_permitted(&under);
        if self.machine.state == State::Reserved && self.session.role == Role::Cons {
            self.take_wished_ports(&endpoints);
        }
        self.awaits_hello.store(false, Ordering::Release);
        let targets_before = std::mem::replace(&mut self.announced_targets, targets);
        // Nothing rejects a HELLO while the task runs: an ending session is gone with its step.
        let outcome = self.begin(Event::Announce(endpoints)).await;
        failpoint!("before-hello-is-answered");
        if outcome.is_err() {
            self.announced_targets = targets_before;
        }
        let announced = Announced { role: self.session.role, listeners: self.listeners.clone() };
        let why = outcome.as_ref().err().map(ToString::to_string);
        let gone = self.machine.state == State::Released;
        let abandoned = || Refusal::Ended { session: self.session, why: ReleaseReason::Abandoned };
        reply(answer, outcome.and_then(|()| if gone { Err(abandoned()) } else { Ok(announced) }));
        if let Some(why) = why
            && self.machine.state == State::Reserved
        {
            self.spoil(Code::ServerErr, why).await;
        }
    }

    /// Moves listener i to the port that the application asked for, where that is free.
    fn take_wished_ports(&mut self, endpoints: &[Endpoint]) {
        let ip = self.shared.listen_ip(self.session.role);
        for (index, endpoint) in endpoints.iter().enumerate().take(self.leases.len()) {
            let wish = SocketAddr::new(ip, endpoint.port.get());
            if let Some(other) = self.leases.iter().position(|lease| lease.address().0 == wish) {
                self.leases.swap(index, other);
            } else if let Some(lease) = self.shared.ports.lease_this(wish) {
                self.leases[index] = lease;
            }
        }
        self.listeners = self.leases.iter().map(PortLease::address).collect();
        self.gauge.move_to(self.listeners.iter().map(|listener| listener.0).collect());
    }

    async fn retarget(&mut self, targets: Vec<TargetAddr>, answer: Answer<Serving>) {
        let targets = if targets.is_empty() { &self.announced_targets } else { &targets };
        let plan = Plan::new(self.session.role, self.standing.protection, &self.listeners, targets);
        let standing = &self.standing;
        let settled = |plan: Plan| {
            plan.only_from(standing.sources.clone()).bounded_by(standing.capacity).over(standing.tcp.clone())
        };
        match plan.map(settled) {
            // A second UPDATE is rejected by the machine, and must not displace the first one's answer.
            Some(plan) if self.waiting_update.is_none() => {
                self.waiting_update = Some(answer);
                if let Err(refusal) = self.begin(Event::Update(plan)).await {
                    self.answer_update(Err(refusal));
                }
            }
            Some(_) => reply(answer, Err(self.rejected(Rejection::Busy))),
            None => reply(answer, Err(self.rejected(Rejection::NotAnnounced))),
        }
    }

    fn rejected(&self, why: Rejection) -> Refusal {
        Refusal::Rejected { session: self.session, why }
    }

    async fn heed(&mut self, report: Report) {
        let session = self.session;
        // Dropping it is the telling.
        self.settle = None;
        match report {
            Report::Confirmed => self.step(Event::Confirmed).await,
            Report::Refused(why) => {
                tracing::warn!(%session, "the plan was refused: {why}");
                self.refused = Some(why);
                if let Some(live) = &self.machine.live {
                    self.standing.capacity = live.capacity;
                }
                self.step(Event::Refused).await;
            }
            Report::Degraded(why) => self.step(Event::Degraded(why)).await,
            Report::Recovered => self.step(Event::Recovered).await,
            Report::Lost(why) => self.step(Event::Release(ReleaseReason::Lost { why })).await,
        }
    }

    /// Takes an event that asks for something: what cannot be written down is not begun.
    async fn begin(&mut self, event: Event) -> Result<(), Refusal> {
        let (machine, effects) = self.machine.clone().step(event);
        let before = std::mem::replace(&mut self.machine, machine);
        if let Err(source) = self.write_journal().await {
            tracing::error!(session = %self.session, "cannot write the journal: {source}");
            self.machine = before;
            return Err(Refusal::Internal { doing: "write the session's journal", source });
        }
        self.follow(&before, effects).await;
        Ok(())
    }

    /// Takes an event that has happened, whether it can be written down or not.
    async fn step(&mut self, event: Event) {
        let (machine, effects) = self.machine.clone().step(event);
        let before = std::mem::replace(&mut self.machine, machine);
        if let Err(source) = self.write_journal().await {
            tracing::error!(session = %self.session, "cannot write the journal: {source}");
        }
        self.follow(&before, effects).await;
    }

    /// Shows the change and performs the effects; the end is shown last, when no list has the session any more.
    async fn follow(&mut self, before: &Machine, effects: Vec<Effect>) {
        let over = self.machine.state == State::Released;
        if !over {
            self.show_change(before);
        }
        for effect in effects {
            // Boxed: tearing down steps once more, to the end.
            Box::pin(self.perform(effect)).await;
        }
        if over {
            self.show_change(before);
        }
    }

    fn show_change(&mut self, before: &Machine) {
        if self.machine.state == State::Draining {
            // Tearing down tells why.
        } else if self.machine.state != before.state {
            if self.machine.state == State::Announced {
                self.deadline = Instant::now() + self.shared.setup().settings.update_timeout;
            }
            self.await_idleness();
            self.publish(&self.machine.state.to_string());
        } else if self.machine.health != before.health {
            self.publish(match &self.machine.health {
                Health::Healthy => "healthy again",
                Health::Degraded { .. } => "degraded",
            });
        }
    }
}

/// Resolves when the client that waits for REQ goes away.
async fn abandoned(waiting: Option<&mut Answer<Reserved>>) {
    match waiting {
        Some(answer) => answer.closed().await,
        None => pending().await,
    }
}

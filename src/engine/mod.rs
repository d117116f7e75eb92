//! Takes commands from the front ends and drives the sessions.
//!
//! [`Engine`] is what front ends see: one method a command, in types that cannot
//! be wrong. Behind it, a directory of sessions and one task a session, which
//! runs the pure machine of [`crate::session`] and performs its effects.

mod admission;
mod adoption;
mod command;
mod directory;
mod drain;
mod feed;
mod handle;
mod listing;
mod memories;
mod minutes;
mod obituaries;
mod refusal;
mod reserve;
mod review;
mod session_task;
mod settings;
mod term;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

pub use admission::raise_descriptor_limit;
pub use adoption::milliseconds;
pub use command::{Announce, Announced, Requester, Reserve, Reserved, Retarget, Serving};
use directory::{Directory, Found};
use feed::Feed;
pub use feed::{SessionEvent, SessionView, Subscription};
use handle::{Announcement, Order, SessionHandle};
pub use listing::Listed;
use minutes::Call;
use obituaries::Obituaries;
pub use refusal::{Code, Refusal};
pub use settings::{Settings, WeakKeys};
use settings::{Setup, shorter};

use crate::audit::Audit;
use crate::auth::Caller;
use crate::backend::Manifest;
use crate::flows::Meter;
use crate::policy::Policy;
use crate::ports::Ports;
use crate::session::{
    Capacity, Endpoint, Protection, ReleaseReason, Role, SessionId, Sources, TcpWishes, Uid, UidDigest, Weakness,
};
use crate::shares::Divider;
use crate::store::{Sighting, StateFolder};
use crate::supervisor::Site;

/// The way into the sessions. Clones share everything.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What every session needs of the gateway.
#[derive(Debug)]
struct Shared {
    setup: watch::Sender<Arc<Setup>>,
    state: StateFolder,
    ports: Ports,
    audit: Audit,
    directory: Directory,
    obituaries: Obituaries,
    feed: Feed,
    meter: Meter,
    /// Who shares out what the gateway may move, if that is bounded.
    divider: Option<Divider>,
    /// Who looks at all processes of the host: one at a time, however many ask.
    looks: Arc<Semaphore>,
}

impl Engine {
    /// An engine without sessions, in the runtime of the caller.
    #[must_use]
    pub fn new(settings: Settings, site: Site, state: StateFolder, ports: Ports, audit: Audit) -> Self {
        let (directory, looks) = (Directory::default(), Arc::new(Semaphore::new(1)));
        let (feed, meter, obituaries) = (Feed::new(state.sequence()), Meter::start(), Obituaries::default());
        let divider = settings.bandwidth.gateway.map(Divider::of);
        let setup = watch::Sender::new(Arc::new(Setup { settings, site: Arc::new(site) }));
        let shared = Shared { setup, state, ports, audit, directory, obituaries, feed, meter, divider, looks };
        Self { shared: Arc::new(shared) }
    }

    /// Other settings count from now on, and every session is looked at by them: one
    /// that may not go on by the new policy ends. What a session was let in with besides
    /// stays as it is, and so does what the gateway may move in all.
    pub fn change(&self, settings: Settings, site: Site) {
        let before = self.shared.setup().settings.bandwidth.gateway;
        debug_assert_eq!(settings.bandwidth.gateway, before, "there is one divider for good");
        self.shared.setup.send_replace(Arc::new(Setup { settings, site: Arc::new(site) }));
    }

    /// How many sessions there are, from whoever keeps them all. Without an answer the
    /// gateway hangs, whatever else of it runs.
    pub async fn pulse(&self) -> usize {
        let engine = self.clone();
        // On a thread that sessions run on, and not on the one that asks.
        let answer = tokio::spawn(async move { engine.sessions() }).await;
        answer.unwrap_or_default()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.directory.all().len()
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.shared.setup().settings.policy)
    }

    fn call(&self, name: &'static str, by: &Requester, about: impl ToString) -> Call {
        Call::new(&self.shared.audit, name, by, about)
    }

    /// HELLO: tells a session its application's endpoints. One that comes before
    /// its REQ waits for it.
    ///
    /// # Errors
    /// [`Refusal`]; one that says the endpoints cannot be also ends a REQ that waits for them.
    pub async fn announce(&self, command: Announce) -> Result<Announced, Refusal> {
        let mut call = self.call("HELLO", &command.requester, command.uid.digest()).naming(&command.endpoints);
        let Announce { requester, uid, role, endpoints } = command;
        let (uid, waited) = (uid.digest(), self.shared.setup().settings.hello_timeout);
        let policy = self.policy();
        let speaks = |owner: &Caller| policy.may_announce(&requester.caller, owner);
        call.or_refused(policy.knows(&requester.caller))?;
        let found = self.shared.directory.find_for_hello(uid, role, &requester.caller, &speaks);
        let handle = match call.or_refused(found)? {
            Found::Now(handle) => handle,
            Found::Later(later) => {
                let came = timeout(waited, later).await.map_err(|_| Refusal::NoRequest { uid, waited });
                call.or_refused(came.and_then(|came| came.map_err(|_| Refusal::Unknown { uid, role: None })))?
            }
        };
        let understood = self.understand(&handle, &requester.caller, endpoints).await;
        if let Ok(announcement) = &understood {
            call.resolved(&announcement.targets);
        }
        let announcement = match call.decided(understood) {
            Ok(announcement) => announcement,
            Err(refusal) => {
                handle.send(Order::SpoiltHello { code: refusal.code(), why: refusal.to_string() });
                return Err(refusal);
            }
        };
        call.came_to(handle.ask(|answer| Order::Announce { announcement, answer }).await)
    }

    /// Whose rules count for a session's targets: its owner's, as they are known now
    /// if it is they who call.
    fn answerable<'a>(handle: &'a SessionHandle, by: &'a Caller) -> &'a Caller {
        if by.is(&handle.owner) { by } else { &handle.owner }
    }

    async fn understand(
        &self,
        handle: &SessionHandle,
        by: &Caller,
        endpoints: Vec<Endpoint>,
    ) -> Result<Announcement, Refusal> {
        let under = self.shared.setup();
        let policy = &under.settings.policy;
        if !policy.may_announce(by, &handle.owner) {
            // It has waited, and this has changed meanwhile.
            return Err(Refusal::Unknown { uid: handle.session.uid, role: Some(handle.session.role) });
        }
        // A CONS application names what it would connect to, which is no target of ours.
        let targets = match handle.session.role {
            Role::Cons => vec![],
            Role::Prod if endpoints.is_empty() => {
                let why = "a PROD application must name at least one endpoint".into();
                return Err(Refusal::BadField { field: "prod_listeners", why });
            }
            Role::Prod => policy.resolve(Self::answerable(handle, by), Role::Prod, &endpoints).await?,
        };
        Ok(Announcement { endpoints, targets, under })
    }

    /// A HELLO that could not even be read: a REQ that waits for it fails at once.
    pub fn spoil_hello(&self, uid: UidDigest, role: Option<Role>, by: &Caller, why: &Refusal) {
        let role = role.unwrap_or(Role::Prod);
        let speaks = |owner: &Caller| self.policy().may_announce(by, owner);
        self.shared.directory.spoil(uid, role, by, &speaks, why.code(), why.to_string());
    }

    /// A REQ that was refused, or could not even be read: a HELLO that follows it shall not wait.
    pub fn spoil_request(&self, uid: UidDigest, owner: &Caller) {
        self.shared.directory.expect_no_hello(uid, owner, &|by| self.policy().may_announce(by, owner));
    }

    /// UPDATE: answers once every listener serves its target.
    ///
    /// # Errors
    /// [`Refusal`]; what was live before is live still.
    pub async fn retarget(&self, command: Retarget) -> Result<Serving, Refusal> {
        let Retarget { requester, uid, role, targets } = command;
        let session = SessionId { uid: uid.digest(), role };
        let mut call = self.call("UPDATE", &requester, session).naming(&targets);
        let handle = call.or_refused(self.find(session, &requester.caller))?;
        if role == Role::Cons && targets.is_empty() {
            let why = "a CONS session must be told the other facility's listeners".into();
            return call.or_refused(Err(Refusal::BadField { field: "remote_listeners", why }));
        }
        let under = self.shared.setup();
        let policy = &under.settings.policy;
        call.or_refused(policy.knows(&requester.caller))?;
        let owner = Self::answerable(&handle, &requester.caller);
        let resolved = policy.resolve(owner, role, &targets).await.map_err(Refusal::from);
        if let Ok(targets) = &resolved {
            call.resolved(targets);
        }
        let targets = call.decided(resolved)?;
        call.came_to(handle.ask(|answer| Order::Retarget { targets, under, answer }).await)
    }

    fn find(&self, session: SessionId, by: &Caller) -> Result<SessionHandle, Refusal> {
        self.shared.directory.find(session, &|owner| self.policy().may_control(by, owner))
    }

    /// RELEASE: gives back all that the UID holds here, and answers with how many
    /// sessions that were once they are gone.
    ///
    /// # Errors
    /// [`Refusal::Unknown`]. A UID that was released a short while ago is no error.
    pub async fn release(&self, by: &Requester, uid: &Uid, why: ReleaseReason) -> Result<usize, Refusal> {
        let may = |owner: &Caller| self.policy().may_control(&by.caller, owner);
        let found = self.shared.directory.find_for_release(uid.digest(), &may);
        let handles = self.call("RELEASE", by, uid.digest()).ending().decided(found)?;
        let released = handles.len();
        end_all(handles, &why).await;
        Ok(released)
    }

    /// Gives the sessions of a UID a new lifetime from now on.
    ///
    /// # Errors
    /// [`Refusal::Unknown`]
    pub async fn renew(
        &self,
        by: &Requester,
        uid: &Uid,
        lifetime: Option<Duration>,
    ) -> Result<Vec<SessionView>, Refusal> {
        let lifetime = self.shared.setup().settings.lifetime(lifetime);
        let handles =
            self.shared.directory.find_all(uid.digest(), &|owner| self.policy().may_control(&by.caller, owner));
        let found = match handles.is_empty() {
            true => Err(Refusal::Unknown { uid: uid.digest(), role: None }),
            false => self.policy().knows(&by.caller).map(|()| handles).map_err(Refusal::from),
        };
        let mut renewed = Vec::new();
        for handle in self.call("RENEW", by, uid.digest()).decided(found)? {
            renewed.push(handle.ask(|answer| Order::Renew { lifetime, answer }).await?);
        }
        Ok(renewed)
    }

    /// Drains the gateway for an operator, see [`Self::drain`].
    ///
    /// # Errors
    /// [`Refusal::OnlyOperators`]; on a gateway that serves anyone, those are the callers on the gateway itself.
    pub async fn drain_for(&self, by: &Requester, here: bool, wait: Duration) -> Result<usize, Refusal> {
        let may = self.policy().is_operator(&by.caller) || self.policy().is_open() && here;
        self.call("DRAIN", by, "all").ending().decided(if may { Ok(()) } else { Err(Refusal::OnlyOperators) })?;
        Ok(self.drain(wait).await)
    }

    /// Ends every watch, after the events that there have been. There are no more;
    /// the next run counts on from there, so that who watches on misses nothing.
    pub fn end_watches(&self) {
        self.shared.feed.close();
        if let Err(e) = self.shared.state.note_sequence(self.shared.feed.last()) {
            tracing::warn!("cannot write down how many events there were; those who watch must list again: {e}");
        }
    }

    /// What this gateway is.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let (shared, setup) = (&self.shared, self.shared.setup());
        Overview {
            site: Arc::clone(&setup.site),
            settings: setup.settings.clone(),
            ports: shared.ports.range(),
            free_ports: shared.ports.free(),
            sessions: shared.directory.all().len(),
            draining: shared.directory.is_closed(),
        }
    }

    /// Goes on with the sessions of an earlier run: those that it had brought to
    /// HELLO live again, with their processes; those that the policy in force does not
    /// let be end, and what else it left is cleared away. Answers once each of them
    /// serves, has been tried, or is gone.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub async fn adopt(&self) -> std::io::Result<()> {
        let folders = self.shared.state.left()?;
        let site = Arc::clone(&self.shared.setup().site);
        let look = tokio::task::spawn_blocking(move || Sighting::of(&site.known_programs()));
        let seen = look.await.map_err(std::io::Error::other)?;
        // Side by side: to see processes end takes its time.
        let mut resuming = Vec::new();
        for folder in folders {
            match adoption::understand(folder, &self.shared, &seen) {
                Ok(mut found) => {
                    let fate = review::on_adoption(&mut found, &self.shared);
                    // Whatever the limit is today: it is here.
                    let place = self.shared.directory.claim_again(found.session, &found.standing.owner);
                    let resumed = session_task::resume(found, fate, Arc::clone(&self.shared), seen.clone());
                    resuming.push(async { (place, resumed.await) });
                }
                Err(unusable) => unusable.clear_away(&self.shared, &seen),
            }
        }
        let mut settling = Vec::new();
        for (place, resumed) in join_all(resuming).await {
            place.fill(resumed.handle, &|_| false);
            tokio::spawn(resumed.run);
            settling.push(resumed.settled);
        }
        if let Some(divider) = &self.shared.divider {
            divider.start();
        }
        // An error says that there is nothing to wait for.
        drop(join_all(settling).await);
        Ok(())
    }
}

/// What is settled of a session for as long as it lasts.
#[derive(Debug, Clone)]
struct Standing {
    owner: Caller,
    /// What serves it, as it was when it was let in.
    site: Arc<Site>,
    weakness: Option<Weakness>,
    backend: Arc<Manifest>,
    /// And not what the gateway chose.
    backend_is_asked_for: bool,
    protection: Protection,
    sources: Sources,
    capacity: Capacity,
    tcp: TcpWishes,
    /// The longest that its lifetime may be made.
    max_lifetime: Option<Duration>,
}

/// What a gateway is, and how full.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Its backends.
    pub site: Arc<Site>,
    /// Its operator's settings.
    pub settings: Settings,
    /// Its ports.
    pub ports: RangeInclusive<u16>,
    /// How many of them nobody holds.
    pub free_ports: usize,
    /// How many sessions there are.
    pub sessions: usize,
    /// Whether it takes no new ones.
    pub draining: bool,
}

/// Ends sessions side by side. They end even if nobody waits for it.
async fn end_all(handles: Vec<SessionHandle>, why: &ReleaseReason) {
    let ends: Vec<_> = handles.iter().map(|handle| (handle, handle.end(why.clone()))).collect();
    for (handle, gone) in ends {
        handle.wait_until(gone).await;
    }
}

impl Shared {
    fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.setup.borrow())
    }

    fn listen_ip(&self, role: Role) -> IpAddr {
        let setup = self.setup();
        match role {
            Role::Prod => setup.settings.wan,
            Role::Cons => setup.settings.lan,
        }
    }
}

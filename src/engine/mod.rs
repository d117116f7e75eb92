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
mod refusal;
mod session_task;
mod term;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use admission::raise_descriptor_limit;
pub use adoption::milliseconds;
pub use command::{Announce, Announced, Reserve, Reserved, Retarget, Serving};
use directory::{Directory, Found};
use feed::Feed;
pub use feed::{SessionEvent, SessionView, Subscription};
use handle::{Announcement, Order, SessionHandle};
pub use listing::Listed;
pub use refusal::{Code, Refusal};
use session_task::SessionParts;

use crate::flows::{Ledger, Meter};
use crate::policy::{SourcePolicy, TargetPolicy};
use crate::ports::{PortLease, Ports};
use crate::session::{Endpoint, Protection, ReleaseReason, Role, SessionId, Uid};
use crate::store::{Sighting, StateFolder};
use crate::supervisor::Site;

/// What the engine is told by the operator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where PROD sessions listen.
    pub wan: IpAddr,
    /// Where CONS sessions listen.
    pub lan: IpAddr,
    /// The floor of every tunnel's protection.
    pub protection: Protection,
    /// Where sessions may be pointed at.
    pub targets: TargetPolicy,
    /// From where sessions may take connections.
    pub sources: SourcePolicy,
    /// How long REQ waits for HELLO, and HELLO for REQ.
    pub hello_timeout: Duration,
    /// How long a session waits for its first UPDATE.
    pub update_timeout: Duration,
    /// How many sessions there may be at once.
    pub max_sessions: usize,
    /// No session is taken when the host has less memory available, in bytes.
    pub least_free_memory: u64,
    /// The longest lifetime of a session; `None`: unlimited.
    pub max_lifetime: Option<Duration>,
    /// How long a session may stand without a byte; `None`: unlimited.
    pub max_idle: Option<Duration>,
}

impl Settings {
    /// What a session gets that asks for this lifetime.
    fn lifetime(&self, asked: Option<Duration>) -> Option<Duration> {
        shorter(asked, self.max_lifetime)
    }

    /// What a session gets that asks to be released after this time without a byte.
    fn idle(&self, asked: Option<Duration>) -> Option<Duration> {
        shorter(asked, self.max_idle)
    }
}

fn shorter(asked: Option<Duration>, most: Option<Duration>) -> Option<Duration> {
    match (asked, most) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    }
}

/// The way into the sessions. Clones share everything.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What every session needs of the gateway.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    site: Arc<Site>,
    state: StateFolder,
    ports: Ports,
    directory: Directory,
    feed: Feed,
    meter: Meter,
    /// Who looks at all processes of the host: one at a time, however many ask.
    looks: Arc<Semaphore>,
}

impl Engine {
    /// An engine without sessions, in the runtime of the caller.
    #[must_use]
    pub fn new(settings: Settings, site: Site, state: StateFolder, ports: Ports) -> Self {
        let directory = Directory::new(settings.max_sessions);
        let (site, looks) = (Arc::new(site), Arc::new(Semaphore::new(1)));
        let (feed, meter) = (Feed::new(state.sequence()), Meter::start());
        Self { shared: Arc::new(Shared { settings, site, state, ports, directory, feed, meter, looks }) }
    }

    /// REQ: holds listeners, and answers once the application has said HELLO.
    /// Dropping the future gives everything back.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn reserve(&self, command: Reserve) -> Result<Reserved, Refusal> {
        let uid = command.uid.digest();
        let outcome = self.open_session(command).await;
        if outcome.is_err() {
            self.shared.directory.expect_no_hello(uid);
        }
        outcome?.await.unwrap_or(Err(Refusal::ShuttingDown))
    }

    async fn open_session(&self, command: Reserve) -> Result<oneshot::Receiver<Result<Reserved, Refusal>>, Refusal> {
        let Reserve { uid, role, connections, lifetime, idle, sources } = command;
        let session = SessionId { uid: uid.digest(), role };
        let sources = self.shared.settings.sources.grant(role, sources)?;
        let (site, wanted) = (Arc::clone(&self.shared.site), sources.clone());
        tokio::task::spawn_blocking(move || site.find_programs(role, &wanted))
            .await
            .expect("looking for a program does not panic")?;
        let place = self.shared.directory.claim(session)?;
        admission::admit(connections, self.shared.settings.least_free_memory)?;
        let leases = self.lease(role, connections)?;
        let doing = "make the session's folder";
        let folder = self.shared.state.make(session).map_err(|source| Refusal::Internal { doing, source })?;
        failpoint!("session-folder-made");
        crate::secrets::write_key_file(&folder.places().key_file(), &uid)
            .map_err(|source| Refusal::Internal { doing: "write the session's key", source })?;
        failpoint!("key-written");
        let (answer, answered) = oneshot::channel();
        let settings = &self.shared.settings;
        let (lifetime, max_idle) = (settings.lifetime(lifetime), settings.idle(idle));
        let shared = Arc::clone(&self.shared);
        let parts = SessionParts { session, leases, folder, answer, lifetime, max_idle, sources, shared };
        let (handle, task) = session_task::open(parts);
        place.fill(handle);
        tokio::spawn(task);
        Ok(answered)
    }

    fn lease(&self, role: Role, connections: NonZeroU16) -> Result<Vec<PortLease>, Refusal> {
        let ip = self.listen_ip(role);
        (0..connections.get()).map(|_| Ok(self.shared.ports.lease_any(ip)?)).collect()
    }

    fn listen_ip(&self, role: Role) -> IpAddr {
        self.shared.listen_ip(role)
    }

    /// HELLO: tells a session its application's endpoints. One that comes before
    /// its REQ waits for it.
    ///
    /// # Errors
    /// [`Refusal`]; one that says the endpoints cannot be also ends a REQ that waits for them.
    pub async fn announce(&self, command: Announce) -> Result<Announced, Refusal> {
        let Announce { uid, role, endpoints } = command;
        let waited = self.shared.settings.hello_timeout;
        let uid = uid.digest();
        let handle = match self.shared.directory.find_for_hello(uid, role)? {
            Found::Now(handle) => handle,
            Found::Later(later) => timeout(waited, later)
                .await
                .map_err(|_| Refusal::NoRequest { uid, waited })?
                .map_err(|_| Refusal::Unknown { uid, role: None })?,
        };
        let announcement = match self.understand(&handle, endpoints).await {
            Ok(announcement) => announcement,
            Err(refusal) => {
                handle.send(Order::SpoiltHello { code: refusal.code(), why: refusal.to_string() });
                return Err(refusal);
            }
        };
        handle.ask(|answer| Order::Announce { announcement, answer }).await
    }

    async fn understand(&self, handle: &SessionHandle, endpoints: Vec<Endpoint>) -> Result<Announcement, Refusal> {
        // A CONS application names what it would connect to, which is no target of ours.
        let targets = match handle.session.role {
            Role::Cons => vec![],
            Role::Prod if endpoints.is_empty() => {
                let why = "a PROD application must name at least one endpoint".into();
                return Err(Refusal::BadField { field: "prod_listeners", why });
            }
            Role::Prod => self.shared.settings.targets.resolve(&endpoints).await?,
        };
        Ok(Announcement { endpoints, targets })
    }

    /// A HELLO that could not even be read: a REQ that waits for it fails at once.
    pub fn spoil_hello(&self, uid: &Uid, role: Option<Role>, why: &Refusal) {
        let role = role.unwrap_or(Role::Prod);
        self.shared.directory.spoil(uid.digest(), role, why.code(), why.to_string());
    }

    /// A REQ that could not even be read: a HELLO that follows it shall not wait.
    pub fn spoil_request(&self, uid: &Uid) {
        self.shared.directory.expect_no_hello(uid.digest());
    }

    /// UPDATE: answers once every listener serves its target.
    ///
    /// # Errors
    /// [`Refusal`]; what was live before is live still.
    pub async fn retarget(&self, command: Retarget) -> Result<Serving, Refusal> {
        let Retarget { uid, role, targets } = command;
        let handle = self.shared.directory.find(SessionId { uid: uid.digest(), role })?;
        if role == Role::Cons && targets.is_empty() {
            let why = "a CONS session must be told the other facility's listeners".into();
            return Err(Refusal::BadField { field: "remote_listeners", why });
        }
        let targets = self.shared.settings.targets.resolve(&targets).await?;
        handle.ask(|answer| Order::Retarget { targets, answer }).await
    }

    /// RELEASE: gives back all that the UID holds here, and answers with how many
    /// sessions that were once they are gone.
    ///
    /// # Errors
    /// [`Refusal::Unknown`]. A UID that was released a short while ago is no error.
    pub async fn release(&self, uid: &Uid, why: ReleaseReason) -> Result<usize, Refusal> {
        let handles = self.shared.directory.find_for_release(uid.digest())?;
        let released = handles.len();
        end_all(handles, &why).await;
        Ok(released)
    }

    /// Gives the sessions of a UID a new lifetime from now on.
    ///
    /// # Errors
    /// [`Refusal::Unknown`]
    pub async fn renew(&self, uid: &Uid, lifetime: Option<Duration>) -> Result<Vec<SessionView>, Refusal> {
        let lifetime = self.shared.settings.lifetime(lifetime);
        let mut renewed = Vec::new();
        for handle in self.shared.directory.find_all(uid.digest()) {
            renewed.push(handle.ask(|answer| Order::Renew { lifetime, answer }).await?);
        }
        match renewed.is_empty() {
            true => Err(Refusal::Unknown { uid: uid.digest(), role: None }),
            false => Ok(renewed),
        }
    }

    /// All sessions, each with its ledger.
    #[must_use]
    pub fn flows(&self) -> Vec<(SessionView, Arc<Ledger>)> {
        let mut flows: Vec<_> =
            self.shared.directory.all().iter().map(|handle| (handle.view(), handle.ledger())).collect();
        flows.sort_by_key(|(view, _)| (view.created, view.session));
        flows
    }

    /// Events after a sequence number (0: only those to come).
    ///
    /// # Errors
    /// [`Refusal::EventsGone`] when some of them are no longer kept, and
    /// [`Refusal::Full`] when too many watch.
    pub fn watch(&self, after: u64) -> Result<Subscription, Refusal> {
        if self.shared.feed.is_full() {
            return Err(Refusal::Full { what: "watchers", limit: feed::MOST_WATCHERS });
        }
        self.shared.feed.since(after).ok_or(Refusal::EventsGone)
    }

    /// Ends every watch, after the events that there have been.
    pub fn end_watches(&self) {
        self.shared.feed.close();
    }

    /// What this gateway is.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let shared = &self.shared;
        Overview {
            site: Arc::clone(&shared.site),
            settings: shared.settings.clone(),
            ports: shared.ports.range(),
            free_ports: shared.ports.free(),
            sessions: shared.directory.all().len(),
            draining: shared.directory.is_closed(),
        }
    }

    /// Goes on with the sessions of an earlier run: those that it had brought to
    /// HELLO live again, with their processes; what else it left is cleared away.
    /// Answers once each of them serves, or has been tried.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub async fn adopt(&self) -> std::io::Result<()> {
        let folders = self.shared.state.left()?;
        let site = Arc::clone(&self.shared.site);
        let look = tokio::task::spawn_blocking(move || Sighting::of(&site.known_programs()));
        let seen = look.await.map_err(std::io::Error::other)?;
        let mut settling = JoinSet::new();
        for folder in folders {
            match adoption::understand(folder, &self.shared, &seen) {
                Ok(found) => {
                    // Whatever the limit is today: it is here.
                    let place = self.shared.directory.claim_again(found.session);
                    let resumed = session_task::resume(found, Arc::clone(&self.shared), seen.clone());
                    place.fill(resumed.handle);
                    tokio::spawn(resumed.run);
                    settling.spawn(resumed.settled);
                }
                Err(unusable) => unusable.clear_away(&self.shared, &seen),
            }
        }
        // An error says that there is nothing to wait for.
        drop(settling.join_all().await);
        Ok(())
    }
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
    let ends: Vec<_> = handles.iter().map(|handle| handle.end(why.clone())).collect();
    for end in ends {
        // An error says that the task has ended, which is what is waited for.
        drop(end.await);
    }
}

impl Shared {
    fn listen_ip(&self, role: Role) -> IpAddr {
        match role {
            Role::Prod => self.settings.wan,
            Role::Cons => self.settings.lan,
        }
    }
}

//! Takes commands from the front ends and drives the sessions.
//!
//! [`Engine`] is what front ends see: one method a command, in types that cannot
//! be wrong. Behind it, a directory of sessions and one task a session, which
//! runs the pure machine of [`crate::session`] and performs its effects.

mod adoption;
mod directory;
mod refusal;
mod session_task;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use directory::Directory;
pub use directory::Found;
pub use refusal::{Code, Refusal};
use session_task::{Announcement, Order, SessionHandle, SessionParts};

use crate::policy::TargetPolicy;
use crate::ports::{PortLease, Ports};
use crate::session::{Endpoint, ListenAddr, Protection, ReleaseReason, Role, SessionId, TargetAddr, Uid};
use crate::store::StateFolder;
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
    /// How long REQ waits for HELLO, and HELLO for REQ.
    pub hello_timeout: Duration,
    /// How many sessions there may be at once.
    pub max_sessions: usize,
}

/// REQ, checked.
#[derive(Debug)]
pub struct Reserve {
    /// Which request.
    pub uid: Uid,
    /// Which end.
    pub role: Role,
    /// How many listeners.
    pub connections: NonZeroU16,
}

/// HELLO, checked.
#[derive(Debug)]
pub struct Announce {
    /// Which request.
    pub uid: Uid,
    /// What the application calls itself; the session's role is the one of REQ.
    pub role: Role,
    /// PROD: what to forward to. CONS: the ports that it would like to connect to.
    pub endpoints: Vec<Endpoint>,
}

/// UPDATE, checked.
#[derive(Debug)]
pub struct Retarget {
    /// Which request.
    pub uid: Uid,
    /// Which end.
    pub role: Role,
    /// Where to forward to. PROD: none means the endpoints of HELLO.
    pub targets: Vec<Endpoint>,
}

/// The answer to REQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// The session's entry points.
    pub listeners: Vec<ListenAddr>,
    /// The endpoints of HELLO.
    pub announced: Vec<Endpoint>,
}

/// The answer to HELLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The session's role.
    pub role: Role,
    /// The session's entry points.
    pub listeners: Vec<ListenAddr>,
}

/// The answer to UPDATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The session's entry points, all of which accept.
    pub listeners: Vec<ListenAddr>,
    /// Where each of them forwards to.
    pub targets: Vec<TargetAddr>,
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
}

impl Engine {
    /// An engine without sessions.
    #[must_use]
    pub fn new(settings: Settings, site: Site, state: StateFolder, ports: Ports) -> Self {
        let directory = Directory::new(settings.max_sessions);
        Self { shared: Arc::new(Shared { settings, site: Arc::new(site), state, ports, directory }) }
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
        let Reserve { uid, role, connections } = command;
        let session = SessionId { uid: uid.digest(), role };
        let site = Arc::clone(&self.shared.site);
        tokio::task::spawn_blocking(move || site.find_programs())
            .await
            .expect("looking for a program does not panic")?;
        let place = self.shared.directory.claim(session)?;
        let leases = self.lease(role, connections)?;
        let doing = "make the session's folder";
        let folder = self.shared.state.make(session).map_err(|source| Refusal::Internal { doing, source })?;
        crate::secrets::write_key_file(&folder.places().key_file(), &uid)
            .map_err(|source| Refusal::Internal { doing: "write the session's key", source })?;
        let (answer, answered) = oneshot::channel();
        let parts = SessionParts { session, leases, folder, answer, shared: Arc::clone(&self.shared) };
        place.fill(session_task::open(parts));
        tracing::info!(%session, connections, "reserved");
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
                handle.send(Order::SpoiltHello { why: refusal.to_string() });
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
        if let Some(handle) = self.shared.directory.find_waiting(uid.digest(), role) {
            handle.send(Order::SpoiltHello { why: why.to_string() });
        }
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

    /// RELEASE: gives back all that the UID holds here, and answers when it is gone.
    ///
    /// # Errors
    /// [`Refusal::Unknown`]. A UID that was released a short while ago is no error.
    pub async fn release(&self, uid: &Uid) -> Result<(), Refusal> {
        for handle in self.shared.directory.find_for_release(uid.digest())? {
            handle.end(ReleaseReason::Asked).await;
        }
        Ok(())
    }

    /// Goes on with the sessions of an earlier run: those that it had brought to
    /// HELLO live again, with their processes; what else it left is cleared away.
    /// Answers once each of them serves, or has been tried.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub async fn adopt(&self) -> std::io::Result<()> {
        let mut settling = tokio::task::JoinSet::new();
        for folder in self.shared.state.left()? {
            match adoption::understand(folder, &self.shared) {
                Ok(found) => {
                    let session = found.session;
                    let (handle, settled) = session_task::resume(found, Arc::clone(&self.shared));
                    match self.shared.directory.claim(session) {
                        Ok(place) => place.fill(handle),
                        Err(e) => tracing::error!(%session, "cannot take the session over: {e}"),
                    }
                    settling.spawn(settled);
                }
                Err(unusable) => unusable.clear_away(&self.shared),
            }
        }
        while settling.join_next().await.is_some() {}
        Ok(())
    }

    /// Releases everything and takes nothing new.
    pub async fn shut_down(&self) {
        let mut ends = tokio::task::JoinSet::new();
        for handle in self.shared.directory.close() {
            ends.spawn(async move { handle.end(ReleaseReason::Shutdown).await });
        }
        while ends.join_next().await.is_some() {}
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

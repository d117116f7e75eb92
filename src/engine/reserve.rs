//! REQ: whether a session may be, what it may be, and how it is made.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::directory::Share;
use super::minutes::Call;
use super::session_task::{self, SessionParts};
use super::settings::{Setup, shorter};
use super::{Engine, Refusal, Reserve, Reserved, Standing, WeakKeys, admission};
use crate::backend::{Manifest, Needs};
use crate::policy::{Ask, Grant};
use crate::ports::PortLease;
use crate::session::{Capacity, Protection, Role, SessionId, Sources, TcpWishes};

/// What a session may be, as it was decided.
struct Terms {
    backend: Arc<Manifest>,
    backend_is_asked_for: bool,
    protection: Protection,
    sources: Sources,
    capacity: Capacity,
    tcp: TcpWishes,
    lifetime: Option<Duration>,
    max_lifetime: Option<Duration>,
    max_sessions: Option<usize>,
}

impl Engine {
    /// REQ: holds listeners, and answers once the application has said HELLO.
    /// Dropping the future gives everything back.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn reserve(&self, command: Reserve) -> Result<Reserved, Refusal> {
        let (uid, owner) = (command.uid.digest(), command.requester.caller.clone());
        let session = SessionId { uid, role: command.role };
        let mut call = self.call("REQ", &command.requester, session);
        let setup = self.shared.setup.subscribe();
        let now = Arc::clone(&setup.borrow());
        let outcome = match Self::admit(&now, &mut call, &command) {
            Ok(terms) => call.came_to(self.open_session(command, terms, now, setup).await),
            Err(refusal) => Err(refusal),
        };
        if outcome.is_err() {
            self.spoil_request(uid, &owner);
        }
        call.came_to(outcome?.await.unwrap_or(Err(Refusal::ShuttingDown)))
    }

    /// Whether the session may be at all, and what it may be then.
    fn admit(setup: &Setup, call: &mut Call, command: &Reserve) -> Result<Terms, Refusal> {
        let Setup { settings, site } = setup;
        let ask = Ask {
            role: command.role,
            connections: command.connections.get(),
            protection: command.protection,
            floor: settings.protection,
            backend: command.backend.clone().filter(|name| *name != site.backend.name),
            sources: command.sources.clone(),
        };
        let outcome = settings.policy.admit(&command.requester.caller, &ask).map_err(Refusal::from);
        call.by_rule(outcome.as_ref().ok().and_then(|grant| grant.rule.as_ref()));
        let granted = |grant: &Grant| settings.bandwidth.grant(command.rate, grant.bandwidth);
        let capacity = outcome.as_ref().map(granted).unwrap_or_default();
        call.with_capacity(capacity);
        let grant = call.decided(outcome)?;
        if let (Some(weakness), WeakKeys::Refuse) = (command.uid.weakness(), settings.weak_keys) {
            return call.or_refused(Err(Refusal::BadUid { why: format!("this gateway refuses it: {weakness}") }));
        }
        let backend = match &ask.backend {
            None => Arc::clone(&site.backend),
            Some(name) => site.catalog.get(name).map_err(|_| Refusal::BadField {
                field: "backend",
                why: format!("this gateway has no backend {name:?}"),
            })?,
        };
        let protection = command.protection.unwrap_or(settings.protection);
        if !site.can_protect(&backend, protection) {
            let why = format!("the backend {} of this gateway cannot have it", backend.name);
            return Err(Refusal::BadField { field: "protection", why });
        }
        let sources = call.or_refused(settings.sources.grant(command.role, grant.sources))?;
        let tcp = call.or_refused(settings.tcp.grant(&command.tcp))?;
        let lifetime = shorter(settings.lifetime(command.lifetime), grant.max_lifetime);
        let (max_lifetime, max_sessions) = (grant.max_lifetime, grant.max_sessions);
        let backend_is_asked_for = ask.backend.is_some();
        Ok(Terms {
            backend,
            backend_is_asked_for,
            protection,
            sources,
            capacity,
            tcp,
            lifetime,
            max_lifetime,
            max_sessions,
        })
    }

    async fn open_session(
        &self,
        command: Reserve,
        terms: Terms,
        now: Arc<Setup>,
        setup: watch::Receiver<Arc<Setup>>,
    ) -> Result<oneshot::Receiver<Result<Reserved, Refusal>>, Refusal> {
        let Reserve { requester, uid, role, connections, idle, .. } = command;
        let (session, owner) = (SessionId { uid: uid.digest(), role }, requester.caller);
        let Setup { settings, site } = &*now;
        let (program_site, backend) = (Arc::clone(site), Arc::clone(&terms.backend));
        let (wanted, bounded) = (terms.sources.clone(), terms.capacity.is_bounded());
        let look = move || program_site.find_programs(&backend, Needs { role, sources: &wanted, bounded });
        tokio::task::spawn_blocking(look).await.expect("looking for a program does not panic")?;
        let share =
            Share { of_all: settings.max_sessions, sessions: terms.max_sessions, waiting: settings.max_waiting };
        let place = self.shared.directory.claim(session, &owner, share)?;
        admission::admit(connections, settings.least_free_memory)?;
        let leases = self.lease(role, connections)?;
        let doing = "make the session's folder";
        let folder = self.shared.state.make(session).map_err(|source| Refusal::Internal { doing, source })?;
        failpoint!("session-folder-made");
        crate::secrets::write_key_file(&folder.places().key_file(), &uid)
            .map_err(|source| Refusal::Internal { doing: "write the session's key", source })?;
        failpoint!("key-written");
        let (answer, answered) = oneshot::channel();
        let (shared, max_idle) = (Arc::clone(&self.shared), settings.idle(idle));
        let standing = Standing {
            owner: owner.clone(),
            site: Arc::clone(site),
            weakness: uid.weakness(),
            backend: terms.backend,
            backend_is_asked_for: terms.backend_is_asked_for,
            protection: terms.protection,
            sources: terms.sources,
            capacity: terms.capacity,
            tcp: terms.tcp,
            max_lifetime: terms.max_lifetime,
        };
        let lifetime = terms.lifetime;
        let parts = SessionParts { session, standing, leases, folder, answer, lifetime, max_idle, setup, shared };
        let (handle, task) = session_task::open(parts);
        place.fill(handle, &|by| self.policy().may_announce(by, &owner));
        tokio::spawn(task);
        Ok(answered)
    }

    fn lease(&self, role: Role, connections: NonZeroU16) -> Result<Vec<PortLease>, Refusal> {
        let ip = self.shared.listen_ip(role);
        (0..connections.get()).map(|_| Ok(self.shared.ports.lease_any(ip)?)).collect()
    }
}

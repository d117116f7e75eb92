//! Which sessions there are, and which HELLOs came before their REQ.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::handle::{Order, SessionHandle};
use super::memories::Memories;
use super::refusal::{Code, Refusal};
use crate::auth::Caller;
use crate::session::{ReleaseReason, Role, SessionId, UidDigest};

/// HELLOs that may wait for their REQ at once.
const MOST_EARLY: usize = 1000;
/// Of these, so many of one caller.
const MOST_EARLY_OF_ONE: usize = 100;

/// All sessions of the gateway.
#[derive(Debug, Default)]
pub(super) struct Directory {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    closed: bool,
    sessions: HashMap<SessionId, Place>,
    early: HashMap<UidDigest, Vec<Early>>,
    /// Sessions that have ended.
    ended: Memories,
    /// REQs that were refused.
    refused: Memories,
    /// HELLOs that were refused before their REQ had made its session, and why.
    spoilt: Memories<(Code, String)>,
}

/// Says whether something of this caller's is the asker's to deal with. To whom it
/// is not, it does not exist.
pub(super) type May<'a> = &'a dyn Fn(&Caller) -> bool;

/// A REQ and its HELLO come together: what was refused longer ago than this
/// belongs to another attempt.
const TOGETHER: Duration = Duration::from_secs(10);

/// A session's place in the directory.
#[derive(Debug)]
enum Place {
    /// Taken; the session is being made.
    Claimed {
        owner: Caller,
    },
    /// It is being made, and has been released already.
    Doomed {
        owner: Caller,
    },
    Filled(SessionHandle),
}

#[derive(Debug)]
struct Early {
    role: Role,
    by: Caller,
    tell: oneshot::Sender<SessionHandle>,
}

/// A session for a HELLO: there, or to come.
#[derive(Debug)]
pub enum Found {
    /// It is there.
    Now(SessionHandle),
    /// It is told when its REQ comes.
    Later(oneshot::Receiver<SessionHandle>),
}

/// How much of the gateway one caller may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Sessions of everybody's at once.
    pub(super) of_all: usize,
    /// Sessions at once; `None`: as many as the gateway has.
    pub(super) sessions: Option<usize>,
    /// REQs that wait for their HELLO at once.
    pub(super) waiting: usize,
}

/// A place for a new session. Dropping it unfilled gives it back.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    directory: &'a Directory,
    session: SessionId,
    filled: bool,
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of a new session, unless its owner has as many as they may.
    pub(super) fn claim(&self, session: SessionId, owner: &Caller, share: Share) -> Result<Claim<'_>, Refusal> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Refusal::ShuttingDown);
        }
        if inner.sessions.contains_key(&session) {
            return Err(Refusal::Exists(session));
        }
        if inner.sessions.len() >= share.of_all {
            return Err(Refusal::Full { what: "sessions", limit: share.of_all });
        }
        let theirs = inner.sessions.values().filter(|place| place.owner().is(owner));
        let (mut have, mut wait) = (0, 0);
        for place in theirs {
            have += 1;
            wait += usize::from(place.handle().is_none_or(SessionHandle::awaits_hello));
        }
        if let Some(limit) = share.sessions.filter(|limit| have >= *limit) {
            return Err(Refusal::Quota { what: "sessions", limit });
        }
        if wait >= share.waiting {
            return Err(Refusal::Quota { what: "REQs that wait for their HELLO", limit: share.waiting });
        }
        inner.refused.remove(session.uid);
        inner.sessions.insert(session, Place::Claimed { owner: owner.clone() });
        Ok(Claim { directory: self, session, filled: false })
    }

    /// Takes the place of a session that an earlier run had let in.
    pub(super) fn claim_again(&self, session: SessionId, owner: &Caller) -> Claim<'_> {
        self.lock().sessions.insert(session, Place::Claimed { owner: owner.clone() });
        Claim { directory: self, session, filled: false }
    }

    pub(super) fn find(&self, session: SessionId, may: May) -> Result<SessionHandle, Refusal> {
        match self.lock().sessions.get(&session) {
            Some(Place::Filled(handle)) if may(&handle.owner) => Ok(handle.clone()),
            _ => Err(Refusal::Unknown { uid: session.uid, role: Some(session.role) }),
        }
    }

    /// The session that a HELLO is for; one that waits for a HELLO comes first.
    pub(super) fn find_for_hello(&self, uid: UidDigest, role: Role, by: &Caller, may: May) -> Result<Found, Refusal> {
        if let Some(handle) = self.find_waiting(uid, role, may) {
            return Ok(Found::Now(handle));
        }
        let mut inner = self.lock();
        let here = meant_by(role)
            .iter()
            .filter_map(|role| inner.sessions.get(&SessionId { uid, role: *role }).and_then(Place::handle))
            .find(|handle| may(&handle.owner));
        if let Some(handle) = here {
            return Ok(Found::Now(handle.clone()));
        }
        if inner.closed {
            return Err(Refusal::ShuttingDown);
        }
        if inner.refused.get(uid, Duration::MAX).is_some_and(|refused| may(&refused.whose)) {
            return Err(Refusal::Unknown { uid, role: None });
        }
        for waiting in inner.early.values_mut() {
            waiting.retain(|early| !early.tell.is_closed());
        }
        inner.early.retain(|_, waiting| !waiting.is_empty());
        if inner.early.values().map(Vec::len).sum::<usize>() >= MOST_EARLY {
            return Err(Refusal::Full { what: "HELLOs that wait for their REQ", limit: MOST_EARLY });
        }
        let theirs = inner.early.values().flatten().filter(|early| early.by.is(by)).count();
        if matches!(by, Caller::Known(_)) && theirs >= MOST_EARLY_OF_ONE {
            return Err(Refusal::Quota { what: "HELLOs that wait for their REQ", limit: MOST_EARLY_OF_ONE });
        }
        if inner.spoilt.get(uid, Duration::MAX).is_some_and(|spoilt| spoilt.whose.is(by)) {
            inner.spoilt.remove(uid);
        }
        let (tell, later) = oneshot::channel();
        inner.early.entry(uid).or_default().push(Early { role, by: by.clone(), tell });
        Ok(Found::Later(later))
    }

    /// The session of that UID that waits for its HELLO.
    pub(super) fn find_waiting(&self, uid: UidDigest, role: Role, may: May) -> Option<SessionHandle> {
        let inner = self.lock();
        meant_by(role)
            .iter()
            .filter_map(|role| inner.sessions.get(&SessionId { uid, role: *role }).and_then(Place::handle))
            .find(|handle| handle.awaits_hello() && may(&handle.owner))
            .cloned()
    }

    /// A HELLO of this UID was refused: a REQ that waits for it, or is about to, fails with it.
    pub(super) fn spoil(&self, uid: UidDigest, role: Role, by: &Caller, may: May, code: Code, why: String) {
        if let Some(handle) = self.find_waiting(uid, role, may) {
            return handle.send(Order::SpoiltHello { code, why });
        }
        self.lock().spoilt.insert(uid, by.clone(), (code, why));
    }

    /// Every session of a UID, to be released; none if it ended a short while ago.
    pub(super) fn find_for_release(&self, uid: UidDigest, may: May) -> Result<Vec<SessionHandle>, Refusal> {
        let mut inner = self.lock();
        inner.forget_early(uid, may);
        let mut doomed = false;
        for role in [Role::Prod, Role::Cons] {
            if let Some(place) = inner.sessions.get_mut(&SessionId { uid, role })
                && let Place::Claimed { owner } = place
                && may(owner)
            {
                *place = Place::Doomed { owner: owner.clone() };
                doomed = true;
            }
        }
        let found = inner.of(uid, may);
        let was_here = inner.ended.get(uid, Duration::MAX).is_some_and(|ended| may(&ended.whose));
        if found.is_empty() && !doomed && !was_here {
            return Err(Refusal::Unknown { uid, role: None });
        }
        Ok(found)
    }

    /// Every session of a UID.
    pub(super) fn find_all(&self, uid: UidDigest, may: May) -> Vec<SessionHandle> {
        self.lock().of(uid, may)
    }

    /// The REQ of this UID was refused: its HELLO, if it comes, is not to wait.
    pub(super) fn expect_no_hello(&self, uid: UidDigest, whose: &Caller, may: May) {
        let mut inner = self.lock();
        // Another's session of that UID is nothing to them.
        let theirs = |(session, place): (&SessionId, &Place)| session.uid == uid && place.owner().is(whose);
        if !inner.sessions.iter().any(theirs) {
            inner.forget_early(uid, may);
            inner.refused.insert(uid, whose.clone(), ());
        }
    }

    /// A session is gone.
    pub(super) fn forget(&self, session: SessionId) {
        let mut inner = self.lock();
        if let Some(place) = inner.sessions.remove(&session) {
            inner.ended.insert(session.uid, place.owner().clone(), ());
        }
    }

    /// Takes no new sessions from now on.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.early.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// All sessions, in no order.
    pub(super) fn all(&self) -> Vec<SessionHandle> {
        let inner = self.lock();
        failpoint!("directory-held");
        inner.sessions.values().filter_map(Place::handle).cloned().collect()
    }
}

impl Inner {
    fn of(&self, uid: UidDigest, may: May) -> Vec<SessionHandle> {
        let both = [Role::Prod, Role::Cons].into_iter();
        both.filter_map(|role| self.sessions.get(&SessionId { uid, role }).and_then(Place::handle))
            .filter(|handle| may(&handle.owner))
            .cloned()
            .collect()
    }

    fn forget_early(&mut self, uid: UidDigest, may: May) {
        if let Some(waiting) = self.early.get_mut(&uid) {
            waiting.retain(|early| !may(&early.by));
            if waiting.is_empty() {
                self.early.remove(&uid);
            }
        }
    }

    /// The HELLO that came before this session's REQ, from somebody who may say it:
    /// the one that says its role first.
    fn take_early(&mut self, session: SessionId, speaks: May) -> Option<Early> {
        let waiting = self.early.get_mut(&session.uid)?;
        waiting.retain(|early| !early.tell.is_closed());
        let fits = |early: &Early, roles: &[Role]| roles.contains(&session.role) && speaks(&early.by);
        let exact = waiting.iter().position(|early| fits(early, &[early.role]));
        let meant = || waiting.iter().position(|early| fits(early, meant_by(early.role)));
        let taken = exact.or_else(meant).map(|index| waiting.remove(index));
        if waiting.is_empty() {
            self.early.remove(&session.uid);
        }
        taken
    }
}

impl Place {
    fn handle(&self) -> Option<&SessionHandle> {
        match self {
            Self::Claimed { .. } | Self::Doomed { .. } => None,
            Self::Filled(handle) => Some(handle),
        }
    }

    fn owner(&self) -> &Caller {
        match self {
            Self::Claimed { owner } | Self::Doomed { owner } => owner,
            Self::Filled(handle) => &handle.owner,
        }
    }
}

impl Claim<'_> {
    /// Puts the session in its place, and tells the HELLO that waits for it, if
    /// whoever said that may (`speaks`).
    pub(super) fn fill(mut self, handle: SessionHandle, speaks: May) {
        self.filled = true;
        let mut inner = self.directory.lock();
        if let Some(early) = inner.take_early(self.session, speaks) {
            // One that gives up at this very moment leaves the session waiting for the next.
            drop(early.tell.send(handle.clone()));
        }
        if inner.spoilt.get(self.session.uid, TOGETHER).is_some_and(|spoilt| speaks(&spoilt.whose))
            && let Some(spoilt) = inner.spoilt.remove(self.session.uid)
        {
            let (code, why) = spoilt.what;
            handle.send(Order::SpoiltHello { code, why });
        }
        let doomed = matches!(inner.sessions.get(&self.session), Some(Place::Doomed { .. }));
        if inner.closed || doomed {
            // Nobody waits for a session that came too late.
            let why = if doomed { ReleaseReason::Asked } else { ReleaseReason::Shutdown };
            drop(handle.end(why));
        }
        inner.sessions.insert(self.session, Place::Filled(handle));
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.directory.lock().sessions.remove(&self.session);
        }
    }
}

/// The sessions that a HELLO may be for, the likeliest first: deployed clients
/// say PROD for either end, and nobody says CONS without meaning it.
fn meant_by(role: Role) -> &'static [Role] {
    match role {
        Role::Prod => &[Role::Prod, Role::Cons],
        Role::Cons => &[Role::Cons],
    }
}

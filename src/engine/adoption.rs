//! What an earlier run of the controller has left: sessions to go on with, and
//! things to clear away.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Shared, Standing};
use crate::causes::causes;
use crate::flows::{Books, BooksFile};
use crate::ports::{PortLease, Served};
use crate::secrets;
use crate::session::{Capacity, Endpoint, ListenAddr, Machine, Plan, Role, Route, SessionId, State, TargetAddr};
use crate::store::{self, Live, Record, RecordError, SessionFolder, Sighting};

/// A session of an earlier run, ready to be gone on with.
pub(super) struct Adoption {
    pub(super) session: SessionId,
    pub(super) standing: Standing,
    pub(super) folder: SessionFolder,
    pub(super) machine: Machine,
    /// What the journal says.
    pub(super) journal: Record,
    pub(super) leases: Vec<PortLease>,
    pub(super) announced_targets: Vec<TargetAddr>,
    /// It was being moved to another plan.
    pub(super) was_changing: bool,
    pub(super) created: SystemTime,
    pub(super) expires: Option<SystemTime>,
    pub(super) max_idle: Option<Duration>,
    /// What went through it.
    pub(super) books: Books,
}

/// A folder that holds no session to go on with.
pub(super) struct Unusable {
    folder: SessionFolder,
    why: RecordError,
}

/// Reads a folder of an earlier run, and takes its ports again.
pub(super) fn understand(folder: SessionFolder, shared: &Shared, seen: &Sighting) -> Result<Adoption, Unusable> {
    match read(&folder, shared, seen) {
        Ok((session, standing, record, leases)) => {
            let announced_targets = record.announced_targets.iter().copied().map(TargetAddr).collect();
            let was_changing = record.changing;
            let (created, expires) = (at(record.created_ms), record.expires_ms.map(at));
            let max_idle = record.max_idle_ms.map(Duration::from_millis);
            let machine = machine(session.role, record.clone(), &standing);
            let books = BooksFile::read(&folder.places().path).unwrap_or_else(|e| {
                tracing::error!(%session, "what went through it is lost: its books cannot be used: {e}");
                Books::default()
            });
            Ok(Adoption {
                session,
                standing,
                folder,
                machine,
                journal: record,
                leases,
                announced_targets,
                was_changing,
                created,
                expires,
                max_idle,
                books,
            })
        }
        Err(why) => Err(Unusable { folder, why }),
    }
}

fn read(
    folder: &SessionFolder,
    shared: &Shared,
    seen: &Sighting,
) -> Result<(SessionId, Standing, Record, Vec<PortLease>), RecordError> {
    let places = folder.places();
    let record = Record::read(&places.path)?;
    let key = secrets::read_key_file(&places.key_file()).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => RecordError::Ending,
        _ => RecordError::Read(e),
    })?;
    let uid = key.digest();
    let session = [Role::Prod, Role::Cons]
        .map(|role| SessionId { uid, role })
        .into_iter()
        .find(|session| places.path.ends_with(session.to_string()) && session.is_named(&record.session))
        .ok_or_else(|| RecordError::Foreign("its journal, its key and its folder are not of one session".into()))?;
    if record.live.as_ref().is_some_and(|live| live.targets.len() != record.listeners.len()) {
        return Err(RecordError::Foreign("its journal has not as many targets as listeners".into()));
    }
    let standing = standing(&record, shared)?;
    let served = match seen.still_in(&places.path).is_empty() {
        true => Served::ByNobody,
        false => Served::ByOurs,
    };
    let leases = record.listeners.iter().map(|address| {
        let taken = || RecordError::Foreign(format!("its port {address} is held by somebody else"));
        shared.ports.retake(*address, served).ok_or_else(taken)
    });
    let leases = leases.collect::<Result<Vec<_>, _>>()?;
    Ok((session, standing, record, leases))
}

fn standing(record: &Record, shared: &Shared) -> Result<Standing, RecordError> {
    let setup = shared.setup();
    let site = &setup.site;
    let backend = match &record.backend {
        None => Arc::clone(&site.backend),
        Some(name) => site.catalog.get(name).map_err(|e| RecordError::Foreign(format!("failed to {e}")))?,
    };
    Ok(Standing {
        owner: record.owner.clone(),
        site: Arc::clone(site),
        weakness: record.weakness,
        backend,
        // Who does not tell may have been asked for it.
        backend_is_asked_for: record.backend_is_asked_for.unwrap_or(true),
        protection: record.protection.unwrap_or(setup.settings.protection),
        sources: record.sources.iter().copied().collect(),
        capacity: Capacity {
            asked: record.rate,
            limit: record.bandwidth,
            weight: record.weight,
            shared: record.shared,
        },
        tcp: record.tcp.clone(),
        max_lifetime: record.max_lifetime_ms.map(Duration::from_millis),
    })
}

fn machine(role: Role, record: Record, standing: &Standing) -> Machine {
    // They were checked when they came; one that does not parse today is only not shown.
    let announced: Vec<Endpoint> = record.announced.iter().filter_map(|text| text.parse().ok()).collect();
    let plan = |live: Live| {
        let both = record.listeners.iter().zip(live.targets);
        let routes = both.map(|(listen, target)| Route { listen: ListenAddr(*listen), target: TargetAddr(target) });
        let (sources, tcp) = (standing.sources.clone(), standing.tcp.clone());
        let capacity = standing.capacity;
        Plan { role, protection: live.protection, sources, capacity, tcp, routes: routes.collect() }
    };
    let live = record.live.map(plan);
    let state = if live.is_some() { State::Active } else { State::Announced };
    Machine { state, announced, live, revision: record.revision, ..Machine::default() }
}

impl Unusable {
    /// Ends the processes that work in the folder, and removes it; one whose
    /// journal cannot be used is kept for an operator to look at.
    pub(super) fn clear_away(self, shared: &Shared, seen: &Sighting) {
        let path = self.folder.places().path.clone();
        let folder = path.display();
        let strays = end_processes(&path, seen);
        match self.why {
            RecordError::None => {
                tracing::info!(%folder, processes = strays, "a session that had no HELLO yet ended with the controller");
            }
            RecordError::Ending => {
                tracing::info!(%folder, processes = strays, "a session whose release had been cut short is gone");
            }
            why => match shared.state.set_aside(self.folder) {
                Ok(place) => tracing::error!(
                    %folder,
                    processes = strays,
                    "this session cannot be gone on with, and is set aside in {}: {}",
                    place.display(),
                    causes(&why),
                ),
                Err(e) => tracing::error!(%folder, "cannot set aside a session that cannot be gone on with: {e}"),
            },
        }
    }
}

/// Ends all processes that an earlier run has left in a session's folder, and
/// answers with how many.
pub(super) fn end_processes(folder: &Path, seen: &Sighting) -> usize {
    let strays = seen.still_in(folder);
    strays.iter().copied().for_each(store::kill_now);
    strays.len()
}

/// When a session was asked for, and what ends it by itself.
pub(super) struct Span {
    pub(super) created: SystemTime,
    pub(super) expires: Option<SystemTime>,
    pub(super) max_idle: Option<Duration>,
}

/// What the journal says of a session, `None` before its HELLO.
pub(super) fn record(
    session: SessionId,
    standing: &Standing,
    machine: &Machine,
    listeners: &[ListenAddr],
    announced_targets: &[TargetAddr],
    span: Span,
) -> Option<Record> {
    if matches!(machine.state, State::Reserved | State::Draining | State::Released) {
        return None;
    }
    Some(Record {
        format: store::FORMAT,
        session: session.to_string(),
        listeners: listeners.iter().map(|listener| listener.0).collect(),
        announced: machine.announced.iter().map(ToString::to_string).collect(),
        announced_targets: announced_targets.iter().map(|target| target.0).collect(),
        live: machine.live.as_ref().map(|plan| Live {
            protection: plan.protection,
            targets: plan.routes.iter().map(|route| route.target.0).collect(),
        }),
        // What comes up for the first time was confirmed to nobody, and is no change of anything.
        changing: machine.live.is_some() && machine.next.is_some(),
        revision: machine.revision,
        created_ms: milliseconds(span.created),
        expires_ms: span.expires.map(milliseconds),
        max_idle_ms: span.max_idle.map(length),
        owner: standing.owner.clone(),
        weakness: standing.weakness,
        backend: Some(standing.backend.name.clone()),
        backend_is_asked_for: Some(standing.backend_is_asked_for),
        protection: Some(standing.protection),
        max_lifetime_ms: standing.max_lifetime.map(length),
        sources: standing.sources.networks().to_vec(),
        rate: standing.capacity.asked,
        bandwidth: standing.capacity.limit,
        weight: standing.capacity.weight,
        shared: standing.capacity.shared,
        tcp: standing.tcp.clone(),
    })
}

fn length(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn at(unix_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms)
}

/// Unix time, as the journal and the wire have it.
#[must_use]
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

//! The life of a session as a pure function: `step(machine, event)`.
//!
//! ```text
//! Reserved ──HELLO──► Announced ──UPDATE──► Starting ──► Active ⇄ Updating
//!     Starting refused → Announced; a refused update → Active with the old plan
//!     RELEASE, a deadline, or a data path that cannot be brought back
//!         → Draining → Released   (before anything was started: the same way, at once)
//! ```
//!
//! The caller performs the [`Effect`]s and reports their outcome as further
//! [`Event`]s. Whatever comes in whatever order, the machine stays sound: the
//! property tests below drive it with arbitrary sequences.

use std::fmt;
use std::time::Duration;

use super::{Endpoint, Plan};

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Ports are held; the application has not said HELLO.
    Reserved,
    /// The application's endpoints are known; nothing runs.
    Announced,
    /// The data path is coming up for the first time.
    Starting,
    /// The data path serves the plan.
    Active,
    /// The data path serves the old plan while it moves to a new one.
    Updating,
    /// Everything is being given back.
    Draining,
    /// Nothing is left.
    Released,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reserved => "reserved",
            Self::Announced => "announced",
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Updating => "updating",
            Self::Draining => "draining",
            Self::Released => "released",
        })
    }
}

/// Whether the data path does its work; stands beside the [`State`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// All processes run.
    Healthy,
    /// Something died and is being brought back.
    Degraded {
        /// What happened, for people.
        why: String,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseReason {
    /// Somebody who may asked for it.
    Asked,
    /// The same, and they said why.
    Because {
        /// Their words, made harmless.
        said: String,
    },
    /// The client that waited for its REQ went away.
    Abandoned,
    /// HELLO did not come in time.
    NoHello,
    /// UPDATE did not come in time.
    NoUpdate,
    /// HELLO came, and could not be.
    SpoiltHello {
        /// Why, for people.
        why: String,
    },
    /// Its lifetime is over.
    Expired,
    /// Nothing went through it for too long.
    Idle {
        /// As long as it may stand without a byte.
        limit: Duration,
    },
    /// The data path could not be brought back.
    Lost {
        /// What happened, for people.
        why: String,
    },
    /// The gateway's policy is another one now, and does not let it be.
    Lapsed {
        /// Why not, for people.
        why: String,
    },
    /// The control server is going down.
    Shutdown,
}

impl fmt::Display for ReleaseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("released on request"),
            Self::Abandoned => f.write_str("the client that asked for it went away"),
            Self::NoHello => f.write_str("no HELLO came in time"),
            Self::NoUpdate => f.write_str("no UPDATE came in time"),
            Self::SpoiltHello { why } => write!(f, "its HELLO was refused: {why}"),
            Self::Expired => f.write_str("its lifetime is over"),
            Self::Idle { limit } => write!(f, "nothing went through it for {} seconds", limit.as_secs()),
            Self::Because { said } => write!(f, "released on request: {said}"),
            Self::Lost { why } => write!(f, "its data path was lost: {why}"),
            Self::Lapsed { why } => write!(f, "it may not go on by the gateway's policy: {why}"),
            Self::Shutdown => f.write_str("the gateway is shutting down"),
        }
    }
}

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// HELLO: the application's endpoints.
    Announce(Vec<Endpoint>),
    /// UPDATE: the plan to serve from now on.
    Update(Plan),
    /// The data path serves the plan it was given last.
    Confirmed,
    /// The data path could not take the plan it was given last.
    Refused,
    /// A process died and is being brought back.
    Degraded(String),
    /// All processes run again.
    Recovered,
    /// The session is to end.
    Release(ReleaseReason),
    /// Everything has been given back.
    Drained,
}

/// What the machine asks its driver to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer whoever waits for HELLO in REQ.
    AnswerReserve,
    /// Bring the data path up.
    Start(Plan),
    /// Move the live data path to a new plan, keeping the old one if that fails.
    Change(Plan),
    /// Answer whoever waits for UPDATE: it is live.
    AnswerUpdated,
    /// Answer whoever waits for UPDATE: it was refused.
    AnswerRefused,
    /// Tell the sender of this event that it cannot be.
    Reject(Rejection),
    /// Stop everything and give everything back, then report [`Event::Drained`].
    TearDown(ReleaseReason),
    /// The session is over; tell whoever waits for its end.
    Forget,
}

/// Why an event cannot be, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// UPDATE before HELLO.
    NotAnnounced,
    /// UPDATE while another one is under way.
    Busy,
    /// The session is ending.
    Ending,
}

/// A session's life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Where it is.
    pub state: State,
    /// How its data path does.
    pub health: Health,
    /// The endpoints of the last HELLO.
    pub announced: Vec<Endpoint>,
    /// What the data path serves.
    pub live: Option<Plan>,
    /// What it is being brought to.
    pub next: Option<Plan>,
    /// Goes up with each plan that became live.
    pub revision: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: State::Reserved,
            health: Health::Healthy,
            announced: Vec::new(),
            live: None,
            next: None,
            revision: 0,
        }
    }
}

impl Machine {
    /// Takes one event and says what is to be done about it.
    #[must_use]
    pub fn step(mut self, event: Event) -> (Self, Vec<Effect>) {
        use State::{Active, Announced, Draining, Released, Reserved, Starting, Updating};
        let effects = match (self.state, event) {
            (Draining, Event::Drained) => {
                self.state = Released;
                vec![Effect::Forget]
            }
            (Draining | Released, Event::Announce(_) | Event::Update(_)) => vec![Effect::Reject(Rejection::Ending)],
            (Draining | Released, _) => vec![],
            (_, Event::Release(reason)) => {
                self.state = Draining;
                self.next = None;
                vec![Effect::TearDown(reason)]
            }
            (Reserved, Event::Announce(endpoints)) => {
                self.state = Announced;
                self.announced = endpoints;
                vec![Effect::AnswerReserve]
            }
            (_, Event::Announce(endpoints)) => {
                self.announced = endpoints;
                vec![]
            }
            (Reserved, Event::Update(_)) => vec![Effect::Reject(Rejection::NotAnnounced)],
            (Starting | Updating, Event::Update(_)) => vec![Effect::Reject(Rejection::Busy)],
            (Announced, Event::Update(plan)) => {
                self.state = Starting;
                self.next = Some(plan.clone());
                vec![Effect::Start(plan)]
            }
            (Active, Event::Update(plan)) if self.live.as_ref() == Some(&plan) => vec![Effect::AnswerUpdated],
            (Active, Event::Update(plan)) => {
                self.state = Updating;
                self.next = Some(plan.clone());
                vec![Effect::Change(plan)]
            }
            (Starting | Updating, Event::Confirmed) => {
                self.state = Active;
                self.live = self.next.take();
                self.revision += 1;
                vec![Effect::AnswerUpdated]
            }
            (Starting | Updating, Event::Refused) => {
                self.state = if self.state == Starting { Announced } else { Active };
                self.next = None;
                vec![Effect::AnswerRefused]
            }
            (Active | Updating, Event::Degraded(why)) => {
                self.health = Health::Degraded { why };
                vec![]
            }
            (Active | Updating, Event::Recovered) => {
                self.health = Health::Healthy;
                vec![]
            }
            // Late or meaningless here: a process that is coming up for the first time
            // reports through Refused, and nothing runs before.
            (_, Event::Confirmed | Event::Refused | Event::Degraded(_) | Event::Recovered | Event::Drained) => {
                vec![]
            }
        };
        (self, effects)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::session::{ListenAddr, Protection, Role, TargetAddr};

    fn plan(target: u16) -> Plan {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Plan::new(Role::Prod, Protection::default(), &[ListenAddr(address(1))], &[TargetAddr(address(target))])
            .expect("a target")
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Announce(vec!["h:1".parse().expect("endpoint")])),
            (1..4u16).prop_map(|t| Event::Update(plan(t))),
            Just(Event::Confirmed),
            Just(Event::Refused),
            Just(Event::Degraded("it died".into())),
            Just(Event::Recovered),
            Just(Event::Release(ReleaseReason::Asked)),
            Just(Event::Release(ReleaseReason::NoHello)),
            Just(Event::Drained),
        ]
    }

    fn run(events: impl IntoIterator<Item = Event>) -> (Machine, Vec<Effect>) {
        events.into_iter().fold((Machine::default(), vec![]), |(machine, mut all), event| {
            let (machine, effects) = machine.step(event);
            all.extend(effects);
            (machine, all)
        })
    }

    #[test]
    fn the_ordinary_life() {
        let (machine, effects) = run([
            Event::Announce(vec![]),
            Event::Update(plan(1)),
            Event::Confirmed,
            Event::Update(plan(2)),
            Event::Confirmed,
            Event::Release(ReleaseReason::Asked),
            Event::Drained,
        ]);
        assert_eq!(machine.state, State::Released);
        assert_eq!(machine.revision, 2);
        assert_eq!(
            effects,
            [
                Effect::AnswerReserve,
                Effect::Start(plan(1)),
                Effect::AnswerUpdated,
                Effect::Change(plan(2)),
                Effect::AnswerUpdated,
                Effect::TearDown(ReleaseReason::Asked),
                Effect::Forget,
            ]
        );
    }

    #[test]
    fn a_refused_update_keeps_the_old_plan() {
        let (machine, _) = run([
            Event::Announce(vec![]),
            Event::Update(plan(1)),
            Event::Confirmed,
            Event::Update(plan(2)),
            Event::Refused,
        ]);
        assert_eq!((machine.state, machine.live, machine.revision), (State::Active, Some(plan(1)), 1));
    }

    #[test]
    fn the_same_plan_again_changes_nothing() {
        let (machine, effects) =
            run([Event::Announce(vec![]), Event::Update(plan(1)), Event::Confirmed, Event::Update(plan(1))]);
        assert_eq!((machine.state, machine.revision), (State::Active, 1));
        assert_eq!(effects.last(), Some(&Effect::AnswerUpdated));
    }

    proptest! {
        #[test]
        fn any_sequence_stays_sound(events in prop::collection::vec(any_event(), 0..40)) {
            let mut machine = Machine::default();
            let (mut asked, mut answered, mut torn_down, mut forgotten) = (0, 0, 0, 0);
            for event in events {
                let was_update = matches!(event, Event::Update(_));
                let before = machine.clone();
                let (after, effects) = machine.step(event.clone());
                machine = after;
                let mut replies_now = 0;
                for effect in &effects {
                    match effect {
                        Effect::Start(_) | Effect::Change(_) => asked += 1,
                        Effect::AnswerUpdated | Effect::AnswerRefused => {
                            replies_now += 1;
                            if !was_update { answered += 1 }
                        }
                        Effect::Reject(_) => replies_now += 1,
                        Effect::TearDown(_) => torn_down += 1,
                        Effect::Forget => forgotten += 1,
                        Effect::AnswerReserve => prop_assert_eq!(before.state, State::Reserved),
                    }
                }
                // Every UPDATE is answered, rejected, or under way; never more than one of these.
                if was_update {
                    let under_way = effects.iter().any(|e| matches!(e, Effect::Start(_) | Effect::Change(_)));
                    prop_assert_eq!(replies_now + usize::from(under_way), 1);
                }
                // A plan is on its way exactly while the state says so, and a live one exists when it must.
                prop_assert_eq!(machine.next.is_some(), matches!(machine.state, State::Starting | State::Updating));
                if matches!(machine.state, State::Active | State::Updating) {
                    prop_assert!(machine.live.is_some());
                }
                prop_assert!(machine.revision >= before.revision);
                // Nothing leads back from the end.
                if before.state == State::Draining {
                    prop_assert!(matches!(machine.state, State::Draining | State::Released));
                }
                if before.state == State::Released {
                    prop_assert_eq!(machine.state, State::Released);
                }
            }
            prop_assert!(answered <= asked);
            prop_assert!(torn_down <= 1 && forgotten <= torn_down);
            if machine.state == State::Released { prop_assert_eq!(forgotten, 1); }
            // A release always leads to the end.
            let (machine, _) = machine.step(Event::Release(ReleaseReason::Asked));
            let (machine, _) = machine.step(Event::Drained);
            prop_assert_eq!(machine.state, State::Released);
        }
    }
}

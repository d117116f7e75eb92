//! The task that gives each session its share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::divide::{Claim, divide};
use super::seat::{Seat, Told};
use super::steer::{Position, steer};
use super::usage::Usage;
use crate::flows::Ledger;
use crate::session::{Bandwidth, Capacity, Weight};

/// How often it is looked at what sessions move. The kernel is asked as often.
const PERIOD: Duration = Duration::from_secs(1);
/// An idle session keeps this part of what it would have if all were busy.
const FLOOR: u64 = 10;
/// One that cannot be changed is tried again after 1, 2, 4, … looks; 64 at most.
const MOST_FAILURES: u32 = 6;

/// Divides what the gateway may move among its sessions. Clones share it; its task
/// ends with the last of them and of their seats.
#[derive(Debug, Clone)]
pub struct Divider {
    orders: mpsc::UnboundedSender<Order>,
    next: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(super) enum Order {
    Join {
        number: u64,
        capacity: Capacity,
        in_force: Option<Bandwidth>,
        ledger: watch::Receiver<Arc<Ledger>>,
        tell: watch::Sender<Told>,
    },
    InForce {
        number: u64,
        /// What it was told that this answers to.
        taken: u64,
        in_force: Option<Bandwidth>,
        outcome: Outcome,
    },
    Leave {
        number: u64,
    },
    Start,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is kept to what it was told.
    Done,
    /// It could not be, and is kept to what it was before.
    Failed,
}

impl Divider {
    /// Makes the task. Until [`Self::start`], everybody keeps what they have.
    #[must_use]
    pub fn of(cap: Bandwidth) -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        let cap = u64::from(cap.kilobytes_per_second());
        tokio::spawn(Task { cap, started: false, members: BTreeMap::new() }.run(inbox));
        Self { orders, next: Arc::default() }
    }

    /// All sessions of an earlier run have come.
    pub fn start(&self) {
        // The task ends only with the runtime.
        drop(self.orders.send(Order::Start));
    }

    /// A seat for a session. One of an earlier run says what its program is kept to still.
    #[must_use]
    pub fn seat(&self, capacity: Capacity, in_force: Option<Bandwidth>) -> Seat {
        let (tell, told) = watch::channel(Told { share: in_force, number: 0 });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (orders, tell) = (self.orders.clone(), Some(tell));
        Seat { number, orders, capacity, in_force, tell, told, taken: 0, stale: false }
    }
}

struct Task {
    cap: u64,
    started: bool,
    members: BTreeMap<u64, Member>,
}

struct Member {
    weight: Weight,
    limit: u64,
    usage: Usage,
    position: Position,
    /// What it was told and has not answered to, by number.
    unanswered: VecDeque<(u64, u64)>,
    /// How often in a row it could not be changed,
    failures: u32,
    /// and for how many looks it is let alone therefore.
    rests: u32,
    ledger: watch::Receiver<Arc<Ledger>>,
    tell: watch::Sender<Told>,
}

impl Member {
    fn tell(&mut self, told: u64) {
        let number = self.tell.borrow().number + 1;
        self.unanswered.push_back((number, told));
        self.position.told = told;
        self.count_promises();
        let share = u32::try_from(told).ok().and_then(Bandwidth::kilobytes);
        self.tell.send_replace(Told { share, number });
    }

    fn answered(&mut self, taken: u64) {
        self.unanswered.retain(|(number, _)| *number > taken);
        self.count_promises();
    }

    fn count_promises(&mut self) {
        self.position.promised = self.unanswered.iter().map(|(_, told)| *told).max().unwrap_or_default();
    }
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
                }
                _ = ticks.tick(), if self.started && !self.members.is_empty() => self.look(),
            }
            if self.started {
                self.steer();
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Join { number, capacity, in_force, ledger, tell } => {
                let limit = capacity.limit.map_or(self.cap, kilobytes).min(self.cap);
                let in_force = in_force.map_or(0, kilobytes);
                let position = Position { told: in_force, promised: 0, in_force, wanted: 0 };
                let (usage, unanswered) = (Usage::beginning(in_force), VecDeque::new());
                let (weight, failures, rests) = (capacity.weight, 0, 0);
                let member = Member { weight, limit, usage, position, unanswered, failures, rests, ledger, tell };
                self.members.insert(number, member);
                self.divide();
            }
            Order::InForce { number, taken, in_force, outcome } => {
                if let Some(member) = self.members.get_mut(&number) {
                    member.position.in_force = in_force.map_or(0, kilobytes);
                    member.answered(taken);
                    if outcome == Outcome::Failed {
                        member.tell(member.position.in_force);
                        member.rests = 1 << member.failures;
                        member.failures = (member.failures + 1).min(MOST_FAILURES);
                    } else {
                        member.failures = 0;
                    }
                }
            }
            Order::Leave { number } => {
                self.members.remove(&number);
                self.divide();
            }
            Order::Start => self.started = true,
        }
    }

    fn look(&mut self) {
        for member in self.members.values_mut() {
            member.rests = member.rests.saturating_sub(1);
            let traffic = member.ledger.borrow().traffic();
            let moved = traffic.map(|traffic| traffic.rate.bytes_in.saturating_add(traffic.rate.bytes_out) / 1000);
            member.usage.look(moved, member.position.in_force);
        }
        self.divide();
    }

    /// Says what each should have.
    fn divide(&mut self) {
        let weights: u64 = self.members.values().map(|member| u64::from(member.weight.get())).sum();
        let claim = |member: &Member| {
            let floor = self.cap * u64::from(member.weight.get()) / weights.max(1) / FLOOR;
            let demand = member.usage.demand().map_or(u64::MAX, |demand| demand.max(floor));
            Claim { weight: member.weight.get(), demand, limit: member.limit }
        };
        let claims: Vec<_> = self.members.values().map(claim).collect();
        for (member, wanted) in self.members.values_mut().zip(divide(self.cap, &claims)) {
            member.position.wanted = wanted;
        }
    }

    /// Tells those for whom there is something new.
    fn steer(&mut self) {
        let as_it_is = |position: Position| Position { wanted: position.told, ..position };
        let seen = |member: &Member| if member.rests > 0 { as_it_is(member.position) } else { member.position };
        let positions: Vec<_> = self.members.values().map(seen).collect();
        for (member, told) in self.members.values_mut().zip(steer(self.cap, &positions)) {
            if member.position.told != told {
                member.tell(told);
            }
        }
    }
}

fn kilobytes(bandwidth: Bandwidth) -> u64 {
    bandwidth.kilobytes_per_second().into()
}

//! The books of one session: from what the kernel says each time to totals and rates.
//!
//! The kernel forgets a connection when it ends. The ledger keeps the last
//! counters that it saw of each, until the kernel tells the very last ones, so
//! that totals only ever grow and end exact.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Add, Sub};
use std::time::Duration;

use super::sock_diag::{Connection, Counters, Snapshot};

/// How long the last word on a connection may come after it was last seen: a
/// program may hold the socket of a connection that was reset.
const MEMORY: Duration = Duration::from_secs(60);

/// What went through a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// All bytes that came in through the listeners, and went out through them;
    /// what is sent again counts once.
    pub total: Counters,
    /// Connections that are open.
    pub connections: u64,
    /// Connections that there have ever been.
    pub connections_ever: u64,
    /// Bytes a second at the last look.
    pub rate: Rate,
    /// The longest round-trip time of the open connections.
    pub rtt: Duration,
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// Received.
    pub bytes_in: u64,
    /// Confirmed by the peer.
    pub bytes_out: u64,
}

/// An open connection of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// How much went through it.
    pub counters: Counters,
    /// How fast at the last look.
    pub rate: Rate,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Bytes that may be under way unconfirmed.
    pub congestion_window: u64,
    /// When it was first seen, in Unix milliseconds.
    pub since_ms: u64,
}

/// When a look was taken.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// Unix time in milliseconds.
    pub at_ms: u64,
    /// How long after the look before; zero at the first.
    pub elapsed: Duration,
}

/// What outlasts a run of the controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Of all connections that have ended.
    pub ended: Counters,
    /// How many there have ever been.
    pub connections_ever: u64,
    /// Those that are open.
    pub open: BTreeMap<Connection, Flow>,
}

/// The books, and what is needed to go on with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    books: Books,
    /// Those that have ended lately.
    gone: BTreeMap<Connection, Gone>,
    rate: Rate,
    idle: Duration,
    measured: bool,
}

/// A connection that has ended, or seems to have. Its counters are in the books.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gone {
    last: Flow,
    /// The kernel has told its last counters.
    told: bool,
    age: Duration,
}

impl Ledger {
    /// Goes on with the books of an earlier run.
    #[must_use]
    pub fn resume(books: Books) -> Self {
        Self { books, ..Self::default() }
    }

    /// From here on it is measured.
    pub fn begin(&mut self) {
        self.measured = true;
    }

    /// What must be written down. Those on whose end there is no word yet may be open still.
    #[must_use]
    pub fn books(&self) -> Books {
        let mut books = self.books.clone();
        for (connection, gone) in self.gone.iter().filter(|(_, gone)| !gone.told) {
            books.ended = books.ended - gone.last.counters;
            books.open.insert(*connection, gone.last);
        }
        books
    }

    /// How long no byte has moved.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// What went through; `None` before the kernel has been asked.
    #[must_use]
    pub fn traffic(&self) -> Option<Traffic> {
        self.measured.then(|| Traffic {
            total: self.total(),
            connections: u64::try_from(self.books.open.len()).unwrap_or(u64::MAX),
            connections_ever: self.books.connections_ever,
            rate: self.rate,
            rtt: self.books.open.values().map(|flow| flow.rtt).max().unwrap_or_default(),
        })
    }

    /// The open connections: the listener, the peer, and what goes through.
    pub fn flows(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr, &Flow)> {
        self.books.open.iter().map(|(connection, flow)| (connection.local, connection.peer, flow))
    }

    fn total(&self) -> Counters {
        self.books.open.values().fold(self.books.ended, |sum, flow| sum + flow.counters)
    }

    /// Takes in what the kernel says of this session's connections.
    pub fn take(&mut self, snapshot: &Snapshot, tick: Tick) {
        let before = self.total();
        for flow in &snapshot.ended {
            self.close(flow.connection, flow.counters);
        }
        // One that a dump tells twice is told as it is now the second time.
        let seen: BTreeMap<_, _> = snapshot.open.iter().map(|flow| (flow.connection, flow)).collect();
        let mut open = BTreeMap::new();
        for (connection, seen) in seen {
            // It has ended since the dump was taken.
            if self.gone.get(&connection).is_some_and(|gone| gone.told) {
                continue;
            }
            let known = self.carry_on(connection, seen.counters);
            self.count(known.is_none());
            let before = known.map(|flow| flow.counters).unwrap_or_default();
            let flow = Flow {
                counters: seen.counters,
                rate: Rate::of(seen.counters - before, tick.elapsed),
                rtt: seen.rtt,
                congestion_window: seen.congestion_window,
                since_ms: known.map_or(tick.at_ms, |flow| flow.since_ms),
            };
            open.insert(connection, flow);
        }
        for (connection, last) in std::mem::replace(&mut self.books.open, open) {
            self.books.ended = self.books.ended + last.counters;
            self.gone.insert(connection, Gone { last, told: false, age: Duration::ZERO });
        }
        self.gone.retain(|_, gone| {
            gone.age += tick.elapsed;
            gone.age < MEMORY
        });
        let moved = self.total() - before;
        self.rate = Rate::of(moved, tick.elapsed);
        self.idle = if moved == Counters::default() { self.idle + tick.elapsed } else { Duration::ZERO };
        self.measured = true;
    }

    /// The books that an earlier run left may say anything.
    fn count(&mut self, is_new: bool) {
        self.books.connections_ever = self.books.connections_ever.saturating_add(is_new.into());
    }

    /// The connection as it was known, if it is one that goes on.
    fn carry_on(&mut self, connection: Connection, now: Counters) -> Option<Flow> {
        let known = match self.books.open.remove(&connection) {
            Some(known) => known,
            None => {
                // A dump may miss one that is there all the time.
                let gone = self.gone.remove(&connection)?;
                self.books.ended = self.books.ended - gone.last.counters;
                gone.last
            }
        };
        if now.includes(known.counters) {
            return Some(known);
        }
        // The same name, counted from zero: another one, after a reboot.
        self.books.ended = self.books.ended + known.counters;
        None
    }

    /// The last word on a connection.
    fn close(&mut self, connection: Connection, word: Counters) {
        let mut last = match (self.books.open.remove(&connection), self.gone.remove(&connection)) {
            (Some(known), _) => known,
            (None, Some(gone)) => {
                self.books.ended = self.books.ended - gone.last.counters;
                gone.last
            }
            (None, None) => {
                self.count(true);
                Flow::default()
            }
        };
        last.counters = last.counters.max(word);
        self.books.ended = self.books.ended + last.counters;
        self.gone.insert(connection, Gone { last, told: true, age: Duration::ZERO });
    }
}

impl Counters {
    /// Whether these may be later ones of the same connection.
    fn includes(self, earlier: Self) -> bool {
        self.bytes_in >= earlier.bytes_in
            && self.bytes_out >= earlier.bytes_out
            && self.retransmits >= earlier.retransmits
    }

    fn max(self, other: Self) -> Self {
        Self {
            bytes_in: self.bytes_in.max(other.bytes_in),
            bytes_out: self.bytes_out.max(other.bytes_out),
            retransmits: self.retransmits.max(other.retransmits),
        }
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
            retransmits: self.retransmits.saturating_add(other.retransmits),
        }
    }
}

impl Sub for Counters {
    type Output = Self;

    /// Not below zero.
    fn sub(self, other: Self) -> Self {
        Self {
            bytes_in: self.bytes_in.saturating_sub(other.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(other.bytes_out),
            retransmits: self.retransmits.saturating_sub(other.retransmits),
        }
    }
}

impl Rate {
    fn of(moved: Counters, elapsed: Duration) -> Self {
        let per_second = |bytes: u64| {
            let nanoseconds = elapsed.as_nanos();
            let rate = (u128::from(bytes) * 1_000_000_000).checked_div(nanoseconds).unwrap_or_default();
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        Self { bytes_in: per_second(moved.bytes_in), bytes_out: per_second(moved.bytes_out) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sock_diag::SocketFlow;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn counters(bytes_in: u64, bytes_out: u64) -> Counters {
        Counters { bytes_in, bytes_out, retransmits: bytes_out / 10 }
    }

    fn flow(cookie: u64, counters: Counters) -> SocketFlow {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let connection = Connection { cookie, local: address(5100), peer: address(40_000) };
        SocketFlow { connection, counters, rtt: Duration::from_micros(50), congestion_window: 10 }
    }

    fn look(ledger: &mut Ledger, open: &[SocketFlow], ended: &[SocketFlow]) {
        let snapshot = Snapshot { open: open.to_vec(), ended: ended.to_vec() };
        ledger.take(&snapshot, Tick { at_ms: 1, elapsed: SECOND });
    }

    fn total(ledger: &Ledger) -> (u64, u64) {
        let traffic = ledger.traffic().expect("measured");
        (traffic.total.bytes_in, traffic.connections_ever)
    }

    #[test]
    fn totals_and_rates_are_those_of_open_and_ended_connections() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.traffic(), None);
        look(&mut ledger, &[flow(1, counters(100, 20)), flow(2, counters(7, 0))], &[]);
        look(&mut ledger, &[flow(1, counters(400, 20))], &[flow(2, counters(9, 1))]);
        let traffic = ledger.traffic().expect("measured");
        assert_eq!(traffic.total, Counters { bytes_in: 409, bytes_out: 21, retransmits: 2 });
        assert_eq!(traffic.rate, Rate { bytes_in: 302, bytes_out: 1 });
        assert_eq!((traffic.connections, traffic.connections_ever), (1, 2));
        assert_eq!(ledger.flows().next().map(|(_, _, flow)| flow.rate.bytes_in), Some(300));
    }

    #[test]
    fn the_last_word_may_come_at_any_time() {
        for late in 0..5 {
            let mut ledger = Ledger::default();
            look(&mut ledger, &[flow(1, counters(100, 0))], &[]);
            (0..late).for_each(|_| look(&mut ledger, &[], &[]));
            assert_eq!(total(&ledger), (100, 1));
            look(&mut ledger, &[], &[flow(1, counters(170, 0))]);
            assert_eq!(total(&ledger), (170, 1), "{late} looks late");
        }
    }

    #[test]
    fn one_that_came_and_went_between_two_looks_counts() {
        let mut ledger = Ledger::default();
        look(&mut ledger, &[], &[flow(1, counters(50, 0))]);
        assert_eq!(total(&ledger), (50, 1));
    }

    #[test]
    fn one_that_a_dump_misses_or_tells_twice_counts_once() {
        let mut ledger = Ledger::default();
        look(&mut ledger, &[flow(1, counters(50, 0)), flow(1, counters(51, 0))], &[]);
        look(&mut ledger, &[], &[]);
        look(&mut ledger, &[flow(1, counters(51, 0))], &[]);
        assert_eq!(total(&ledger), (51, 1));
        look(&mut ledger, &[flow(1, counters(60, 0))], &[flow(1, counters(61, 0))]);
        assert_eq!(total(&ledger), (61, 1));
        assert_eq!(ledger.traffic().expect("measured").connections, 0);
    }

    #[test]
    fn a_later_run_goes_on_with_the_books() {
        let mut ledger = Ledger::default();
        look(&mut ledger, &[flow(1, counters(100, 0)), flow(2, counters(30, 0))], &[]);
        let mut ledger = Ledger::resume(ledger.books());
        assert_eq!(ledger.traffic(), None, "the kernel has not been asked");
        look(&mut ledger, &[flow(1, counters(110, 0))], &[]);
        assert_eq!(total(&ledger), (140, 2));
        // After a reboot the kernel counts, and names, from the beginning.
        let mut ledger = Ledger::resume(ledger.books());
        look(&mut ledger, &[flow(1, counters(5, 0))], &[]);
        assert_eq!(total(&ledger), (145, 3));
    }

    #[test]
    fn books_that_are_full_are_gone_on_with() {
        let books = Books { ended: counters(u64::MAX, 1), connections_ever: u64::MAX, ..Books::default() };
        let mut ledger = Ledger::resume(books);
        look(&mut ledger, &[flow(1, counters(100, 0))], &[flow(2, counters(7, 0))]);
        assert_eq!(total(&ledger), (u64::MAX, u64::MAX));
    }

    #[test]
    fn idle_is_how_long_nothing_moved() {
        let mut ledger = Ledger::default();
        look(&mut ledger, &[flow(1, counters(1, 0))], &[]);
        (0..3).for_each(|_| look(&mut ledger, &[flow(1, counters(1, 0))], &[]));
        assert_eq!(ledger.idle(), 3 * SECOND);
        look(&mut ledger, &[flow(1, counters(1, 1))], &[]);
        assert_eq!(ledger.idle(), Duration::ZERO);
    }

    proptest! {
        /// Connections grow and end, the kernel misses some of it, the controller starts again:
        /// totals only grow, and are exact once the last word on each was told.
        #[test]
        fn totals_never_shrink_and_end_exact(
            steps in prop::collection::vec((0..6u64, 0..1000u64, any::<bool>(), 0..8u8), 1..80)
        ) {
            let mut ledger = Ledger::default();
            let mut real: BTreeMap<u64, u64> = BTreeMap::new();
            let mut ever = std::collections::BTreeSet::new();
            let (mut names, mut sum, mut last) = (0, 0, 0);
            let mut alias: BTreeMap<u64, u64> = BTreeMap::new();
            for (who, bytes, ends, chance) in steps {
                let cookie = *alias.entry(who).or_insert_with(|| { names += 1; names });
                ever.insert(cookie);
                *real.entry(cookie).or_default() += bytes;
                sum += bytes;
                let mut ended = vec![];
                if ends {
                    alias.remove(&who);
                    ended.push(flow(cookie, counters(real.remove(&cookie).expect("just counted"), 0)));
                }
                let missed = u64::from(chance);
                let open: Vec<_> = real
                    .iter()
                    .filter(|(cookie, _)| **cookie != missed)
                    .map(|(cookie, bytes)| flow(*cookie, counters(*bytes, 0)))
                    .collect();
                if chance == 7 {
                    ledger = Ledger::resume(ledger.books());
                }
                look(&mut ledger, &open, &ended);
                let (now, _) = total(&ledger);
                prop_assert!(now >= last && now <= sum, "{now} after {last}, of {sum}");
                last = now;
            }
            let words: Vec<_> = real.iter().map(|(cookie, bytes)| flow(*cookie, counters(*bytes, 0))).collect();
            look(&mut ledger, &[], &words);
            let connections = u64::try_from(ever.len()).expect("few");
            prop_assert_eq!(total(&ledger), (sum, connections));
        }
    }
}

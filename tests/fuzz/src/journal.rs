//! What an earlier run has left in a session's folder: journal, processes, books.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use scistream::flows::{BooksFile, Connection, Counters, Ledger, Snapshot, SocketFlow, Tick};
use scistream::store::{FORMAT, Record};
use scistream::supervisor::Identities;

/// What is read is written, and read again as the same; and it can be gone on with.
pub fn check(data: &[u8]) {
    if let Ok(record) = Record::parse(data) {
        assert!(record.format <= FORMAT);
        let written = record.to_line().expect("it can be written");
        assert_eq!(Record::parse(&written).expect("what we wrote"), record);
        let twice = [&written[..], &written].concat();
        assert_eq!(Record::parse(&twice).expect("what we added"), record);
        // The record after it was cut short.
        let cut = twice[..twice.len() - 2].to_vec();
        assert_eq!(Record::parse(&cut).expect("what we wrote before"), record);
        for unix_ms in [Some(record.created_ms), record.expires_ms].into_iter().flatten() {
            assert!(SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms)).is_some());
        }
    }
    if let Ok(processes) = Identities::parse(data) {
        let written = processes.to_json().expect("it can be written");
        assert_eq!(Identities::parse(&written).expect("what we wrote"), processes);
    }
    if let Ok(books) = BooksFile::parse(data) {
        let written = BooksFile::from(books.clone()).to_json().expect("it can be written");
        assert_eq!(BooksFile::parse(&written).expect("what we wrote"), books);
        go_on(Ledger::resume(books));
    }
}

/// The books of a run that follows are no smaller, and can be read again.
fn go_on(mut ledger: Ledger) {
    let before = total(&ledger);
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let flow = |cookie| SocketFlow {
        connection: Connection { cookie, local: address(5100), peer: address(40_000) },
        counters: Counters { bytes_in: 100, bytes_out: 20, retransmits: 1 },
        rtt: Duration::from_micros(50),
        congestion_window: 10,
    };
    let elapsed = Duration::from_secs(1);
    for (open, ended) in [(vec![flow(1)], vec![flow(2)]), (vec![], vec![]), (vec![], vec![flow(1)])] {
        ledger.take(&Snapshot { open, ended }, Tick { at_ms: u64::MAX, elapsed });
        let now = total(&ledger);
        assert!(now >= before, "{now:?} after {before:?}");
        let written = BooksFile::from(ledger.books()).to_json().expect("it can be written");
        assert_eq!(BooksFile::parse(&written).expect("what we wrote").ended, ledger.books().ended);
    }
}

fn total(ledger: &Ledger) -> (u64, u64, u64) {
    let mut measured = ledger.clone();
    measured.begin();
    let traffic = measured.traffic().expect("it is measured");
    (traffic.total.bytes_in, traffic.total.bytes_out, traffic.connections_ever)
}

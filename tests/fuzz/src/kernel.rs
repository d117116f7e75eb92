//! What the kernel says of connections, in datagrams of netlink.

use std::time::Duration;

use scistream::flows::{Ledger, Snapshot, Tick, understand};

/// Connections have two ends, each as the rest of the program writes it; and the
/// books take them, whatever the counters say.
pub fn check(data: &[u8]) {
    let mut flows = Vec::new();
    let answer = understand(data, &mut flows);
    let mut again = flows.clone();
    assert_eq!(understand(data, &mut again).ok(), answer.ok());
    assert_eq!(again.len(), 2 * flows.len(), "the same datagram said something else the second time");
    for flow in &flows {
        for end in [flow.connection.local, flow.connection.peer] {
            assert_eq!(end.ip(), end.ip().to_canonical());
            assert_ne!(end.port(), 0);
        }
    }
    let mut ledger = Ledger::default();
    for (open, ended) in [(flows.clone(), vec![]), (vec![], flows.clone()), (flows.clone(), flows)] {
        ledger.take(&Snapshot { open, ended }, Tick { at_ms: 1, elapsed: Duration::from_millis(1) });
        ledger.traffic().expect("it is measured");
    }
}

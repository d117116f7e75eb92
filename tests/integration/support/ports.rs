//! Port ranges that no two tests share, even in different processes.

use std::net::TcpListener;
use std::ops::RangeInclusive;

/// Below the range from which the system takes its own.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
const BLOCK: u16 = 250;

/// A block of ports. Its first port is bound for as long as the block is claimed.
#[derive(Debug)]
pub struct PortBlock {
    claim: TcpListener,
}

impl PortBlock {
    pub fn claim() -> Self {
        let start = u16::try_from(std::process::id() % 48).expect("small") * BLOCK;
        let blocks = (FIRST..LAST).step_by(usize::from(BLOCK));
        let (before, after): (Vec<_>, Vec<_>) = blocks.partition(|first| *first < FIRST + start);
        let claim = after
            .into_iter()
            .chain(before)
            .find_map(|first| TcpListener::bind(("127.0.0.1", first)).ok())
            .expect("a block of ports that no other test has");
        Self { claim }
    }

    /// The ports of the block.
    pub fn range(&self) -> RangeInclusive<u16> {
        let first = self.claim.local_addr().expect("bound").port();
        first + 1..=first + BLOCK - 1
    }
}

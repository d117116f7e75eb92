//! The file in a session's folder from which a later run goes on counting.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ledger::{Books, Flow};
use super::sock_diag::{Connection, Counters};
use crate::store::{Outlasts, replace};

const FORMAT: u32 = 1;
const FILE: &str = "traffic.json";

/// The books as they are written. Fields may be added with a default; whatever
/// changes a meaning takes a new `format`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BooksFile {
    format: u32,
    bytes_in: u64,
    bytes_out: u64,
    retransmits: u64,
    connections: u64,
    open: Vec<Open>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    cookie: u64,
    local: SocketAddr,
    peer: SocketAddr,
    bytes_in: u64,
    bytes_out: u64,
    retransmits: u64,
    since_ms: u64,
}

impl From<Books> for BooksFile {
    fn from(books: Books) -> Self {
        let Counters { bytes_in, bytes_out, retransmits } = books.ended;
        let open = |(connection, flow): (Connection, Flow)| Open {
            cookie: connection.cookie,
            local: connection.local,
            peer: connection.peer,
            bytes_in: flow.counters.bytes_in,
            bytes_out: flow.counters.bytes_out,
            retransmits: flow.counters.retransmits,
            since_ms: flow.since_ms,
        };
        let open = books.open.into_iter().map(open).collect();
        Self { format: FORMAT, bytes_in, bytes_out, retransmits, connections: books.connections_ever, open }
    }
}

impl From<BooksFile> for Books {
    fn from(file: BooksFile) -> Self {
        let BooksFile { bytes_in, bytes_out, retransmits, .. } = file;
        let open = file.open.into_iter().map(|open| {
            let Open { cookie, local, peer, bytes_in, bytes_out, retransmits, since_ms } = open;
            let counters = Counters { bytes_in, bytes_out, retransmits };
            (Connection { cookie, local, peer }, Flow { counters, since_ms, ..Flow::default() })
        });
        let open: BTreeMap<_, _> = open.collect();
        Self { ended: Counters { bytes_in, bytes_out, retransmits }, connections_ever: file.connections, open }
    }
}

impl BooksFile {
    /// Reads the books in `folder`; empty ones when there are none yet.
    ///
    /// # Errors
    /// What the system says, or that they are damaged, or a later release's.
    pub fn read(folder: &Path) -> io::Result<Books> {
        let bytes = match fs::read(folder.join(FILE)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Books::default()),
            read => read?,
        };
        Self::parse(&bytes)
    }

    /// Understands books.
    ///
    /// # Errors
    /// That they are damaged, or a later release's.
    pub fn parse(json: &[u8]) -> io::Result<Books> {
        let file: Self = serde_json::from_slice(json)?;
        match file.format {
            FORMAT => Ok(file.into()),
            other => Err(io::Error::other(format!("it has the format {other}, and this release knows {FORMAT}"))),
        }
    }

    /// The books as they are written.
    ///
    /// # Errors
    /// Never with what a ledger holds; the writer could fail.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Replaces the books in `folder`.
    ///
    /// # Errors
    /// What the system says; the old ones are then whole still.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        replace(&folder.join(FILE), &self.to_json()?, Outlasts::Host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(BooksFile::read(folder.path()).expect("none yet"), Books::default());
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let connection = Connection { cookie: u64::MAX, local: address(1), peer: address(2) };
        let counters = |factor| Counters { bytes_in: factor, bytes_out: 2 * factor, retransmits: 3 * factor };
        let flow = Flow { counters: counters(10), since_ms: 7, ..Flow::default() };
        let books = Books { ended: counters(1), connections_ever: 4, open: [(connection, flow)].into() };
        BooksFile::from(books.clone()).write(folder.path()).expect("written");
        assert_eq!(BooksFile::read(folder.path()).expect("read"), books);
        for damage in ["", "{\"format\": 1}", "[]"] {
            fs::write(folder.path().join(FILE), damage).expect("written");
            assert!(BooksFile::read(folder.path()).is_err(), "{damage}");
        }
    }
}

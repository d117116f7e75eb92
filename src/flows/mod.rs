//! How much goes through each session, and how well: numbers from the kernel.
//!
//! Every second the kernel is asked once for all TCP connections, and those
//! whose local end is a session's listener are the session's. Each connection
//! is one such end, whatever programs serve it, so the numbers are made the same
//! way for every backend, and nobody needs privileges for them. They are bytes
//! on that side: on a PROD session's listeners those of the tunnel, with what
//! TLS adds; on a CONS session's listeners the application's own.
//!
//! When a connection ends, the kernel tells its last counters, so that totals
//! are exact; the end of a stream counts as one byte, as TCP numbers it. Where
//! the kernel does not tell (Linux before 4.2, or more ends in a second than
//! there is room for, some 300 with the usual `net.core.rmem_max`), what moved
//! after the last look, at most a second before the end, is missed.
//!
//! The books are written to the session's folder every ten seconds, from where
//! a later run of the controller goes on. What is lost to it are connections
//! that ended while no controller ran: of those, what the file said last counts.

mod books_file;
mod ledger;
mod meter;
mod sock_diag;

pub use books_file::BooksFile;
pub use ledger::{Books, Flow, Ledger, Rate, Tick, Traffic};
pub use meter::{Gauge, Meter};
pub use sock_diag::{Answer, Connection, Counters, Snapshot, SockDiag, SockDiagError, SocketFlow, understand};

//! What OpenSSL reads from and writes to: the socket, in large pieces.
//!
//! OpenSSL asks for a record's header, then for the rest, and writes record by
//! record. A large record is received straight into OpenSSL's own buffer, together
//! with the header of the next; small ones are received several at once. Records
//! that are written leave together when they are pushed.

use std::cell::RefCell;
use std::io::{self, IoSliceMut, Read, Write};
use std::sync::Arc;

use crate::memory::MOST;
use crate::socket::Socket;

/// A record of so much is not read ahead of, but for the next one's header.
const LARGE: usize = 4096;
/// How much is read ahead of small records.
const AHEAD: usize = 4096;
/// A TLS record's header: RFC 8446, section 5.1.
const HEADER: usize = 5;
/// What is held back at most, which is more than a turn of a flow makes of what it
/// reads: a record adds 22 bytes to 16 KiB of an application in TLS 1.3, and a
/// few more in 1.2.
const HELD_BACK: usize = MOST + MOST / 64;
/// A thread keeps so many buffers for the next who writes.
const KEPT: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Frees the thread's buffers.
pub fn release() {
    SPARE.take();
}

/// The socket below a TLS connection.
pub struct Transport {
    socket: Arc<Socket>,
    /// Reading waits, so that what a peer answers can be looked at first.
    held: bool,
    /// What was received and OpenSSL has not asked for yet, from `taken` on.
    ahead: Vec<u8>,
    taken: usize,
    /// Whether the last record was.
    large: bool,
    /// What OpenSSL wrote and the socket has not taken yet, from `sent` on.
    unpushed: Vec<u8>,
    sent: usize,
}

impl Transport {
    /// Nothing is read or written yet.
    #[must_use]
    pub fn new(socket: Arc<Socket>) -> Self {
        Self { socket, held: false, ahead: Vec::new(), taken: 0, large: false, unpushed: Vec::new(), sent: 0 }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// From here on reading waits, or no longer does.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether there are bytes for OpenSSL that the socket would not wake us for.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.taken < self.ahead.len()
    }

    /// How many bytes the socket has not taken yet.
    #[must_use]
    pub fn unpushed(&self) -> usize {
        self.unpushed.len() - self.sent
    }

    /// Sends what OpenSSL wrote.
    ///
    /// # Errors
    /// `WouldBlock`, with the rest kept, or the connection broke.
    pub fn push(&mut self) -> io::Result<()> {
        while self.sent < self.unpushed.len() {
            match self.socket.try_write(&self.unpushed[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock && self.unpushed.capacity() >= HELD_BACK {
                        // Who does not read shall not hold a whole buffer.
                        let rest = self.unpushed[self.sent..].to_vec();
                        self.sent = 0;
                        put_back(std::mem::replace(&mut self.unpushed, rest));
                    }
                    return Err(error);
                }
            }
        }
        self.sent = 0;
        put_back(std::mem::take(&mut self.unpushed));
        Ok(())
    }

    /// Receives into OpenSSL's buffer, and ahead of it.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let whole = buffer.len();
        if whole > HEADER {
            self.large = whole >= LARGE;
        }
        self.taken = 0;
        self.ahead.resize(if self.large { HEADER } else { AHEAD }, 0);
        let mut buffers = [IoSliceMut::new(buffer), IoSliceMut::new(&mut self.ahead)];
        let received = self.socket.try_read_vectored(&mut buffers);
        match received.as_ref().map_or(0, |received| received.saturating_sub(whole)) {
            0 => self.ahead = Vec::new(),
            ahead => self.ahead.truncate(ahead),
        }
        received.map(|received| received.min(whole))
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.held {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if !self.is_ahead() {
            return self.receive(buffer);
        }
        let there = &self.ahead[self.taken..];
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        self.taken += count;
        Ok(count)
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unpushed.len() + bytes.len() > HELD_BACK {
            self.push()?;
        }
        if self.unpushed.is_empty() {
            self.unpushed = spare();
        }
        self.unpushed.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// OpenSSL flushes the messages of a handshake, and alerts.
    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

fn spare() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(HELD_BACK))
}

fn put_back(mut buffer: Vec<u8>) {
    SPARE.with_borrow_mut(|kept| {
        if kept.len() < KEPT && buffer.capacity() >= HELD_BACK {
            buffer.clear();
            kept.push(buffer);
        }
    });
}

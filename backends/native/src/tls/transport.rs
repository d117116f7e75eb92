//! What OpenSSL reads from and writes to: the socket, in large pieces.
//!
//! OpenSSL asks for a record's header, then for the rest, and writes record by
//! record. What is asked for is received straight into OpenSSL's own buffer, and
//! as much as the turn may take beyond that into ours; records that are written
//! leave together when they are pushed.

use std::io::{self, IoSliceMut, Read, Write};
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::socket::Socket;

/// How much of a handshake is read ahead.
const HANDSHAKE: usize = 4096;

/// The socket below a TLS connection.
pub struct Transport {
    socket: Arc<Socket>,
    /// Reading waits, so that what a peer answers can be looked at first.
    held: bool,
    /// What was received and OpenSSL has not asked for yet,
    ahead: Buffer,
    /// and how much of that there may be.
    most_ahead: usize,
    /// What OpenSSL wrote and the socket has not taken yet.
    unpushed: Buffer,
}

impl Transport {
    /// Nothing is read or written yet.
    #[must_use]
    pub fn new(socket: Arc<Socket>) -> Self {
        Self { socket, held: false, ahead: Buffer::default(), most_ahead: HANDSHAKE, unpushed: Buffer::default() }
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

    /// So much may be read ahead.
    pub fn read_ahead(&mut self, most: usize) {
        self.most_ahead = most;
    }

    /// The memory of the bytes that the socket would not wake us for; 0 if there are none.
    #[must_use]
    pub fn ahead(&self) -> usize {
        self.ahead.taken()
    }

    /// The memory of the bytes that the socket has not taken yet; 0 if there are none.
    #[must_use]
    pub fn unpushed(&self) -> usize {
        self.unpushed.taken()
    }

    /// Takes no more memory than the bytes do, for a connection that has to wait.
    pub fn shrink(&mut self) {
        self.ahead.shrink();
        self.unpushed.shrink();
    }

    /// Sends what OpenSSL wrote.
    ///
    /// # Errors
    /// `WouldBlock`, with the rest kept, or the connection broke.
    pub fn push(&mut self) -> io::Result<()> {
        while self.unpushed.len() > 0 {
            let sent = self.socket.try_write(self.unpushed.bytes())?;
            self.unpushed.skip(sent);
        }
        Ok(())
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.held {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.ahead.len() > 0 {
            let count = self.ahead.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.ahead.bytes()[..count]);
            self.ahead.skip(count);
            return Ok(count);
        }
        let whole = buffer.len();
        let mut buffers = [IoSliceMut::new(buffer), IoSliceMut::new(self.ahead.room(self.most_ahead))];
        let received = self.socket.try_read_vectored(&mut buffers);
        self.ahead.fill(received.as_ref().map_or(0, |received| received.saturating_sub(whole)));
        received.map(|received| received.min(whole))
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.unpushed.push(bytes) {
            self.push()?;
            // No record is larger than an empty buffer.
            self.unpushed.push(bytes);
        }
        Ok(bytes.len())
    }

    /// OpenSSL flushes the messages of a handshake, and alerts.
    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

//! One side of a connection, ready to carry an application's bytes.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::socket::Socket;
use crate::tls::TlsStream;

/// A side that has agreed on what it speaks.
pub enum Wire {
    /// The bytes as they are.
    Plain(Arc<Socket>),
    /// TLS, with the handshake done.
    Tls(Box<TlsStream>),
}

impl Wire {
    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &Arc<Socket> {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.socket(),
        }
    }

    /// The socket, where the bytes of the application are read from it as they are.
    #[must_use]
    pub fn raw_reader(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(stream) => stream.raw_reader(),
        }
    }

    /// The socket, where the bytes of the application are written to it as they are.
    #[must_use]
    pub fn raw_writer(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(stream) => stream.raw_writer(),
        }
    }

    /// Whether the kernel gives no more than a record at a time, and an end of file
    /// that says nothing about the stream's.
    #[must_use]
    pub fn has_records(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What is spoken, for log lines.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Plain(_) => "plain".to_owned(),
            Self::Tls(stream) => stream.negotiated(),
        }
    }

    /// Ready when there may be something to read.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(context),
            Self::Tls(stream) => stream.poll_readable(context),
        }
    }

    /// Reads some bytes; 0 says that the peer sends no more.
    ///
    /// # Errors
    /// When the side broke.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => loop {
                match socket.try_read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(socket.poll_read_ready(context))?;
                    }
                    read => return Poll::Ready(read),
                }
            },
            Self::Tls(stream) => stream.poll_read(context, buffer),
        }
    }

    /// Writes some bytes. TLS may hold them back until it is pushed.
    ///
    /// # Errors
    /// When the side broke.
    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => loop {
                match socket.try_write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(socket.poll_write_ready(context))?;
                    }
                    written => return Poll::Ready(written),
                }
            },
            Self::Tls(stream) => stream.poll_write(context, bytes),
        }
    }

    /// Sends what is held back.
    ///
    /// # Errors
    /// When the side broke.
    pub fn poll_push(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.poll_push(context),
        }
    }

    /// The memory of the bytes that were received and not read yet; 0 if there are none.
    #[must_use]
    pub fn ahead(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(stream) => stream.ahead(),
        }
    }

    /// The memory of the bytes that were written and not sent yet; 0 if there are none.
    #[must_use]
    pub fn unpushed(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(stream) => stream.unpushed(),
        }
    }

    /// Takes no more memory than the bytes do that are held.
    pub fn shrink(&mut self) {
        if let Self::Tls(stream) = self {
            stream.shrink();
        }
    }

    /// Says that we send no more; reading goes on.
    ///
    /// # Errors
    /// When the side broke.
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Poll::Ready(socket.finish()),
            Self::Tls(stream) => stream.poll_finish(context),
        }
    }
}

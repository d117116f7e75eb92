//! One TLS connection, whoever moves its records.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::batched::Batched;
use super::in_kernel::InKernel;
use super::{Contexts, Side};
use crate::socket::Socket;

/// A connection that speaks TLS, from before its handshake to its end.
pub enum TlsStream {
    /// OpenSSL moves all records.
    Batched(Batched),
    /// The kernel moves those of the application.
    InKernel(InKernel),
}

macro_rules! on_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self {
            Self::Batched($stream) => $call,
            Self::InKernel($stream) => $call,
        }
    };
}

impl TlsStream {
    /// Wraps a connected socket; nothing is sent yet.
    ///
    /// # Errors
    /// When OpenSSL has no memory.
    pub fn new(contexts: &Contexts, side: Side, socket: Arc<Socket>) -> io::Result<Self> {
        if contexts.in_kernel() && socket.ends().is_some() {
            InKernel::new(contexts, side, socket).map(Self::InKernel)
        } else {
            Batched::new(contexts, side, socket).map(Self::Batched)
        }
    }

    /// Wraps a socket to a peer that may speak no TLS: sends our `ClientHello`, and
    /// takes in nothing of what the peer answers. The kernel stays out of it, since
    /// OpenSSL cannot be kept from reading a socket that is its own.
    ///
    /// # Errors
    /// When the connection broke, or OpenSSL has no memory.
    pub async fn say_hello(contexts: &Contexts, socket: Arc<Socket>) -> io::Result<Self> {
        let mut stream = Batched::new(contexts, Side::Client, socket)?;
        stream.say_hello().await?;
        Ok(Self::Batched(stream))
    }

    /// Shakes hands, then holds the outcome against the floor.
    ///
    /// # Errors
    /// When the peer is not one that holds the key, or went below the floor.
    pub async fn shake_hands(&mut self, contexts: &Contexts) -> io::Result<()> {
        on_stream!(self, stream => stream.shake_hands().await)?;
        if contexts.allows(on_stream!(self, stream => stream.ssl())) {
            Ok(())
        } else {
            Err(io::Error::other(format!("{} is below the floor", self.negotiated())))
        }
    }

    /// Version and suite, and what the kernel does, for log lines.
    #[must_use]
    pub fn negotiated(&self) -> String {
        let ssl = on_stream!(self, stream => stream.ssl());
        let suite = ssl.current_cipher().map_or("without a suite", |cipher| cipher.name());
        let kernel = match (self.raw_writer(), self.kernel_receives()) {
            (None, false) => "",
            (Some(_), false) => ", kernel sends",
            (None, true) => ", kernel receives",
            (Some(_), true) => ", kernel sends and receives",
        };
        format!("{} {suite}{kernel}", ssl.version_str())
    }

    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &Arc<Socket> {
        on_stream!(self, stream => stream.socket())
    }

    fn kernel_receives(&self) -> bool {
        matches!(self, Self::InKernel(stream) if stream.receives())
    }

    /// The socket, where the kernel opens the records and has the next bytes.
    #[must_use]
    pub fn raw_reader(&self) -> Option<&Socket> {
        match self {
            Self::InKernel(stream) => stream.raw_reader(),
            Self::Batched(_) => None,
        }
    }

    /// The socket, where the kernel makes the records.
    #[must_use]
    pub fn raw_writer(&self) -> Option<&Socket> {
        match self {
            Self::InKernel(stream) => stream.raw_writer(),
            Self::Batched(_) => None,
        }
    }

    /// Ready when there may be something to read.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_readable(context))
    }

    /// Reads some bytes; 0 is the peer's `close_notify`, and nothing else is.
    ///
    /// # Errors
    /// When the connection broke, or was cut without a `close_notify`.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => stream.poll_read(context, buffer))
    }

    /// Writes some bytes. They may be held back until they are pushed.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => stream.poll_write(context, bytes))
    }

    /// Sends what is held back.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn poll_push(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Batched(stream) => stream.poll_push(context),
            Self::InKernel(_) => Poll::Ready(Ok(())),
        }
    }

    /// The memory of the bytes that were received and not read yet; 0 if there are none.
    #[must_use]
    pub fn ahead(&self) -> usize {
        match self {
            Self::Batched(stream) => stream.ahead(),
            Self::InKernel(_) => 0,
        }
    }

    /// The memory of the bytes that were written and not sent yet; 0 if there are none.
    #[must_use]
    pub fn unpushed(&self) -> usize {
        match self {
            Self::Batched(stream) => stream.unpushed(),
            Self::InKernel(_) => 0,
        }
    }

    /// Takes no more memory than the bytes do that are held.
    pub fn shrink(&mut self) {
        if let Self::Batched(stream) = self {
            stream.shrink();
        }
    }

    /// Says that we send no more; reading goes on.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_finish(context))
    }
}

//! TLS by OpenSSL alone, over our own transport, which moves many records at once.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use openssl::ssl::{self, ErrorCode, SslRef, SslStream};
use tokio::io::Interest;

use super::reason::{cut_off, in_words};
use super::transport::Transport;
use super::{Contexts, Side};
use crate::socket::Socket;

/// A connection of which OpenSSL reads and writes every record.
pub struct Batched {
    ssl: SslStream<Transport>,
    side: Side,
    close_notify_sent: bool,
}

impl Batched {
    /// Wraps a connected socket; nothing is sent yet.
    ///
    /// # Errors
    /// When OpenSSL has no memory.
    pub fn new(contexts: &Contexts, side: Side, socket: Arc<Socket>) -> io::Result<Self> {
        let ssl = contexts.start(side).map_err(io::Error::other)?;
        let ssl = SslStream::new(ssl, Transport::new(socket)).map_err(io::Error::other)?;
        Ok(Self { ssl, side, close_notify_sent: false })
    }

    /// Sends our `ClientHello`, and takes in nothing of what the peer answers.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn say_hello(&mut self) -> io::Result<()> {
        self.ssl.get_mut().hold(true);
        let said = self.step().await;
        self.ssl.get_mut().hold(false);
        said.map(drop)
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// When the peer is not one that holds the key.
    pub async fn shake_hands(&mut self) -> io::Result<()> {
        while !self.step().await? {
            self.socket().ready(Interest::READABLE).await?;
        }
        Ok(())
    }

    /// Goes on with the handshake until the peer has to say something. Gives
    /// whether it is over.
    async fn step(&mut self) -> io::Result<bool> {
        loop {
            let step = match self.side {
                Side::Server => self.ssl.accept(),
                Side::Client => self.ssl.connect(),
            };
            match step {
                Ok(()) => return Ok(true),
                Err(error) if error.code() == ErrorCode::WANT_READ => return Ok(false),
                Err(error) if error.code() == ErrorCode::WANT_WRITE => {
                    self.socket().ready(Interest::WRITABLE).await?;
                }
                Err(error) => return Err(reason(error)),
            }
        }
    }

    /// OpenSSL's side of it.
    #[must_use]
    pub fn ssl(&self) -> &SslRef {
        self.ssl.ssl()
    }

    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &Arc<Socket> {
        self.ssl.get_ref().socket()
    }

    /// Ready when there may be something to read.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A record that OpenSSL has already taken in does not wake the socket.
        if self.ssl.ssl().pending() > 0 || self.ssl.get_ref().ahead() > 0 {
            Poll::Ready(Ok(()))
        } else {
            self.socket().poll_read_ready(context)
        }
    }

    /// Reads some bytes; 0 is the peer's `close_notify`, and nothing else is.
    ///
    /// # Errors
    /// When the connection broke, or was cut without a `close_notify`.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.ssl.get_mut().read_ahead(buffer.len());
        loop {
            match self.ssl.ssl_read(buffer) {
                Ok(read) => return Poll::Ready(Ok(read)),
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => return Poll::Ready(Ok(0)),
                Err(error) => ready!(self.poll_wanted(context, error))?,
            }
        }
    }

    /// Writes some bytes. They are held back until they are pushed.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.ssl.ssl_write(bytes) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) => ready!(self.poll_wanted(context, error))?,
            }
        }
    }

    /// Sends what is held back.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn poll_push(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.ssl.get_mut().push() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket().poll_write_ready(context))?;
                }
                pushed => return Poll::Ready(pushed),
            }
        }
    }

    /// How many bytes were received and not read yet.
    #[must_use]
    pub fn ahead(&self) -> usize {
        self.ssl.get_ref().ahead()
    }

    /// How many bytes were written and not sent yet.
    #[must_use]
    pub fn unpushed(&self) -> usize {
        self.ssl.get_ref().unpushed()
    }

    /// Takes no more memory than the bytes do that are held.
    pub fn shrink(&mut self) {
        self.ssl.get_mut().shrink();
    }

    /// Says that we send no more; reading goes on.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.close_notify_sent {
            match self.ssl.shutdown() {
                // A second call would wait for the peer's, and drop its bytes.
                Ok(_) => self.close_notify_sent = true,
                Err(error) => ready!(self.poll_wanted(context, error))?,
            }
        }
        ready!(self.poll_push(context))?;
        Poll::Ready(self.socket().finish())
    }

    fn poll_wanted(&self, context: &mut Context<'_>, error: ssl::Error) -> Poll<io::Result<()>> {
        match error.code() {
            ErrorCode::WANT_READ => self.socket().poll_read_ready(context),
            ErrorCode::WANT_WRITE => self.socket().poll_write_ready(context),
            _ => Poll::Ready(Err(reason(error))),
        }
    }
}

fn reason(error: ssl::Error) -> io::Error {
    // How OpenSSL tells of an end of file through a transport that cannot say it.
    let cut = error.code() == ErrorCode::SYSCALL;
    if let Some(reason) = error.ssl_error().and_then(in_words) {
        return reason;
    }
    match error.into_io_error() {
        Ok(error) => error,
        Err(_) if cut => cut_off(),
        Err(error) => io::Error::other(error.to_string()),
    }
}

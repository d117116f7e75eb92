//! TLS of which the kernel makes or opens the records (kernel TLS): OpenSSL shakes
//! hands and gives it the keys, and from then on the application's bytes are read
//! from and written to the socket as they are.
//!
//! What is not the application's stays OpenSSL's: alerts, with the `close_notify`
//! among them, and whatever a peer sends after the handshake. A read that finds such
//! a record fails with EIO and leaves it for OpenSSL. A direction whose keys the
//! kernel did not take goes through OpenSSL, record by record.
//!
//! A kernel before 6.14 cannot change keys: a peer that does so has its connection
//! broken. We never do, nor does OpenSSL of itself.

use std::future::poll_fn;
use std::io;
use std::net;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use openssl::ssl::{ErrorCode, SslRef};
use openssl_ktls::TokioSslStream;
use openssl_ktls::error::Error;
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::{AsyncRead as _, AsyncWrite as _, Interest, ReadBuf};

use super::reason::{cut_off, in_words};
use super::{Contexts, Side};
use crate::socket::Socket;

/// A connection that the kernel takes part in, as far as it can.
pub struct InKernel {
    ssl: TokioSslStream,
    socket: Arc<Socket>,
    side: Side,
    sends: bool,
    receives: bool,
    close_notify_sent: bool,
}

impl InKernel {
    /// Wraps a connected TCP socket; nothing is sent yet.
    ///
    /// # Errors
    /// When OpenSSL has no memory, or the system no descriptor.
    pub fn new(contexts: &Contexts, side: Side, socket: Arc<Socket>) -> io::Result<Self> {
        let ssl = contexts.start(side).map_err(io::Error::other)?;
        // OpenSSL reads and writes a descriptor of its own, of the same connection.
        let own = net::TcpStream::from(socket.as_fd().try_clone_to_owned()?);
        let ssl = TokioSslStream::new(tokio::net::TcpStream::from_std(own)?, ssl)?;
        Ok(Self { ssl, socket, side, sends: false, receives: false, close_notify_sent: false })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// When the peer is not one that holds the key.
    pub async fn shake_hands(&mut self) -> io::Result<()> {
        poll_fn(|context| match self.side {
            Side::Server => self.ssl.poll_accept(context),
            Side::Client => self.ssl.poll_connect(context),
        })
        .await
        .map_err(reason)?;
        self.sends = self.ssl.ktls_send_enabled();
        self.receives = self.ssl.ktls_recv_enabled();
        Ok(())
    }

    /// OpenSSL's side of it.
    #[must_use]
    pub fn ssl(&self) -> &SslRef {
        self.ssl.ssl()
    }

    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Whether the kernel opens the records.
    #[must_use]
    pub fn receives(&self) -> bool {
        self.receives
    }

    /// The socket, where the next bytes are the kernel's to give.
    #[must_use]
    pub fn raw_reader(&self) -> Option<&Socket> {
        (self.receives && self.ssl.ssl().pending() == 0).then_some(&*self.socket)
    }

    /// The socket, where the kernel makes the records.
    #[must_use]
    pub fn raw_writer(&self) -> Option<&Socket> {
        self.sends.then_some(&*self.socket)
    }

    /// Ready when there may be something to read.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ssl.ssl().pending() > 0 {
            Poll::Ready(Ok(()))
        } else {
            // Where OpenSSL reads, this is ready from the first byte on: the read tells.
            self.socket.poll_read_ready(context)
        }
    }

    /// Reads some bytes; 0 is the peer's `close_notify`, and nothing else is.
    ///
    /// # Errors
    /// When the connection broke, or was cut without a `close_notify`.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        while let Some(socket) = self.raw_reader() {
            // Less than was asked for does not say that there is no more: a record
            // that is not the application's may come next.
            match socket.attempt(Interest::READABLE, || Ok(rustix::io::read(socket, &mut *buffer)?)) {
                Ok(0) => return Poll::Ready(Err(cut_off())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_read_ready(context))?,
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => break,
                read => return Poll::Ready(read),
            }
        }
        let mut room = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.ssl).poll_read(context, &mut room)).map_err(inner_reason)?;
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Writes some bytes.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(socket) = self.raw_writer() else {
            return Pin::new(&mut self.ssl).poll_write(context, bytes).map_err(inner_reason);
        };
        loop {
            let send = || Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?);
            match socket.attempt(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(context))?,
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Says that we send no more; reading goes on.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.close_notify_sent {
            // A second call would wait for the peer's, and drop its bytes.
            ready!(self.ssl.poll_ssl_shutdown(context)).map_err(reason)?;
            self.close_notify_sent = true;
        }
        Poll::Ready(self.socket.finish())
    }
}

fn reason(error: Error) -> io::Error {
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

/// The same, of an error that went through tokio's traits.
fn inner_reason(error: io::Error) -> io::Error {
    error.downcast::<Error>().map_or_else(|error| error, reason)
}

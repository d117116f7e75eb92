//! One connected stream of the kernel, TCP or unix.
//!
//! A socket that is dropped without [`Socket::end_well`] resets its connection:
//! whatever goes wrong with us, a peer never takes a broken stream for a whole
//! one. (A unix socket has no reset; its peer sees an end of file, and an error
//! on its next write.)

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::address::Address;
use crate::tcp::TcpSettings;

/// A unix socket refuses at once when its backlog is full, where TCP waits.
const BACKLOG_FULL_PAUSE: Duration = Duration::from_millis(5);

/// A connected stream. Everything works on `&self`, so that one task may read,
/// write, and watch for a reset.
pub struct Socket {
    stream: Stream,
    ended_well: AtomicBool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! on_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match &$self.stream {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// Takes a TCP connection, and sets it up.
    ///
    /// # Errors
    /// When the peer has already gone.
    pub fn tcp(stream: TcpStream, settings: &TcpSettings) -> io::Result<Self> {
        settings.apply(&stream)?;
        Ok(Self { stream: Stream::Tcp(stream), ended_well: AtomicBool::new(false) })
    }

    /// Takes a connection over a unix socket.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), ended_well: AtomicBool::new(false) }
    }

    /// Connects; the caller sets the deadline.
    ///
    /// # Errors
    /// When nobody accepts there.
    pub async fn connect(address: &Address, settings: &TcpSettings) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                // Before the handshake, which settles how far the window may grow.
                settings.apply_before_connecting(&socket, address.ip())?;
                let stream = Stream::Tcp(socket.connect(*address).await?);
                Ok(Self { stream, ended_well: AtomicBool::new(false) })
            }
            Address::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(BACKLOG_FULL_PAUSE).await;
                    }
                    connected => return connected.map(Self::unix),
                }
            },
        }
    }

    /// Both ends, source first; `None` for a unix socket.
    #[must_use]
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        match &self.stream {
            Stream::Tcp(stream) => stream.peer_addr().ok().zip(stream.local_addr().ok()),
            Stream::Unix(_) => None,
        }
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock`, or the connection broke.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        self.transfer(Interest::READABLE, room, || Ok(rustix::io::read(self, &mut *buffer)?))
    }

    /// Reads what is there into one buffer after the other.
    ///
    /// # Errors
    /// `WouldBlock`, or the connection broke.
    pub fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        self.transfer(Interest::READABLE, room, || Ok(rustix::io::readv(self, buffers)?))
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// `WouldBlock`, or the connection broke.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.transfer(Interest::WRITABLE, bytes.len(), || Ok(rustix::net::send(self, bytes, SendFlags::NOSIGNAL)?))
    }

    /// Moves what is there, `most` bytes at most, into a pipe that is empty.
    ///
    /// # Errors
    /// `WouldBlock`, the connection broke, or `InvalidInput` where the kernel cannot.
    pub fn splice_into(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        self.transfer(Interest::READABLE, 0, || Ok(splice(self, None, pipe, None, most, splice_flags())?))
    }

    /// Moves bytes out of a pipe that has so many.
    ///
    /// # Errors
    /// `WouldBlock`, the connection broke, or `InvalidInput` where the kernel cannot.
    pub fn splice_from(&self, pipe: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        self.transfer(Interest::WRITABLE, 0, || Ok(splice(pipe, None, self, None, count, splice_flags())?))
    }

    /// One call of the kernel, made when it may do something.
    ///
    /// # Errors
    /// `WouldBlock`, or what the call says.
    pub fn attempt(&self, interest: Interest, call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        self.transfer(interest, 0, call)
    }

    /// Moves more of what is there into a pipe that has bytes already. An error may
    /// mean that the pipe is full, and is met again by who reads next.
    ///
    /// # Errors
    /// Of any kind.
    pub fn splice_more_into(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        Ok(splice(self, None, pipe, None, most, splice_flags())?)
    }

    /// One call of the kernel. Fewer bytes than `whole` say that there are no more
    /// (no room for more), so the next call need not be made to learn that:
    /// epoll(7), question 9.
    fn transfer(
        &self,
        interest: Interest,
        whole: usize,
        mut call: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut partial = None;
        let outcome = on_stream!(self, stream => stream.try_io(interest, || {
            let count = call()?;
            if 0 < count && count < whole {
                partial = Some(count);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        }));
        partial.map_or(outcome, Ok)
    }

    /// Ready when a read may give something.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_read_ready(context))
    }

    /// Ready when a write may take something.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_write_ready(context))
    }

    /// Waits until one of the interests may be met.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn ready(&self, interest: Interest) -> io::Result<()> {
        on_stream!(self, stream => stream.ready(interest).await).map(drop)
    }

    /// Looks at the first bytes without taking them: waits until `enough` says
    /// so of them, the buffer is full, or the peer sends no more.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn peek(&self, buffer: &mut [u8], enough: impl Fn(&[u8]) -> bool) -> io::Result<usize> {
        loop {
            let ready = on_stream!(self, stream => stream.ready(Interest::READABLE).await)?;
            let last = ready.is_read_closed();
            let mut look = || {
                let (seen, _) = rustix::net::recv(self, &mut *buffer, RecvFlags::PEEK)?;
                // Too little: as good as nothing, so that the runtime waits for more.
                let done = last || seen == 0 || seen == buffer.len() || enough(&buffer[..seen]);
                if done { Ok(seen) } else { Err(io::ErrorKind::WouldBlock.into()) }
            };
            match on_stream!(self, stream => stream.try_io(Interest::READABLE, &mut look)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                seen => return seen,
            }
        }
    }

    /// The same connection, of which the runtime knows nothing: what was seen of it
    /// and left counts as new.
    ///
    /// # Errors
    /// When the process has too many files open.
    pub fn renew(self) -> io::Result<Self> {
        let own = self.as_fd().try_clone_to_owned()?;
        let stream = match &self.stream {
            Stream::Tcp(_) => Stream::Tcp(TcpStream::from_std(own.into())?),
            Stream::Unix(_) => Stream::Unix(UnixStream::from_std(own.into())?),
        };
        // It goes on under the other descriptor.
        self.end_well();
        Ok(Self { stream, ended_well: AtomicBool::new(false) })
    }

    /// Takes bytes that were looked at before.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn skip(&self, mut count: usize) -> io::Result<()> {
        let mut buffer = [0; 256];
        while count > 0 {
            self.ready(Interest::READABLE).await?;
            let room = count.min(buffer.len());
            match self.try_read(&mut buffer[..room]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => count -= read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.ready(Interest::WRITABLE).await?;
            match self.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that we send no more; reading goes on.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn finish(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(self, Shutdown::Write)?)
    }

    /// Waits until the connection breaks. Reading would tell as well, but not
    /// while a slow receiver keeps us from reading, nor after an end of file.
    pub async fn broken(&self) -> io::Error {
        if let Err(error) = self.ready(Interest::ERROR).await {
            return error;
        }
        match on_stream!(self, stream => stream.take_error()) {
            Ok(Some(error)) | Err(error) => error,
            // A read or write got to it first, and will report it.
            Ok(None) => std::future::pending().await,
        }
    }

    /// From here on the connection is closed, not reset, when it is dropped.
    pub fn end_well(&self) {
        self.ended_well.store(true, Ordering::Relaxed);
    }
}

fn splice_flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        on_stream!(self, stream => stream.as_fd())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Stream::Tcp(stream) = &self.stream
            && !*self.ended_well.get_mut()
        {
            // Fails only on a connection that is gone, which is what we want.
            drop(stream.set_zero_linger());
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{getsockopt, sockopt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = Address::Tcp(listener.local_addr().expect("its address"));
        let settings = TcpSettings::default();
        let connected = Socket::connect(&address, &settings).await.expect("connect");
        (connected, Socket::tcp(listener.accept().await.expect("accept").0, &settings).expect("set up"))
    }

    #[tokio::test]
    async fn small_messages_do_not_wait_and_dead_peers_are_noticed() {
        let (connected, accepted) = pair().await;
        for socket in [connected, accepted] {
            assert!(getsockopt(&socket, sockopt::TcpNoDelay).expect("TCP_NODELAY"));
            assert!(getsockopt(&socket, sockopt::KeepAlive).expect("SO_KEEPALIVE"));
            assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle).expect("idle"), 60);
            assert_eq!(getsockopt(&socket, sockopt::TcpKeepInterval).expect("interval"), 15);
            assert_eq!(getsockopt(&socket, sockopt::TcpKeepCount).expect("probes"), 4);
        }
    }

    #[tokio::test]
    async fn what_is_looked_at_stays() {
        let (writer, reader) = pair().await;
        let mut seen = [0; 8];
        writer.write_all(b"ab").await.expect("send");
        let looking = reader.peek(&mut seen, |bytes| bytes.len() >= 4);
        let (count, sent) = tokio::join!(looking, writer.write_all(b"cd"));
        sent.expect("send");
        assert_eq!(count.expect("look"), 4);
        assert_eq!(&seen[..4], b"abcd");
        reader.skip(3).await.expect("skip");
        // The end of file ends the wait for more.
        writer.finish().expect("finish");
        assert_eq!(reader.peek(&mut seen, |_| false).await.expect("look"), 1);
        assert_eq!(&seen[..1], b"d");
    }
}

//! An application's end of a connection, TCP or unix, for tests with many of them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

use super::DEADLINE;

/// Where an end is found.
#[derive(Clone, Debug)]
pub enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connected end.
pub enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! on_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self {
            Peer::Tcp($stream) => $call,
            Peer::Unix($stream) => $call,
        }
    };
}

impl Peer {
    pub async fn connect(place: &Place) -> io::Result<Self> {
        match place {
            Place::Tcp(address) => Self::tcp(TcpStream::connect(address).await?),
            Place::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Reads something; 0 is the end of file. To wait for longer than the deadline is an error.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            in_time(async { on_stream!(self, stream => stream.readable().await) }).await?;
            match on_stream!(self, stream => stream.try_read(buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    pub async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => buffer = &mut buffer[read..],
            }
        }
        Ok(())
    }

    /// Writes something.
    pub async fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            in_time(async { on_stream!(self, stream => stream.writable().await) }).await?;
            match on_stream!(self, stream => stream.try_write_vectored(slices)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.write(&[IoSlice::new(bytes)]).await?..];
        }
        Ok(())
    }

    /// Says that no more is sent.
    pub fn finish(&self) -> io::Result<()> {
        let shut = |fd| nix::sys::socket::shutdown(fd, nix::sys::socket::Shutdown::Write);
        Ok(on_stream!(self, stream => shut(std::os::fd::AsRawFd::as_raw_fd(stream)))?)
    }

    /// Has the kernel hold so much for it. (With unix sockets the sender's side decides that.)
    pub fn set_receive_buffer(&self, size: usize) {
        use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
        on_stream!(self, stream => setsockopt(stream, RcvBuf, &size)).expect("SO_RCVBUF");
    }

    /// From here on dropping it resets the connection. A unix socket has no reset, and just ends.
    pub fn reset_at_end(&self) {
        if let Self::Tcp(stream) = self {
            stream.set_zero_linger().expect("SO_LINGER");
        }
    }
}

/// Where ends are accepted.
pub enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    pub fn tcp() -> (Self, Place) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        // Hundreds connect at once.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096).expect("small")).expect("listen");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("its address");
        (Self::Tcp(TcpListener::from_std(listener).expect("a runtime")), Place::Tcp(address))
    }

    pub fn unix(path: PathBuf) -> (Self, Place) {
        (Self::Unix(UnixListener::bind(&path).expect("bind")), Place::Unix(path))
    }

    pub async fn accept(&self) -> Peer {
        match self {
            Self::Tcp(listener) => Peer::tcp(listener.accept().await.expect("accept").0).expect("nodelay"),
            Self::Unix(listener) => Peer::Unix(listener.accept().await.expect("accept").0),
        }
    }
}

async fn in_time<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(DEADLINE, what).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

//! Listening sockets: inherited or bound, and the loop that accepts on one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, listen, setsockopt, socket, sockopt,
};
use rustix::net::sockopt::set_socket_linger;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::address::{Address, Source};
use crate::connection;
use crate::error::Error;
use crate::flow::Common;
use crate::limit::Limit;
use crate::pacing::Pacing;
use crate::refusals::Refusals;
use crate::service::Route;
use crate::socket::Socket;
use crate::tcp::TcpSettings;
use crate::worker::Workers;

/// The kernel cuts this down to `net.core.somaxconn`.
const BACKLOG: u16 = 4096;
const OUT_OF_RESOURCES_PAUSE: Duration = Duration::from_millis(100);
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// A socket that accepts.
pub enum Listening {
    /// On a TCP port.
    Tcp(TcpListener, Pacing),
    /// On a unix socket. The file, when we made it, goes away first: once nobody
    /// answers there, another process may put its own in its place.
    Unix { _file: Option<SocketFile>, listener: UnixListener },
}

/// The file of a unix socket that we made.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            warn!(path = %self.0.display(), %error, "socket file not removed");
        }
    }
}

/// What the process was started with. Taken before the runtime starts, since
/// the environment that names it is cleared.
pub struct Inherited(ListenFd);

impl Inherited {
    /// Takes them, systemd's way.
    #[must_use]
    pub fn from_environment() -> Self {
        Self(ListenFd::from_env())
    }

    /// The sockets with their own addresses; what is none is closed.
    pub fn into_listening(mut self) -> Vec<(Address, Listening)> {
        let mut found = Vec::new();
        for index in 0..self.0.len() {
            match self.take(index) {
                Ok(Some(socket)) => found.push(socket),
                Ok(None) => {}
                Err(error) => {
                    warn!(fd = index + 3, %error, "inherited descriptor is no listening socket, closed");
                    if let Ok(Some(fd)) = self.0.take_raw_fd(index)
                        && let Err(error) = nix::unistd::close(fd)
                    {
                        warn!(fd, %error, "descriptor not closed");
                    }
                }
            }
        }
        found
    }

    fn take(&mut self, index: usize) -> io::Result<Option<(Address, Listening)>> {
        // Who hands a socket over may only have bound it, to hold the port.
        let backlog = Backlog::new(BACKLOG)?;
        if let Ok(Some(socket)) = self.0.take_tcp_listener(index) {
            listen(&socket, backlog)?;
            socket.set_nonblocking(true)?;
            let address = Address::Tcp(socket.local_addr()?);
            return Ok(Some((address, Listening::tcp(TcpListener::from_std(socket)?))));
        }
        let Some(socket) = self.0.take_unix_listener(index)? else {
            return Ok(None);
        };
        listen(&socket, backlog)?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let path = local.as_pathname().ok_or_else(|| io::Error::other("it has no path"))?;
        let address = Address::Unix(path.to_owned());
        Ok(Some((address, Listening::Unix { _file: None, listener: UnixListener::from_std(socket)? })))
    }
}

impl Listening {
    /// Binds a socket of our own.
    ///
    /// # Errors
    /// When the address is taken, or not ours to take.
    pub fn bind(address: &Address) -> Result<Self, Error> {
        let bound = match address {
            Address::Tcp(tcp) => bind_tcp(*tcp),
            Address::Unix(path) => bind_unix(path),
        };
        bound.map_err(|source| Error::Listen { address: address.clone(), source })
    }

    fn tcp(listener: TcpListener) -> Self {
        let pacing = Pacing::of_listener(&listener);
        Self::Tcp(listener, pacing)
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, pacing) => {
                let (stream, source) = listener.accept().await?;
                pacing.settle(&stream, source);
                Ok(Accepted::Tcp(stream.into_std()?, source))
            }
            Self::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

/// A connection that no thread serves yet.
enum Accepted {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    fn source(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, source) => Some(*source),
            Self::Unix(_) => None,
        }
    }

    /// Makes it the calling thread's.
    fn into_socket(self, settings: &TcpSettings) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream, _) => Socket::tcp(TcpStream::from_std(stream)?, settings),
            Self::Unix(stream) => Ok(Socket::unix(UnixStream::from_std(stream)?)),
        }
    }

    /// Ends it without a word, and without a TIME_WAIT of ours.
    fn reset(self) {
        if let Self::Tcp(stream, _) = self {
            // Fails only on a connection that is gone, which is what we want.
            set_socket_linger(&stream, Some(Duration::ZERO)).ok();
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listening> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port whose last connections are still in TIME_WAIT is free.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // [::] means IPv6, so that it can stand beside a listener on 0.0.0.0.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    socket.bind(address)?;
    Ok(Listening::tcp(socket.listen(BACKLOG.into())?))
}

fn bind_unix(path: &Path) -> io::Result<Listening> {
    if path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket()) {
        match connect_at_once(path) {
            Err(Errno::ECONNREFUSED) => std::fs::remove_file(path)?,
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile(path.to_owned());
    // Nobody can connect before listen(), so nobody slips in before this.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Listening::Unix { _file: Some(file), listener: socket.listen(BACKLOG.into())? })
}

/// Does not wait, not even for a listener whose backlog is full.
fn connect_at_once(path: &Path) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(probe.as_raw_fd(), &UnixAddr::new(path)?)
}

/// What every listener of the process shares.
#[derive(Clone)]
pub struct Shared {
    /// How many connections are served at once.
    pub limit: Limit,
    /// The threads that carry connections.
    pub workers: Workers,
    /// What connections share among themselves.
    pub common: Common,
    /// Ends the open connections.
    pub cut: CancellationToken,
}

/// Accepts until `stop`; each connection gets the route of that moment. Who is not
/// among its sources is reset before a byte is read.
pub async fn serve(listening: Listening, route: watch::Receiver<Arc<Route>>, shared: Shared, stop: CancellationToken) {
    let refusals = Refusals::default();
    let accepting = async {
        let mut complained: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = next(&listening, &shared.limit) => accepted,
                () = refusals.due() => {
                    refusals.tell();
                    continue;
                }
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_about_one_connection(&error) => continue,
                Err(error) => {
                    // The connection stays in the backlog: without a pause this
                    // would spin until a descriptor is free.
                    if complained.is_none_or(|when| when.elapsed() >= COMPLAINT_INTERVAL) {
                        warn!(listener = route.borrow().listener.name, %error, "cannot accept, will go on trying");
                        complained = Some(Instant::now());
                    }
                    tokio::time::sleep(OUT_OF_RESOURCES_PAUSE).await;
                    continue;
                }
            };
            let place = shared.limit.take().await;
            let route = route.borrow().clone();
            if is_stranger(&route, &accepted) {
                refusals.refused(&route.listener.name, Source(accepted.source()), "not among the sources");
                accepted.reset();
                continue;
            }
            let (common, refusals, cut) = (shared.common.clone(), refusals.clone(), shared.cut.clone());
            shared.workers.spawn(async move {
                match accepted.into_socket(&route.tcp) {
                    Ok(socket) => connection::serve(&route, socket, &common, &refusals, cut).await,
                    Err(error) if is_about_one_connection(&error) => {}
                    Err(error) => warn!(listener = route.listener.name, %error, "connection not served"),
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
    refusals.tell();
}

/// Where a header comes first, only that can tell.
fn is_stranger(route: &Route, accepted: &Accepted) -> bool {
    let listener = &route.listener;
    !listener.accept_proxy_protocol && !listener.takes(accepted.source().map(|source| source.ip()))
}

/// Leaves connections in the backlog while there is no room for them.
async fn next(listening: &Listening, limit: &Limit) -> io::Result<Accepted> {
    loop {
        limit.room().await;
        tokio::select! {
            () = limit.full() => {}
            accepted = listening.accept() => return accepted,
        }
    }
}

/// accept(2): Linux hands over errors of the new connection as its own; and one
/// that is gone by the time we set it up says so in these ways.
fn is_about_one_connection(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    [
        Errno::ECONNABORTED,
        Errno::ECONNRESET,
        Errno::EINTR,
        Errno::ENETDOWN,
        Errno::EPROTO,
        Errno::ENOPROTOOPT,
        Errno::EHOSTDOWN,
        Errno::ENONET,
        Errno::EHOSTUNREACH,
        Errno::EOPNOTSUPP,
        Errno::ENETUNREACH,
    ]
    .contains(&errno)
}

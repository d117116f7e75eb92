//! Accepts control connections: from the network, where TLS handshakes have a
//! deadline and a cap, and from the operator on the unix socket.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::unistd::geteuid;
use openssl::memcmp;
use openssl::ssl::Ssl;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_openssl::SslStream;
use tonic::transport::server::Connected;

use super::seats::{Seat, Seats};
use super::{Operators, Reception};
use crate::auth::{Caller, certified, share_of};
use crate::store::OperatorWord;
use crate::tls::ServerTls;

/// Handshakes that may be under way at once.
const MOST_HANDSHAKES: usize = 256;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// What is waited when the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A control connection, ready for HTTP/2.
pub(super) struct ControlStream {
    io: Box<dyn Io>,
    peer: Peer,
    /// Ready when it has to make room for another one.
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Who is at the other end of a control connection.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// Whoever can reach the control port.
    Tcp {
        /// Their address.
        peer: SocketAddr,
        /// The one of ours that they reached.
        local: SocketAddr,
        /// Whom their certificate names, if they have one.
        certified: Option<Certified>,
        /// Its place among all connections.
        seat: Arc<Seat>,
    },
    /// Root, or the user that we run as, over the unix socket in the state folder.
    Operator,
}

/// Whom a certificate names, and the authorities that were trusted to vouch for it.
#[derive(Debug, Clone)]
pub(super) struct Certified {
    caller: Caller,
    by: Arc<[u8]>,
}

impl Peer {
    /// Whether the caller is on this host.
    pub(super) fn is_on_this_host(&self) -> bool {
        match self {
            Self::Operator => true,
            Self::Tcp { peer, local, .. } => {
                let (peer, local) = (peer.ip().to_canonical(), local.ip().to_canonical());
                peer.is_loopback() || peer == local
            }
        }
    }

    /// The caller's address; none over the unix socket.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Operator => None,
            Self::Tcp { peer, .. } => Some(peer.ip().to_canonical()),
        }
    }

    /// Who it is, where the connection itself says so, and those who vouched for it are
    /// the ones that are trusted now.
    pub(super) fn certified(&self, now: Option<&ServerTls>) -> Option<&Caller> {
        match self {
            Self::Operator => Some(&Caller::Operator),
            Self::Tcp { certified, .. } => {
                let certified = certified.as_ref()?;
                now.is_some_and(|now| now.authorities == certified.by).then_some(&certified.caller)
            }
        }
    }

    /// A call over it was let in.
    pub(super) fn was_let_in(&self) {
        if let Self::Tcp { seat, .. } = self {
            seat.used();
        }
    }
}

/// Accepts until the receiver of the streams goes.
///
/// Who is honest finishes a handshake in milliseconds. So when too many are under
/// way, one makes room, the oldest of whoever has most, and whoever holds connections open without
/// finishing keeps nobody else out. The same goes for connections that stand, see
/// [`Seats`].
pub(super) async fn accept(
    listener: TcpListener,
    reception: watch::Receiver<Reception>,
    ready: mpsc::Sender<io::Result<ControlStream>>,
) {
    let mut under_way = VecDeque::new();
    let seats = Seats::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!("cannot accept a control connection: {e}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        make_room(&mut under_way);
        let from = share_of(peer.ip());
        // One that has gone already has no address any more.
        let Ok(local) = stream.local_addr() else { continue };
        let (tls, ready, seats) = (reception.borrow().tls.clone(), ready.clone(), seats.clone());
        // Ends by its deadline at the latest.
        let handshake = tokio::spawn(async move {
            match timeout(HANDSHAKE_DEADLINE, handshake(stream, tls)).await {
                // The receiver goes only when the server stops.
                Ok(Ok((io, certified))) => {
                    let seat = seats.take(from);
                    let ended = Box::pin(seat.ended());
                    let peer = Peer::Tcp { peer, local, certified, seat };
                    drop(ready.send(Ok(ControlStream { io, peer, ended })).await);
                }
                Ok(Err(e)) => tracing::info!(%peer, "a control connection failed its handshake: {e}"),
                Err(_) => tracing::info!(%peer, "a control connection did not finish its handshake in time"),
            }
        });
        under_way.push_back((from, handshake.abort_handle()));
    }
}

/// Accepts operators until the receiver of the streams goes.
pub(super) async fn accept_operators(operators: Operators, ready: mpsc::Sender<io::Result<ControlStream>>) {
    let Operators { listener, word } = operators;
    let mut under_way = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        // The mode of the socket keeps others out already; an operator may have changed it.
        match accepted.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream))) {
            Ok((uid, stream)) if uid == 0 || uid == geteuid().as_raw() => {
                make_room(&mut under_way);
                let ready = ready.clone();
                let greeting = tokio::spawn(async move {
                    match timeout(HANDSHAKE_DEADLINE, says(stream, word)).await {
                        Ok(Ok(stream)) => {
                            let (io, ended) = (Box::new(stream), Box::pin(pending()));
                            drop(ready.send(Ok(ControlStream { io, peer: Peer::Operator, ended })).await);
                        }
                        // No operator's program does; a proxy that was broken into might.
                        _ => tracing::warn!("somebody who cannot read the state folder came to the control socket"),
                    }
                });
                under_way.push_back((IpAddr::V4(Ipv4Addr::UNSPECIFIED), greeting.abort_handle()));
            }
            Ok((uid, _)) => tracing::warn!(uid, "a user who is not the operator came to the control socket"),
            Err(e) => {
                tracing::warn!("cannot accept an operator's connection: {e}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// For one more handshake: the oldest of whoever has most of them under way goes.
fn make_room(under_way: &mut VecDeque<(IpAddr, AbortHandle)>) {
    under_way.retain(|(_, handshake)| !handshake.is_finished());
    if under_way.len() < MOST_HANDSHAKES {
        return;
    }
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    under_way.iter().for_each(|(from, _)| *counts.entry(*from).or_default() += 1);
    let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(from, _)| from);
    let oldest = under_way.iter().position(|(from, _)| Some(*from) == most);
    if let Some((_, handshake)) = oldest.and_then(|index| under_way.remove(index)) {
        handshake.abort();
    }
}

async fn says(mut stream: UnixStream, word: OperatorWord) -> io::Result<UnixStream> {
    let mut said = OperatorWord::default();
    stream.read_exact(&mut said).await?;
    if memcmp::eq(&said, &word) { Ok(stream) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

async fn handshake(
    stream: TcpStream,
    tls: Option<ServerTls>,
) -> Result<(Box<dyn Io>, Option<Certified>), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok((Box::new(stream), None));
    };
    let mut stream = SslStream::new(Ssl::new(tls.acceptor.context())?, stream)?;
    Pin::new(&mut stream).accept().await?;
    // There is one only if an authority of the site's vouches for it.
    let caller = stream.ssl().peer_certificate().as_deref().and_then(certified);
    Ok((Box::new(stream), caller.map(|caller| Certified { caller, by: tls.authorities })))
}

impl Connected for ControlStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for ControlStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // To whoever reads it is as if the other side had gone.
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ControlStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_on_the_gateway_are_told_from_others() {
        let tcp = |peer: &str, local: &str| Peer::Tcp {
            peer: peer.parse().expect(peer),
            local: local.parse().expect(local),
            certified: None,
            seat: Seats::new().take(IpAddr::from([192, 0, 2, 1])),
        };
        assert!(tcp("127.0.0.1:1", "127.0.0.1:5000").is_on_this_host());
        assert!(tcp("192.0.2.1:1", "192.0.2.1:5000").is_on_this_host());
        assert!(tcp("[::ffff:192.0.2.1]:1", "192.0.2.1:5000").is_on_this_host());
        assert!(!tcp("192.0.2.7:1", "192.0.2.1:5000").is_on_this_host());
        assert!(!tcp("[2001:db8::7]:1", "[2001:db8::1]:5000").is_on_this_host());
        assert!(Peer::Operator.is_on_this_host());
    }
}

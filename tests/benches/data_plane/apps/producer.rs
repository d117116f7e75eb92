//! The producer: accepts, and sends for as long as each consumer asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

use super::runtime::{build, commands, reply};
use super::{ECHO, READY, STREAM};
use crate::failure::{Doing as _, Result};

/// What every stream sends. It is one for all of them, small enough to stay in a core's
/// cache: what it costs to fetch bytes from memory is not asked here. And large enough
/// for few system calls.
static CHUNK: [u8; 128 * 1024] = [0x5a; 128 * 1024];
/// Within the host the producer times nothing that it sends, as it would with BBR: such
/// interrupts are counted as the time of whichever program they interrupt, be it a proxy.
const WITHOUT_TIMERS: &str = "reno";
/// Connections may come all at once.
const BACKLOG: i32 = 4096;
/// After the time that was asked, for connections that were asked late.
const PATIENCE: Duration = Duration::from_secs(30);

/// What has been sent since it was last asked.
#[derive(Default)]
struct Sent {
    streams: AtomicUsize,
    bytes: AtomicU64,
    changed: Notify,
}

/// Runs until stdin ends.
///
/// # Errors
/// When it cannot listen there.
pub fn run(listen: SocketAddr) -> Result<()> {
    build()?.block_on(async {
        let listener = listening(listen)?;
        reply(Ok("listening"));
        let sent = Arc::new(Sent::default());
        tokio::spawn(accept(listener, Arc::clone(&sent)));
        let mut commands = commands();
        while let Some(line) = commands.recv().await {
            let wanted = line.strip_prefix("sent ").and_then(|count| count.parse().ok());
            reply(sent.by(wanted.doing("understand a command")?).await);
        }
        Ok(())
    })
}

fn listening(at: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP)).doing("make a socket")?;
    socket.set_reuse_address(true).and_then(|()| socket.set_nonblocking(true)).doing("set a socket up")?;
    if at.ip().is_loopback() {
        setsockopt(&socket, sockopt::TcpCongestion, &WITHOUT_TIMERS.into()).doing("choose a congestion control")?;
    }
    socket.bind(&at.into()).and_then(|()| socket.listen(BACKLOG)).doing(format!("listen on {at}"))?;
    TcpListener::from_std(socket.into()).doing("listen")
}

async fn accept(listener: TcpListener, sent: Arc<Sent>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let sent = Arc::clone(&sent);
                // A connection that breaks shows in what the consumer has.
                tokio::spawn(async move { drop(serve(stream, &sent).await) });
            }
            // Out of descriptors, or a connection that was gone again.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

impl Sent {
    /// The bytes of so many streams that have come to their end.
    async fn by(&self, streams: usize) -> Result<u64> {
        let all = async {
            loop {
                let changed = self.changed.notified();
                if self.streams.load(Ordering::Acquire) >= streams {
                    return;
                }
                changed.await;
            }
        };
        let waited = timeout(PATIENCE, all).await;
        let ended = self.streams.swap(0, Ordering::AcqRel);
        let bytes = self.bytes.swap(0, Ordering::AcqRel);
        waited.doing(format!("send on {streams} connections, only on {ended}"))?;
        Ok(bytes)
    }
}

async fn serve(mut stream: TcpStream, sent: &Sent) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        ECHO => echo(stream).await,
        STREAM => {
            stream.write_u8(READY).await?;
            let asked = Duration::from_millis(stream.read_u32().await?.into());
            let mut bytes = 0;
            let until = Instant::now() + asked;
            let send = async {
                loop {
                    bytes += stream.write(&CHUNK).await? as u64;
                    // A consumer that always takes more would keep all others, and the clock, waiting.
                    yield_now().await;
                }
            };
            let outcome: std::io::Result<()> = timeout_at(until, send).await.unwrap_or(Ok(()));
            sent.bytes.fetch_add(bytes, Ordering::AcqRel);
            sent.streams.fetch_add(1, Ordering::AcqRel);
            sent.changed.notify_one();
            outcome?;
            // The consumer ends the connection, when it has everything.
            stream.read_to_end(&mut Vec::new()).await?;
            stream.shutdown().await
        }
        _ => Ok(()),
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 64];
    loop {
        match stream.read(&mut bytes).await? {
            0 => return Ok(()),
            count => stream.write_all(&bytes[..count]).await?,
        }
    }
}

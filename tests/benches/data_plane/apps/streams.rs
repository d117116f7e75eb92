//! The consumer's open streams, and what has come on them.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::{READY, STREAM};
use crate::failure::{Doing as _, Failure, Result};

/// How many are opened at once, so that no backlog overflows.
const AT_ONCE: usize = 32;
/// The most that one system call takes off a connection.
const MOST: usize = 1 << 20;
/// For everything that is on its way to arrive.
const PATIENCE: Duration = Duration::from_secs(40);

thread_local! {
    /// Handed to the kernel as room that it need not fill.
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; MOST]);
}

/// Open streams.
pub struct Streams {
    streams: Vec<Arc<TcpStream>>,
    readers: JoinSet<io::Result<()>>,
    arrived: Arc<Arrived>,
    begun: Instant,
}

struct Arrived {
    bytes: AtomicU64,
    wanted: AtomicU64,
    enough: Notify,
    /// Lets go on who had stopped reading.
    resumed: Semaphore,
}

impl Streams {
    /// Opens so many, and sees that the producer answers on each.
    pub async fn open(to: SocketAddr, count: usize) -> Result<Self> {
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut opening: FuturesUnordered<_> = (0..count).map(|_| open_one(to, Arc::clone(&gate))).collect();
        let mut streams = Vec::with_capacity(count);
        let all = async {
            while let Some(stream) = opening.next().await {
                streams.push(Arc::new(stream?));
            }
            Ok::<_, io::Error>(())
        };
        let outcome = timeout(PATIENCE, all).await;
        outcome
            .doing(format!("open {count} connections in {PATIENCE:?}"))?
            .doing(format!("open {count} connections"))?;
        let arrived = Arrived {
            bytes: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            enough: Notify::new(),
            resumed: Semaphore::new(0),
        };
        Ok(Self { streams, readers: JoinSet::new(), arrived: Arc::new(arrived), begun: Instant::now() })
    }

    /// Asks for bytes on all of them, and tells how many came in that time. The first
    /// `stuck` do not read until [`Streams::until`].
    pub async fn go(&mut self, asked: Duration, stuck: usize) -> Result<u64> {
        let milliseconds = u32::try_from(asked.as_millis()).doing("ask for so long")?.to_be_bytes();
        self.begun = Instant::now();
        for (index, stream) in self.streams.iter().enumerate() {
            let written = stream.try_write(&milliseconds).doing("ask for bytes")?;
            if written != milliseconds.len() {
                return Err(Failure("ask for bytes: the connection takes none".into()));
            }
            self.readers.spawn(read(Arc::clone(stream), Arc::clone(&self.arrived), index < stuck));
        }
        sleep(asked).await;
        Ok(self.arrived.bytes.load(Ordering::Acquire))
    }

    /// Waits until so many have come in all, and tells how long after [`Streams::go`] that was.
    pub async fn until(&mut self, total: u64) -> Result<Duration> {
        self.arrived.resumed.add_permits(self.streams.len());
        self.arrived.wanted.store(total, Ordering::Release);
        let all = async {
            while self.arrived.bytes.load(Ordering::Acquire) < total {
                self.arrived.enough.notified().await;
            }
        };
        let waited = timeout(PATIENCE, all).await;
        let bytes = self.arrived.bytes.load(Ordering::Acquire);
        waited.doing(format!("take all bytes: {bytes} of {total} came"))?;
        Ok(self.begun.elapsed())
    }

    /// Ends all of them, and tells how many bytes came over their lives.
    pub async fn close(mut self) -> Result<u64> {
        for stream in &self.streams {
            // One that the other side has cut already cannot be ended.
            drop(SockRef::from(&**stream).shutdown(Shutdown::Write));
        }
        let all = async {
            while let Some(ended) = self.readers.join_next().await {
                // What matters has been counted; how it ends is not this bench's matter.
                drop(ended);
            }
        };
        timeout(PATIENCE, all).await.doing("see the connections end")?;
        Ok(self.arrived.bytes.load(Ordering::Acquire))
    }
}

async fn open_one(to: SocketAddr, gate: Arc<Semaphore>) -> io::Result<TcpStream> {
    let _turn = gate.acquire().await.map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_u8(STREAM).await?;
    match stream.read_u8().await? {
        READY => Ok(stream),
        other => Err(io::Error::other(format!("the producer answers {other}"))),
    }
}

async fn read(stream: Arc<TcpStream>, arrived: Arc<Arrived>, stuck: bool) -> io::Result<()> {
    if stuck {
        arrived.resumed.acquire().await.map_err(io::Error::other)?.forget();
    }
    // TCP drops what has come instead of copying it (tcp(7)): the room is not touched.
    let discard = || ROOM.with_borrow_mut(|room| Ok(recv(stream.as_raw_fd(), room, MsgFlags::MSG_TRUNC)?));
    loop {
        let count = stream.async_io(Interest::READABLE, discard).await?;
        if count == 0 {
            return Ok(());
        }
        let before = arrived.bytes.fetch_add(count as u64, Ordering::AcqRel);
        if before + count as u64 >= arrived.wanted.load(Ordering::Acquire) {
            arrived.enough.notify_one();
        }
        // A stream that always has more would keep all others waiting.
        yield_now().await;
    }
}

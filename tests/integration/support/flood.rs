//! A producer that sends as much as is taken, and consumers that take all they get.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use scistream::session::Endpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until};

use super::wait::eventually;

/// Sends to everybody who connects. Ends when dropped.
#[derive(Debug)]
pub struct Flood {
    endpoint: Endpoint,
    task: AbortHandle,
}

impl Flood {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = listener.local_addr().expect("bound").to_string().parse().expect("an endpoint");
        let task = tokio::spawn(async move {
            let mut floods = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.expect("accept");
                // Until the consumer goes away.
                floods.spawn(async move { while stream.write_all(&[7; 64 << 10]).await.is_ok() {} });
            }
        });
        Self { endpoint, task: task.abort_handle() }
    }

    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connections that read. They end when dropped.
#[derive(Debug)]
pub struct Consumers {
    bytes: Vec<Arc<AtomicU64>>,
    _tasks: JoinSet<()>,
}

impl Consumers {
    /// Connects so many times, and waits until all of them have got something.
    pub async fn connect(to: &str, number: usize) -> Self {
        let (mut bytes, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..number {
            let mut stream = TcpStream::connect(to).await.expect("the listener accepts");
            let read = Arc::new(AtomicU64::new(0));
            bytes.push(Arc::clone(&read));
            tasks.spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    read.fetch_add(u64::try_from(length).expect("it fits"), Ordering::Relaxed);
                }
            });
        }
        let consumers = Self { bytes, _tasks: tasks };
        let all = || consumers.bytes.iter().all(|bytes| bytes.load(Ordering::Relaxed) > 0);
        eventually("everybody has got something", all).await;
        consumers
    }

    /// All that they have got.
    pub fn bytes(&self) -> u64 {
        self.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    /// Bytes a second over a time.
    pub async fn rate_over(&self, time: Duration) -> f64 {
        let (began, before) = (Instant::now(), self.bytes());
        sleep(time).await;
        let moved = self.bytes() - before;
        #[expect(clippy::cast_precision_loss, reason = "fewer bytes than 2^52")]
        let moved = moved as f64;
        moved / began.elapsed().as_secs_f64()
    }
}

/// How long is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// What may be missing, at most, because others had the processors.
const MISSED: f64 = 0.05;
/// How often it is tried: others may have the processors.
const TRIES: usize = 3;
/// How often the limiter has something to do, and how late it may be without losing anything.
const TURN: Duration = Duration::from_millis(5);
const CREDIT: Duration = Duration::from_millis(25);

/// Which part of a time is lost to who waits for turns as the limiter does, because
/// others have the processors.
async fn lost(time: Duration) -> f64 {
    let (began, mut lost) = (Instant::now(), Duration::ZERO);
    let mut due = began;
    while began.elapsed() < time {
        due += TURN;
        sleep_until(due.into()).await;
        let late = due.elapsed().saturating_sub(CREDIT);
        lost += late;
        due += late;
    }
    lost.as_secs_f64() / began.elapsed().as_secs_f64()
}

/// They get this many bytes a second, within 3 %: never more, and at least once as
/// much, but for the time in which nobody could have moved anything.
pub async fn assert_moves(what: &str, consumers: &Consumers, expected: f64) {
    // What has filled the buffers on the way at first is behind us.
    sleep(Duration::from_secs(1)).await;
    let mut ratios = Vec::new();
    for _ in 0..TRIES {
        let (moved, lost) = tokio::join!(consumers.rate_over(WINDOW), lost(WINDOW));
        let ratio = moved / expected;
        println!("{what}: {:.2} % of {:.0} kB/s, {:.2} % lost", ratio * 100.0, expected / 1000.0, lost * 100.0);
        assert!(ratio < 1.03, "{what}: {ratio} of what it may");
        ratios.push((ratio, lost));
        // Each of the processes on the way may be kept waiting.
        if ratio > 0.97 - (2.0 * lost).min(MISSED) {
            return;
        }
    }
    panic!("{what}: {ratios:?} of what it may");
}

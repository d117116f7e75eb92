//! A connection that is never silent, and on which every byte is checked.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openssl::sha::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::app::{ECHO, bytes};
use super::wait::eventually;

const WORD: usize = 4 << 10;
/// Talkers leave some of the machine to others.
const PACE: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(20);

/// Talks through a listener to an [`App`](super::App), which echoes, until it is told to end.
#[derive(Debug)]
pub struct Talk {
    words: Arc<AtomicU64>,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Talk {
    /// Connects, and begins.
    pub async fn start(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("the listener accepts");
        stream.write_u8(ECHO).await.expect("write");
        let (words, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let task = tokio::spawn(talk(stream, Arc::clone(&words), stop.clone()));
        Self { words, stop, task }
    }

    /// How many words have come back whole.
    pub fn words(&self) -> u64 {
        self.words.load(Ordering::SeqCst)
    }

    /// Waits until it has said some more since now.
    pub async fn goes_on(&self) {
        let before = self.words();
        eventually("a talk goes on", || self.task.is_finished() || self.words() > before + 1).await;
        assert!(!self.task.is_finished(), "a talk was cut short after {} words", self.words());
    }

    /// Ends it. Every byte that was sent has come back, and then its end; answers with how many.
    pub async fn end(self) -> u64 {
        self.stop.cancel();
        let outcome = timeout(DEADLINE, self.task).await.expect("a talk ends").expect("no panic");
        outcome.unwrap_or_else(|e| panic!("a talk was cut short after some words: {e}"));
        self.words.load(Ordering::SeqCst) * WORD as u64
    }
}

async fn talk(mut stream: TcpStream, words: Arc<AtomicU64>, stop: CancellationToken) -> io::Result<()> {
    let text = bytes(3);
    let (mut sent, mut came) = (Sha256::new(), Sha256::new());
    let mut back = vec![0; WORD];
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for word in text.chunks_exact(WORD).cycle() {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = pace.tick() => {}
        }
        sent.update(word);
        stream.write_all(word).await?;
        timeout(DEADLINE, stream.read_exact(&mut back)).await.map_err(io::Error::other)??;
        came.update(&back);
        words.fetch_add(1, Ordering::SeqCst);
    }
    stream.shutdown().await?;
    let more = timeout(DEADLINE, stream.read(&mut back)).await.map_err(io::Error::other)??;
    match more == 0 && sent.finish() == came.finish() {
        true => Ok(()),
        false => Err(io::Error::other("other bytes came back")),
    }
}

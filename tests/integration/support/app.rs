//! Applications at the two ends: a producer that listens and a consumer that
//! connects, who check every byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use openssl::sha::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What one side sends in an [`exchange`].
pub const PAYLOAD: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(30);

/// Who ends its half of the connection first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The consumer, which connects.
    Consumer,
    /// The producer, which listens.
    Producer,
}

/// A producer on a port of the system's choice. Ends when dropped.
#[derive(Debug)]
pub struct App {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    whole: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl App {
    /// Listens on 127.0.0.1, and does its side of [`exchange`] and [`Echo`].
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// Listens on an address of the test's choice.
    pub async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (connections, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let whole = Arc::new(AtomicUsize::new(0));
        let (seen, read, good) = (Arc::clone(&connections), Arc::clone(&bytes), Arc::clone(&whole));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accept");
                seen.fetch_add(1, Ordering::SeqCst);
                let (read, good) = (Arc::clone(&read), Arc::clone(&good));
                tokio::spawn(async move {
                    // A consumer that goes away is no fault of the producer's.
                    drop(serve(stream, &read, &good).await);
                });
            }
        });
        Self { address, connections, bytes, whole, task }
    }

    /// As clients of a gateway name it.
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// How many connections have come.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many consumers' payloads have come whole, to the last byte and the end.
    pub fn whole(&self) -> usize {
        self.whole.load(Ordering::SeqCst)
    }

    /// How many bytes have come.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The first byte says what the consumer wants.
const CONSUMER_FIRST: u8 = b'C';
const PRODUCER_FIRST: u8 = b'P';
pub const ECHO: u8 = b'E';

async fn serve(mut stream: TcpStream, read: &AtomicUsize, whole: &AtomicUsize) -> std::io::Result<()> {
    let what = stream.read_u8().await?;
    read.fetch_add(1, Ordering::SeqCst);
    match what {
        CONSUMER_FIRST => {
            let digest = digest_to_end(&mut stream).await?;
            whole.fetch_add(usize::from(digest == digest_of(&bytes(1))), Ordering::SeqCst);
            stream.write_all(&digest).await?;
            stream.write_all(&bytes(2)).await?;
            stream.shutdown().await
        }
        PRODUCER_FIRST => {
            stream.write_all(&bytes(2)).await?;
            stream.shutdown().await?;
            let digest = digest_to_end(&mut stream).await?;
            whole.fetch_add(usize::from(digest == digest_of(&bytes(1))), Ordering::SeqCst);
            Ok(())
        }
        ECHO => {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let length = stream.read(&mut buffer).await?;
                if length == 0 {
                    return stream.shutdown().await;
                }
                stream.write_all(&buffer[..length]).await?;
            }
        }
        _ => Ok(()),
    }
}

/// Connects, exchanges [`PAYLOAD`] bytes each way, and checks what came. The
/// side that ends first half-closes, and the other goes on to its own end.
pub async fn exchange(address: &str, first: First) {
    let work = async {
        let mut stream = TcpStream::connect(address).await.expect("the listener accepts");
        match first {
            First::Consumer => {
                stream.write_u8(CONSUMER_FIRST).await.expect("write");
                stream.write_all(&bytes(1)).await.expect("write");
                stream.shutdown().await.expect("half-close");
                let mut digest = [0; 32];
                stream.read_exact(&mut digest).await.expect("the producer answers after our end");
                assert_eq!(digest, digest_of(&bytes(1)), "the producer read other bytes");
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.expect("read");
                assert!(rest == bytes(2), "the consumer read other bytes ({} of {PAYLOAD})", rest.len());
            }
            First::Producer => {
                stream.write_u8(PRODUCER_FIRST).await.expect("write");
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.expect("the producer's half ends");
                assert!(all == bytes(2), "the consumer read other bytes ({} of {PAYLOAD})", all.len());
                stream.write_all(&bytes(1)).await.expect("write after the producer's end");
                stream.shutdown().await.expect("close");
            }
        }
    };
    timeout(DEADLINE, work).await.unwrap_or_else(|_| panic!("{first:?} first through {address}: no end"));
}

/// A connection on which whatever is sent comes back.
pub struct Echo<S = TcpStream>(S);

impl Echo {
    pub async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the listener accepts");
        Self::over(stream).await.expect("write")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Echo<S> {
    /// Over a connection that stands already.
    pub async fn over(mut stream: S) -> std::io::Result<Self> {
        stream.write_u8(ECHO).await?;
        Ok(Self(stream))
    }

    /// Sends a word and waits for it to come back.
    pub async fn try_say(&mut self, word: &str) -> std::io::Result<()> {
        self.0.write_all(word.as_bytes()).await?;
        let mut back = vec![0; word.len()];
        timeout(DEADLINE, self.0.read_exact(&mut back)).await.map_err(std::io::Error::other)??;
        assert_eq!(back, word.as_bytes());
        Ok(())
    }

    pub async fn say(&mut self, word: &str) {
        self.try_say(word).await.expect("the echo comes back");
    }
}

/// Bytes that look random, the same for the same seed.
pub fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..PAYLOAD / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect()
}

async fn digest_to_end(stream: &mut TcpStream) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(hash.finish());
        }
        hash.update(&buffer[..length]);
    }
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    openssl::sha::sha256(bytes)
}

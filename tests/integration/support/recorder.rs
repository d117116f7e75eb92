//! A relay that keeps what passes through it, as an eavesdropper would.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

type Bytes = Arc<Mutex<Vec<u8>>>;

/// Relays connections to one target, one after the other in its records. Ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    pub address: SocketAddr,
    sent: Bytes,
    answered: Bytes,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Listens on 127.0.0.1 and connects to `target` for each connection that comes.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (sent, answered) = (Bytes::default(), Bytes::default());
        let (up, down, target) = (Arc::clone(&sent), Arc::clone(&answered), target.to_owned());
        let task = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.expect("accept");
                let (up, down, target) = (Arc::clone(&up), Arc::clone(&down), target.clone());
                tokio::spawn(async move {
                    let far = TcpStream::connect(target).await.expect("the target accepts");
                    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                    tokio::join!(copy(near_read, far_write, &up), copy(far_read, near_write, &down));
                });
            }
        });
        Self { address, sent, answered, task }
    }

    /// What came from whoever connected.
    pub fn sent(&self) -> Vec<u8> {
        self.sent.lock().expect("no copy panics").clone()
    }

    /// What came from the target.
    pub fn answered(&self) -> Vec<u8> {
        self.answered.lock().expect("no copy panics").clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Copies to the end; an end that goes away early ends the copy too.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, record: &Bytes) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        record.lock().expect("no copy panics").extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    drop(to.shutdown().await);
}

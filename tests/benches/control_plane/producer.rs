//! The producer's application: whoever connects gets a byte.

use scistream::session::Endpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Ends when dropped.
pub struct Producer {
    pub endpoint: Endpoint,
    task: JoinHandle<()>,
}

impl Producer {
    /// Listens on a port of the system's choice.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = listener.local_addr().expect("bound").to_string().parse().expect("an endpoint");
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accept");
                tokio::spawn(async move {
                    stream.set_nodelay(true)?;
                    stream.write_u8(b'!').await?;
                    // Until the consumer goes.
                    stream.read_u8().await
                });
            }
        });
        Self { endpoint, task }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

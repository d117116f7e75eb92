//! The way of s2cs to its helper.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::wire::{Answer, LONGEST_LINE, Request};
use crate::session::Sources;

/// How long the helper may take, with those who asked before.
const DEADLINE: Duration = Duration::from_secs(10);
/// So many ask at once; a socket turns away those whom its queue cannot hold.
const AT_ONCE: usize = 32;

/// The firewall of this host, as its operator lets sessions use it.
#[derive(Debug, Clone)]
pub struct Firewall {
    socket: PathBuf,
    turns: Arc<Semaphore>,
}

/// What was not opened or closed, and why. The message is for users too.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// Nobody is there.
    #[error("the gateway's firewall stays closed: its helper s2fw does not answer: {0}")]
    Unreachable(io::Error),
    /// It takes too long.
    #[error("the gateway's firewall stays closed: its helper s2fw does not answer within {} s", DEADLINE.as_secs())]
    Silent,
    /// It does not want to, or cannot.
    #[error("the gateway's firewall stays closed: {0}")]
    Refused(String),
}

impl Firewall {
    /// The one whose helper listens there.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Whether somebody listens there.
    ///
    /// # Errors
    /// What the system says.
    pub fn probe(&self) -> io::Result<()> {
        BlockingStream::connect(&self.socket).map(drop)
    }

    /// Opens, or leaves open for so long from now on.
    pub(super) async fn open(
        &self,
        listeners: &[SocketAddr],
        sources: &Sources,
        time: Duration,
    ) -> Result<(), FirewallError> {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        self.ask(&Request::Open { listeners: listeners.to_vec(), sources: words(sources), seconds }).await
    }

    /// Closes.
    pub(super) async fn close(&self, listeners: &[SocketAddr], sources: &Sources) -> Result<(), FirewallError> {
        self.ask(&Request::Close { listeners: listeners.to_vec(), sources: words(sources) }).await
    }

    async fn ask(&self, request: &Request) -> Result<(), FirewallError> {
        let exchange = async {
            let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
            let mut stream = UnixStream::connect(&self.socket).await?;
            let sent = stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes()).await;
            let mut line = String::new();
            let read = BufReader::new(stream).take(LONGEST_LINE).read_line(&mut line).await;
            // Who is refused for what they are is told so, and not heard.
            match line.is_empty() {
                false => Ok(serde_json::from_str(&line)?),
                true => Err(sent.and(read).err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
            }
        };
        match timeout(DEADLINE, exchange).await {
            Err(_) => Err(FirewallError::Silent),
            Ok(Err(e)) => Err(FirewallError::Unreachable(e)),
            Ok(Ok(Answer::Refused(why) | Answer::Failed(why))) => Err(FirewallError::Refused(why)),
            Ok(Ok(Answer::Done {} | Answer::Openings(_))) => Ok(()),
        }
    }
}

fn words(sources: &Sources) -> Vec<String> {
    sources.networks().iter().map(ToString::to_string).collect()
}

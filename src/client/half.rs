//! One half of a tunnel, from REQ to the moment when its listeners accept.

use std::time::Duration;

use scistream_proto as wire;
use tokio::time::{Instant, sleep};

use super::{ClientError, Gateway};
use crate::session::{Endpoint, Protection, Role, Sources, TcpWishes, Uid};

/// What is asked of a gateway.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Names the stream, and is its key.
    pub uid: Uid,
    /// Which end.
    pub role: Role,
    /// How many listeners.
    pub connections: u16,
    /// What it is to move at most, in kB/s; 0: as much as the gateway allows.
    pub rate: i32,
    /// How long it is to last; `None`: as long as the gateway allows.
    pub lifetime: Option<Duration>,
    /// How long no byte may move; `None`: as long as the gateway allows.
    pub idle: Option<Duration>,
    /// From where its listeners take connections; none: from wherever the gateway allows.
    pub sources: Sources,
    /// The floor of the tunnel's protection; `None`: the gateway's.
    pub protection: Option<Protection>,
    /// What is to carry the bytes; `None`: what the gateway chooses.
    pub backend: Option<String>,
    /// How its connections are to be set.
    pub tcp: TcpWishes,
    /// What HELLO announces for the application.
    pub announced: Vec<Endpoint>,
}

/// A half that stands.
#[derive(Debug, Clone)]
pub struct Half {
    /// Where it accepts.
    pub listeners: Vec<String>,
    /// Where it forwards to.
    pub targets: Vec<String>,
    /// What the gateway keeps it to, in kB/s; 0: nothing of its own.
    pub bandwidth: u32,
}

/// A gateway that has not read the REQ yet gets another HELLO for this long.
const HELLO_TRIES: Duration = Duration::from_secs(5);
const HELLO_PAUSE: Duration = Duration::from_millis(50);

impl Ask {
    /// REQ and HELLO, at once. The answer to REQ has the half's listeners and the endpoints of HELLO.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn reserve(&self, gateway: &Gateway) -> Result<wire::Response, ClientError> {
        // Before HELLO can fail for lack of a REQ.
        gateway.can_serve(self).await?;
        let request = gateway.request(self);
        let hello = announce(gateway, &self.uid, self.role, &self.announced);
        let (answer, _) = tokio::try_join!(request, hello)?;
        Ok(answer)
    }

    /// REQ, HELLO and UPDATE with these targets; PROD: none means those of HELLO.
    ///
    /// When it fails half way, what was made is given back.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn open(&self, gateway: &Gateway, targets: Option<Vec<String>>) -> Result<Half, ClientError> {
        let wire::Response { listeners, prod_listeners, bandwidth } = self.reserve(gateway).await?;
        let half = self.start(gateway, listeners, targets.unwrap_or(prod_listeners)).await?;
        Ok(Half { bandwidth, ..half })
    }

    /// UPDATE. When it fails, the session is given back.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn start(
        &self,
        gateway: &Gateway,
        listeners: Vec<String>,
        targets: Vec<String>,
    ) -> Result<Half, ClientError> {
        match gateway.update(&self.uid, self.role, targets).await {
            Ok(answer) => Ok(Half { listeners, targets: answer.prod_listeners, bandwidth: answer.bandwidth }),
            Err(e) => {
                if let Err(second) = gateway.release(&self.uid).await {
                    tracing::warn!("also {}", second.story());
                }
                Err(e)
            }
        }
    }
}

/// HELLO; once more for as long as the gateway may not have read the REQ.
///
/// # Errors
/// [`ClientError`]
pub async fn announce(
    gateway: &Gateway,
    uid: &Uid,
    role: Role,
    endpoints: &[Endpoint],
) -> Result<Vec<String>, ClientError> {
    let deadline = Instant::now() + HELLO_TRIES;
    loop {
        match gateway.hello(uid, role, endpoints).await {
            Ok(answer) => return Ok(answer.listeners),
            Err(e) if e.is_unknown_uid() && Instant::now() < deadline => sleep(HELLO_PAUSE).await,
            Err(e) => return Err(e),
        }
    }
}

//! A session's opening in the firewall, renewed for as long as it is held.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::client::{Firewall, FirewallError};
use crate::session::Sources;

/// An opening that nobody renews closes by itself after so long.
const OPEN_FOR: Duration = Duration::from_secs(60);
const RENEWED_AFTER: Duration = Duration::from_secs(20);
/// One that could not be renewed is tried again.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// An opening for some listeners, from some sources. Dropping it lets it run out;
/// [`Opening::close`] closes it at once.
#[derive(Debug)]
pub struct Opening {
    door: Door,
    trouble: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Door {
    firewall: Firewall,
    listeners: Vec<SocketAddr>,
    sources: Sources,
}

impl Opening {
    /// Opens, and keeps open.
    ///
    /// # Errors
    /// [`FirewallError`]; nothing is kept then.
    pub async fn make(
        firewall: &Firewall,
        listeners: Vec<SocketAddr>,
        sources: Sources,
    ) -> Result<Self, FirewallError> {
        let door = Door { firewall: firewall.clone(), listeners, sources };
        door.open().await?;
        Ok(Self::keep(door, None))
    }

    /// Goes on with one of an earlier run, which is tried for until it is open.
    pub async fn resume(firewall: &Firewall, listeners: Vec<SocketAddr>, sources: Sources) -> Self {
        let door = Door { firewall: firewall.clone(), listeners, sources };
        let trouble = door.open().await.err().map(|e| e.to_string());
        Self::keep(door, trouble)
    }

    fn keep(door: Door, first: Option<String>) -> Self {
        let (tell, trouble) = watch::channel(first);
        let task = tokio::spawn(renew(door.clone(), tell));
        Self { door, trouble, task }
    }

    /// Why it may be closed just now.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Resolves when that has changed; never without an opening. Dropping this future loses nothing.
    pub async fn news(opening: Option<&mut Self>) {
        if let Some(opening) = opening
            && opening.trouble.changed().await.is_ok()
        {
            return;
        }
        pending().await
    }

    /// Closes one of an earlier run, which may not go on.
    pub async fn shut(firewall: &Firewall, listeners: Vec<SocketAddr>, sources: &Sources) {
        Door { firewall: firewall.clone(), listeners, sources: sources.clone() }.close().await;
    }

    /// Closes it.
    pub async fn close(mut self) {
        self.task.abort();
        // It may be asking just now, and must not be heard after us.
        drop((&mut self.task).await);
        self.door.close().await;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Door {
    async fn open(&self) -> Result<(), FirewallError> {
        self.firewall.open(&self.listeners, &self.sources, OPEN_FOR).await
    }

    async fn close(&self) {
        if let Err(e) = self.firewall.close(&self.listeners, &self.sources).await {
            tracing::warn!("an opening will close by itself within {} s only: {e}", OPEN_FOR.as_secs());
        }
    }
}

/// Renews until it is aborted.
async fn renew(door: Door, tell: watch::Sender<Option<String>>) {
    loop {
        let well = tell.borrow().is_none();
        // Sessions that began together do not ask together for ever.
        let pause = RENEWED_AFTER - RENEWED_AFTER.mul_f64(fastrand::f64() / 4.0);
        sleep(if well { pause } else { TRIED_AGAIN_AFTER }).await;
        let trouble = door.open().await.err().map(|e| e.to_string());
        tell.send_if_modified(|before| {
            let changed = *before != trouble;
            *before = trouble;
            changed
        });
    }
}

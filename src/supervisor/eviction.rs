//! Ends what an earlier run has left serving for a session that may not go on.

use std::net::SocketAddr;

use tokio_util::task::TaskTracker;

use super::place::Identities;
use super::process::{self, Process};
use super::site::Site;
use crate::backend::Folder;
use crate::firewall::Opening;
use crate::session::Sources;
use crate::store::Sighting;

impl Site {
    /// Ends all processes of a session at once and sees them to their end, and closes
    /// its opening in the firewall.
    pub async fn evict(&self, folder: &Folder, listeners: Vec<SocketAddr>, sources: &Sources, seen: &Sighting) {
        let reapers = TaskTracker::new();
        for identity in Identities::left(folder).all() {
            match Process::adopt(identity, &reapers) {
                Ok(Some(mut process)) => process.end_at_once().await,
                Ok(None) => {}
                Err(e) => tracing::warn!(pid = %identity.pid(), "cannot watch the end of a process: {e}"),
            }
        }
        // Workers that outlived their leader, and what was started and not written down.
        for pid in seen.still_in(&folder.path) {
            process::kill_and_see(pid, || seen.still_in(&folder.path).contains(&pid)).await;
        }
        reapers.close();
        reapers.wait().await;
        if let Some(firewall) = &self.firewall {
            Opening::shut(firewall, listeners, sources).await;
        }
    }
}

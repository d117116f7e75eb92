//! The listening sockets of a session, which its processes inherit.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use socket2::SockRef;

use crate::backend::{Address, Stage};
use crate::ports::PortLease;

/// All sockets that a session's stages accept on: the ports that were leased to
/// it, and the unix sockets between its stages, made when first needed.
#[derive(Debug)]
pub(super) struct SessionSockets {
    leases: Vec<PortLease>,
    between: HashMap<PathBuf, UnixListener>,
}

impl SessionSockets {
    pub(super) fn new(leases: Vec<PortLease>) -> Self {
        Self { leases, between: HashMap::new() }
    }

    /// Takes no more connections, whoever else holds copies of the sockets.
    pub(super) fn refuse(&self) {
        for lease in &self.leases {
            // Shutting a listening socket down stops it for every process that has it.
            if let Err(e) = SockRef::from(lease.listener()).shutdown(Shutdown::Read) {
                tracing::debug!("cannot stop listening on {}: {e}", lease.address());
            }
        }
    }

    /// Copies of the sockets of a stage, in the order of its hops.
    pub(super) fn of(&mut self, stage: &Stage) -> io::Result<Vec<OwnedFd>> {
        stage.hops.iter().map(|hop| self.copy(&hop.accept)).collect()
    }

    fn copy(&mut self, address: &Address) -> io::Result<OwnedFd> {
        match address {
            Address::Tcp(address) => self
                .leases
                .iter()
                .find(|lease| lease.address().0 == *address)
                .ok_or_else(|| io::Error::other(format!("no lease holds {address}")))?
                .listener()
                .as_fd()
                .try_clone_to_owned(),
            Address::Unix(path) => {
                if !self.between.contains_key(path) {
                    let listener = UnixListener::bind(path)?;
                    listener.set_nonblocking(true)?;
                    self.between.insert(path.clone(), listener);
                }
                self.between[path].as_fd().try_clone_to_owned()
            }
        }
    }
}

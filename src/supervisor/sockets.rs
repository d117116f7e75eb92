//! The listening sockets of a session, which its processes inherit.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};

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

    /// Where the session listens.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.leases.iter().map(|lease| lease.address().0).collect()
    }

    /// Takes no more connections, whoever else holds copies of the sockets.
    pub(super) fn refuse(&self) {
        for lease in &self.leases {
            if let Err(e) = lease.refuse() {
                tracing::debug!("cannot stop listening on {}: {e}", lease.address());
            }
        }
    }

    /// The sockets of a stage, in the order of its hops, for the process that is to
    /// serve them: they listen from here on.
    pub(super) fn for_serving(&mut self, stage: &Stage) -> io::Result<Vec<OwnedFd>> {
        stage.hops.iter().map(|hop| self.copy(&hop.accept)).collect()
    }

    /// Sockets of the same kinds for a check of a stage's configuration, which must
    /// not disturb whoever serves the real ones.
    pub(super) fn for_checking(stage: &Stage) -> io::Result<Vec<OwnedFd>> {
        let kind = |address: &Address| match address {
            Address::Tcp(address) => Domain::for_address(*address),
            Address::Unix(_) => Domain::UNIX,
        };
        stage.hops.iter().map(|hop| Ok(Socket::new(kind(&hop.accept), Type::STREAM, None)?.into())).collect()
    }

    fn copy(&mut self, address: &Address) -> io::Result<OwnedFd> {
        match address {
            Address::Tcp(address) => self
                .leases
                .iter()
                .find(|lease| lease.address().0 == *address)
                .ok_or_else(|| io::Error::other(format!("no lease holds {address}")))?
                .socket(),
            Address::Unix(path) => {
                if !self.between.contains_key(path) {
                    // An earlier run's: whoever served it has ended, or it would not be needed again.
                    remove_if_there(path)?;
                    let listener = UnixListener::bind(path)?;
                    listener.set_nonblocking(true)?;
                    self.between.insert(path.clone(), listener);
                }
                self.between[path].as_fd().try_clone_to_owned()
            }
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

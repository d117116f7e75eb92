//! What an arrangement is started on: folders, addresses, keys.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::failure::{Doing as _, Failure, Result};

/// Below the range of outgoing connections.
const PORTS: std::ops::Range<u16> = 4000..9900;
/// Each start has ports of its own: no connection of one before is in the way.
static NEXT_PORT: AtomicU16 = AtomicU16::new(PORTS.start);
/// What a client of the deployed release is called, too.
pub const IDENTITY: &str = "client1";

/// What an arrangement is started on.
pub struct Ground {
    /// For its files; it exists.
    pub folder: PathBuf,
    /// Where the producer accepts.
    pub producer: SocketAddr,
}

impl Ground {
    /// An empty folder for one arrangement.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(folder: PathBuf, producer: SocketAddr) -> Result<Self> {
        // Of the arrangement before.
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).doing("make a folder")?;
        Ok(Self { folder, producer })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        write(&self.folder, name, text)
    }

    /// The file of the key, 256 bits, which is the same every time.
    ///
    /// # Errors
    /// What the system says.
    pub fn key(&self) -> Result<PathBuf> {
        self.write("psk", &format!("{IDENTITY}:{}\n", "5c15".repeat(16)))
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600))).doing("write")?;
    Ok(path)
}

/// An address on loopback that nobody has.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    for _ in PORTS {
        let turn = |port| Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start });
        let port = NEXT_PORT.fetch_update(Ordering::AcqRel, Ordering::Acquire, turn).unwrap_or(PORTS.start);
        let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure(format!("find a free port from {PORTS:?}")))
}

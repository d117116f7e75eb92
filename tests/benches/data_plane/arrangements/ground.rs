//! What an arrangement is started on: folders, places, addresses, keys.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
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

/// A host: an address, and a network namespace where it isn't our own.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its address.
    pub ip: IpAddr,
    /// A process in its network namespace.
    pub holder: Option<u32>,
}

impl Place {
    /// Where we are.
    pub const HERE: Self = Self { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), holder: None };

    /// An address there that nobody has.
    ///
    /// # Errors
    /// When there is none.
    pub fn free_address(self) -> Result<SocketAddr> {
        for _ in PORTS {
            let turn = |port| Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start });
            let port = NEXT_PORT.fetch_update(Ordering::AcqRel, Ordering::Acquire, turn).unwrap_or(PORTS.start);
            let address = SocketAddr::new(self.ip, port);
            // In a namespace of ours there is nobody else.
            if self.holder.is_some() || TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        Err(Failure(format!("find a free port from {PORTS:?}")))
    }

    /// What makes a program run there: words to stand before its own.
    pub fn entering(self) -> Vec<String> {
        let enter = |pid| vec!["nsenter".into(), format!("--net=/proc/{pid}/ns/net"), "--".into()];
        self.holder.map_or_else(Vec::new, enter)
    }
}

/// What an arrangement is started on.
pub struct Ground {
    /// For its files; it exists as long as this.
    pub folder: PathBuf,
    /// The gateway near the producer, and the producer.
    pub prod: Place,
    /// The gateway near the consumer, and the consumer.
    pub cons: Place,
    /// Where the producer accepts.
    pub producer: SocketAddr,
}

impl Ground {
    /// A folder for one arrangement between these places.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(within: &Path, [prod, cons]: [Place; 2]) -> Result<Self> {
        let producer = prod.free_address()?;
        // Short: the path of a unix socket has at most 107 bytes.
        let folder = within.join(producer.port().to_string());
        fs::create_dir_all(&folder).doing("make a folder")?;
        Ok(Self { folder, prod, cons, producer })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        write(&path, text)?;
        Ok(path)
    }

    /// The file of the key.
    ///
    /// # Errors
    /// What the system says.
    pub fn key(&self) -> Result<PathBuf> {
        let path = self.folder.join("psk");
        write_key(&path)?;
        Ok(path)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // The folder around it goes with the bench.
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Writes a key of 256 bits, which is the same every time.
///
/// # Errors
/// What the system says.
pub fn write_key(path: &Path) -> Result<()> {
    write(path, &format!("{IDENTITY}:{}\n", "5c15".repeat(16)))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o600)))
        .doing(format!("write {}", path.display()))
}

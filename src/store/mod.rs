//! The state folder: a folder for each session, and nobody else's.
//!
//! A session's folder holds its key, its journal, its rendered configurations,
//! its logs and the unix sockets between its programs; it goes when the session
//! goes. The programs work in it, by which strays are found. Beside them lies the
//! socket by which the operator reaches the controller.

mod control_socket;
mod journal;
mod processes;
mod record;
mod sequence;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use crate::backend::Folder;
use crate::session::SessionId;

pub use control_socket::{ControlSocket, OperatorWord};
pub use journal::Journal;
pub use processes::{Sighting, installed, kill_now};
pub use record::{FORMAT, Live, Record, RecordError};

/// The state folder, locked for this controller.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    sessions: PathBuf,
    set_aside: PathBuf,
    sequence: u64,
    _lock: Flock<File>,
}

/// A state folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made or opened.
    #[error("use the state folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another controller has it.
    #[error("use the state folder {}: another s2cs is running with it; give this one a --state-dir of its own", path.display())]
    Taken {
        /// Which.
        path: PathBuf,
    },
}

impl StateFolder {
    /// Makes the folder if it is missing, and takes it for this controller.
    ///
    /// # Errors
    /// [`StateError`]
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let fault = |source| StateError::Folder { path: path.to_owned(), source };
        let sessions = path.join("sessions");
        DirBuilder::new().recursive(true).mode(0o700).create(&sessions).map_err(fault)?;
        fs::set_permissions(&sessions, fs::Permissions::from_mode(0o700)).map_err(fault)?;
        let lock = File::create(path.join("lock")).map_err(fault)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| StateError::Taken { path: path.to_owned() })?;
        let sequence = sequence::begin(path).map_err(fault)?;
        // The kernel tells working folders by their real path.
        let sessions = sessions.canonicalize().map_err(fault)?;
        Ok(Self { path: path.to_owned(), sessions, set_aside: path.join("set-aside"), sequence, _lock: lock })
    }

    /// From where this run counts its events: higher than any earlier one has come.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The last event was that one: the next run counts on from there.
    ///
    /// # Errors
    /// What the system says.
    pub fn note_sequence(&self, last: u64) -> io::Result<()> {
        sequence::end(&self.path, last)
    }

    /// A new, empty folder for a session.
    ///
    /// # Errors
    /// What the system says.
    pub fn make(&self, session: SessionId) -> io::Result<SessionFolder> {
        let path = self.sessions.join(session.to_string());
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(SessionFolder { folder: Folder { path }, removed: false })
    }

    /// The folders that an earlier run has left.
    ///
    /// # Errors
    /// What the system says.
    pub fn left(&self) -> io::Result<Vec<SessionFolder>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.sessions)? {
            folders.push(SessionFolder { folder: Folder { path: entry?.path() }, removed: false });
        }
        Ok(folders)
    }

    /// Takes a folder out of the way for an operator to look at, without its key.
    /// Answers with where it is now.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_aside(&self, mut folder: SessionFolder) -> io::Result<PathBuf> {
        folder.remove_key()?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.set_aside)?;
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        let name = folder.folder.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = self.set_aside.join(format!("{name}.{now}"));
        // Kept in any case, if need be where it is.
        folder.removed = true;
        fs::rename(&folder.folder.path, &place)?;
        Ok(place)
    }
}

/// A session's folder. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct SessionFolder {
    folder: Folder,
    removed: bool,
}

impl SessionFolder {
    /// Its places.
    #[must_use]
    pub fn places(&self) -> &Folder {
        &self.folder
    }

    /// Removes it now, the key first.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&mut self) -> io::Result<()> {
        if !self.removed {
            self.remove_key()?;
            failpoint!("key-removed");
            fs::remove_dir_all(&self.folder.path)?;
            failpoint!("session-folder-removed");
            self.removed = true;
        }
        Ok(())
    }

    /// Removes the key now: the session is over.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_key(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.key_file()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Drop for SessionFolder {
    fn drop(&mut self) {
        if let Err(e) = self.remove() {
            tracing::error!(folder = %self.folder.path.display(), "cannot remove a session's folder: {e}");
        }
    }
}

/// What a file must outlast whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlasts {
    /// The end of the host, a power cut for one.
    Host,
    /// The end of this process. For what means nothing once the host has ended.
    Process,
}

/// Replaces a file so that after an end at any moment the old or the new one is
/// there, whole (`fsync(2)`, `rename(2)`).
///
/// # Errors
/// What the system says.
pub fn replace(path: &Path, bytes: &[u8], outlasts: Outlasts) -> io::Result<()> {
    let next = next_to(path);
    let mut file = File::create(&next)?;
    file.write_all(bytes)?;
    if outlasts == Outlasts::Host {
        file.sync_all()?;
    }
    failpoint!("before-a-file-is-replaced");
    fs::rename(&next, path)?;
    match outlasts {
        Outlasts::Host => sync_folder(path.parent().unwrap_or(Path::new("/"))),
        Outlasts::Process => Ok(()),
    }
}

/// Puts a file where none is. After the end of this process it is there whole or not
/// at all; after a cut of the power half way, perhaps in part.
fn place_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = next_to(path);
    let mut file = File::create(&next)?;
    file.write_all(bytes)?;
    failpoint!("before-a-file-is-replaced");
    // Before the disk is waited for, which then takes in both at once.
    fs::rename(&next, path)?;
    file.sync_all()?;
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

fn next_to(path: &Path) -> PathBuf {
    let mut next = path.as_os_str().to_owned();
    next.push(".tmp");
    next.into()
}

/// Has the names in a folder outlast the host.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

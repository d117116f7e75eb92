//! The state folder: a folder for each session, and nobody else's.
//!
//! A session's folder holds its key, its rendered configurations, its logs and
//! the unix sockets between its programs; it goes when the session goes. The
//! programs work in it, which is how a controller that starts again finds what
//! an earlier one left behind when it was killed.

mod leftovers;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::backend::Folder;
use crate::session::SessionId;

pub use leftovers::Leftovers;

/// The state folder, locked for this controller.
#[derive(Debug)]
pub struct StateFolder {
    sessions: PathBuf,
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
        // The kernel tells working folders by their real path.
        let sessions = sessions.canonicalize().map_err(fault)?;
        Ok(Self { sessions, _lock: lock })
    }

    /// Where the sessions' folders are.
    #[must_use]
    pub fn sessions(&self) -> &Path {
        &self.sessions
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
            fs::remove_file(self.folder.key_file())?;
            fs::remove_dir_all(&self.folder.path)?;
            self.removed = true;
        }
        Ok(())
    }
}

impl Drop for SessionFolder {
    fn drop(&mut self) {
        if !self.removed
            && let Err(e) = fs::remove_dir_all(&self.folder.path)
        {
            tracing::error!(folder = %self.folder.path.display(), "cannot remove a session's folder: {e}");
        }
    }
}

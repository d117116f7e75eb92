//! The unix socket in the state folder, over which the operator on this host
//! reaches the controller: whoever may open it is the operator.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The socket's place. Dropping it removes the socket: to be dropped before the
/// folder is unlocked for the next controller.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
}

impl ControlSocket {
    /// Where the socket of a state folder is.
    #[must_use]
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("control.sock")
    }

    /// Makes it, in place of one that an earlier run has left. Only the controller's
    /// own user, and root, can connect to it.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(state_dir: &Path) -> io::Result<(Self, UnixListener)> {
        let (path, next) = (Self::path(state_dir), state_dir.join("control.sock.tmp"));
        remove_if_there(&next)?;
        let listener = UnixListener::bind(&next)?;
        fs::set_permissions(&next, Permissions::from_mode(0o600))?;
        fs::rename(&next, &path)?;
        listener.set_nonblocking(true)?;
        Ok((Self { path }, listener))
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(e) = remove_if_there(&self.path) {
            tracing::warn!("cannot remove {}: {e}", self.path.display());
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_the_last_one_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = ControlSocket::path(folder.path());
        // As one that was killed leaves it, even half way.
        drop(UnixListener::bind(&path).expect("bound"));
        drop(UnixListener::bind(folder.path().join("control.sock.tmp")).expect("bound"));
        UnixStream::connect(&path).expect_err("nobody is there");
        let (socket, _listener) = ControlSocket::bind(folder.path()).expect("bound");
        UnixStream::connect(&path).expect("somebody is there");
        assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}

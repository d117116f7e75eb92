//! The unix socket in the state folder, over which the operator on this host
//! reaches the controller: whoever may open it, and reads the file beside it, is
//! the operator.
//!
//! Proxies are of the same user, and most kernels cannot shut sockets to them as
//! they do files, see [`Sandbox`](crate::supervisor::Sandbox). So an operator's
//! first bytes are the word that stands in that file.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use openssl::rand::rand_bytes;

/// What an operator says first.
pub type OperatorWord = [u8; 32];

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

    /// The word to say at a socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn word(socket: &Path) -> io::Result<OperatorWord> {
        let word = fs::read(word_file(socket))?;
        word.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the word beside the socket is none"))
    }

    /// Makes it, in place of one that an earlier run has left. Only the controller's
    /// own user, and root, can connect to it.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(state_dir: &Path) -> io::Result<(Self, UnixListener, OperatorWord)> {
        let (path, next) = (Self::path(state_dir), state_dir.join("control.sock.tmp"));
        let mut word = OperatorWord::default();
        rand_bytes(&mut word)?;
        remove_if_there(&word_file(&path))?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(word_file(&path))?.write_all(&word)?;
        remove_if_there(&next)?;
        let listener = UnixListener::bind(&next)?;
        fs::set_permissions(&next, Permissions::from_mode(0o600))?;
        fs::rename(&next, &path)?;
        listener.set_nonblocking(true)?;
        Ok((Self { path }, listener, word))
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(e) = remove_if_there(&self.path).and_then(|()| remove_if_there(&word_file(&self.path))) {
            tracing::warn!("cannot remove {}: {e}", self.path.display());
        }
    }
}

fn word_file(socket: &Path) -> PathBuf {
    socket.with_extension("word")
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
        let (socket, _listener, word) = ControlSocket::bind(folder.path()).expect("bound");
        assert_eq!(ControlSocket::word(&path).expect("beside it"), word);
        UnixStream::connect(&path).expect("somebody is there");
        assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}

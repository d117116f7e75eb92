//! The file that keeps a person's tokens: mode 0600 in a folder of mode 0700,
//! replaced whole, and by one process at a time.
//!
//! The desktop's keyring is not used: the crates for it bring a D-Bus stack of
//! their own, and where SciStream runs – login nodes, gateways, batch jobs – there
//! is no keyring to ask.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::LoginError;
use super::entry::{Book, VERSION};

const FILE: &str = "tokens.json";
/// Longer than any refresh takes.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);
/// A lock of flock(2) cannot be awaited without a thread that may never end.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Where tokens are kept.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// The store, for as long as nobody else may change it.
#[derive(Debug)]
pub struct Locked<'a> {
    store: &'a Store,
    _lock: Flock<File>,
}

impl Store {
    /// This user's: `$XDG_DATA_HOME/scistream`, or `~/.local/share/scistream`.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn of_user() -> Result<Self, LoginError> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = folder("XDG_DATA_HOME").or_else(|| Some(folder("HOME")?.join(".local/share")));
        Ok(Self::at(data.ok_or(LoginError::NoFolder)?.join("scistream")))
    }

    /// One in a folder.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// What it keeps; nothing when there is no file yet.
    ///
    /// # Errors
    /// [`LoginError`]
    pub fn read(&self) -> Result<Book, LoginError> {
        /// What every format has had.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
            Err(e) => return Err(failed("read", &path)(e)),
        };
        let mode = fs::metadata(&path).map_err(failed("look at", &path))?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!("{} was open to others; its tokens may be known to them", path.display());
            fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed("close", &path))?;
        }
        let format = |why: String| LoginError::Format { path: path.clone(), why };
        // serde_json tells where, and may quote what is there: not in a file of tokens.
        let place = |e: serde_json::Error| format(format!("line {}, column {}", e.line(), e.column()));
        let Versioned { version } = serde_json::from_slice(&text).map_err(place)?;
        if version != VERSION {
            return Err(format(format!("it has format {version}, and this release knows {VERSION}")));
        }
        serde_json::from_slice(&text).map_err(place)
    }

    /// Waits until nobody else changes it.
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn lock(&self) -> Result<Locked<'_>, LoginError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed("make", &self.folder))?;
        // It may have been there before, and open to others.
        fs::set_permissions(&self.folder, Permissions::from_mode(0o700)).map_err(failed("close", &self.folder))?;
        let path = self.folder.join("lock");
        // A file of its own: the tokens' file is another one after each change.
        let mut file = own_file().create(true).truncate(false).open(&path).map_err(failed("open", &path))?;
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Locked { store: self, _lock: lock }),
                Err((again, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = again,
                Err((_, Errno::EWOULDBLOCK)) => return Err(LoginError::Locked { path, waited: LOCK_DEADLINE }),
                Err((_, e)) => return Err(failed("lock", &path)(e.into())),
            }
            sleep(LOCK_PAUSE).await;
        }
    }
}

impl Locked<'_> {
    /// What the store keeps now.
    ///
    /// # Errors
    /// [`LoginError`]
    pub fn read(&self) -> Result<Book, LoginError> {
        self.store.read()
    }

    /// Keeps this instead.
    ///
    /// # Errors
    /// [`LoginError`]
    pub fn write(&self, book: &Book) -> Result<(), LoginError> {
        let path = self.store.path();
        let new = path.with_extension("new");
        let text = serde_json::to_vec_pretty(book).expect("it is made of text and numbers");
        let write = || {
            // What a process that ended half way has left, with whatever mode.
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = own_file().create_new(true).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(failed("write", &path))
    }
}

fn own_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LoginError {
    let path = path.to_owned();
    move |source| LoginError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::at(folder.path().join("scistream"));
        fs::create_dir(folder.path().join("scistream")).expect("made by somebody else, open to all");
        let locked = store.lock().await.expect("locked");
        fs::write(store.path().with_extension("new"), "left behind").expect("written");
        locked.write(&Book::default()).expect("written");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&store.path()), mode(&folder.path().join("scistream"))), (0o600, 0o700));
        assert_eq!(mode(&folder.path().join("scistream/lock")), 0o600);
        // As a copy may be, from another host.
        fs::set_permissions(store.path(), Permissions::from_mode(0o644)).expect("ours");
        assert!(store.read().expect("read").logins.is_empty());
        assert_eq!(mode(&store.path()), 0o600);
    }

    #[test]
    fn a_file_of_another_format_is_left_alone_and_not_quoted() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::at(folder.path().to_owned());
        for text in [r#"{"version": 2, "secret": 1}"#, r#"{"version": 1, "secret": "s3"}"#, "secret", ""] {
            fs::write(store.path(), text).expect("written");
            let told = store.read().expect_err(text).to_string();
            assert!(!told.contains("secret") && told.contains("log in again"), "{told}");
        }
    }
}

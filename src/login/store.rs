//! The file that keeps a person's tokens: mode 0600 in a folder of mode 0700,
//! replaced whole, and by one process at a time.
//!
//! On a desktop it is sealed with a key that the keyring has, where the person wants
//! that; all else is the same. Where SciStream runs – login nodes, gateways, batch jobs
//! – there is mostly no keyring to ask, and the file stands by itself.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::entry::{Book, VERSION};
use super::seal::{SEALED_VERSION, Seal, Sealed};
use super::{KeyringError, LoginError, look_for_keyring};
use crate::causes::causes;

const FILE: &str = "tokens.json";
/// Longer than any refresh takes.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);
/// A lock of flock(2) cannot be awaited without a thread that may never end.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Where tokens are kept.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    /// The key that was got last: the keyring is not asked at every look.
    seal: Arc<Mutex<Option<Seal>>>,
}

/// The store, for as long as nobody else may change it.
#[derive(Debug)]
pub struct Locked<'a> {
    store: &'a Store,
    /// What it is sealed with, and to be.
    seal: Option<Seal>,
    /// Whether nothing is sealed with it yet.
    is_new: bool,
    /// The key that is for nothing once the file is written.
    spare: Option<Seal>,
    _lock: Flock<File>,
}

/// What a person wants of the keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keeping {
    /// As it is; the first time, the keyring where one answers.
    #[default]
    Auto,
    /// A file by itself.
    File,
    /// A file that is sealed with a key in the keyring, and nothing less.
    Keyring,
}

/// How tokens are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Readable for their owner.
    Plain,
    /// Sealed.
    Sealed,
}

/// The file as it is.
enum Content {
    Nothing,
    Plain(Book),
    Sealed(Sealed),
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
        Self { folder, seal: Arc::default() }
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
    pub async fn read(&self) -> Result<Book, LoginError> {
        match self.content()? {
            Content::Nothing => Ok(Book::default()),
            Content::Plain(book) => Ok(book),
            Content::Sealed(sealed) => self.opened(&sealed, &self.seal_of(&sealed).await?),
        }
    }

    /// How it keeps them, as far as there are any.
    ///
    /// # Errors
    /// [`LoginError`]
    pub fn kept(&self) -> Result<Option<Kept>, LoginError> {
        Ok(match self.content()? {
            Content::Nothing => None,
            Content::Plain(_) => Some(Kept::Plain),
            Content::Sealed(_) => Some(Kept::Sealed),
        })
    }

    fn content(&self) -> Result<Content, LoginError> {
        /// What every format has had.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Content::Nothing),
            Err(e) => return Err(failed("read", &path)(e)),
        };
        let mode = fs::metadata(&path).map_err(failed("look at", &path))?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!("{} was open to others; its tokens may be known to them", path.display());
            fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed("close", &path))?;
        }
        let Versioned { version } = serde_json::from_slice(&text).map_err(|e| self.place(&e))?;
        match version {
            VERSION => Ok(Content::Plain(serde_json::from_slice(&text).map_err(|e| self.place(&e))?)),
            SEALED_VERSION => Ok(Content::Sealed(serde_json::from_slice(&text).map_err(|e| self.place(&e))?)),
            other => Err(self.format(format!("it has format {other}, and this release knows {SEALED_VERSION}"))),
        }
    }

    fn format(&self, why: String) -> LoginError {
        LoginError::Format { path: self.path(), why }
    }

    /// serde_json tells where, and may quote what is there: not in a file of tokens.
    fn place(&self, e: &serde_json::Error) -> LoginError {
        self.format(format!("line {}, column {}", e.line(), e.column()))
    }

    fn opened(&self, sealed: &Sealed, seal: &Seal) -> Result<Book, LoginError> {
        let text = seal.open(sealed).map_err(|why| self.format(why))?;
        serde_json::from_slice(&text).map_err(|e| self.place(&e))
    }

    async fn seal_of(&self, sealed: &Sealed) -> Result<Seal, LoginError> {
        let known = self.seal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(seal) = known.filter(|seal| seal.is_of(sealed)) {
            return Ok(seal);
        }
        let got = Seal::of(sealed).await;
        let seal = got.map_err(|source| LoginError::Sealed { path: self.path(), source })?;
        *self.seal.lock().unwrap_or_else(PoisonError::into_inner) = Some(seal.clone());
        Ok(seal)
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
                Ok(lock) => {
                    let seal = match self.content()? {
                        Content::Sealed(sealed) => Some(self.seal_of(&sealed).await?),
                        _ => None,
                    };
                    return Ok(Locked { store: self, seal, is_new: false, spare: None, _lock: lock });
                }
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
    pub async fn read(&self) -> Result<Book, LoginError> {
        self.store.read().await
    }

    /// Has it kept so from the next [`Locked::write`] on. Answers with why that is not
    /// the keyring, where one is there.
    ///
    /// # Errors
    /// [`LoginError::Unkept`]
    pub async fn keep(&mut self, how: Keeping) -> Result<Option<KeyringError>, LoginError> {
        match (how, &self.seal) {
            (Keeping::File, _) => self.spare = self.seal.take(),
            (Keeping::Keyring, None) => self.take(Seal::make().await.map_err(LoginError::Unkept)?),
            (Keeping::Auto, None) if self.store.kept()?.is_none() && look_for_keyring().is_ok() => {
                match Seal::make().await {
                    Ok(seal) => self.take(seal),
                    Err(e) => return Ok(Some(e)),
                }
            }
            (Keeping::Auto | Keeping::Keyring, _) => {}
        }
        Ok(None)
    }

    fn take(&mut self, seal: Seal) {
        (self.seal, self.is_new) = (Some(seal), true);
    }

    /// Keeps this instead. A sealed file without any login goes, and its key with it.
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn write(&mut self, book: &Book) -> Result<(), LoginError> {
        let path = self.store.path();
        if book.logins.is_empty()
            && let Some(seal) = self.seal.take()
        {
            fs::remove_file(&path).or_else(ignore_missing).map_err(failed("remove", &path))?;
            self.spare = Some(seal);
        } else if let Err(e) = self.replace(book) {
            self.spare = self.seal.take_if(|_| self.is_new);
            self.forget_spare().await;
            return Err(e);
        }
        self.is_new = false;
        *self.store.seal.lock().unwrap_or_else(PoisonError::into_inner) = self.seal.clone();
        self.forget_spare().await;
        Ok(())
    }

    async fn forget_spare(&mut self) {
        if let Some(spare) = self.spare.take()
            && let Err(e) = spare.forget().await
        {
            // It opens nothing any more.
            tracing::warn!("the keyring keeps a key that is for nothing: {}", causes(&e));
        }
    }

    fn replace(&self, book: &Book) -> Result<(), LoginError> {
        let path = self.store.path();
        let new = path.with_extension("new");
        let text = serde_json::to_vec_pretty(book).expect("it is made of text and numbers");
        let text = match &self.seal {
            None => text,
            Some(seal) => {
                let sealed = seal.close(&text).map_err(|why| self.store.format(why))?;
                serde_json::to_vec_pretty(&sealed).expect("it is made of text")
            }
        };
        let write = || {
            // What a process that ended half way has left, with whatever mode.
            fs::remove_file(&new).or_else(ignore_missing)?;
            let mut file = own_file().create_new(true).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|e| {
            // Nobody could do more about it; the next to write tries again.
            drop(fs::remove_file(&new));
            failed("write", &path)(e)
        })
    }
}

fn ignore_missing(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
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
        let mut locked = store.lock().await.expect("locked");
        fs::write(store.path().with_extension("new"), "left behind").expect("written");
        locked.write(&Book::default()).await.expect("written");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&store.path()), mode(&folder.path().join("scistream"))), (0o600, 0o700));
        assert_eq!(mode(&folder.path().join("scistream/lock")), 0o600);
        // As a copy may be, from another host.
        fs::set_permissions(store.path(), Permissions::from_mode(0o644)).expect("ours");
        assert!(store.read().await.expect("read").logins.is_empty());
        assert_eq!(mode(&store.path()), 0o600);
    }

    #[tokio::test]
    async fn a_file_of_another_format_is_left_alone_and_not_quoted() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::at(folder.path().to_owned());
        for text in [
            r#"{"version": 3, "secret": 1}"#,
            r#"{"version": 2, "secret": 1}"#,
            r#"{"version": 1, "secret": "s3"}"#,
            "secret",
            "",
        ] {
            fs::write(store.path(), text).expect("written");
            let told = store.read().await.expect_err(text).to_string();
            assert!(!told.contains("secret") && told.contains("log in again"), "{told}");
        }
    }
}

//! What can go wrong with a login, and how it is told.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::KeyringError;
use crate::http::HttpError;
use crate::issuer::IssuerError;
use crate::tls::TlsError;

/// A login, a refresh or a logout that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The authorization server gives no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The authorization server cannot be used.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The gateway names a provider of a kind that is not known here.
    #[error("log in at the provider {0:?}: s2uc {version} does not know its kind; a newer one may", version = env!("CARGO_PKG_VERSION"))]
    Kind(String),
    /// An endpoint of another host than the issuer's, without the issuer's word for it.
    #[error("trust the {what} {address:?}: it is not at {issuer}, whose it is said to be")]
    Foreign {
        /// What it is to be.
        what: &'static str,
        /// As it was given.
        address: String,
        /// Whose it is said to be.
        issuer: String,
    },
    /// A way to log in that the provider does not have.
    #[error("log in at {issuer}: it has no {what}")]
    Missing {
        /// Whose.
        issuer: String,
        /// What would be needed.
        what: &'static str,
    },
    /// The authorization server said no.
    #[error("{doing} at {issuer}: {error}")]
    Refused {
        /// What was asked for.
        doing: &'static str,
        /// Who said it.
        issuer: String,
        /// Its error code, and what it says about it.
        error: String,
    },
    /// An answer that makes no sense.
    #[error("{doing} at {issuer}: its answer is none that OAuth has (HTML of a proxy, perhaps)")]
    Answer {
        /// What was asked for.
        doing: &'static str,
        /// Whose.
        issuer: String,
    },
    /// An answer of another login (RFC 6749 section 10.12).
    #[error("trust the browser's answer: it belongs to another login (its state is wrong); log in again")]
    State,
    /// An answer of another authorization server (RFC 9207).
    #[error("trust the browser's answer: it comes from {told}, not from {issuer}")]
    Mixed {
        /// Who was asked.
        issuer: String,
        /// Who answered.
        told: String,
    },
    /// What was pasted holds no code.
    #[error("find a code in what was given; log in again, and copy what the page shows")]
    NoCode,
    /// Nobody logged in.
    #[error("see the login through: nothing came from the browser within {} s", .0.as_secs())]
    Deadline(Duration),
    /// No port for the browser to come back to.
    #[error("listen on loopback for the browser")]
    Listen(#[source] io::Error),
    /// No place for the tokens.
    #[error("find a folder for tokens: neither XDG_DATA_HOME nor HOME says where")]
    NoFolder,
    /// The tokens' file.
    #[error("{doing} {}", path.display())]
    File {
        /// What was to be done.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The tokens' file holds something else.
    #[error("understand {}: {why}; mend or remove it, and log in again", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The keyring does not take the key to the tokens.
    #[error("keep the key to the tokens in the keyring (s2uc login --store file does without)")]
    Unkept(#[source] KeyringError),
    /// The keyring does not give the key to the tokens.
    #[error(
        "get the key to {} from the keyring; unlock it, or remove the file and log in again (--store file does \
         without a keyring)", path.display()
    )]
    Sealed {
        /// The tokens' file.
        path: PathBuf,
        /// What the keyring said.
        #[source]
        source: KeyringError,
    },
    /// Another s2uc does not give the file back.
    #[error("lock {}: another s2uc has held it for {} s", path.display(), waited.as_secs())]
    Locked {
        /// Which.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The token has expired, and nothing renews it.
    #[error("use the token of {issuer}: it has expired; log in again")]
    Expired {
        /// Whose.
        issuer: String,
    },
    /// The deployed release's storage.
    #[error("read {} as the deployed release's token storage", path.display())]
    Deployed {
        /// Which.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

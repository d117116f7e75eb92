//! What can go wrong, and whose fault it is.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use crate::address::Address;

/// The action that failed, with its inputs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file could not be read.
    #[error("read the configuration {}", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The configuration, or the key file that it names, has faults.
    #[error("take the configuration {}: {}", path.display(), faults.join("; "))]
    CheckConfig {
        /// The file.
        path: PathBuf,
        /// Every fault, each with its place.
        faults: Vec<String>,
    },
    /// OpenSSL refused what every build of it should have.
    #[error("set up TLS")]
    BuildTls(#[from] openssl::error::ErrorStack),
    /// The runtime, or its signal handlers, could not be set up.
    #[error("start the runtime")]
    StartRuntime(#[source] io::Error),
    /// A listener's socket could not be made.
    #[error("listen on {address}")]
    Listen {
        /// The listener's `accept`.
        address: Address,
        /// The reason.
        source: io::Error,
    },
    /// No, or a bad, PROXY header came.
    #[error("read the PROXY header")]
    ReadProxyHeader(#[source] io::Error),
    /// The side that connected to us did not prove that it holds the key.
    #[error("agree on TLS with the source")]
    AcceptTls(#[source] io::Error),
    /// The target did not take the connection.
    #[error("connect to the target")]
    Connect(#[source] io::Error),
    /// The target did not prove that it holds the key.
    #[error("agree on TLS with the target")]
    ConnectTls(#[source] io::Error),
}

impl Error {
    /// The exit status of sysexits.h: 78 for a configuration that cannot be
    /// served, 71 for a system that does not let us.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ReadConfig { .. } | Self::CheckConfig { .. } | Self::BuildTls(_) => 78,
            _ => 71,
        }
    }

    /// The error and its causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut line = format!("failed to {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(&format!(": {error}"));
            cause = error.source();
        }
        line.replace(['\n', '\r'], " ")
    }
}

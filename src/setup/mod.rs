//! A first configuration: from answers to a file that s2cs starts with.
//!
//! Nothing is left half done: what cannot be used is told before a file is replaced, and
//! files that were made for it go again.

mod addresses;
mod written;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, chown};

pub use addresses::{guess_lan, guess_wan};

use crate::config::{Config, Faults, Settings};
use crate::session::Host;
use crate::store::{Outlasts, replace};
use crate::tls;

/// The user that the packages' unit runs s2cs as.
const SERVICE_USER: &str = "scistream";
/// For how long a certificate is good: as long as browsers take one, and renewed in time.
const DAYS: u32 = 825;

/// What an operator says of a gateway.
#[derive(Debug, Clone)]
pub struct Answers {
    /// Where PROD sessions listen for the other gateway, and the control server for users.
    pub wan: IpAddr,
    /// Where CONS sessions listen for the facility's own applications.
    pub lan: IpAddr,
    /// Of the control server.
    pub port: u16,
    /// Ports of sessions, as in `5100-5200`.
    pub port_range: String,
    /// What carries the bytes.
    pub backend: String,
    /// Who knows callers.
    pub callers: Callers,
    /// Whom of them the gateway serves, in the words of `--allow`.
    pub allow: Vec<String>,
    /// Where the certificate comes from.
    pub certificate: Certificate,
}

/// Who knows callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callers {
    /// Nobody: whoever can connect is served.
    Unknown,
    /// Globus.
    Globus {
        /// What it calls this gateway.
        client_id: String,
        /// Where the secret is that goes with that.
        secret_file: PathBuf,
    },
    /// An OAuth 2.0 server that is asked about each token (RFC 7662).
    Introspection {
        /// Who it says it is.
        issuer: String,
        /// What it calls this gateway.
        client_id: String,
        /// Where the secret is that goes with that.
        secret_file: PathBuf,
    },
    /// An OAuth 2.0 server that signs its tokens (RFC 9068).
    Jwt {
        /// Who it says it is.
        issuer: String,
        /// What tokens for this gateway are made for.
        audience: String,
    },
    /// Authorities whose certificates callers have.
    Certificates {
        /// Theirs, PEM.
        authorities: PathBuf,
    },
}

/// Where the control server's certificate comes from.
#[derive(Debug, Clone)]
pub enum Certificate {
    /// It is there.
    Given {
        /// The certificate with its chain, PEM.
        certificate: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
    },
    /// A self-signed one is made beside the configuration, unless one is there.
    Made {
        /// What users reach the gateway by.
        hosts: Vec<Host>,
    },
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The certificate, for users too.
    pub certificate: PathBuf,
    /// Whether it was made.
    pub made: bool,
    /// What the operator should know of how the configuration was understood.
    pub notes: Vec<String>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is a configuration already.
    #[error("{} is a gateway's configuration already; --force replaces it", .0.display())]
    Taken(PathBuf),
    /// The answers do not make a configuration.
    #[error("with these answers s2cs would not start:\n{0}")]
    Faults(Faults),
    /// OpenSSL makes no certificate.
    #[error("make a certificate")]
    Certificate(#[source] openssl::error::ErrorStack),
    /// The system does not let us.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Files that go again unless all went well.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        // What was made last is in what was made before.
        for path in self.0.iter().rev() {
            drop(if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) });
        }
    }
}

impl Made {
    fn write(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> Result<(), SetupError> {
        let fault = |source| SetupError::File { doing: "write", path: path.to_owned(), source };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(fault)?;
        self.0.push(path.to_owned());
        file.write_all(bytes).map_err(fault)
    }

    fn stays(mut self) {
        self.0.clear();
    }
}

/// Writes a configuration to `path`, and a certificate beside it where none is given.
///
/// # Errors
/// [`SetupError`]; nothing is changed then.
pub fn set_up(path: &Path, answers: &Answers, force: bool) -> Result<Written, SetupError> {
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(SetupError::File { doing: "read", path: path.to_owned(), source }),
    };
    if !force && written::is_made(&before) {
        return Err(SetupError::Taken(path.to_owned()));
    }
    let fault = |source| SetupError::File { doing: "make the folder of", path: path.to_owned(), source };
    let path = &std::path::absolute(path).map_err(fault)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut made = Made::default();
    let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
    made.0.extend(missing.into_iter().rev());
    fs::create_dir_all(folder).map_err(fault)?;
    let (certificate, key, is_made) = match &answers.certificate {
        Certificate::Given { certificate, key } => (certificate.clone(), key.clone(), false),
        Certificate::Made { hosts } => {
            let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
            let is_made = !(certificate.is_file() && key.is_file());
            if is_made {
                let pair = tls::self_signed(hosts, DAYS).map_err(SetupError::Certificate)?;
                made.write(&key, 0o600, &pair.key)?;
                made.write(&certificate, 0o644, &pair.certificate)?;
                give_to_service(&key)?;
            }
            (certificate, key, is_made)
        }
    };
    let text = written::text(answers, &certificate, &key, if force { "" } else { &before });
    let mut faults = Vec::new();
    let settings = Settings::parse("the configuration", &text, &mut faults);
    let config = Config::check(settings, faults).map_err(SetupError::Faults)?;
    let fault = |source| SetupError::File { doing: "write", path: path.to_owned(), source };
    replace(path, text.as_bytes(), Outlasts::Host).map_err(fault)?;
    made.stays();
    Ok(Written { certificate, made: is_made, notes: config.notes })
}

/// Where packages have made a user for s2cs, its key is that user's.
fn give_to_service(key: &Path) -> Result<(), SetupError> {
    let user = User::from_name(SERVICE_USER).ok().flatten().filter(|_| Uid::effective().is_root());
    let Some(user) = user else { return Ok(()) };
    let fault =
        |e: nix::Error| SetupError::File { doing: "give to the user of s2cs", path: key.to_owned(), source: e.into() };
    chown(key, Some(user.uid), Some(user.gid)).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let loopback = "127.0.0.1".parse().expect("an address");
        Answers {
            wan: loopback,
            lan: loopback,
            port: 5000,
            port_range: "5100-5200".into(),
            backend: "native".into(),
            callers: Callers::Unknown,
            allow: vec![],
            certificate: Certificate::Made { hosts: vec!["localhost".parse().expect("a host")] },
        }
    }

    #[test]
    fn what_is_written_is_good_and_not_replaced_unasked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("etc/s2cs.toml");
        let written = set_up(&path, &answers(), false).expect("written");
        assert!(written.made && written.certificate == folder.path().join("etc/server.crt"));
        assert!(matches!(set_up(&path, &answers(), false), Err(SetupError::Taken(_))));
        let again = set_up(&path, &Answers { port_range: "6000-6010".into(), ..answers() }, true).expect("replaced");
        assert!(!again.made, "the certificate that users have stays");
        let text = fs::read_to_string(&path).expect("there");
        assert!(text.contains("6000-6010") && !text.contains("5100-5200"), "{text}");
    }

    #[test]
    fn what_somebody_has_chosen_is_theirs() {
        for theirs in ["backend = \"nginx\"\n", "listener_ip = \"0.0.0.0\"\nwan_ip = \"192.0.2.1\"\n", "no TOML"] {
            assert!(written::is_made(theirs), "{theirs}");
        }
        for nobodys in ["", "# a comment\n", "listener_ip = \"0.0.0.0\"\nkeep_sessions_on_exit = true\n"] {
            assert!(!written::is_made(nobodys), "{nobodys}");
        }
    }

    #[test]
    fn bad_answers_leave_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s2cs.toml");
        let bad = Answers { port_range: "x".into(), backend: "nonesuch".into(), ..answers() };
        let said = set_up(&path, &bad, false).expect_err("bad").to_string();
        assert!(said.contains("port_range") && said.contains("nonesuch"), "{said}");
        set_up(&folder.path().join("a/b/s2cs.toml"), &bad, false).expect_err("bad");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        let jwt = Callers::Jwt { issuer: "http://evil.example/\"\nno_auth = true".into(), audience: "x".into() };
        let said = set_up(&path, &Answers { callers: jwt, ..answers() }, false).expect_err("bad").to_string();
        assert!(said.contains("issuer"), "{said}");
    }
}

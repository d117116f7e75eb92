//! Where a stream is accepted or leads to: a TCP endpoint or a unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The kernel's `sun_path` has 108 bytes, one of them for the closing NUL.
const LONGEST_PATH: usize = 107;

/// An address of a configuration file. Names are not looked up here: what the
/// controller writes is already an IP address, so a reload cannot hang on DNS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `IP:PORT` or `[IPv6]:PORT`.
    Tcp(SocketAddr),
    /// The absolute path of a stream socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            if text.len() > LONGEST_PATH {
                return Err("a unix socket's path has at most 107 bytes");
            }
            if text.chars().any(char::is_control) {
                return Err("a unix socket's path has no control characters");
            }
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let address: SocketAddr =
            text.parse().map_err(|_| "expected IP:PORT, [IPv6]:PORT or the absolute path of a unix socket")?;
        if address.port() == 0 {
            return Err("a port is between 1 and 65535");
        }
        Ok(Self::Tcp(address))
    }
}

/// Where a connection comes from, in the words of the log; `None` is a unix socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) Option<SocketAddr>);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(source) => source.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

/// Whether both ends of a connection are on this host.
#[must_use]
pub(crate) fn stays_here(source: SocketAddr, destination: SocketAddr) -> bool {
    let canonical = |address: SocketAddr| address.ip().to_canonical();
    canonical(source).is_loopback() || canonical(source) == canonical(destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["192.0.2.1:5100", "[2001:db8::1]:5100", "/run/scistream/a.sock"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_neither() {
        let long = format!("/{}", "x".repeat(107));
        for text in
            ["", "localhost:80", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", "::1:80", "run/x", "/a\nb", &long]
        {
            assert!(text.parse::<Address>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn connections_within_the_host_are_told_from_others() {
        let same = |source: &str, destination: &str| {
            stays_here(source.parse().expect(source), destination.parse().expect(destination))
        };
        assert!(same("127.0.0.1:1", "127.0.0.1:2"));
        assert!(same("192.0.2.1:1", "192.0.2.1:2"));
        assert!(same("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:2"));
        assert!(!same("192.0.2.7:1", "192.0.2.1:2"));
        assert!(!same("[2001:db8::7]:1", "[2001:db8::1]:2"));
    }
}

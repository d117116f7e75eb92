//! A TLS client that nobody set up for SciStream: `openssl s_client`.

use std::net::{IpAddr, SocketAddr};

use super::program::{Ended, Program};

/// Every suite that OpenSSL has, those without encryption and without
/// authentication among them.
pub const EVERY_SUITE: &str = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";

/// What the client has to offer.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The one version, as a flag of `s_client`.
    pub version: &'a str,
    /// The suites of TLS 1.2 and before.
    pub suites: &'a str,
    pub identity: &'a str,
    /// Hexadecimal digits.
    pub key: Option<&'a str>,
}

/// Connects, sends `input`, and reads until the other side ends.
pub async fn connect(address: &str, offer: Offer<'_>, input: &[u8]) -> Ended {
    connect_with(&[], address, offer, input).await
}

/// The same from an address of this host.
pub async fn connect_from(source: IpAddr, address: &str, offer: Offer<'_>, input: &[u8]) -> Ended {
    connect_with(&["-bind", &SocketAddr::new(source, 0).to_string()], address, offer, input).await
}

/// The same, and tells whether the peer has handed out a session to resume.
pub async fn connect_and_keep(address: &str, offer: Offer<'_>, input: &[u8]) -> (Ended, bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let session = folder.path().join("session");
    let ended = connect_with(&["-sess_out", &session.display().to_string()], address, offer, input).await;
    (ended, session.exists())
}

async fn connect_with(more: &[&str], address: &str, offer: Offer<'_>, input: &[u8]) -> Ended {
    // Quiet: nothing is printed but what the peer sent, and the end of the input is not the end.
    let mut arguments = vec!["s_client", "-quiet", "-connect", address, offer.version];
    arguments.extend(more);
    if offer.version != "-tls1_3" {
        arguments.extend(["-cipher", offer.suites]);
    }
    if let Some(key) = offer.key {
        arguments.extend(["-psk_identity", offer.identity, "-psk", key]);
    }
    Program::run("openssl", &arguments, input).await
}

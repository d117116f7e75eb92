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
    connect_from(None, address, offer, input).await
}

/// The same from an address of this host.
pub async fn connect_from(source: Option<IpAddr>, address: &str, offer: Offer<'_>, input: &[u8]) -> Ended {
    let source = source.map(|ip| SocketAddr::new(ip, 0).to_string());
    // Quiet: nothing is printed but what the peer sent, and the end of the input is not the end.
    let mut arguments = vec!["s_client", "-quiet", "-connect", address, offer.version];
    if let Some(source) = &source {
        arguments.extend(["-bind", source]);
    }
    if offer.version != "-tls1_3" {
        arguments.extend(["-cipher", offer.suites]);
    }
    if let Some(key) = offer.key {
        arguments.extend(["-psk_identity", offer.identity, "-psk", key]);
    }
    Program::run("openssl", &arguments, input).await
}

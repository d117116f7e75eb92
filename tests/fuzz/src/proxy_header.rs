//! The PROXY header that comes first on a connection to s2ds.

use std::net::{IpAddr, SocketAddr};

use s2ds::config::ProxyVersion;
use s2ds::proxy_protocol::{Ends, header, parse};

/// A header is what stands at the beginning, no more and no less of it; and what
/// s2ds says to the next program means the same.
pub fn check(data: &[u8]) {
    let Ok((length, ends)) = parse(data) else { return };
    assert!(length <= data.len(), "{length} of {} bytes", data.len());
    assert_eq!(parse(&data[..length]), Ok((length, ends)));
    // Read as they come, the bytes before are no header yet.
    for end in 0..length {
        assert!(parse(&data[..end]).is_err(), "{end} bytes of {length} were taken");
    }
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut bytes = header(version, ends).expect("a header");
        let length = bytes.len();
        bytes.extend_from_slice(b"\r\nand what follows");
        let (read, again) = parse(&bytes).unwrap_or_else(|fault| panic!("{version:?}: {fault}"));
        assert_eq!((read, plain(again)), (length, plain(ends)), "{version:?}");
    }
}

/// IPv4 is told within IPv6 where the other end is IPv6.
fn plain(ends: Ends) -> Ends {
    let plain = |address: SocketAddr| SocketAddr::new(IpAddr::to_canonical(&address.ip()), address.port());
    ends.map(|(source, destination)| (plain(source), plain(destination)))
}

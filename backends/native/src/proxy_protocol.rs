//! The PROXY protocol: who is really there, when a proxy stands between.
//!
//! <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, PartialResult as _, v1, v2};

use crate::config::ProxyVersion;
use crate::socket::Socket;

/// More than any header with the usual attributes; what is longer is refused
/// before it is read.
const LONGEST: usize = 2048;

/// Source and destination of a connection, as its own client sees them; `None`
/// for one that came over a unix socket.
pub type Ends = Option<(SocketAddr, SocketAddr)>;

/// Reads the header that comes first, and not a byte more. The caller sets the
/// deadline. Gives `None` when the header says nothing of the source, as for a
/// health check.
///
/// # Errors
/// When no header, a bad one, or one that is too long came.
pub async fn read(socket: &Socket) -> io::Result<Ends> {
    let mut buffer = [0; LONGEST];
    let seen = socket.peek(&mut buffer, |bytes| !may_go_on(&HeaderResult::parse(bytes))).await?;
    let (length, ends) = parse(&buffer[..seen]).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
    socket.skip(length).await?;
    Ok(ends)
}

/// Whether what came so far may be the beginning of a header.
fn may_go_on(result: &HeaderResult<'_>) -> bool {
    match result {
        HeaderResult::V1(Ok(header)) => !has_its_end(header),
        other => other.is_incomplete(),
    }
}

/// The library takes a space for the carriage return, so it would take half a line.
fn has_its_end(header: &v1::Header<'_>) -> bool {
    header.header.ends_with("\r\n")
}

/// Understands the header that stands at the beginning, and tells its length.
///
/// # Errors
/// What is wrong with it, also when it is not whole.
pub fn parse(bytes: &[u8]) -> Result<(usize, Ends), String> {
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(header) => {
            let header = header.map_err(|error| error.to_string())?;
            if !has_its_end(&header) {
                return Err("the header does not end with CR LF".to_owned());
            }
            let ends = match header.addresses {
                v1::Addresses::Tcp4(ends) => Some((
                    (ends.source_address, ends.source_port).into(),
                    (ends.destination_address, ends.destination_port).into(),
                )),
                v1::Addresses::Tcp6(ends) => Some((
                    (ends.source_address, ends.source_port).into(),
                    (ends.destination_address, ends.destination_port).into(),
                )),
                v1::Addresses::Unknown => None,
            };
            Ok((header.header.len(), ends))
        }
        HeaderResult::V2(header) => {
            let header = header.map_err(|error| error.to_string())?;
            let ends = match header.addresses {
                _ if header.command == v2::Command::Local => None,
                v2::Addresses::IPv4(ends) => Some((
                    (ends.source_address, ends.source_port).into(),
                    (ends.destination_address, ends.destination_port).into(),
                )),
                v2::Addresses::IPv6(ends) => Some((
                    (ends.source_address, ends.source_port).into(),
                    (ends.destination_address, ends.destination_port).into(),
                )),
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            };
            Ok((header.len(), ends))
        }
    }
}

/// The header that a target gets.
///
/// # Errors
/// Never with the addresses of a connection; the writer could be out of room.
pub fn header(version: ProxyVersion, ends: Ends) -> io::Result<Vec<u8>> {
    // The header holds one family only: an IPv4 address beside an IPv6 one is
    // written as IPv6.
    let ends = ends.map(|(source, destination)| match (canonical(source), canonical(destination)) {
        (source, destination) if source.is_ipv4() == destination.is_ipv4() => (source, destination),
        (source, destination) => (mapped(source), mapped(destination)),
    });
    match version {
        ProxyVersion::None => Ok(Vec::new()),
        ProxyVersion::V1 => Ok(ends.map_or(v1::Addresses::Unknown, v1::Addresses::from).to_string().into_bytes()),
        ProxyVersion::V2 => match ends {
            Some(ends) => {
                v2::Builder::with_addresses(v2::Version::Two | v2::Command::Proxy, v2::Protocol::Stream, ends).build()
            }
            None => v2::Builder::new(
                v2::Version::Two | v2::Command::Local,
                v2::AddressFamily::Unspecified | v2::Protocol::Unspecified,
            )
            .build(),
        },
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    (address.ip().to_canonical(), address.port()).into()
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped(), address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Ends {
        Some((source.parse().expect(source), destination.parse().expect(destination)))
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let table =
            [ends("192.0.2.1:1000", "198.51.100.1:5100"), ends("[2001:db8::1]:1000", "[2001:db8::2]:5100"), None];
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for ends in table {
                let mut bytes = header(version, ends).expect("a header");
                let length = bytes.len();
                bytes.extend_from_slice(b"\x16\x03PROXY and what follows");
                assert_eq!(parse(&bytes), Ok((length, ends)), "{version:?}");
            }
        }
        assert!(header(ProxyVersion::None, table[0]).expect("nothing").is_empty());
    }

    #[test]
    fn writes_the_letters_of_the_specification() {
        let v1 = header(ProxyVersion::V1, ends("192.0.2.1:1000", "198.51.100.1:5100")).expect("v1");
        assert_eq!(v1, b"PROXY TCP4 192.0.2.1 198.51.100.1 1000 5100\r\n");
        assert_eq!(header(ProxyVersion::V1, None).expect("v1"), b"PROXY UNKNOWN\r\n");
        let v2 = header(ProxyVersion::V2, None).expect("v2");
        assert_eq!(v2, b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0");
    }

    #[test]
    fn families_are_not_mixed() {
        let v1 = header(ProxyVersion::V1, ends("[::ffff:192.0.2.1]:1000", "198.51.100.1:5100")).expect("v1");
        assert_eq!(v1, b"PROXY TCP4 192.0.2.1 198.51.100.1 1000 5100\r\n");
        let v1 = header(ProxyVersion::V1, ends("[2001:db8::1]:1000", "198.51.100.1:5100")).expect("v1");
        assert_eq!(v1, b"PROXY TCP6 2001:db8::1 ::ffff:198.51.100.1 1000 5100\r\n");
    }

    #[test]
    fn half_a_line_with_a_space_and_a_line_feed_is_no_header() {
        for half in ["PROXY UNKNOWN \n", "PROXY UNKNOWN x \n", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 5100 \n"] {
            assert!(parse(half.as_bytes()).is_err(), "{half:?}");
            assert!(may_go_on(&HeaderResult::parse(half.as_bytes())), "{half:?}");
        }
        let whole = b"PROXY UNKNOWN x \n y\r\n";
        assert_eq!(parse(whole), Ok((whole.len(), None)));
        assert!(!may_go_on(&HeaderResult::parse(whole)));
    }

    #[test]
    fn refuses_what_is_no_header() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], b"", b"PROXY TCP4 1.2.3.4\r\n", b"\x16\x03\x01", b"PROXY TCP4 x y 1 2\r\n"]
        {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat();
        assert!(parse(&long).is_err());
    }
}

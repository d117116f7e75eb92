//! The PROXY header, in and out, on both versions.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use ppp::HeaderResult;

use crate::support::application::Application;
use crate::support::config::{Config, listener};
use crate::support::program::Program;
use crate::support::tls_peer::{self, TLS13};
use crate::support::{connect, free_address};

const V1: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 5100\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc0\0\x02\x01\x12\x67\x13\xec";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn received(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("receive");
    bytes
}

#[test]
fn a_header_that_comes_in_names_the_source_and_goes_no_further() {
    for (header, source) in [(V1, "198.51.100.7:4711"), (V2, "198.51.100.7:4711"), (V2_LOCAL, "127.")] {
        let (application, accepted) = Application::manual();
        let (config, accept) = (Config::new(""), free_address());
        let s2ds =
            Program::s2ds(&config.write(&[listener(accept, application.address, "accept_proxy_protocol = true")]));
        let mut client = connect(accept);
        // Byte by byte: a header may come in pieces.
        for byte in header {
            client.write_all(&[*byte]).expect("send");
        }
        client.write_all(b"data").expect("send");
        client.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(received(accepted.next()), b"data");
        s2ds.wait_for(&format!("connection open listener=\"0\" source={source}"));
    }
}

#[test]
fn a_header_goes_out_with_the_real_source() {
    for version in ["v1", "v2"] {
        let (application, accepted) = Application::manual();
        let (config, accept) = (Config::new(""), free_address());
        let more = format!("accept_wire = \"psk\"\ntarget_proxy_protocol = \"{version}\"");
        let _s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, &more)]));
        let client = connect(accept);
        let source = client.local_addr().expect("its address");
        let mut client = tls_peer::client(TLS13, client).expect("handshake");
        client.write_all(b"data").expect("send");
        client.shutdown().expect("close_notify");
        let bytes = received(accepted.next());
        assert_eq!(ends(&bytes, version), (source, accept));
        assert!(bytes.ends_with(b"data"));
    }
}

#[test]
fn a_source_is_handed_on_from_header_to_header() {
    let (application, accepted) = Application::manual();
    let (config, accept, middle) = (Config::new(""), free_address(), free_address());
    let _s2ds = Program::s2ds(&config.write(&[
        listener(accept, middle, "accept_proxy_protocol = true\ntarget_wire = \"psk\"\ntarget_proxy_protocol = \"v2\""),
        listener(
            middle,
            application.address,
            "accept_proxy_protocol = true\naccept_wire = \"psk\"\ntarget_proxy_protocol = \"v1\"",
        ),
    ]));
    let mut client = connect(accept);
    client.write_all(V1).expect("send");
    client.write_all(b"data").expect("send");
    client.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(received(accepted.next()), [V1, b"data"].concat());
}

#[test]
fn without_a_header_the_target_is_not_reached() {
    let long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 3000]].concat();
    let strangers = [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 nobody\r\n", b"PROXY UNKNOWN", &long, b""];
    let application = Application::echo();
    let (config, accept) = (Config::new("handshake_timeout_ms = 500"), free_address());
    let s2ds = Program::s2ds(&config.write(&[listener(accept, application.address, "accept_proxy_protocol = true")]));
    for (nth, bytes) in strangers.iter().enumerate() {
        let mut client = connect(accept);
        client.write_all(bytes).expect("send");
        assert_eq!(client.read(&mut [0]).expect_err("no reset").kind(), std::io::ErrorKind::ConnectionReset);
        s2ds.wait_for_nth("connection refused", nth + 1);
    }
    assert_eq!(application.connections(), 0);
}

fn ends(bytes: &[u8], version: &str) -> (SocketAddr, SocketAddr) {
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(header) if version == "v1" => match header.expect("a header").addresses {
            ppp::v1::Addresses::Tcp4(ends) => (
                (ends.source_address, ends.source_port).into(),
                (ends.destination_address, ends.destination_port).into(),
            ),
            other => panic!("{other:?}"),
        },
        HeaderResult::V2(header) if version == "v2" => match header.expect("a header").addresses {
            ppp::v2::Addresses::IPv4(ends) => (
                (ends.source_address, ends.source_port).into(),
                (ends.destination_address, ends.destination_port).into(),
            ),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

//! TLS peers under the test's control, on either end of a connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openssl::dh::Dh;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslSessionCacheMode, SslStream, SslVersion,
};

/// What a peer offers.
#[derive(Clone, Copy)]
pub struct Offer {
    pub version: SslVersion,
    pub suites: &'static str,
    pub identity: &'static str,
    pub key: Option<&'static str>,
}

pub const TLS13: Offer =
    Offer { version: SslVersion::TLS1_3, suites: "TLS_AES_128_GCM_SHA256", identity: "client1", key: Some(super::KEY) };

pub const TLS12: Offer = Offer { version: SslVersion::TLS1_2, suites: "ECDHE-PSK-CHACHA20-POLY1305", ..TLS13 };

/// Without encryption, as the deployed release.
pub const TLS12_NULL: Offer = Offer { suites: "PSK-NULL-SHA256", ..TLS12 };

fn builder(offer: Offer) -> SslContextBuilder {
    let mut context = SslContext::builder(SslMethod::tls()).expect("a context");
    context.set_security_level(0);
    context.set_mode(SslMode::AUTO_RETRY);
    context.set_min_proto_version(Some(offer.version)).expect("the version");
    context.set_max_proto_version(Some(offer.version)).expect("the version");
    if offer.version == SslVersion::TLS1_3 {
        context.set_ciphersuites(offer.suites).expect(offer.suites);
    } else {
        context.set_cipher_list(offer.suites).expect(offer.suites);
    }
    context
}

fn unhex(key: &str) -> Vec<u8> {
    let digits: Vec<char> = key.chars().collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).expect("hexadecimal")).collect()
}

/// Shakes hands as a client.
pub fn client(offer: Offer, stream: TcpStream) -> Result<SslStream<TcpStream>, String> {
    let ssl = Ssl::new(&client_context(offer).build()).expect("a connection");
    ssl.connect(stream).map_err(|error| error.to_string())
}

fn client_context(offer: Offer) -> SslContextBuilder {
    let mut context = builder(offer);
    if let Some(key) = offer.key.map(unhex) {
        context.set_psk_client_callback(move |_, _, identity, psk| {
            identity[..offer.identity.len()].copy_from_slice(offer.identity.as_bytes());
            identity[offer.identity.len()] = 0;
            psk[..key.len()].copy_from_slice(&key);
            Ok(key.len())
        });
    }
    context
}

/// Has an echo, and counts the sessions that it could come back with.
pub fn sessions_handed_out(offer: Offer, stream: TcpStream) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let mut context = client_context(offer);
    context.set_session_cache_mode(SslSessionCacheMode::CLIENT);
    context.set_new_session_callback(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let ssl = Ssl::new(&context.build()).expect("a connection");
    let mut stream = ssl.connect(stream).expect("handshake");
    stream.write_all(b"ping").expect("send");
    stream.read_exact(&mut [0; 4]).expect("receive");
    count.load(Ordering::SeqCst)
}

/// Shakes hands as a server.
pub fn server(offer: Offer, stream: TcpStream) -> Result<SslStream<TcpStream>, String> {
    let mut context = builder(offer);
    context.set_tmp_dh(&Dh::get_2048_256().expect("a group")).expect("a group");
    if let Some(key) = offer.key.map(unhex) {
        context.set_psk_server_callback(move |_, _, psk| {
            psk[..key.len()].copy_from_slice(&key);
            Ok(key.len())
        });
    }
    let ssl = Ssl::new(&context.build()).expect("a connection");
    ssl.accept(stream).map_err(|error| error.to_string())
}

/// Reads to the `close_notify`; anything else at the end is an error.
pub fn read_to_close_notify(stream: &mut SslStream<TcpStream>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.ssl_read(&mut buffer) {
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => return Ok(bytes),
            Err(error) => return Err(error.to_string()),
        }
    }
}

//! A client that speaks the wire between gateways, without a gateway.

use std::pin::Pin;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use scistream::backend::PSK_IDENTITY;
use scistream::session::Uid;
use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// What a CONS half would be to a PROD half: it connects with the session's key.
#[derive(Clone)]
pub struct Wire(SslConnector);

impl Wire {
    pub fn of(uid: &Uid) -> Self {
        let hex = uid.key_hex();
        let digits = hex.expose_secret().as_bytes().chunks(2);
        let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).expect("digits"), 16).expect("digits");
        let key: Vec<u8> = digits.map(byte).collect();
        let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("TLS");
        builder.set_min_proto_version(Some(SslVersion::TLS1_3)).expect("TLS 1.3");
        // The key is the proof; there are no certificates.
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_psk_client_callback(move |_, _, identity, psk| {
            identity[..PSK_IDENTITY.len()].copy_from_slice(PSK_IDENTITY.as_bytes());
            identity[PSK_IDENTITY.len()] = 0;
            psk[..key.len()].copy_from_slice(&key);
            Ok(key.len())
        });
        Self(builder.build())
    }

    pub async fn connect(&self, address: &str) -> std::io::Result<SslStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        // Two short writes are else 40 ms apart: the second waits for the answer to the first.
        stream.set_nodelay(true)?;
        let mut settings = self.0.configure()?;
        settings.set_verify_hostname(false);
        settings.set_use_server_name_indication(false);
        let mut stream = SslStream::new(settings.into_ssl("")?, stream)?;
        Pin::new(&mut stream).connect().await.map_err(std::io::Error::other)?;
        Ok(stream)
    }
}

//! OpenSSL's settings for both ends: keys only, no sessions, the floor's suites.

use std::sync::Arc;

use openssl::bn::BigNum;
use openssl::dh::Dh;
use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl_ktls::option::SSL_OP_ENABLE_KTLS;

use super::kernel::{self, KernelTls};
use crate::key::Keys;
use crate::protection::{Negotiated, Protection};

/// Which end of a handshake we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The peer connected to us.
    Server,
    /// We connected to the peer.
    Client,
}

/// What every TLS connection of one configuration is made from.
pub struct Contexts {
    protection: Protection,
    server: SslContext,
    client: SslContext,
    in_kernel: bool,
}

impl Contexts {
    /// Sets OpenSSL up for these keys.
    ///
    /// # Errors
    /// When this build of OpenSSL lacks a suite or a version that we need.
    pub fn new(protection: Protection, keys: Keys, kernel_tls: KernelTls) -> Result<Self, ErrorStack> {
        let keys = Arc::new(keys);
        let ends = |options| -> Result<_, ErrorStack> {
            Ok((server(protection, keys.clone(), options)?, client(protection, keys.clone(), options)?))
        };
        if kernel_tls != KernelTls::Off {
            let (server, client) = ends(SSL_OP_ENABLE_KTLS)?;
            if kernel_tls.wants(kernel::find(&server, &client)) {
                return Ok(Self { protection, server, client, in_kernel: true });
            }
        }
        let (server, client) = ends(SslOptions::empty())?;
        Ok(Self { protection, server, client, in_kernel: false })
    }

    /// Whether the kernel is to take part, where it can.
    #[must_use]
    pub fn in_kernel(&self) -> bool {
        self.in_kernel
    }

    /// A connection that has not shaken hands yet.
    ///
    /// # Errors
    /// When OpenSSL has no memory.
    pub fn start(&self, side: Side) -> Result<Ssl, ErrorStack> {
        match side {
            Side::Server => Ssl::new(&self.server),
            Side::Client => Ssl::new(&self.client),
        }
    }

    /// The floor.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Whether a finished handshake is one that may carry bytes.
    #[must_use]
    pub fn allows(&self, ssl: &openssl::ssl::SslRef) -> bool {
        let suite = ssl.current_cipher().map_or("", |cipher| cipher.name());
        let outcome = Negotiated { version: ssl.version_str(), suite, resumed: ssl.session_reused() };
        // A peer can end a handshake halfway in a way that looks like its end. And a
        // certificate, even a good one, is not what we were given to trust.
        ssl.is_init_finished() && ssl.peer_certificate().is_none() && self.protection.allows(outcome)
    }
}

fn server(protection: Protection, keys: Arc<Keys>, options: SslOptions) -> Result<SslContext, ErrorStack> {
    let mut context = common(protection, options)?;
    // 3072 bits whatever the security level: left to itself OpenSSL takes 1024
    // at level 0.
    let group = Dh::from_pqg(BigNum::get_rfc3526_prime_3072()?, None, BigNum::from_u32(2)?)?;
    context.set_tmp_dh(&group)?;
    context.set_psk_server_callback(move |_, identity, psk| {
        // 0 bytes is OpenSSL's word for an identity that is not known.
        let secret = identity.and_then(|identity| keys.secret(identity)).unwrap_or_default();
        Ok(hand_over(secret, psk))
    });
    Ok(context.build())
}

fn client(protection: Protection, keys: Arc<Keys>, options: SslOptions) -> Result<SslContext, ErrorStack> {
    let mut context = common(protection, options)?;
    // There is no authority that we trust, so a server that offers a
    // certificate instead of the key fails the handshake.
    context.set_verify(SslVerifyMode::PEER);
    context.set_psk_client_callback(move |_, _hint, identity, psk| {
        let name = keys.identity().as_bytes();
        let secret = keys.secret(name).unwrap_or_default();
        match identity.get_mut(..=name.len()) {
            Some(room) => {
                room[..name.len()].copy_from_slice(name);
                room[name.len()] = 0;
                Ok(hand_over(secret, psk))
            }
            None => Ok(0),
        }
    });
    Ok(context.build())
}

fn hand_over(secret: &[u8], psk: &mut [u8]) -> usize {
    match psk.get_mut(..secret.len()) {
        Some(room) => {
            room.copy_from_slice(secret);
            secret.len()
        }
        None => 0,
    }
}

fn common(protection: Protection, options: SslOptions) -> Result<SslContextBuilder, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls())?;
    // Before the suites: at a higher level OpenSSL would drop some of them.
    context.set_security_level(protection.security_level());
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_ciphersuites(&protection.tls13_suites())?;
    context.set_cipher_list(&protection.tls12_suites())?;
    // Every connection proves the key itself: nothing is resumed, in no version.
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_num_tickets(0)?;
    context.set_options(
        options
            | SslOptions::NO_TICKET
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    // A host's openssl.cnf may set this; a stream cut short must not look whole.
    context.clear_options(SslOptions::IGNORE_UNEXPECTED_EOF);
    context.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS,
    );
    Ok(context)
}

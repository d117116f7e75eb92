//! TLS of the control channel: the system's OpenSSL, on either side.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    AlpnError, SslAcceptor, SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode, select_next_proto,
};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509NameBuilder};

use crate::config::TlsFiles;
use crate::session::Host;

/// HTTP/2 as ALPN lists it (RFC 7301 section 3.1); gRPC clients insist on it.
const ALPN_H2: &[u8] = b"\x02h2";

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("use the {what} {}", path.display())]
    File {
        /// What it should be.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What OpenSSL said.
        #[source]
        source: ErrorStack,
    },
    /// A certificate file cannot be read.
    #[error("read the certificate {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// OpenSSL itself.
    #[error("set up TLS")]
    Setup(#[from] ErrorStack),
}

/// The server's side, as its files were when they were read.
#[derive(Clone)]
pub struct ServerTls {
    /// Takes connections.
    pub acceptor: SslAcceptor,
    /// The authorities whose clients may prove who they are, in PEM; empty: nobody's.
    pub authorities: Arc<[u8]>,
}

/// The server's side: TLS 1.2 and 1.3, HTTP/2 only.
///
/// # Errors
/// [`TlsError`]
pub fn server(files: &TlsFiles) -> Result<ServerTls, TlsError> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    let file = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { what, path, source }
    };
    builder.set_certificate_chain_file(&files.certificate).map_err(file("certificate", &files.certificate))?;
    builder.set_private_key_file(&files.key, SslFiletype::PEM).map_err(file("private key", &files.key))?;
    builder.check_private_key().map_err(file("private key, which is not the certificate's:", &files.key))?;
    let mut authorities = Vec::new();
    if let Some(path) = &files.client_ca {
        authorities = std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source })?;
        let (authorities, fault) = (path, file("certificates of clients' authorities", path));
        builder.set_ca_file(authorities).map_err(fault)?;
        // Asked for, not insisted on: a token does as well.
        builder.set_verify(SslVerifyMode::PEER);
        builder.set_session_id_context(b"s2cs")?;
    }
    builder.set_alpn_select_callback(|_, offered| select_next_proto(ALPN_H2, offered).ok_or(AlpnError::NOACK));
    Ok(ServerTls { acceptor: builder.build(), authorities: authorities.into() })
}

/// The client's side. With a certificate file, only what that file vouches for is
/// trusted, be it the server's own certificate; without, what the system trusts.
/// `own` are the client's certificate and key, where it is to prove who it is.
///
/// # Errors
/// [`TlsError`]
pub fn connector(trusted: Option<&Path>, own: Option<(&Path, &Path)>) -> Result<SslConnector, TlsError> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::PEER);
    builder.set_alpn_protos(ALPN_H2)?;
    if let Some((certificate, key)) = own {
        let file = |what, path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { what, path, source }
        };
        builder.set_certificate_chain_file(certificate).map_err(file("client's certificate", certificate))?;
        builder.set_private_key_file(key, SslFiletype::PEM).map_err(file("client's private key", key))?;
    }
    if let Some(path) = trusted {
        let pem = std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
        let fault = |source| TlsError::File { what: "certificate", path: path.to_owned(), source };
        let mut store = X509StoreBuilder::new()?;
        for certificate in X509::stack_from_pem(&pem).map_err(fault)? {
            store.add_cert(certificate)?;
        }
        // Lets a certificate that is not an authority's vouch for itself.
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        builder.set_cert_store(store.build());
    }
    Ok(builder.build())
}

/// A client's side for the web: what the system trusts, and the certificates in a file besides.
///
/// # Errors
/// [`TlsError`]
pub fn web_connector(also_trusted: Option<&Path>) -> Result<SslConnectorBuilder, TlsError> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    if let Some(path) = also_trusted {
        let pem = std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
        let fault = |source| TlsError::File { what: "certificate", path: path.to_owned(), source };
        for certificate in X509::stack_from_pem(&pem).map_err(fault)? {
            builder.cert_store_mut().add_cert(certificate)?;
        }
    }
    Ok(builder)
}

/// A self-signed certificate and its key, both in PEM.
#[derive(Debug)]
pub struct SelfSigned {
    /// For everybody.
    pub certificate: Vec<u8>,
    /// For the server alone.
    pub key: Vec<u8>,
}

/// Makes a self-signed certificate for these hosts (RFC 5280; P-256).
///
/// # Errors
/// What OpenSSL says.
pub fn self_signed(hosts: &[Host], days: u32) -> Result<SelfSigned, ErrorStack> {
    let key = private_key()?;
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", &hosts.first().map(host_text).unwrap_or_default())?;
    let name = name.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let serial = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_pubkey(&key)?;
    let (from, until) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(days)?);
    builder.set_not_before(&from)?;
    builder.set_not_after(&until)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let mut names = SubjectAlternativeName::new();
    for host in hosts {
        match host {
            Host::Ip(_) => names.ip(&host_text(host)),
            Host::Name(_) => names.dns(&host_text(host)),
        };
    }
    let names = names.build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok(SelfSigned { certificate: builder.build().to_pem()?, key: key.private_key_to_pem_pkcs8()? })
}

fn private_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn host_text(host: &Host) -> String {
    match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    }
}

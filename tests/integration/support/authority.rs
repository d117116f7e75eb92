//! An authority that vouches for clients with certificates.

use std::fs;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

/// An authority of a test's own.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// What a client proves with who it is.
pub struct ClientFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = new_key();
        let subject = named(name);
        let mut builder = begun(&subject, &subject, &key, (-1, 365));
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().expect("an extension"))
            .expect("added");
        builder.sign(&key, MessageDigest::sha256()).expect("signed");
        Self { certificate: builder.build(), key }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        String::from_utf8(self.certificate.to_pem().expect("PEM")).expect("text")
    }

    /// Vouches for somebody for as long as said, in days from now.
    pub fn vouch(&self, folder: &Path, name: &str, days: (i64, i64)) -> ClientFiles {
        let key = new_key();
        let mut builder = begun(&named(name), self.certificate.subject_name(), &key, days);
        let mail = format!("{name}@facility.example");
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let names = SubjectAlternativeName::new().email(&mail).build(&context).expect("an extension");
        builder.append_extension(names).expect("added");
        builder.append_extension(ExtendedKeyUsage::new().client_auth().build().expect("an extension")).expect("added");
        builder.sign(&self.key, MessageDigest::sha256()).expect("signed");
        let files =
            ClientFiles { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
        fs::write(&files.certificate, builder.build().to_pem().expect("PEM")).expect("written");
        fs::write(&files.key, key.private_key_to_pem_pkcs8().expect("PEM")).expect("written");
        files
    }
}

fn new_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key")
}

fn named(name: &str) -> X509Name {
    let mut builder = X509NameBuilder::new().expect("a name");
    builder.append_entry_by_text("O", "Facility").expect("an entry");
    builder.append_entry_by_text("CN", name).expect("an entry");
    builder.build()
}

fn begun(
    subject: &openssl::x509::X509NameRef,
    issuer: &openssl::x509::X509NameRef,
    key: &PKey<Private>,
    days: (i64, i64),
) -> X509Builder {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let at = |days: i64| Asn1Time::from_unix(i64::try_from(now).expect("soon") + days * 86_400).expect("a time");
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("set");
    let mut serial = BigNum::new().expect("a number");
    serial.rand(64, openssl::bn::MsbOption::MAYBE_ZERO, false).expect("random");
    builder.set_serial_number(&serial.to_asn1_integer().expect("a number")).expect("set");
    builder.set_subject_name(subject).expect("set");
    builder.set_issuer_name(issuer).expect("set");
    builder.set_pubkey(key).expect("set");
    builder.set_not_before(&at(days.0)).expect("set");
    builder.set_not_after(&at(days.1)).expect("set");
    builder
}

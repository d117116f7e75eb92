//! Whom a client's certificate names.

use std::collections::BTreeSet;
use std::sync::Arc;

use openssl::sha::sha256;
use openssl::x509::{X509NameRef, X509Ref};

use super::{Caller, Identity};

/// What stands for a provider where an authority of the site's vouches for callers.
pub const CERTIFICATE: &str = "certificate";

/// The caller that a certificate names which an authority of the site's has signed.
/// Their lasting name is the subject, as RFC 4514 writes it; the names that people
/// know are its e-mail addresses (RFC 5280 section 4.2.1.6), for which the authority
/// vouches. `None`: it names nobody.
#[must_use]
pub fn certified(certificate: &X509Ref) -> Option<Caller> {
    let subject = distinguished_name(certificate.subject_name())?;
    let alternatives = certificate.subject_alt_names();
    let mails = alternatives.iter().flatten().filter_map(|name| name.email().map(ToOwned::to_owned));
    let identity = Identity {
        provider: CERTIFICATE.into(),
        identities: BTreeSet::from([subject.clone()]),
        subject,
        names: mails.collect(),
        ..Identity::default()
    };
    Some(Caller::Known(Arc::new(identity)))
}

/// The most specific part first (RFC 4514 section 2.1). What would have to be escaped
/// shows as a hash, so that no two names look the same.
fn distinguished_name(name: &X509NameRef) -> Option<String> {
    let mut parts = Vec::new();
    for entry in name.entries() {
        let key = entry.object().nid().short_name().ok()?;
        let value = entry.data().to_string().ok()?;
        let plain = !value.is_empty() && value.chars().all(|c| c.is_alphanumeric() || " .-_@:/'()".contains(c));
        let shown = if plain { value } else { format!("#{}", hex(&sha256(value.as_bytes()))) };
        parts.push(format!("{key}={shown}"));
    }
    parts.reverse();
    (!parts.is_empty()).then(|| parts.join(","))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use openssl::x509::X509NameBuilder;

    use super::*;

    fn named(entries: &[(&str, &str)]) -> Option<String> {
        let mut name = X509NameBuilder::new().expect("a name");
        for (key, value) in entries {
            name.append_entry_by_text(key, value).expect("an entry");
        }
        distinguished_name(&name.build())
    }

    #[test]
    fn subjects_are_told_apart() {
        let alice = named(&[("O", "Facility"), ("CN", "alice")]);
        assert_eq!(alice.as_deref(), Some("CN=alice,O=Facility"));
        assert_ne!(named(&[("CN", "alice,O=Facility")]), alice);
        assert_ne!(named(&[("CN", "alice\nx")]), named(&[("CN", "alice x")]));
        assert_eq!(named(&[]), None);
    }
}

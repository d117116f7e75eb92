//! The tokens' file, sealed with a key that the keyring has.
//!
//! AES-256-GCM with a new nonce each time; the name of the key is bound to the text.

use std::fmt;
use std::sync::Arc;

use openssl::base64::{decode_block, encode_block};
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::keyring::{self, KeyringError};

/// The format of a sealed file.
pub(super) const SEALED_VERSION: u32 = 2;
const KEY: usize = 32;
/// NIST SP 800-38D section 5.2.1: 96 bits, and a tag of 128.
const NONCE: usize = 12;
const TAG: usize = 16;

/// A sealed file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealed {
    version: u32,
    /// What the keyring has the key under.
    key: String,
    nonce: String,
    tag: String,
    text: String,
}

/// A key, and what the keyring has it under.
#[derive(Clone)]
pub(super) struct Seal {
    name: String,
    key: Arc<SecretString>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.name)
    }
}

impl Seal {
    /// A new one, which the keyring has from now on.
    pub(super) async fn make() -> Result<Self, KeyringError> {
        let random = |length: usize| {
            let mut bytes = vec![0; length];
            rand_bytes(&mut bytes).map(|()| bytes).map_err(|e| KeyringError::System(e.into()))
        };
        let name: String = random(8)?.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = Arc::new(SecretString::from(encode_block(&random(KEY)?)));
        keyring::keep(&name, &key).await?;
        Ok(Self { name, key })
    }

    /// The one that a file is sealed with.
    pub(super) async fn of(sealed: &Sealed) -> Result<Self, KeyringError> {
        // It goes into an argument list.
        if sealed.key.is_empty() || !sealed.key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(KeyringError::NotThere);
        }
        let key = keyring::find(&sealed.key).await?;
        Ok(Self { name: sealed.key.clone(), key: Arc::new(key) })
    }

    /// Whether a file is sealed with this one.
    pub(super) fn is_of(&self, sealed: &Sealed) -> bool {
        self.name == sealed.key
    }

    /// Has the keyring forget it.
    pub(super) async fn forget(self) -> Result<(), KeyringError> {
        keyring::forget(&self.name).await
    }

    /// Seals a text.
    pub(super) fn close(&self, text: &[u8]) -> Result<Sealed, String> {
        let (mut nonce, mut tag) = ([0; NONCE], [0; TAG]);
        let sealed = rand_bytes(&mut nonce).and_then(|()| {
            encrypt_aead(Cipher::aes_256_gcm(), &self.key()?, Some(&nonce), self.name.as_bytes(), text, &mut tag)
        });
        let text = encode_block(&sealed.map_err(|e| e.to_string())?);
        Ok(Sealed {
            version: SEALED_VERSION,
            key: self.name.clone(),
            nonce: encode_block(&nonce),
            tag: encode_block(&tag),
            text,
        })
    }

    /// The text that was sealed.
    pub(super) fn open(&self, sealed: &Sealed) -> Result<Vec<u8>, String> {
        let part = |text: &str| decode_block(text).map_err(|_| "it is damaged".to_owned());
        let (nonce, tag, text) = (part(&sealed.nonce)?, part(&sealed.tag)?, part(&sealed.text)?);
        if nonce.len() != NONCE || tag.len() != TAG {
            return Err("it is damaged".into());
        }
        let key = self.key().map_err(|e| e.to_string())?;
        decrypt_aead(Cipher::aes_256_gcm(), &key, Some(&nonce), self.name.as_bytes(), &text, &tag)
            .map_err(|_| "it is damaged, or the keyring has another key for it".into())
    }

    fn key(&self) -> Result<Vec<u8>, openssl::error::ErrorStack> {
        // One of another length is no key, and OpenSSL's binding would panic.
        let key = decode_block(self.key.expose_secret())?;
        Ok(if key.len() == KEY { key } else { vec![0; KEY] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(name: &str, key: u8) -> Seal {
        Seal { name: name.into(), key: Arc::new(encode_block(&[key; KEY]).into()) }
    }

    #[test]
    fn only_the_same_key_under_the_same_name_opens_it() {
        let sealed = seal("ab", 1).close(b"the text").expect("sealed");
        let written = serde_json::to_string(&sealed).expect("JSON");
        assert!(!written.contains("the text") && !written.contains(&encode_block(&[1; KEY])), "{written}");
        let read = || serde_json::from_str::<Sealed>(&written).expect("its own form");
        assert_eq!(seal("ab", 1).open(&read()).expect("opened"), b"the text");
        seal("ab", 2).open(&read()).expect_err("another key");
        seal("cd", 1).open(&read()).expect_err("another name");
        for change in [
            |sealed: &mut Sealed| sealed.text = encode_block(b"other"),
            |sealed: &mut Sealed| sealed.tag = encode_block(&[0; TAG]),
            |sealed: &mut Sealed| sealed.tag = String::new(),
            |sealed: &mut Sealed| sealed.nonce = encode_block(&[0; 3]),
            |sealed: &mut Sealed| sealed.text = "%".into(),
        ] {
            let mut changed = read();
            change(&mut changed);
            seal("ab", 1).open(&changed).expect_err("it was changed");
        }
        let short = Seal { name: "ab".into(), key: Arc::new("AAAA".to_owned().into()) };
        short.open(&read()).expect_err("no key");
    }

    #[test]
    fn no_two_are_alike() {
        let one = || seal("ab", 1).close(b"the text").expect("sealed");
        assert_ne!(one().nonce, one().nonce);
        assert_ne!(one().text, one().text);
    }
}

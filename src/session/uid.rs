//! The UID: names a request, and is the shared secret of its data channel.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use openssl::{rand, sha};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::Role;

/// A UID as clients send it: a UUID, or at least 32 hexadecimal digits.
///
/// Two spellings of the same key (upper case, dashes) are one UID. The text is
/// a secret: it is shown only as its [`UidDigest`].
#[derive(Clone)]
pub struct Uid {
    wire: SecretString,
    digest: UidDigest,
}

/// What is wrong with a UID. Never holds the text, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UidError {
    /// Neither of the two shapes.
    #[error("it is neither a UUID nor 32 to 128 hexadecimal digits ({length} characters came)")]
    Shape {
        /// How many characters came.
        length: usize,
    },
    /// An odd number of digits is no sequence of bytes.
    #[error("it has an odd number of hexadecimal digits ({length})")]
    Odd {
        /// How many digits came.
        length: usize,
    },
}

/// What is weak about a key, though it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "lowercase")]
pub enum Weakness {
    /// A UUID made of the time, a counter and a network address (RFC 9562 sections 5.1
    /// and 5.6): whoever knows roughly when and where can guess it.
    #[error("its key can be guessed: it is a UUID made of time and address")]
    Guessable,
    /// A UUID has at most 122 random bits, draft-02 asks for 128.
    #[error("its key is short: a UUID has at most 122 random bits")]
    Short,
    /// Everybody knows it, or could.
    #[error("its key can be guessed: its digits repeat")]
    Repetitive,
}

/// A key with fewer different digits than this was not made at random: of 32 random
/// digits, so few differ once in some 10^12 keys.
const LEAST_DIFFERENT_DIGITS: usize = 6;

const LEAST_DIGITS: usize = 32;
const MOST_DIGITS: usize = 128;
const UUID_DASHES: [usize; 4] = [8, 13, 18, 23];

impl Uid {
    /// Reads a UID from the wire.
    ///
    /// # Errors
    /// [`UidError`] when it is not one of the two shapes.
    pub fn parse(text: &str) -> Result<Self, UidError> {
        let length = text.chars().count();
        let is_uuid = text.len() == 36
            && text.bytes().enumerate().all(
                |(i, b)| {
                    if UUID_DASHES.contains(&i) { b == b'-' } else { b.is_ascii_hexdigit() }
                },
            );
        let is_hex = (LEAST_DIGITS..=MOST_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_uuid && !is_hex {
            return Err(UidError::Shape { length });
        }
        if is_hex && !text.len().is_multiple_of(2) {
            return Err(UidError::Odd { length });
        }
        Ok(Self::from_checked(text.to_ascii_lowercase()))
    }

    /// A new UID of 256 random bits as 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self, openssl::error::ErrorStack> {
        let mut bytes = [0; 32];
        rand::rand_bytes(&mut bytes)?;
        Ok(Self::from_checked(hex(&bytes)))
    }

    /// A new UID in the shape of a UUIDv4 (RFC 9562 section 5.4): 122 random bits.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random_uuid() -> Result<Self, openssl::error::ErrorStack> {
        let mut bytes = [0; 16];
        rand::rand_bytes(&mut bytes)?;
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let mut text = hex(&bytes);
        for at in UUID_DASHES {
            text.insert(at, '-');
        }
        Ok(Self::from_checked(text))
    }

    fn from_checked(wire: String) -> Self {
        let key: String = wire.chars().filter(|c| *c != '-').collect();
        let digest = UidDigest(sha::sha256(key.as_bytes()));
        Self { wire: wire.into(), digest }
    }

    /// The text as it goes over the control channel. A secret.
    #[must_use]
    pub fn wire(&self) -> &str {
        self.wire.expose_secret()
    }

    /// The pre-shared key of the data channel as hexadecimal digits: the UID
    /// without its dashes, as the deployed release derives it.
    #[must_use]
    pub fn key_hex(&self) -> SecretString {
        self.wire().chars().filter(|c| *c != '-').collect::<String>().into()
    }

    /// What is weak about it as a key.
    #[must_use]
    pub fn weakness(&self) -> Option<Weakness> {
        let key = self.key_hex();
        let digits = key.expose_secret();
        let different = digits.bytes().collect::<HashSet<_>>().len();
        if different < LEAST_DIFFERENT_DIGITS {
            Some(Weakness::Repetitive)
        } else if is_made_of_time(digits) {
            Some(Weakness::Guessable)
        } else if self.wire().len() != digits.len() {
            Some(Weakness::Short)
        } else {
            None
        }
    }

    /// What stands for the UID wherever it may be seen.
    #[must_use]
    pub fn digest(&self) -> UidDigest {
        self.digest
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({})", self.digest)
    }
}

/// The SHA-256 of a UID's key; prints as its first twelve digits, which is what
/// logs, folders and people use to talk about a session without telling its secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UidDigest([u8; 32]);

impl fmt::Display for UidDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..6]))
    }
}

impl fmt::Debug for UidDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names a session on this gateway: a gateway may serve both ends of one UID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    /// Which request.
    pub uid: UidDigest,
    /// Which end of it.
    pub role: Role,
}

impl SessionId {
    /// Whether `name` is this session's, as its folder has it.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.to_string() == name
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.uid, self.role.as_str().to_ascii_lowercase())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether the digits are a UUID of version 1 or 6 (RFC 9562) with a date of this
/// century: of random keys of that length, one in some 2,000 is.
fn is_made_of_time(digits: &str) -> bool {
    let part = |range| digits.get(range).and_then(|part| u64::from_str_radix(part, 16).ok());
    let (Some(low), Some(middle), Some(high), Some(variant)) = (part(0..8), part(8..12), part(12..16), part(16..17))
    else {
        return false;
    };
    // 100 ns since 1582, 12 bits of it beside the version.
    let time = match high >> 12 {
        1 => (high & 0xfff) << 48 | middle << 32 | low,
        6 => low << 28 | middle << 12 | high & 0xfff,
        _ => return false,
    };
    digits.len() == LEAST_DIGITS && variant & 0b1100 == 0b1000 && THIS_CENTURY.contains(&time)
}

/// From 2000 to 2100, in 100 ns since 15 October 1582.
const THIS_CENTURY: std::ops::Range<u64> = 0x01d3_bfde_63b0_0000..0x0243_dd56_b5a6_c000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6f9619ff-8b86-11d0-b42d-00cf4fc964ff";

    #[test]
    fn both_shapes_and_their_keys() {
        let uuid = Uid::parse(UUID).expect("a UUID");
        assert_eq!(uuid.key_hex().expose_secret(), "6f9619ff8b8611d0b42d00cf4fc964ff");
        assert_eq!(uuid.wire(), UUID);
        let hex = Uid::parse(&"ab".repeat(32)).expect("64 digits");
        assert_eq!(hex.key_hex().expose_secret().len(), 64);
    }

    #[test]
    fn case_and_dashes_do_not_make_another_uid() {
        let one = Uid::parse(UUID).expect("a UUID");
        let upper = Uid::parse(&UUID.to_uppercase()).expect("upper case");
        let bare = Uid::parse(&UUID.replace('-', "")).expect("without dashes");
        assert_eq!(one.digest(), upper.digest());
        assert_eq!(one.digest(), bare.digest());
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            "x",
            "../../../x",
            "6f9619ff-8b86-11d0-b42d00cf-4fc964ff",
            "{6f9619ff-8b86-11d0-b42d-00cf4fc964ff}",
            "6f9619ff8b8611d0b42d00cf4fc964f\n",
            "6f9619ff8b8611d0b42d00cf4fc964f",
            "6f9619ff8b8611d0b42d00cf4fc964fff",
            &"a".repeat(5000),
            "６f9619ff8b8611d0b42d00cf4fc964ff",
        ] {
            assert!(Uid::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn minted_uids_are_taken_back_and_differ() {
        let (a, b) = (Uid::random().expect("random"), Uid::random().expect("random"));
        assert_ne!(a.digest(), b.digest());
        assert_eq!(Uid::parse(a.wire()).expect("own shape").digest(), a.digest());
        let uuid = Uid::random_uuid().expect("random");
        assert_eq!(Uid::parse(uuid.wire()).expect("own shape").digest(), uuid.digest());
        assert_eq!(uuid.wire().as_bytes()[14], b'4');
    }

    #[test]
    fn weak_keys_are_known() {
        let weakness = |text: &str| Uid::parse(text).expect("a UID").weakness();
        assert_eq!(weakness("4f8583bc-a4d3-11ee-9fd6-034d1fcbd7c3"), Some(Weakness::Guessable));
        assert_eq!(weakness("4f8583bca4d311ee9fd6034d1fcbd7c3"), Some(Weakness::Guessable));
        assert_eq!(weakness("1eea4d34-f858-63bc-9fd6-034d1fcbd7c3"), Some(Weakness::Guessable));
        assert_eq!(weakness("4f8583bc-a4d3-41ee-9fd6-034d1fcbd7c3"), Some(Weakness::Short));
        assert_eq!(weakness("4f8583bca4d341ee9fd6034d1fcbd7c3"), None);
        assert_eq!(weakness(&"ab".repeat(32)), Some(Weakness::Repetitive));
        assert_eq!(weakness(&"0".repeat(32)), Some(Weakness::Repetitive));
        for _ in 0..1000 {
            assert_eq!(Uid::random().expect("random").weakness(), None);
        }
    }

    #[test]
    fn the_text_is_not_shown() {
        let uid = Uid::parse(UUID).expect("a UUID");
        assert!(!format!("{uid:?}").contains("6f9619"));
    }
}

//! The keys of a session, read from stunnel's `PSKsecrets` format.
//!
//! One `identity:hexkey` a line. A key is hexadecimal or it is refused: taken
//! as the characters themselves, a mistyped key would work, with half its
//! strength.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::{Zeroize as _, Zeroizing};

const SHORTEST: usize = 16;
const LONGEST: usize = 64;
/// RFC 4279 obliges peers to take identities up to this length.
const LONGEST_IDENTITY: usize = 128;
/// Room for thousands of keys; a wrong path to something endless is refused.
const LARGEST_FILE: u64 = 1 << 20;

type Secret = Zeroizing<Vec<u8>>;

/// Every key that a peer may prove, and the one that we prove ourselves.
/// It has no `Debug`, so that no log line can hold a key.
pub struct Keys {
    identity: String,
    secrets: HashMap<String, Secret>,
}

impl Keys {
    /// Reads the file; every fault is reported, none shows a part of a key.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or a line is wrong.
    pub fn load(path: &Path, identity: &str) -> Result<Self, Vec<String>> {
        let text = read(path).map_err(|error| vec![error.to_string()])?;
        Self::parse(&text, identity)
    }

    /// Understands the text of a file, in which there is a key for `identity`.
    ///
    /// # Errors
    /// Every line that is wrong; none shows a part of a key.
    pub fn parse(text: &str, identity: &str) -> Result<Self, Vec<String>> {
        let mut secrets = HashMap::new();
        let mut faults = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match parse_line(line) {
                Ok((name, secret)) => {
                    if secrets.insert(name, secret).is_some() {
                        faults.push(format!("line {}: the identity is listed twice", number + 1));
                    }
                }
                Err(fault) => faults.push(format!("line {}: {fault}", number + 1)),
            }
        }
        if faults.is_empty() && !secrets.contains_key(identity) {
            faults.push(format!("no key for the identity {identity:?}"));
        }
        if faults.is_empty() { Ok(Self { identity: identity.to_owned(), secrets }) } else { Err(faults) }
    }

    /// The identity that we name when we are the client.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The key of an identity that a peer named.
    #[must_use]
    pub fn secret(&self, identity: &[u8]) -> Option<&[u8]> {
        let identity = std::str::from_utf8(identity).ok()?;
        self.secrets.get(identity).map(|secret| secret.as_slice())
    }
}

/// What is wrong with an identity, if anything.
///
/// # Errors
/// When it is empty, too long, or has a character that the file's format or a
/// log line could not hold.
pub fn check_identity(identity: &str) -> Result<(), &'static str> {
    let fits = (1..=LONGEST_IDENTITY).contains(&identity.len());
    if fits && identity.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        Ok(())
    } else {
        Err("an identity has 1 to 128 printable ASCII characters, no space and no colon")
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    // Asked of the open file: a path could be swapped between two looks at it.
    let metadata = file.metadata()?;
    if metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("others than the owner may read or write it (chmod 600)"));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    // Room for all of it: a growing buffer leaves copies that are not wiped.
    let capacity = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    file.take(LARGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn parse_line(line: &str) -> Result<(String, Secret), &'static str> {
    let (identity, digits) = line.trim().split_once(':').ok_or("expected identity:hexkey")?;
    check_identity(identity)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("the key has a character that is no hexadecimal digit");
    }
    if digits.len() % 2 != 0 {
        return Err("the key has an odd number of hexadecimal digits");
    }
    if !(SHORTEST..=LONGEST).contains(&(digits.len() / 2)) {
        return Err("a key has 16 to 64 bytes, which is 32 to 128 hexadecimal digits");
    }
    let mut secret = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.as_bytes().chunks_exact(2) {
        let mut value = 0;
        for digit in pair {
            value = value << 4 | hexadecimal(*digit);
        }
        secret.push(value);
        value.zeroize();
    }
    Ok((identity.to_owned(), secret))
}

fn hexadecimal(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: &str = "00112233445566778899aAbBcCdDeEfF";

    fn faults(text: &str) -> String {
        Keys::parse(text, "client1").err().expect("this was taken").join("; ")
    }

    #[test]
    fn reads_stunnels_format() {
        let text = format!("client1:{KEY}\r\n\nclient2:{KEY}{KEY}\n");
        let keys = Keys::parse(&text, "client2").unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(keys.identity(), "client2");
        assert_eq!(keys.secret(b"client1").expect("client1")[..3], [0, 0x11, 0x22]);
        assert_eq!(keys.secret(b"client1").expect("client1")[10..], [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        assert_eq!(keys.secret(b"client2").expect("client2").len(), 32);
        assert!(keys.secret(b"client3").is_none());
        assert!(keys.secret(b"client1\0").is_none());
    }

    #[test]
    fn refuses_weak_or_doubtful_keys() {
        assert!(faults(&format!("client1:{}", &KEY[2..])).contains("16 to 64 bytes"));
        assert!(faults(&format!("client1:{}", KEY.repeat(5))).contains("16 to 64 bytes"));
        assert!(faults(&format!("client1:{KEY}0")).contains("odd"));
        assert!(faults("client1:correct horse battery staple, quite long").contains("no hexadecimal digit"));
        assert!(faults("client1").contains("identity:hexkey"));
        assert!(faults(&format!(":{KEY}")).contains("printable"));
        assert!(faults(&format!("client1:{KEY}\nclient1:{KEY}")).contains("line 2: the identity is listed twice"));
        assert!(faults(&format!("client2:{KEY}")).contains("no key for the identity \"client1\""));
        assert!(faults("").contains("no key"));
    }

    #[test]
    fn reports_every_line_and_shows_no_key() {
        let text = faults(&format!("client1:{KEY}0\nclient2:{KEY}zz"));
        assert!(text.contains("line 1") && text.contains("line 2"), "{text}");
        assert!(!text.contains("0011"), "{text}");
    }

    #[test]
    fn refuses_a_file_that_others_may_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("psk");
        fs::write(&path, format!("client1:{KEY}\n")).expect("write");
        for mode in [0o640, 0o604, 0o620, 0o602] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
            let faults = Keys::load(&path, "client1").err().expect("a file that others may read was taken");
            assert!(faults[0].contains("others than the owner"), "{faults:?}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
            assert!(Keys::load(&path, "client1").is_ok());
        }
    }
}

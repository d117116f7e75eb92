//! A UID, as a stranger sends it: names a folder, and is a key.

use s2ds::key::Keys;
use scistream::session::{Uid, UidError};
use secrecy::ExposeSecret as _;

/// One that is taken is a key that every program reads alike; none is ever shown.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let uid = match Uid::parse(text) {
        Ok(uid) => uid,
        // What may be a secret is not in the fault: only its length.
        Err(UidError::Shape { length } | UidError::Odd { length }) => {
            assert_eq!(length, text.chars().count());
            return;
        }
    };
    let key = uid.key_hex();
    let key = key.expose_secret();
    assert!((32..=128).contains(&key.len()), "{} digits", key.len());
    assert!(key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    assert_eq!(key.to_owned(), text.replace('-', "").to_lowercase());
    for same in [uid.wire(), key] {
        let again = Uid::parse(same).expect("another spelling of it");
        assert_eq!((again.digest(), again.key_hex().expose_secret()), (uid.digest(), key));
    }
    let line = format!("client1:{key}\n");
    let keys = Keys::parse(&line, "client1").unwrap_or_else(|faults| panic!("s2ds: {faults:?}"));
    assert_eq!(keys.secret(b"client1").expect("it is there").len() * 2, key.len());
    let shown = format!("{uid:?} {}", uid.digest());
    assert!(!shown.contains(&key[..16]), "the key is shown");
}

//! The session's key on its way from the UID to the file that proxies read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::backend::PSK_IDENTITY;
use crate::session::Uid;

/// Writes the key file of a session: `identity:hexadecimal key`, mode 0600.
///
/// # Errors
/// What the system says; also when the file is there already, which it never is
/// in a new session's folder.
pub fn write_key_file(path: &Path, uid: &Uid) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{PSK_IDENTITY}:{}", uid.key_hex().expose_secret())
}

/// Reads the UID back from the key file of a session, as the key without dashes.
///
/// # Errors
/// What the system says, or that it is no key file of ours.
pub fn read_key_file(path: &Path) -> io::Result<Uid> {
    let text = SecretString::from(fs::read_to_string(path)?);
    let key = text.expose_secret().trim_end().strip_prefix(PSK_IDENTITY).and_then(|rest| rest.strip_prefix(':'));
    let uid = key.and_then(|key| Uid::parse(key).ok());
    uid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no key file of ours"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_file_is_what_the_deployed_release_reads_and_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("psk");
        let uid = Uid::parse("6f9619ff-8b86-11d0-b42d-00cf4fc964ff").expect("a UUID");
        write_key_file(&path, &uid).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, "client1:6f9619ff8b8611d0b42d00cf4fc964ff\n");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert!(write_key_file(&path, &uid).is_err(), "an existing file was overwritten");
        assert_eq!(read_key_file(&path).expect("read back").digest(), uid.digest());
    }
}

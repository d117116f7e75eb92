//! Credentials that the service manager hands over (`systemd.exec(5)`, `LoadCredential=`):
//! where a setting names a file by a bare name, that may be one of them.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The file that `path` means.
#[must_use]
pub fn resolve(path: &Path) -> PathBuf {
    among(env::var_os("CREDENTIALS_DIRECTORY").as_deref(), path)
}

fn among(credentials: Option<&OsStr>, path: &Path) -> PathBuf {
    let is_name = path.components().count() == 1 && path.file_name() == Some(path.as_os_str());
    let credential = credentials.filter(|_| is_name).map(|folder| Path::new(folder).join(path));
    credential.filter(|path| path.is_file()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_a_credential_where_there_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("server.key"), "").expect("written");
        let among = |path: &str| among(Some(folder.path().as_os_str()), Path::new(path));
        assert_eq!(among("server.key"), folder.path().join("server.key"));
        for other in ["other.key", "./server.key", "/etc/server.key", "a/server.key"] {
            assert_eq!(among(other), Path::new(other));
        }
    }
}

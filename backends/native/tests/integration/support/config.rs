//! Configurations of `s2ds`, written to a folder that ends with the test.

use std::fmt::Display;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{KERNEL_TLS, KEY};

/// A folder with a configuration and a key.
pub struct Config {
    folder: tempfile::TempDir,
    /// Above the tables.
    pub top: String,
}

impl Config {
    pub fn new(top: &str) -> Self {
        let config = Self { folder: tempfile::tempdir().expect("a folder"), top: top.to_owned() };
        config.key(&format!("client1:{KEY}\n"));
        config
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self) -> PathBuf {
        self.folder().join("s2ds.toml")
    }

    pub fn key_path(&self) -> PathBuf {
        self.folder().join("psk")
    }

    pub fn key(&self, text: &str) {
        fs::write(self.key_path(), text).expect("write the key");
        fs::set_permissions(self.key_path(), Permissions::from_mode(0o600)).expect("chmod");
    }

    /// Writes these listeners, after the key's table.
    pub fn write(&self, listeners: &[String]) -> PathBuf {
        let psk = format!("[psk]\nidentity = \"client1\"\nfile = \"{}\"\n", self.key_path().display());
        // Set where all tests are to run with TLS in the kernel.
        let kernel_tls = std::env::var(KERNEL_TLS).map(|value| format!("kernel_tls = \"{value}\"\n"));
        let top = [&kernel_tls.unwrap_or_default(), self.top.as_str()].concat();
        let text = format!("threads = 2\n{top}\n{psk}{}", listeners.join(""));
        fs::write(self.path(), text).expect("write the configuration");
        self.path()
    }
}

/// A listener; `more` is further lines.
pub fn listener(accept: impl Display, target: impl Display, more: &str) -> String {
    format!("[[listener]]\naccept = \"{accept}\"\ntarget = \"{target}\"\n{more}\n")
}

/// Both ends of a tunnel in one process: `accept` → TLS at `middle` → `target`.
pub fn tunnel(accept: impl Display, middle: impl Display, target: impl Display) -> [String; 2] {
    [
        listener(accept, &middle, "name = \"cons\"\ntarget_wire = \"psk\""),
        listener(&middle, target, "name = \"prod\"\naccept_wire = \"psk\""),
    ]
}

//! Man pages, completions and the commented configuration, all made from the code itself.
//!
//! What `--help` says comes from the programs' command lines; what the settings and the
//! manifests are comes from the comments on the fields that they are read into. So
//! neither is written twice, and nothing made here is kept in the repository.

mod comments;
pub mod completions;
mod format;
mod manifest_page;
mod pages;
mod roff_text;
pub mod settings;
mod settings_page;

use std::io;
use std::path::Path;

/// The version that all of it is about.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes everything into a folder, which is made if need be.
///
/// # Errors
/// What the system says.
pub fn write_all(folder: &Path) -> io::Result<()> {
    pages::write(&folder.join("man"))?;
    settings_page::write(&folder.join("man"))?;
    manifest_page::write(&folder.join("man"))?;
    completions::write(folder)?;
    std::fs::write(folder.join("s2cs.toml"), settings::sample())
}

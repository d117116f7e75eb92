//! Completions for bash, zsh and fish.

use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate_to};

/// A folder a shell, with a file a program under the name that the shell looks for.
pub fn write(folder: &Path) -> io::Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let folder = folder.join(shell.to_string());
        std::fs::create_dir_all(&folder)?;
        for mut command in programs() {
            let name = command.get_name().to_owned();
            let path = generate_to(shell, &mut command, &name, &folder)?;
            if shell == Shell::Bash {
                std::fs::rename(path, folder.join(name))?;
            }
        }
    }
    Ok(())
}

/// All programs of the packages.
pub fn programs() -> impl Iterator<Item = Command> {
    scistream::cli::commands().into_iter().chain([s2ds::cli::command()])
}

//! Writes what the packages hold besides the programs: `package_files FOLDER`.

use std::path::PathBuf;
use std::process::ExitCode;

#[path = "lib.rs"]
mod files;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("package_files: say which folder the files go into");
        return ExitCode::from(2);
    };
    match files::write_all(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("package_files: failed to write into {}: {e}", folder.display());
            ExitCode::FAILURE
        }
    }
}

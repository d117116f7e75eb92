//! The program `s2ds`.

use std::process::ExitCode;

fn main() -> ExitCode {
    s2ds::cli::run()
}

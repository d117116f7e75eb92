//! The program `s2uc`: the user's client.

use std::process::ExitCode;

fn main() -> ExitCode {
    scistream::cli::s2uc::main()
}

//! The program `s2fw`: opens the host's firewall for sessions, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    scistream::cli::s2fw::main()
}

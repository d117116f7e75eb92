//! The program `s2cs`: the control server of a gateway.

use std::process::ExitCode;

fn main() -> ExitCode {
    scistream::cli::s2cs::main()
}

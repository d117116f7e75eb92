//! The program `appctrl`: the application controller.

use std::process::ExitCode;

fn main() -> ExitCode {
    scistream::cli::appctrl::main()
}

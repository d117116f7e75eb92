//! stunnel, set up as the deployed release of SciStream sets it up.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::program::Program;

/// Starts it; `client` says which end of the tunnel it is.
pub fn deployed(folder: &Path, client: bool, accept: SocketAddr, connect: SocketAddr) -> Program {
    with_options(folder, client, accept, connect, "ciphers = eNULL\nsecurityLevel = 0\nsslVersionMax = TLSv1.2\n")
}

/// Starts it with other settings.
pub fn with_options(folder: &Path, client: bool, accept: SocketAddr, connect: SocketAddr, options: &str) -> Program {
    let yes_no = if client { "yes" } else { "no" };
    let text = format!(
        "foreground = yes\nsyslog = no\npid =\ndebug = info\n[stream]\nclient = {yes_no}\n\
         accept = {accept}\nconnect = {connect}\nPSKsecrets = {}\n{options}",
        folder.join("psk").display()
    );
    let path = folder.join("stunnel.conf");
    fs::write(&path, text).expect("write stunnel's configuration");
    let program = Program::start(Command::new("stunnel").arg(path));
    program.wait_for("Configuration successful");
    program
}

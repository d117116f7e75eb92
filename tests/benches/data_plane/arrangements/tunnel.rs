//! Two hops with TLS and a pre-shared key between them: what a session is made of.

use std::net::SocketAddr;
use std::path::Path;

use super::ground::{Ground, IDENTITY, free_address};
use super::program::{Program, Start};
use crate::failure::Result;

/// The end near the producer, then the one near the consumer, and where each accepts.
type Ends = [(Program, SocketAddr); 2];

/// stunnel as the deployed release writes it. It agrees on a suite without a key.
pub const DEPLOYED: &str = "fips = no\nsecurityLevel = 0\ndebug = 7\nsslVersionMax = TLSv1.2\nciphers = eNULL\n";
/// stunnel at its best.
pub const TLS_1_3: &str = "debug = notice\nsyslog = no\nsslVersionMin = TLSv1.3\n\
    ciphersuites = TLS_AES_128_GCM_SHA256\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n";

/// Starts one end, and waits until it accepts.
fn start(
    ground: &Ground,
    name: &str,
    accept: SocketAddr,
    program: &str,
    config: &Path,
) -> Result<(Program, SocketAddr)> {
    let mut program = Program::start(Start {
        argv: vec![program.to_owned(), config.to_string_lossy().into_owned()],
        folder: &ground.folder,
        name,
        inherited: Vec::new(),
        environment: Vec::new(),
    })?;
    program.listens_on(accept)?;
    Ok((program, accept))
}

/// Two s2ds with their defaults: TLS 1.3.
pub fn s2ds(ground: &Ground, path: &Path) -> Result<Ends> {
    let key = ground.key()?;
    let end = |name: &str, accept: SocketAddr, target: SocketAddr, wires: [&str; 2]| {
        let [accept_wire, target_wire] = wires;
        let text = format!(
            "[psk]\nidentity = \"{IDENTITY}\"\nfile = \"{}\"\n\n[[listener]]\naccept = \"{accept}\"\n\
             accept_wire = \"{accept_wire}\"\ntarget = \"{target}\"\ntarget_wire = \"{target_wire}\"\n",
            key.display()
        );
        let config = ground.write(&format!("{name}.toml"), &text)?;
        start(ground, name, accept, &path.to_string_lossy(), &config)
    };
    let (prod, cons) = (free_address()?, free_address()?);
    Ok([end("prod", prod, ground.producer, ["psk", "plain"])?, end("cons", cons, prod, ["plain", "psk"])?])
}

/// Two stunnels with these settings.
pub fn stunnel(ground: &Ground, settings: &str) -> Result<Ends> {
    let key = ground.key()?;
    let end = |name: &str, accept: SocketAddr, target: SocketAddr, client: &str| {
        let text = format!(
            "foreground = yes\npid =\nPSKsecrets = {}\n{settings}[{name}]\nclient = {client}\naccept = {accept}\n\
             connect = {target}\n",
            key.display()
        );
        let config = ground.write(&format!("{name}.conf"), &text)?;
        start(ground, name, accept, "stunnel", &config)
    };
    let (prod, cons) = (free_address()?, free_address()?);
    Ok([end("prod", prod, ground.producer, "no")?, end("cons", cons, prod, "yes")?])
}

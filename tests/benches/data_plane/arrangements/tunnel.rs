//! Two hops with TLS and a pre-shared key between them: what a session is made of.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::ground::{Ground, IDENTITY, Place};
use super::program::{Program, Start};
use crate::failure::Result;

/// The end near the producer, then the one near the consumer, and where each accepts.
type Ends = [(Program, SocketAddr); 2];

/// How stunnel is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settings {
    /// As the deployed release writes it. It agrees on a suite without a key.
    Deployed,
    /// At its best.
    Tls13,
}

impl Settings {
    fn text(self) -> &'static str {
        match self {
            Self::Deployed => "fips = no\nsecurityLevel = 0\ndebug = 7\nsslVersionMax = TLSv1.2\nciphers = eNULL\n",
            Self::Tls13 => {
                "debug = notice\nsyslog = no\nsslVersionMin = TLSv1.3\nciphersuites = TLS_AES_128_GCM_SHA256\n\
                 socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
            }
        }
    }
}

/// To find a prime of 2048 bits beside all else that the machine does.
const DH_PATIENCE: Duration = Duration::from_secs(40);

/// One end of the tunnel.
struct End {
    name: &'static str,
    place: Place,
    accept: SocketAddr,
    target: SocketAddr,
    /// Whether it opens the tunnel.
    opens: bool,
}

/// Both ends, the one near the producer first.
fn ends(ground: &Ground) -> Result<[End; 2]> {
    let (prod, cons) = (ground.prod.free_address()?, ground.cons.free_address()?);
    let end = |name, place, accept, target, opens| End { name, place, accept, target, opens };
    Ok([end("prod", ground.prod, prod, ground.producer, false), end("cons", ground.cons, cons, prod, true)])
}

impl End {
    /// Starts it with a configuration, and waits until it accepts.
    fn start(&self, ground: &Ground, program: &str, configuration: &str) -> Result<(Program, SocketAddr)> {
        let config = ground.write(&format!("{}.conf", self.name), configuration)?;
        let mut program = Program::start(Start {
            argv: vec![program.to_owned(), config.to_string_lossy().into_owned()],
            place: self.place,
            folder: &ground.folder,
            name: self.name,
            inherited: Vec::new(),
            environment: Vec::new(),
        })?;
        program.listens_on(self.accept)?;
        Ok((program, self.accept))
    }
}

/// Two s2ds with their defaults: TLS 1.3.
pub fn s2ds(ground: &Ground, path: &Path) -> Result<Ends> {
    let key = ground.key()?;
    let start = |end: &End| {
        let [accept_wire, target_wire] = if end.opens { ["plain", "psk"] } else { ["psk", "plain"] };
        let text = format!(
            "[psk]\nidentity = \"{IDENTITY}\"\nfile = \"{}\"\n\n[[listener]]\naccept = \"{}\"\n\
             accept_wire = \"{accept_wire}\"\ntarget = \"{}\"\ntarget_wire = \"{target_wire}\"\n",
            key.display(),
            end.accept,
            end.target
        );
        end.start(ground, &path.to_string_lossy(), &text)
    };
    let [prod, cons] = ends(ground)?;
    Ok([start(&prod)?, start(&cons)?])
}

/// Two stunnels.
pub fn stunnel(ground: &Ground, settings: Settings) -> Result<Ends> {
    let key = ground.key()?;
    let start = |end: &End| {
        let text = format!(
            "foreground = yes\npid =\nPSKsecrets = {}\n{}[{}]\nclient = {}\naccept = {}\nconnect = {}\n",
            key.display(),
            settings.text(),
            end.name,
            if end.opens { "yes" } else { "no" },
            end.accept,
            end.target
        );
        end.start(ground, "stunnel", &text)
    };
    let [prod, cons] = ends(ground)?;
    let mut ends = [start(&prod)?, start(&cons)?];
    if settings == Settings::Deployed {
        // The server's end goes on computing after it has begun to accept.
        let done = |line: &str| line.contains("DH parameters updated");
        if ends[0].0.says("that it has its parameters", DH_PATIENCE, done).is_err() {
            eprint!(" (it still looks for Diffie-Hellman parameters)");
        }
    }
    Ok(ends)
}

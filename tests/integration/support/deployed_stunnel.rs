//! stunnel as the deployed release runs it: one end of a tunnel at a facility of today.

use std::fs;
use std::net::SocketAddr;

use scistream::session::Uid;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::ports::PortBlock;
use super::program::Program;

/// Which end of the tunnel it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Accepts the tunnel; the PROD half.
    Server,
    /// Opens the tunnel; the CONS half.
    Client,
}

/// The running program.
#[derive(Debug)]
pub struct DeployedStunnel {
    program: Program,
    /// Where it accepts, one for each target.
    pub listeners: Vec<SocketAddr>,
    // Held for as long as it runs: its key, and its ports.
    _folder: TempDir,
    _ports: PortBlock,
}

impl DeployedStunnel {
    /// Starts it with a listener for each target, and waits until all of them accept.
    pub async fn start(end: End, uid: &Uid, targets: &[String]) -> Self {
        let (folder, ports) = (TempDir::with_prefix("stunnel-").expect("a folder"), PortBlock::claim());
        let (key, config) = (folder.path().join("stream.key"), folder.path().join("stream.conf"));
        // What every client of that release is called, and its key: the UID without dashes.
        fs::write(&key, format!("client1:{}\n", uid.key_hex().expose_secret())).expect("the key is written");
        let client = if end == End::Client { "yes" } else { "no" };
        let mut text = format!(
            "fips = no\nPSKsecrets = {}\nsecurityLevel = 0\ndebug = 7\nforeground = yes\nsslVersionMax = TLSv1.2\n\
             pid = {}\n",
            key.display(),
            folder.path().join("stream.pid").display(),
        );
        let mut listeners = Vec::new();
        for (port, target) in ports.range().zip(targets) {
            let listener = SocketAddr::from(([127, 0, 0, 1], port));
            text += &format!("[{port}]\nclient = {client}\naccept = {listener}\nconnect = {target}\nciphers = eNULL\n");
            listeners.push(listener);
        }
        fs::write(&config, text).expect("the configuration is written");
        let mut program = Program::start("stunnel", &[config.to_str().expect("a plain path")]);
        for listener in &listeners {
            program.listens_on(*listener).await;
        }
        Self { program, listeners, _folder: folder, _ports: ports }
    }

    /// The suite of each handshake so far, as its log names it.
    pub fn suites(&self) -> Vec<String> {
        self.log()
            .lines()
            .filter_map(|line| line.split_once("ciphersuite: "))
            .filter_map(|(_, rest)| rest.split(' ').next().map(str::to_owned))
            .collect()
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> usize {
        self.log().matches("accepted connection from").count()
    }

    pub fn log(&self) -> String {
        self.program.stderr()
    }
}

//! From a stage to the text of its configuration file.
//!
//! A template sees typed and checked values only: addresses, numbers, words of
//! our own and paths of our own. No string of a caller's reaches it, and never
//! a secret, only the path of the file that holds it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Serialize;
use tera::{Context, Tera};

use super::chain::{Hop, ProxyHeader, Stage, Wire};
use super::program::Program;
use crate::causes::causes;
use crate::session::{Bandwidth, Host, Protection, SessionId, Tcp};
use crate::shown::in_one_line;
use crate::tls;

/// The session's folder, as the templates and processes of a session see it.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Absolute, mode 0700.
    pub path: PathBuf,
}

impl Folder {
    /// The file that holds the pre-shared key, in the form that stunnel and s2ds
    /// read: one line `identity:hexadecimal key`.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.path.join("psk")
    }

    /// Where the session's programs may make files of their own, a process id's for one.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Makes that folder if it is missing, and answers with it.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_scratch(&self) -> io::Result<PathBuf> {
        let scratch = self.scratch();
        DirBuilder::new().recursive(true).mode(0o700).create(&scratch)?;
        Ok(scratch)
    }

    /// A certificate whose private key nobody has: who trusts it alone trusts no
    /// certificate at all. For programs that cannot be told so otherwise.
    #[must_use]
    pub fn nobody(&self) -> PathBuf {
        self.path.join("nobody.pem")
    }

    /// Makes that certificate if it is missing. Its key is forgotten at once.
    ///
    /// # Errors
    /// What the system or OpenSSL says.
    pub fn make_nobody(&self) -> io::Result<()> {
        let path = self.nobody();
        if path.try_exists()? {
            return Ok(());
        }
        let made = tls::self_signed(&[Host::Name("nobody.invalid".into())], 0)?;
        let unfinished = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&made.certificate)?;
        fs::rename(unfinished, path)
    }

    /// The file that takes the output of a stage's process.
    #[must_use]
    pub fn log_file(&self, stage: &Stage) -> PathBuf {
        self.path.join(format!("{}.log", stage.name()))
    }

    /// The rendered configuration of a stage.
    #[must_use]
    pub fn config_file(&self, stage: &Stage) -> PathBuf {
        self.path.join(stage.config())
    }
}

/// The identity that goes with the key, the same everywhere since the first release.
pub const PSK_IDENTITY: &str = "client1";

/// A template, parsed: each session is rendered from it again and again.
#[derive(Debug)]
pub struct Template(Tera);

const NAME: &str = "config";

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// Where and why it is none: text, because the engine's own error borrows it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tera = Tera::new();
        tera.add_raw_template(NAME, text).map_err(|e| causes(&e))?;
        Ok(Self(tera))
    }

    pub(super) fn fill_in(&self, context: &Context) -> Result<String, tera::Error> {
        self.0.render(NAME, context)
    }
}

/// A template that could not be filled in. Its author's fault, not a caller's.
#[derive(Debug, thiserror::Error)]
#[error("fill in the template of {backend}: {why}")]
pub struct RenderError {
    /// Whose template.
    pub backend: String,
    /// Where and why, as the template engine says it.
    pub why: String,
}

/// All that a template sees. Field names are its vocabulary.
#[derive(Serialize)]
struct View<'a> {
    /// Its short hash and its role, for comments and for names.
    session: String,
    /// PROD or CONS.
    role: &'static str,
    /// The floor of the tunnel's protection.
    protection: Protection,
    /// The session's folder.
    folder: &'a Path,
    /// Where the program may make files of its own.
    scratch: PathBuf,
    /// The file with the key: one line, identity:hexadecimal key.
    key_file: PathBuf,
    /// A certificate whose private key nobody has, to trust nobody by.
    nobody: PathBuf,
    /// The file that takes the program's output.
    log_file: PathBuf,
    /// The identity that goes with the key.
    identity: &'static str,
    /// Connections that the program may hold open.
    connections: u32,
    /// Its share for each listener, for programs that count them apart.
    connections_per_listener: u32,
    /// Bytes a second of all connections and both directions together; absent where
    /// there is no bound, or where another stage sees to it.
    bandwidth: Option<u64>,
    /// What the buffers of all connections may take together.
    memory_mib: Option<u32>,
    /// Of every TCP socket; what is not set is absent.
    tcp: Tcp,
    /// Whether the program runs as root, because the controller does.
    root: bool,
    /// The version of the program.
    version: &'a str,
    /// Where the files of the manifest are, by their names.
    files: &'a std::collections::BTreeMap<String, PathBuf>,
    /// Where it accepts, and where it forwards to.
    listeners: Vec<ListenerView>,
}

#[derive(Serialize)]
struct ListenerView {
    /// Its number, from 0.
    index: usize,
    /// The file descriptor of the inherited socket.
    fd: usize,
    /// Where it accepts: IP:PORT, or the path of a unix socket.
    accept: String,
    /// Whether that is a unix socket.
    accept_unix: bool,
    /// Apart, for programs that write IPv6 without brackets; absent on unix sockets.
    accept_ip: Option<IpAddr>,
    /// Apart; absent on unix sockets.
    accept_port: Option<u16>,
    /// Whether the tunnel ends here.
    accept_psk: bool,
    /// The PROXY header that comes first, v1 or v2; absent where none does.
    accept_header: Option<&'static str>,
    /// Who may connect, as networks; empty where that is everyone, or where another
    /// stage sees to it.
    sources: Vec<String>,
    /// Apart, for programs that would mix the families up.
    sources_v4: Vec<String>,
    /// Those of IPv6.
    sources_v6: Vec<String>,
    /// Where it forwards to, in the same forms.
    target: String,
    /// Whether that is a unix socket.
    target_unix: bool,
    /// Apart; absent on unix sockets.
    target_ip: Option<IpAddr>,
    /// Apart; absent on unix sockets.
    target_port: Option<u16>,
    /// Whether the tunnel begins here.
    target_psk: bool,
    /// The PROXY header that the target is sent first; absent where it gets none.
    target_header: Option<&'static str>,
}

/// The first descriptor after stdin, stdout and stderr.
pub const FIRST_INHERITED_FD: usize = 3;

/// Fills in a stage's template.
///
/// # Errors
/// [`RenderError`] when the template asks for what there is not.
pub fn render(
    template: &Template,
    stage: &Stage,
    program: &Program,
    folder: &Folder,
    session: SessionId,
    circumstances: Circumstances,
) -> Result<String, RenderError> {
    let view = View {
        session: session.to_string(),
        role: session.role.as_str(),
        protection: circumstances.protection,
        folder: &folder.path,
        scratch: folder.scratch(),
        key_file: folder.key_file(),
        nobody: folder.nobody(),
        log_file: folder.log_file(stage),
        identity: PSK_IDENTITY,
        connections: circumstances.connections,
        connections_per_listener: share(circumstances.connections, stage.hops.len()),
        bandwidth: circumstances.bandwidth.filter(|_| stage.limits).map(Bandwidth::bytes_per_second),
        memory_mib: circumstances.memory_mib,
        tcp: circumstances.tcp,
        root: circumstances.root,
        version: &program.version,
        files: &program.files,
        listeners: stage
            .hops
            .iter()
            .enumerate()
            .map(|(index, hop)| ListenerView {
                index,
                fd: FIRST_INHERITED_FD + index,
                accept: hop.accept.to_string(),
                accept_unix: hop.accept.tcp().is_none(),
                accept_ip: hop.accept.tcp().map(|tcp| tcp.ip()),
                accept_port: hop.accept.tcp().map(|tcp| tcp.port()),
                accept_psk: hop.accept_wire == Wire::Psk,
                accept_header: hop.accept_header.map(header_word),
                sources: networks(hop, |_| true),
                sources_v4: networks(hop, |network| matches!(network, IpNet::V4(_))),
                sources_v6: networks(hop, |network| matches!(network, IpNet::V6(_))),
                target: hop.target.to_string(),
                target_unix: hop.target.tcp().is_none(),
                target_ip: hop.target.tcp().map(|tcp| tcp.ip()),
                target_port: hop.target.tcp().map(|tcp| tcp.port()),
                target_psk: hop.target_wire == Wire::Psk,
                target_header: hop.target_header.map(header_word),
            })
            .collect(),
    };
    // Told to whoever asked for the session: one line.
    let fault = |e: tera::Error| RenderError { backend: stage.name(), why: in_one_line(&causes(&e)).into_owned() };
    let context = Context::from_serialize(&view).map_err(fault)?;
    template.fill_in(&context).map_err(fault)
}

fn networks(hop: &Hop, wanted: impl Fn(&IpNet) -> bool) -> Vec<String> {
    hop.sources.networks().iter().filter(|network| wanted(network)).map(ToString::to_string).collect()
}

fn share(connections: u32, listeners: usize) -> u32 {
    let listeners = u32::try_from(listeners).unwrap_or(u32::MAX).max(1);
    (connections / listeners).max(1)
}

/// What a template is told of the session and of the gateway.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The floor of the tunnel's protection.
    pub protection: Protection,
    /// Connections that one process may hold open.
    pub connections: u32,
    /// What the session may move at most just now.
    pub bandwidth: Option<Bandwidth>,
    /// What the buffers of all connections may take together; `None`: as its program has it.
    pub memory_mib: Option<u32>,
    /// How its connections are set.
    pub tcp: Tcp,
    /// Whether the program will run as root.
    pub root: bool,
}

fn header_word(header: ProxyHeader) -> &'static str {
    match header {
        ProxyHeader::V1 => "v1",
        ProxyHeader::V2 => "v2",
    }
}

//! A session's two ends as our own templates render them, started as the controller would.

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use scistream::backend::{Address, Catalog, Chosen, Circumstances, Folder, Hop, Programs, Sockets, Stage, render};
use scistream::session::{ListenAddr, Plan, Protection, Role, SessionId, TargetAddr, Uid};
use socket2::{Domain, SockAddr, Socket, Type};

use super::ground::{Ground, Place, write_key};
use super::program::{Program, Start};
use crate::failure::{Doing as _, Result};

/// What serves one end: a backend, and the terminator for one without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Design {
    /// Carries the bytes.
    pub backend: &'static str,
    /// Ends the tunnel.
    pub terminator: &'static str,
}

const fn design(backend: &'static str, terminator: &'static str) -> Design {
    Design { backend, terminator }
}

/// All of them.
pub const DESIGNS: [Design; 6] = [
    design("native", "native"),
    design("stunnel", "native"),
    design("haproxy", "native"),
    design("haproxy", "stunnel"),
    design("nginx", "native"),
    design("nginx", "stunnel"),
];

/// Pairs that stand for the others: both ends the same, and some that are not. CONS first.
pub const PAIRS: [[Design; 2]; 9] = [
    [DESIGNS[1], DESIGNS[1]],
    [DESIGNS[2], DESIGNS[2]],
    [DESIGNS[3], DESIGNS[3]],
    [DESIGNS[4], DESIGNS[4]],
    [DESIGNS[5], DESIGNS[5]],
    [DESIGNS[0], DESIGNS[1]],
    [DESIGNS[1], DESIGNS[0]],
    [DESIGNS[2], DESIGNS[4]],
    [DESIGNS[5], DESIGNS[2]],
];

impl Design {
    /// What it is called in the results.
    pub fn name(self) -> String {
        let shown = |name: &str| if name == "native" { "s2ds".to_owned() } else { name.to_owned() };
        match self.backend {
            "native" | "stunnel" => shown(self.backend),
            backend => format!("{backend}+{}", shown(self.terminator)),
        }
    }
}

/// Any UUID.
const UID: &str = "6f9619ff-8b86-11d0-b42d-00cf4fc964ff";
/// More than any workload opens.
const CONNECTIONS: u32 = 4096;
/// Connections may come all at once.
const BACKLOG: i32 = 4096;

/// Both ends of a session, from the producer to the consumer, and where the last accepts.
///
/// # Errors
/// When a program is missing, or does not start.
pub fn session(ground: &Ground, [cons, prod]: [Design; 2], s2ds: &Path) -> Result<Vec<(Program, SocketAddr)>> {
    let wan = ground.prod.free_address()?;
    let lan = ground.cons.free_address()?;
    let mut programs = end(ground, prod, Role::Prod, [wan, ground.producer], s2ds)?;
    programs.extend(end(ground, cons, Role::Cons, [lan, wan], s2ds)?);
    Ok(programs)
}

fn end(
    ground: &Ground,
    design: Design,
    role: Role,
    [accept, target]: [SocketAddr; 2],
    s2ds: &Path,
) -> Result<Vec<(Program, SocketAddr)>> {
    let catalog = Catalog::load(None).doing("load the backends")?;
    let find = |name| catalog.get(name).doing("find a backend");
    let (backend, terminator, gate) = (find(design.backend)?, find(design.terminator)?, find("native")?);
    let folder = Folder { path: ground.folder.join(role.as_str()) };
    DirBuilder::new().recursive(true).mode(0o700).create(&folder.path).doing("make a folder")?;
    write_key(&folder.key_file())?;
    folder.make_nobody().doing("make a certificate")?;
    folder.make_scratch().doing("make a folder")?;
    let plan = Plan::new(role, Protection::Confidentiality, &[ListenAddr(accept)], &[TargetAddr(target)])
        .expect("there is a target");
    let stages = Chosen { backend: &backend, terminator: &terminator, gate: &gate }.stages(&plan, &folder.path);
    let start = |stage: &Stage| Ok((start(&catalog, stage, &folder, role, s2ds)?, accept));
    stages.iter().map(start).collect()
}

fn start(catalog: &Catalog, stage: &Stage, folder: &Folder, role: Role, s2ds: &Path) -> Result<Program> {
    let manifest = &stage.manifest;
    let program = if manifest.name == "native" {
        scistream::backend::Program { path: s2ds.to_owned(), version: "2".into(), files: [].into() }
    } else {
        Programs::default().find(manifest).doing("find a program")?
    };
    let template = catalog.template(manifest).doing(format!("find the template of {}", manifest.name))?;
    let session = SessionId { uid: Uid::parse(UID).doing("name a session")?.digest(), role };
    let root = nix::unistd::geteuid().is_root();
    let circumstances = Circumstances { connections: CONNECTIONS, root, ..Circumstances::default() };
    let text = render(&template, stage, &program, folder, session, circumstances).doing("render a configuration")?;
    let config = folder.config_file(stage);
    fs::write(&config, text).doing("write a configuration")?;

    let fill = |word: &String| {
        word.replace("{config}", &config.to_string_lossy()).replace("{folder}", &folder.path.to_string_lossy())
    };
    let inherited = stage.hops.iter().map(listening).collect::<Result<Vec<_>>>()?;
    let environment = match manifest.sockets {
        Sockets::Systemd => vec![("LISTEN_FDS".to_owned(), inherited.len().to_string())],
        Sockets::Nginx => {
            vec![("NGINX".to_owned(), (3..).take(inherited.len()).map(|fd: usize| format!("{fd};")).collect())]
        }
        Sockets::Config => Vec::new(),
    };
    // Whom the sockets are for, only the process itself can know.
    let own = ["sh".to_owned(), "-c".to_owned(), "LISTEN_PID=$$ exec \"$0\" \"$@\"".to_owned()];
    let own = own.into_iter().filter(|_| manifest.sockets == Sockets::Systemd);
    let argv = own.chain([program.path.to_string_lossy().into_owned()]).chain(manifest.start.argv.iter().map(fill));
    let mut program = Program::start(Start {
        argv: argv.collect(),
        place: Place::HERE,
        folder: &folder.path,
        name: &stage.name(),
        inherited,
        environment,
    })?;
    let ready = &manifest.start.ready;
    program.says("that it is ready", manifest.start.timeout_seconds, |line| ready.is_match(line))?;
    Ok(program)
}

/// The socket that a stage accepts on.
fn listening(hop: &Hop) -> Result<OwnedFd> {
    let (domain, address) = match &hop.accept {
        Address::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path).doing("name a socket")?),
    };
    let socket = Socket::new(domain, Type::STREAM, None).doing("make a socket")?;
    socket.bind(&address).and_then(|()| socket.listen(BACKLOG)).doing(format!("listen on {}", hop.accept))?;
    Ok(socket.into())
}

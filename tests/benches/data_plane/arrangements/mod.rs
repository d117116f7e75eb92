//! The arrangements that are compared: what stands between producer and consumer.

pub mod ground;
mod plain;
pub mod program;
mod rendered;
mod tunnel;

use std::net::SocketAddr;
use std::path::PathBuf;

use nix::unistd::Pid;

use self::ground::Ground;
use self::program::Program;
use self::rendered::{DESIGNS, Design, PAIRS};
use self::tunnel::Settings;
use crate::arguments::{Build, Options};
use crate::failure::{Failure, Result};

/// Something that can be put between producer and consumer.
#[derive(Debug, Clone)]
pub struct Arrangement {
    /// What it is called in the results.
    pub name: String,
    /// What it is made of.
    pub kind: Kind,
}

/// What it is made of.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Nothing.
    Direct,
    /// One plain hop through s2ds.
    S2dsPlain(PathBuf),
    /// One plain hop through HAProxy.
    Haproxy(Splice),
    /// One plain hop through nginx.
    Nginx,
    /// One plain hop through socat.
    Socat,
    /// TLS between two s2ds.
    S2dsTls(PathBuf),
    /// TLS 1.2 without encryption, as the deployed release sets stunnel up.
    StunnelDeployed,
    /// TLS 1.3 between two stunnels.
    StunnelTls,
    /// The two ends of a session, CONS first, as the templates render them.
    Session([Design; 2], PathBuf),
}

/// Whether HAProxy moves bytes through pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splice {
    /// As it comes.
    No,
    /// Both ways, always.
    Forced,
}

impl Kind {
    /// Whether it goes on from round to round, because it takes long until it is ready.
    pub fn stays(&self) -> bool {
        matches!(self, Self::StunnelDeployed)
    }

    /// The s2ds in it.
    pub fn s2ds(&self) -> Option<&PathBuf> {
        match self {
            Self::S2dsPlain(path) | Self::S2dsTls(path) => Some(path),
            _ => None,
        }
    }
}

/// An arrangement that runs. It ends when dropped.
pub struct Running {
    /// Where the consumer connects.
    pub entry: SocketAddr,
    programs: Vec<Program>,
}

impl Running {
    /// The process groups of its programs.
    pub fn groups(&self) -> Vec<Pid> {
        self.programs.iter().map(Program::group).collect()
    }

    /// What its programs said last.
    pub fn said(&self) -> String {
        self.programs.iter().map(Program::said).collect::<Vec<_>>().join("\n")
    }
}

impl Arrangement {
    /// Starts its programs, and waits until they accept.
    ///
    /// # Errors
    /// When one does not.
    pub fn start(&self, ground: &Ground) -> Result<Running> {
        let mut running = Running { entry: ground.producer, programs: Vec::new() };
        let mut add = |(program, entry)| {
            running.programs.push(program);
            running.entry = entry;
        };
        match &self.kind {
            Kind::Direct => {}
            Kind::S2dsPlain(path) => add(plain::s2ds(ground, path)?),
            Kind::Haproxy(splice) => add(plain::haproxy(ground, *splice)?),
            Kind::Nginx => add(plain::nginx(ground)?),
            Kind::Socat => add(plain::socat(ground)?),
            Kind::S2dsTls(path) => tunnel::s2ds(ground, path)?.into_iter().for_each(add),
            Kind::StunnelDeployed => tunnel::stunnel(ground, Settings::Deployed)?.into_iter().for_each(add),
            Kind::StunnelTls => tunnel::stunnel(ground, Settings::Tls13)?.into_iter().for_each(add),
            Kind::Session(pair, s2ds) => rendered::session(ground, *pair, s2ds)?.into_iter().for_each(add),
        }
        Ok(running)
    }
}

/// All of them, in the order in which they are shown; direct comes first.
///
/// # Errors
/// When there is no s2ds.
pub fn all(options: &Options) -> Result<Vec<Arrangement>> {
    let builds = if options.s2ds.is_empty() { vec![built_beside()?] } else { options.s2ds.clone() };
    let labelled = |name: &str, build: &Build| match build.label.as_str() {
        "" => name.to_owned(),
        label => format!("{name} {label}"),
    };
    let fixed = |name: &str, kind| Arrangement { name: name.into(), kind };
    let mut all = vec![fixed("direct", Kind::Direct)];
    all.extend(
        builds.iter().map(|build| Arrangement {
            name: labelled("s2ds plain", build),
            kind: Kind::S2dsPlain(build.path.clone()),
        }),
    );
    all.extend([
        fixed("haproxy", Kind::Haproxy(Splice::No)),
        fixed("haproxy splice", Kind::Haproxy(Splice::Forced)),
        fixed("nginx", Kind::Nginx),
        fixed("socat", Kind::Socat),
    ]);
    all.extend(
        builds
            .iter()
            .map(|build| Arrangement { name: labelled("s2ds tls", build), kind: Kind::S2dsTls(build.path.clone()) }),
    );
    all.extend([fixed("stunnel deployed", Kind::StunnelDeployed), fixed("stunnel tls1.3", Kind::StunnelTls)]);
    let named = |[cons, prod]: &[Design; 2]| match cons == prod {
        true => format!("session {}", cons.name()),
        false => format!("session {} to {}", cons.name(), prod.name()),
    };
    let every = || DESIGNS.into_iter().flat_map(|cons| DESIGNS.map(|prod| [cons, prod])).collect();
    let pairs: Vec<[Design; 2]> = if options.all_pairs { every() } else { PAIRS.to_vec() };
    all.extend(pairs.iter().map(|pair| fixed(&named(pair), Kind::Session(*pair, builds[0].path.clone()))));
    all.retain(|arrangement| matches!(arrangement.kind, Kind::Direct) || options.wants(&arrangement.name));
    Ok(all)
}

/// This bench is in `target/release/deps`; s2ds is one folder up.
fn built_beside() -> Result<Build> {
    let folder = std::env::current_exe().ok().and_then(|bench| Some(bench.parent()?.parent()?.to_owned()));
    match folder.map(|folder| folder.join("s2ds")).filter(|path| path.is_file()) {
        Some(path) => Ok(Build { label: String::new(), path }),
        None => Err(Failure("find s2ds: build it (cargo build --release -p s2ds), or name one with --s2ds".into())),
    }
}

//! The box around a program: Landlock, by which the kernel lets it open only what it needs.
//!
//! A program reads what is its own and what the system keeps for everybody, and
//! writes only where it was told to: other sessions' folders, the site's secrets
//! and people's homes are shut, also to a program that runs as root. It cannot
//! trace a process outside its box either, so the keys in their memory are as
//! safe as those in their folders. Newer kernels add to that (`landlock(7)`): no listening
//! socket but the inherited ones, no signals and no abstract unix sockets across
//! the border, and in the end no unix sockets but those in its own folder.
//!
//! Connections out are left alone: the box is for as long as the process lives and can never
//! be loosened, while UPDATE may move a session to any target.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};
use serde::Deserialize;

/// Whether programs are boxed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// Where the kernel can.
    #[default]
    Auto,
    /// Nothing starts where it cannot.
    Required,
    /// Never.
    Off,
}

impl Sandbox {
    /// The word in configuration files and on command lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A box that could not be made, so that nothing may be started in it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel has none, and the operator asks for one.
    #[error("box it in: this kernel has no Landlock, and the sandbox is required")]
    NoLandlock,
    /// Something that it must reach is not there.
    #[error("box it in with {}", path.display())]
    Path {
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: landlock::PathFdError,
    },
    /// The kernel has one, and did not let us.
    #[error("box it in")]
    Kernel(#[from] RulesetError),
}

/// What a program may reach besides what the system keeps for everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Reach {
    /// A folder or file that it may read
    #[arg(long, value_name = "PATH")]
    pub read: Vec<PathBuf>,
    /// One that it may read and execute, if it is there
    #[arg(long, value_name = "PATH")]
    pub read_if_there: Vec<PathBuf>,
    /// One that it may change
    #[arg(long, value_name = "PATH")]
    pub write: Vec<PathBuf>,
    /// It may take TCP ports of its own
    #[arg(long)]
    pub bind: bool,
}

impl Reach {
    /// The arguments that say it.
    pub(super) fn arguments(&self) -> impl Iterator<Item = OsString> + '_ {
        let paths = [("--read", &self.read), ("--read-if-there", &self.read_if_there), ("--write", &self.write)];
        let paths =
            paths.into_iter().flat_map(|(flag, paths)| paths.iter().flat_map(move |path| [flag.into(), path.into()]));
        paths.chain(self.bind.then(|| "--bind".into()))
    }
}

/// What systems keep for everybody: programs and libraries …
pub(crate) const SYSTEM_FOLDERS: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libexec"];
/// … and what those look into. Nothing of it is secret.
const SYSTEM_FILES: [&str; 19] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
    // Where openssl.cnf is in pieces.
    "/etc/pki/tls/openssl.d",
    "/etc/crypto-policies",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
];
const DEV_NULL: &str = "/dev/null";

/// The newest rules that are asked for. An older kernel gets what it knows of them.
const NEWEST: ABI = ABI::V9;
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | ResolveUnix});
const EXECUTE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{Execute | ReadFile | ReadDir | ResolveUnix});
/// No devices, and no symbolic links: the controller works in the same folder.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | MakeSock | MakeFifo
        | RemoveFile | RemoveDir | Refer | ResolveUnix
});

/// Whether this kernel can box a program in.
#[must_use]
pub fn kernel_has_landlock() -> bool {
    let asked = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    asked.handle_access(AccessFs::from_all(ABI::V1)).is_ok()
}

/// Boxes this thread in, with all that it becomes and starts, for ever.
///
/// # Errors
/// [`SandboxError`]; without Landlock only when it is required.
pub(crate) fn enter(sandbox: Sandbox, program: &Path, reach: &Reach) -> Result<(), SandboxError> {
    if sandbox == Sandbox::Off {
        return Ok(());
    }
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?;
    if !reach.bind {
        rules = rules.handle_access(AccessNet::BindTcp)?;
    }
    let mut rules = rules.create()?;
    rules = rules.add_rules(path_beneath_rules(SYSTEM_FOLDERS, EXECUTE))?;
    rules = rules.add_rules(path_beneath_rules(SYSTEM_FILES, READ))?;
    rules = rules.add_rules(path_beneath_rules([DEV_NULL], AccessFs::ReadFile | AccessFs::WriteFile))?;
    rules = rules.add_rules(path_beneath_rules(&reach.read_if_there, EXECUTE))?;
    rules = allow(rules, program, EXECUTE)?;
    for (paths, access) in [(&reach.read, READ), (&reach.write, WRITE)] {
        for path in paths {
            rules = allow(rules, path, access)?;
        }
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced if sandbox == Sandbox::Required => Err(SandboxError::NoLandlock),
        _ => Ok(()),
    }
}

fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, SandboxError> {
    let opened = PathFd::new(path).map_err(|source| SandboxError::Path { path: path.to_owned(), source })?;
    Ok(rules.add_rule(PathBeneath::new(opened, access))?)
}

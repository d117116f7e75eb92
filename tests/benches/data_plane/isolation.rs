//! Apart from the host: namespaces of its own where they can be made, and an end that leaves nothing.
//!
//! The outer process makes the namespaces and waits. The inner one, the first in its
//! process namespace, does everything else; when it ends, the kernel ends all that it
//! started. It ends by itself, or when the outer one does: it reads a pipe from there.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};
use tempfile::TempDir;

use crate::arguments::{Inside, Options};
use crate::arrangements::program;
use crate::failure::{Doing as _, Failure, Result};
use crate::support::run::build_s2ds;

/// Where nothing could be made.
const NOT_APART: &str = "none: the host's own loopback";
/// More than once, and without end never.
const REMOVALS: usize = 5;
/// For outgoing connections; programs listen below.
const OUTGOING_PORTS: &str = "10000 65000";

/// Runs the bench as a child in namespaces of its own, and waits for it.
///
/// # Errors
/// When it cannot be started.
pub fn run_apart(options: &Options) -> Result<ExitCode> {
    if options.list {
        for arrangement in crate::arrangements::all(options)? {
            println!("{}", arrangement.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if options.s2ds.is_empty() {
        build_s2ds().map_err(Failure)?;
    }
    let folder = TempDir::with_prefix("s2bench-").doing("make a folder")?;
    let executable = std::env::current_exe().doing("find this program")?;
    let working = std::env::current_dir().doing("find the working folder")?;
    let apart = namespaces();
    let mut inside = Command::new(executable)
        .arg("inside")
        .args(["--apart", apart])
        .arg("--folder")
        .arg(folder.path())
        .args(std::env::args_os().skip(1))
        .current_dir(working)
        .stdin(Stdio::piped())
        // A Ctrl-C reaches the outer process alone, whose end reaches this one.
        .process_group(0)
        .spawn()
        .doing("start the bench")?;
    let lifeline = inside.stdin.take();
    let status = inside.wait().doing("wait for the bench")?;
    drop(lifeline);
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn namespaces() -> &'static str {
    let wanted = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    if unshare(wanted).is_ok() {
        return "network, process and mount namespaces";
    }
    let (uid, gid) = (getuid(), getgid());
    if unshare(wanted | CloneFlags::CLONE_NEWUSER).is_err() {
        return NOT_APART;
    }
    let mapped = fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {uid} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {gid} 1")));
    if mapped.is_ok() { "user, network, process and mount namespaces" } else { NOT_APART }
}

/// Makes the namespaces fit to live in, and watches for the end of the outer process.
///
/// # Errors
/// When loopback cannot be brought up, or `/proc` mounted.
pub fn settle(inside: &Inside) -> Result<()> {
    let folder: PathBuf = inside.folder.clone();
    thread::spawn(move || {
        // Nobody writes: this returns when the outer process is gone.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        program::end_all();
        // The bench itself may make or remove something in it meanwhile.
        for _ in 0..REMOVALS {
            drop(fs::remove_dir_all(&folder));
        }
        std::process::exit(130);
    });
    if inside.apart == NOT_APART {
        return Ok(());
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .doing("keep our mounts to ourselves")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).doing("mount /proc")?;
    program::tool("ip", &["link", "set", "lo", "up"])?;
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", OUTGOING_PORTS).doing("set the range of ports")
}

//! The command line of s2fw, the helper that opens the firewall.

use std::fs::{self, Permissions};
use std::io;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use listenfd::ListenFd;
use nix::unistd::{Uid, User, geteuid};
use rustix::thread::{CapabilitySet, capabilities};
use tracing_subscriber::EnvFilter;

use crate::causes::causes;
use crate::firewall::{Bounds, Firewalld, Helper, Nftables, Wall};
use crate::privileges::keep_only;
use crate::supervisor::{Reach, Sandbox, box_in};

#[derive(Parser)]
#[command(
    name = "s2fw",
    version,
    about = "Opens the host's firewall for the sessions of a SciStream gateway",
    long_about = "Opens the host's firewall for the listeners of a SciStream gateway's sessions, from their \
                  sources, while they live.\n\n\
                  s2cs asks for it over a unix socket (s2cs --firewall SOCKET), so that s2cs itself needs no \
                  privilege. An opening closes by itself when s2cs does not renew it. With nftables, s2fw changes \
                  nothing but the elements of two sets, one for IPv4 and one for IPv6; your own ruleset says \
                  where they count, as --print-ruleset shows. s2fw keeps CAP_NET_ADMIN and no other capability.",
    after_help = "Examples:\n  \
        s2fw --print-ruleset --table filter       # what to put into /etc/nftables.conf\n  \
        s2fw --socket /run/scistream/s2fw.sock --user scistream --ports 5100-5200\n  \
        s2fw --socket /run/scistream/s2fw.sock --user scistream --ports 5100-5200 --firewalld\n  \
        echo '{\"list\":{}}' | socat - UNIX-CONNECT:/run/scistream/s2fw.sock\n\n\
        Requests are one line of JSON each: open, with listeners, sources and seconds; close, with listeners\n\
        and sources; list. Root and --user may ask."
)]
struct Cli {
    /// Listen on this socket, unless systemd hands one over (LISTEN_FDS)
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Who may ask besides root: the user that s2cs runs as, by name or number
    #[arg(long, value_name = "USER", default_value = "root", value_parser = user)]
    user: Uid,
    /// The only ports that are opened, both ends included: as s2cs --port-range
    #[arg(long, value_name = "A-B", default_value = "5100-5200", value_parser = ports)]
    ports: Ports,
    /// The longest that anything is open without being asked for again; s2cs asks for 60
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(60..=3600))]
    most_seconds: u32,
    /// The table of your ruleset, of the family inet
    #[arg(long, value_name = "NAME", default_value = "filter", value_parser = name)]
    table: String,
    /// The sets in it, without the 4 and the 6 at the end of their names
    #[arg(long, value_name = "NAME", default_value = "scistream", value_parser = name)]
    set: String,
    /// Print what your ruleset must hold, and do nothing else
    #[arg(long)]
    print_ruleset: bool,
    /// Have firewalld add rich rules with a timeout instead; they are never permanent
    #[arg(long, conflicts_with_all = ["print_ruleset", "table", "set"])]
    firewalld: bool,
    /// The zone of firewalld's [default: its default zone]
    #[arg(long, value_name = "NAME", requires = "firewalld")]
    zone: Option<String>,
    /// The program that changes the firewall [default: /usr/sbin/nft, or /usr/bin/firewall-cmd]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Both ends included.
#[derive(Debug, Clone)]
struct Ports(RangeInclusive<u16>);

/// The command line, for those who describe it.
pub(super) fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse_from(super::arguments());
    let sets = Nftables { table: cli.table.clone(), set: cli.set.clone() };
    if cli.print_ruleset {
        sets.ruleset().lines().for_each(|line| say!("{line}"));
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    match serve(cli, sets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("s2fw: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve(cli: Cli, sets: Nftables) -> Result<(), String> {
    let (wall, default) = match cli.firewalld {
        true => (Wall::Firewalld(Firewalld { zone: cli.zone }), "/usr/bin/firewall-cmd"),
        false => (Wall::Nftables(sets), "/usr/sbin/nft"),
    };
    let program = cli.program.unwrap_or_else(|| default.into());
    let listener = listener(cli.socket.as_deref(), cli.user)?;
    // Both bind this thread and what it starts, and it is still alone.
    confine(&wall, &program)?;
    let helper = Helper {
        wall,
        program,
        bounds: Bounds { ports: cli.ports.0.clone(), most_seconds: cli.most_seconds },
        user: cli.user,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| format!("failed to start: {e}"))?.block_on(async {
        if let Err(why) = helper.probe().await {
            // The operator may load the ruleset later.
            tracing::warn!("nothing can be opened yet: {why}; s2fw --print-ruleset shows what the ruleset must hold");
        }
        let listener = tokio::net::UnixListener::from_std(listener).map_err(|e| format!("failed to listen: {e}"))?;
        let (first, last) = (cli.ports.0.start(), cli.ports.0.end());
        say!("s2fw: ready (ports {first}-{last}, for user {})", cli.user);
        helper.serve(&listener).await.map_err(|e| format!("failed to take connections: {e}"))
    })
}

/// From here on, the one capability that nft needs; firewalld asks for none.
fn confine(wall: &Wall, program: &Path) -> Result<(), String> {
    let kept = match wall {
        Wall::Nftables(_) => CapabilitySet::NET_ADMIN,
        Wall::Firewalld(_) => CapabilitySet::empty(),
    };
    let have = capabilities(None).map_err(|e| format!("failed to read the capabilities: {e}"))?;
    if !have.permitted.contains(kept) {
        return Err(
            "CAP_NET_ADMIN is missing; start s2fw as root, or have systemd give it (AmbientCapabilities=)".into()
        );
    }
    keep_only(kept, kept).map_err(|e| format!("failed to give up privileges: {e}"))?;
    if matches!(wall, Wall::Nftables(_)) {
        let reach = Reach { read_if_there: vec!["/etc/iproute2".into()], ..Reach::default() };
        box_in(Sandbox::Auto, program, &reach).map_err(|e| format!("failed to {}", causes(&e)))?;
    }
    Ok(())
}

/// Systemd's socket, or one that only the user, and root, can connect to.
fn listener(path: Option<&Path>, user: Uid) -> Result<UnixListener, String> {
    let listener = match ListenFd::from_env().take_unix_listener(0) {
        Ok(Some(listener)) => listener,
        Ok(None) => {
            let path = path.ok_or("say where to listen: --socket PATH, or a socket unit of systemd's")?;
            bind(path, user).map_err(|e| format!("failed to listen on {}: {e}", path.display()))?
        }
        Err(e) => return Err(format!("failed to take the socket of LISTEN_FDS: {e}")),
    };
    listener.set_nonblocking(true).map_err(|e| format!("failed to listen: {e}"))?;
    Ok(listener)
}

fn bind(path: &Path, user: Uid) -> io::Result<UnixListener> {
    let mut next = path.as_os_str().to_owned();
    next.push(".tmp");
    match fs::remove_file(&next) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&next)?;
    fs::set_permissions(&next, Permissions::from_mode(0o600))?;
    if user != geteuid() {
        chown(&next, Some(user.as_raw()), None)?;
    }
    // In place of what an earlier run has left.
    fs::rename(&next, path)?;
    Ok(listener)
}

fn user(text: &str) -> Result<Uid, String> {
    if let Ok(number) = text.parse() {
        return Ok(Uid::from_raw(number));
    }
    let known = User::from_name(text).map_err(|e| e.to_string())?;
    known.map(|user| user.uid).ok_or_else(|| "this host has no such user".into())
}

fn ports(text: &str) -> Result<Ports, String> {
    let port = |text: &str| text.trim().parse::<NonZeroU16>().ok().map(NonZeroU16::get);
    let ends = text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
    match ends {
        Some((first, last)) if first <= last => Ok(Ports(first..=last)),
        _ => Err("write two ports like 5100-5200, the lower first".into()),
    }
}

/// A name that needs no quotes anywhere.
fn name(text: &str) -> Result<String, String> {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { Ok(text.to_owned()) } else { Err("write letters, digits and _, a letter first".into()) }
}

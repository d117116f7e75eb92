//! The command line of s2cs, the control server.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::doctor::{GatewayDoctor, gateway_doctor};
use super::drain::{Drain, drain};
use super::policy::{self, PolicyCommand};
use super::setup::{Setup, setup};
use crate::backend::Programs;
use crate::causes::causes;
use crate::config::{Config, Faults, Settings, Source};
use crate::daemon::{DaemonError, Ended};
use crate::session::Host;
use crate::{daemon, supervisor, threads, tls};

/// A fault of the configuration, see `sysexits.h`.
const EX_CONFIG: u8 = 78;

#[derive(Parser)]
#[command(
    name = "s2cs",
    version,
    about = "The control server of a SciStream gateway",
    long_about = "The control server of a SciStream gateway: sets up, watches and takes down the \
                  gateway's half of streams between two facilities.",
    after_help = "Examples:\n  \
        s2cs cert --host gateway.example.org --ip 192.0.2.1\n  \
        s2cs --listener-ip 192.0.2.1 --no-auth --backend haproxy\n  \
        s2cs check --config /etc/scistream/s2cs.toml\n  \
        s2cs --listener-ip 127.0.0.1 --ssl=False\n  \
        s2cs drain --config /etc/scistream/s2cs.toml --wait 600",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Logging {
    /// Log more; RUST_LOG chooses in detail
    #[arg(long, short, num_args = 0..=1, default_missing_value = "true", value_parser = crate::config::boolean, value_name = "BOOL")]
    verbose: Option<bool>,
}

#[derive(Subcommand)]
enum Command {
    /// Check the configuration and the programs it needs, and do nothing else
    Check {
        #[command(flatten)]
        settings: Box<Settings>,
        /// Print the outcome as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the backends: what they are, and whether their programs are here
    Backends {
        #[command(flatten)]
        settings: Box<Settings>,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Have the control server on this host take no new sessions, and end the present ones
    Drain(Box<Drain>),
    /// Write a configuration, asking what is not said, and check it
    Setup(Box<Setup>),
    /// Look at what a gateway needs, and say what to do
    Doctor(Box<GatewayDoctor>),
    /// Tell what the rules say of a caller and a request
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Make a self-signed certificate and key for the control channel
    Cert(Cert),
}

/// Become a program, with its sockets (used by s2cs itself). Every proxy starts by way of it,
/// so it does not make up the whole command line first.
#[derive(Parser)]
#[command(name = "s2cs launch")]
struct BecomeProgram {
    #[command(flatten)]
    launch: supervisor::Launch,
}

/// The first word of [`BecomeProgram`].
const LAUNCH: &str = "launch";

/// Become what the control server says on standard input (used by the units of systemd's).
#[derive(Parser)]
#[command(name = "s2cs session-unit")]
struct BecomeOrdered {
    /// The state folder of the control server [default: as s2cs]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// The first word of [`BecomeOrdered`].
const SESSION_UNIT: &str = "session-unit";

#[derive(Args)]
#[command(after_help = "Users need the certificate (never the key) to check that they talk to this gateway:\n  \
    s2uc … --server_cert=server.crt")]
struct Cert {
    /// A name that users reach the gateway by; may be given several times
    #[arg(long)]
    host: Vec<String>,
    /// An address that users reach the gateway by; may be given several times
    #[arg(long)]
    ip: Vec<std::net::IpAddr>,
    /// Where the certificate goes
    #[arg(long, default_value = "server.crt")]
    out: PathBuf,
    /// Where the private key goes
    #[arg(long, default_value = "server.key")]
    key_out: PathBuf,
    /// How long it is valid
    #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

/// The command line, for those who describe it.
pub(super) fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = super::arguments();
    if arguments.get(1).is_some_and(|word| word == LAUNCH) {
        let BecomeProgram { launch } = BecomeProgram::parse_from(&arguments[1..]);
        eprintln!("s2cs: failed to {}", causes(&launch.run()));
        return ExitCode::FAILURE;
    }
    if arguments.get(1).is_some_and(|word| word == SESSION_UNIT) {
        let BecomeOrdered { state_dir } = BecomeOrdered::parse_from(&arguments[1..]);
        return become_ordered(state_dir);
    }
    let matches = command().get_matches_from(arguments);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(e) => e.exit(),
    };
    match cli.command {
        None => serve(cli.settings, cli.logging.verbose == Some(true)),
        Some(Command::Check { settings, json }) => check(*settings, json),
        Some(Command::Backends { settings, json }) => backends(*settings, json),
        Some(Command::Setup(command)) => exit(setup(*command)),
        Some(Command::Doctor(command)) => gateway_doctor(*command),
        Some(Command::Drain(command)) => drain(*command).unwrap_or_else(|faults| faulty(&faults)),
        Some(Command::Policy(PolicyCommand::Explain(command))) => policy::explain(&command),
        Some(Command::Cert(cert)) => exit(make_certificate(&cert)),
    }
}

fn become_ordered(state_dir: Option<PathBuf>) -> ExitCode {
    match Config::state_dir(Settings { state_dir, ..Settings::default() }) {
        Ok(state_dir) => exit(Err(format!("failed to {}", causes(&supervisor::take_over(&state_dir))))),
        Err(faults) => faulty(&faults),
    }
}

fn exit(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("s2cs: {why}");
            ExitCode::FAILURE
        }
    }
}

pub(super) fn faulty(faults: &Faults) -> ExitCode {
    eprintln!("s2cs: the configuration cannot be used:\n{faults}");
    ExitCode::from(EX_CONFIG)
}

fn serve(settings: Settings, verbose: bool) -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _points = {
        say!("s2cs: built with failpoints, which is for tests alone");
        fail::FailScenario::setup()
    };
    let default = if verbose { "info,scistream=debug" } else { "info" };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into()))
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let (source, config) = match Source::load(settings) {
        Ok(loaded) => loaded,
        Err(faults) => return faulty(&faults),
    };
    say!("s2cs {}: {}", env!("CARGO_PKG_VERSION"), who_may(&config));
    for note in &config.notes {
        say!("s2cs: {note}");
    }
    let programs = Programs::default();
    for missing in missing_programs(&config, &programs) {
        say!("s2cs: warning: {missing}");
    }
    let about = format!(
        "{}, backend {}, protection {}, ports {}-{}",
        if config.tls.is_some() { "TLS" } else { "plain" },
        config.backend.name,
        config.engine.protection,
        config.port_range.start(),
        config.port_range.end(),
    );
    let ready = |address| {
        say!("s2cs: ready on {address} ({about})");
        // Whoever started us may have stopped reading; that is no reason to stop.
        drop(io::stdout().flush());
    };
    let runtime = match threads::runtime() {
        Ok(runtime) => runtime,
        Err(e) => {
            return exit(Err(format!("failed to make threads: {e}; have its limit raised (ulimit -u, TasksMax=)")));
        }
    };
    match runtime.block_on(daemon::run(source, config, programs, ready)) {
        Ok(Ended::Released) => ExitCode::SUCCESS,
        // Nothing is dropped: everything that must last is on disk already.
        Ok(Ended::Left) => std::process::exit(0),
        Err(e @ DaemonError::Tls(_)) => faulty(&Faults(vec![format!("failed to {}", causes(&e))])),
        Err(e) => exit(Err(format!("failed to {}", causes(&e)))),
    }
}

/// Who may use the gateway, for the operator who starts it.
fn who_may(config: &Config) -> String {
    if config.engine.policy.is_open() {
        let reach = if config.listen.ip().is_loopback() { "on this host" } else { "from the network" };
        return format!("no authentication: whoever can connect {reach} may use this gateway");
    }
    let mut ways = config.providers.names();
    ways.extend(config.tls.as_ref().and_then(|tls| tls.client_ca.as_ref()).map(|_| "client certificates".to_owned()));
    format!("callers are known by {}, and may what a rule says", ways.join(", "))
}

/// What is not there that sessions will need.
fn missing_programs(config: &Config, programs: &Programs) -> Vec<String> {
    let needed = config.taking_part();
    let missing = needed.values().filter_map(|manifest| programs.find(manifest).err().map(|e| e.to_string()));
    let helper = config.firewall.as_ref().and_then(|firewall| firewall.probe().err());
    let helper = helper.map(|e| format!("s2fw, which is to open the firewall for sessions, does not answer: {e}"));
    let no_socket = |path: &Path| !path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    let units = config.session_units.as_ref().filter(|units| no_socket(&units.socket));
    let units = units.map(|units| {
        let socket = units.socket.display();
        format!("{socket}, by which systemd is to run proxies, is no socket: systemctl enable --now scistream-session.socket")
    });
    missing.chain(helper).chain(units).collect()
}

fn check(settings: Settings, json: bool) -> ExitCode {
    let mut notes = Vec::new();
    let faults = match Config::load(settings) {
        Ok(mut config) => {
            notes.append(&mut config.notes);
            let certificate = config.tls.as_ref().and_then(|files| tls::server(files).err());
            let certificate = certificate.map(|e| format!("failed to {}", causes(&e)));
            certificate.into_iter().chain(missing_programs(&config, &Programs::default())).collect()
        }
        Err(Faults(faults)) => faults,
    };
    if json {
        say!("{}", json!({ "ok": faults.is_empty(), "faults": faults, "landlock": supervisor::kernel_has_landlock() }));
    } else if faults.is_empty() {
        say!("s2cs: the configuration is good");
        for note in &notes {
            say!("s2cs: {note}");
        }
    }
    match faults.is_empty() {
        true => ExitCode::SUCCESS,
        false if json => ExitCode::from(EX_CONFIG),
        false => faulty(&Faults(faults)),
    }
}

fn backends(settings: Settings, json: bool) -> ExitCode {
    // Only the folder matters here; all else may still be missing.
    let settings = Settings { ssl: Some(false), insecure: Some(true), no_auth: Some(true), ..settings };
    let config = match Config::load(settings) {
        Ok(config) => config,
        Err(faults) => return faulty(&faults),
    };
    let programs = Programs::default();
    let rows = config.catalog.all().map(|manifest| (manifest, programs.find(manifest)));
    if json {
        let rows: Vec<_> = rows
            .map(|(manifest, found)| {
                json!({
                    "name": manifest.name,
                    "summary": manifest.summary,
                    "chained": !manifest.speaks_psk(),
                    "filters_sources": manifest.abilities.source_filter,
                    "limits_bandwidth": manifest.abilities.bandwidth_limit,
                    "program": found.as_ref().ok().map(|program| &program.path),
                    "version": found.as_ref().ok().map(|program| &program.version),
                    "missing": found.err().map(|e| e.to_string()),
                })
            })
            .collect();
        say!("{}", json!({ "backends": rows }));
        return ExitCode::SUCCESS;
    }
    for (manifest, found) in rows {
        say!("{:<10} {}", manifest.name, manifest.summary);
        match found {
            Ok(program) => say!("{:<10} {} (version {})", "", program.path.display(), program.version),
            Err(e) => say!("{:<10} {e}", ""),
        }
    }
    ExitCode::SUCCESS
}

fn make_certificate(cert: &Cert) -> Result<(), String> {
    let mut hosts = Vec::new();
    for name in &cert.host {
        hosts.push(name.parse::<Host>().map_err(|_| format!("--host {name:?} is no host name"))?);
    }
    hosts.extend(cert.ip.iter().map(|ip| Host::Ip(*ip)));
    if hosts.is_empty() {
        return Err("say what users reach the gateway by: --host NAME, --ip IP, or both".into());
    }
    let made = tls::self_signed(&hosts, cert.days).map_err(|e| format!("failed to make a certificate: {e}"))?;
    let write = |path: &Path, mode: u32, bytes: &[u8]| {
        let mut options = OpenOptions::new();
        options.write(true).mode(mode);
        if cert.force {
            // A new file, so that the old one's mode does not stay.
            if let Err(e) = std::fs::remove_file(path)
                && e.kind() != io::ErrorKind::NotFound
            {
                return Err(format!("failed to replace {}: {e}", path.display()));
            }
        }
        options
            .create_new(true)
            .open(path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|e| format!("failed to write {}: {e} (--force overwrites)", path.display()))
    };
    write(&cert.key_out, 0o600, &made.key)?;
    write(&cert.out, 0o644, &made.certificate)?;
    say!("{}  for users and for --server-crt", cert.out.display());
    say!("{}  secret, for --server-key", cert.key_out.display());
    Ok(())
}

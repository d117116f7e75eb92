//! What the control plane takes: from REQ to the first byte, and sessions a second.
//!
//! Each build of s2cs that is measured runs as the two gateways of a tunnel on this
//! host, with TLS and the state folder on a disk, and is asked over gRPC as clients
//! do. Backends and builds take turns, so that whatever else the machine does falls
//! on all of them.

mod first_byte;
mod flush;
mod gateways;
mod producer;
mod rates;
mod report;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../integration/support"]
mod tests {
    pub mod ports;
    pub mod wire;
}

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use first_byte::Way;
use gateways::{Build, Gateways};
use producer::Producer;
use report::Report;
use support::run::build_s2ds;

/// The backends that come with the program.
const BACKENDS: [&str; 4] = ["native", "stunnel", "nginx", "haproxy"];
/// Sessions that are set up at once, and how many all in all.
const CROWDS: [(usize, usize); 3] = [(1, 20), (10, 60), (100, 200)];

/// Measures how long sessions take to set up, and how many a second there can be.
#[derive(Debug, Parser)]
#[command(name = "control_plane")]
struct Cli {
    /// Few rounds: to see that it runs, not to judge by
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Also write control_plane.json, control_plane.md and plots into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Measure these backends only
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_values = BACKENDS)]
    backend: Vec<String>,
    /// Also measure another build, whose s2cs and s2ds are in FOLDER
    #[arg(long, value_name = "NAME=FOLDER")]
    against: Vec<Build>,
    /// Rounds from REQ to the first byte [default: 25]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Rounds of sessions a second [default: 3]
    #[arg(long, value_name = "N")]
    rate_rounds: Option<usize>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    build_s2ds().unwrap_or_else(|e| panic!("failed to {e}"));
    let mut builds = vec![Build::ours()];
    builds.append(&mut cli.against);
    let report = tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        // Who is interrupted drops its gateways, which end with all that they have.
        tokio::select! {
            report = measure(&cli, builds) => Some(report),
            () = interrupted() => None,
        }
    });
    let Some(report) = report else { return ExitCode::from(INTERRUPTED) };
    if let Some(folder) = &cli.out {
        report.write(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    }
    println!("{}", if cli.json { report.json() } else { report.markdown() });
    ExitCode::SUCCESS
}

/// As a shell has it (128 and SIGINT).
const INTERRUPTED: u8 = 130;

async fn interrupted() {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler");
    tokio::select! {
        _ = terminate.recv() => {}
        outcome = ctrl_c() => outcome.expect("a handler"),
    }
}

async fn measure(cli: &Cli, builds: Vec<Build>) -> Report {
    let producer = Producer::start().await;
    let mut all = Vec::new();
    for backend in &cli.backend {
        all.extend(builds.iter().map(|build| Gateways::start(build, backend)));
    }
    let mut report = Report::of(&all);
    let rounds = cli.rounds.unwrap_or(if cli.quick { 3 } else { 25 });
    for round in 0..rounds {
        for gateways in turns(&all, round) {
            for way in [Way::Half, Way::Tunnel] {
                let took = first_byte::measure(gateways, way, &producer).await;
                report.first_byte(gateways, way, took);
            }
        }
        eprintln!("first byte: round {} of {rounds}", round + 1);
    }
    let rounds = cli.rate_rounds.unwrap_or(if cli.quick { 1 } else { 3 });
    for round in 0..rounds {
        for (at_once, sessions) in CROWDS {
            let sessions = if cli.quick { at_once.max(5) } else { sessions };
            for gateways in turns(&all, round) {
                let outcome = rates::measure(gateways, at_once, sessions, &producer).await;
                report.rate(gateways, at_once, outcome);
            }
            eprintln!("sessions a second: {at_once} at once, round {} of {rounds}", round + 1);
        }
    }
    for gateways in all {
        gateways.end().await;
    }
    report
}

/// Everyone's turn in a round; another one begins each time.
fn turns(all: &[Gateways], round: usize) -> impl Iterator<Item = &Gateways> {
    let first = round % all.len().max(1);
    all[first..].iter().chain(&all[..first])
}

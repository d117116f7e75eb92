//! Every arrangement in turn, round after round, so that what disturbs one disturbs all.

use std::process::ExitCode;
use std::time::Duration;

use crate::apps::App;
use crate::arguments::{Inside, Options};
use crate::arrangements::ground::{Ground, free_address};
use crate::arrangements::{self, Arrangement, Running};
use crate::failure::Result;
use crate::machine::Machine;
use crate::report::{Report, Sample};
use crate::workloads::{self, Apps, Figures};

/// One thing that is asked of each arrangement.
#[derive(Debug, Clone, Copy)]
pub enum Workload {
    /// Bytes over so many connections.
    Bulk(usize),
    /// New connections.
    SetUp,
    /// Round trips on so many connections.
    RoundTrips(usize),
    /// Bytes over so many connections, one of which nobody reads.
    Stuck(usize),
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Self::Bulk(_) => "bulk",
            Self::SetUp => "setup",
            Self::RoundTrips(_) => "rtt",
            Self::Stuck(_) => "stuck",
        }
    }

    fn connections(self) -> usize {
        match self {
            Self::SetUp => 8,
            Self::Bulk(count) | Self::RoundTrips(count) | Self::Stuck(count) => count,
        }
    }

    fn ask(self, apps: &mut Apps, running: &Running, window: Duration) -> Result<Figures> {
        match self {
            Self::Bulk(count) => workloads::bulk(apps, running, count, 0, window),
            Self::Stuck(count) => workloads::bulk(apps, running, count, 1, window),
            Self::SetUp => workloads::set_up(apps, running, window / 2),
            Self::RoundTrips(count) => workloads::round_trips(apps, running.entry, count, window / 4),
        }
    }
}

fn wanted(options: &Options) -> Vec<Workload> {
    let connections = options.connections();
    let most = connections.iter().copied().max().unwrap_or(1);
    let mut all: Vec<Workload> = connections.iter().map(|count| Workload::RoundTrips(*count)).collect();
    all.push(Workload::SetUp);
    all.extend(connections.iter().map(|count| Workload::Bulk(*count)));
    if most > 1 {
        all.push(Workload::Stuck(most));
    }
    all.retain(|workload| options.wants_workload(workload.name()));
    all
}

/// Measures everything and reports it.
///
/// # Errors
/// When nothing can be measured. That one arrangement fails is a result.
pub fn run(inside: &Inside) -> Result<ExitCode> {
    let options = &inside.options;
    let arrangements = arrangements::all(options)?;
    let machine = Machine::look(&inside.apart, &arrangements);
    let mut samples = Vec::new();
    for round in 1..=options.rounds() {
        for turn in 0..arrangements.len() {
            // Direct comes first, the others each round in another order.
            let others = arrangements.len() - 1;
            let index = if turn == 0 { 0 } else { 1 + (turn - 1 + round) % others };
            measure(inside, round, &arrangements[index], &mut samples);
        }
    }
    let names = arrangements.into_iter().map(|arrangement| arrangement.name).collect();
    let report = Report::of(machine, names, samples);
    report.publish(options)?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(inside: &Inside, round: usize, arrangement: &Arrangement, samples: &mut Vec<Sample>) {
    let options = &inside.options;
    eprint!("round {round}/{} {:<20}", options.rounds(), arrangement.name);
    let mut record = |workload: &'static str, connections, outcome: Result<Figures>| {
        let headline = ["gbit_per_s", "set_ups_per_s", "rtt_p50_us"];
        match &outcome {
            Ok(figures) => {
                let first = headline.iter().find_map(|name| figures.get(name)).copied().unwrap_or_default();
                let cost = figures.get("cpu_s_per_gb").map(|cost| format!("/{cost:.2}")).unwrap_or_default();
                eprint!(" {workload}({connections}) {first:.1}{cost}");
            }
            Err(failure) => eprint!(" {workload}({connections}) FAILED to {failure}"),
        }
        samples.push(Sample::new(round, &arrangement.name, workload, connections, outcome));
    };
    match started(inside, arrangement) {
        Err(failure) => record("start", 0, Err(failure)),
        Ok((mut apps, running)) => {
            for workload in wanted(options) {
                let outcome = workload.ask(&mut apps, &running, options.window());
                let failed = outcome.is_err();
                record(workload.name(), workload.connections(), outcome);
                if failed {
                    eprint!(" (it said: {})", running.said());
                    // What is left open would disturb the rest.
                    break;
                }
            }
        }
    }
    eprintln!();
}

fn started(inside: &Inside, arrangement: &Arrangement) -> Result<(Apps, Running)> {
    let address = free_address()?;
    let apps = Apps { producer: App::producer(address)?, consumer: App::consumer()? };
    let ground = Ground::make(inside.folder.join("arrangement"), address)?;
    let running = arrangement.start(&ground)?;
    Ok((apps, running))
}

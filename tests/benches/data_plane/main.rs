//! The data plane, measured: s2ds and what else could carry a session's bytes, side by side.
//!
//! ```text
//!   cargo bench --bench data_plane -- [--quick] [--only NAME]...
//!
//!   main ── isolation            namespaces of its own, and an end whatever happens
//!             └ rounds           every arrangement, again and again, in turns
//!                 ├ arrangements the real programs, started and ended
//!                 ├ path         two hosts with delay and loss between them
//!                 ├ workloads    what is asked of each, and what is read off meanwhile
//!                 │    └ apps    where bytes come from and go to: processes of their own
//!                 └ report       medians, the thresholds, JSON, a table, plots
//! ```

mod apps;
mod arguments;
mod arrangements;
mod course;
mod failure;
mod isolation;
mod path;
mod report;
mod rounds;
mod setting;
#[path = "../support/mod.rs"]
mod support;
mod usage;
mod workloads;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Part};
use crate::failure::Result;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.part {
        None => isolation::run_apart(&arguments.options),
        Some(Part::Inside(inside)) => isolation::settle(&inside).and_then(|()| rounds::run(&inside)),
        Some(Part::Producer { listen }) => apps::producer::run(listen).map(|()| ExitCode::SUCCESS),
        Some(Part::Holder) => path::hold().map(|()| ExitCode::SUCCESS),
        Some(Part::Shaper { link, near, far }) => path::shaper::run(link, [near, far]).map(|()| ExitCode::SUCCESS),
        Some(Part::Consumer) => apps::consumer::run().map(|()| ExitCode::SUCCESS),
    };
    said(outcome)
}

fn said(outcome: Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|failure| {
        eprintln!("data_plane: failed to {failure}");
        ExitCode::FAILURE
    })
}

//! What the figures are of, as it is told in the results.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::arguments::Options;
use crate::arrangements::Arrangement;
use crate::arrangements::program::tool;
use crate::support::machine::Machine;
use crate::support::run::Run;

/// How it was measured, and on what.
#[derive(Serialize)]
pub struct Setting {
    /// What was run.
    pub run: Run,
    /// How often.
    pub rounds: usize,
    /// How long bytes flow in each measurement.
    pub seconds: f64,
    /// Where.
    pub machine: Machine,
    /// What keeps the bench apart from the host.
    pub apart: String,
    /// The programs and what they say of themselves.
    pub programs: BTreeMap<String, String>,
}

/// The words by which the outer process starts the inner one: `PROGRAM inside --apart … --folder …`.
const BEFORE_OPTIONS: usize = 6;

impl Setting {
    /// Looks at this one.
    pub fn look(apart: &str, options: &Options, arrangements: &[Arrangement]) -> Self {
        Self {
            run: Run::of("data_plane", std::env::args().skip(BEFORE_OPTIONS)),
            rounds: options.rounds(),
            seconds: options.window().as_secs_f64(),
            machine: Machine::look(),
            apart: apart.to_owned(),
            programs: programs(arrangements),
        }
    }
}

fn programs(arrangements: &[Arrangement]) -> BTreeMap<String, String> {
    let known = [
        ("openssl", "version", "OpenSSL"),
        ("haproxy", "-v", "version"),
        ("nginx", "-v", "nginx"),
        ("stunnel", "-version", "stunnel "),
        ("socat", "-V", "socat version"),
    ];
    let version = |name: &str, argument: &str, has: &str| {
        let said = tool(name, &[argument]).ok()?;
        Some(said.lines().find(|line| line.contains(has))?.trim().to_owned())
    };
    let mut all: BTreeMap<String, String> = known
        .into_iter()
        .map(|(name, argument, has)| (name.into(), version(name, argument, has).unwrap_or("not installed".into())))
        .collect();
    for arrangement in arrangements {
        if let Some(path) = arrangement.kind.s2ds() {
            let said = version(&path.to_string_lossy(), "--version", "s2ds").unwrap_or("does not say".into());
            all.insert(arrangement.name.clone(), said);
        }
    }
    all
}

//! The results, as JSON and as tables, with what they are judged by.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::first_byte::{Took, Way};
use crate::flush::flush;
use crate::gateways::{Gateways, OURS};
use crate::rates::Outcome;
use crate::support::machine::Machine;
use crate::support::plot::{self, Bar};
use crate::support::run::Run;
use crate::support::statistics::Spread;

/// The most milliseconds from REQ to the first byte, at the median.
const MOST_TO_FIRST_BYTE: [(&str, f64); 4] = [("native", 25.0), ("stunnel", 60.0), ("nginx", 60.0), ("haproxy", 150.0)];

/// All that was measured.
pub struct Report {
    run: Run,
    machine: Machine,
    flush_ms: Spread,
    versions: Vec<(String, String)>,
    first_bytes: BTreeMap<(Row, Way), Vec<Took>>,
    rates: BTreeMap<(usize, Row), Vec<Outcome>>,
}

/// A backend, in the order of the tables, and the build that ran it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Row {
    backend: String,
    build: String,
}

impl Row {
    fn of(gateways: &Gateways) -> Self {
        Self { backend: gateways.backend.clone(), build: gateways.build().into() }
    }
}

#[derive(Serialize)]
struct FirstByte {
    #[serde(flatten)]
    row: Row,
    way: Way,
    reserved_ms: Spread,
    serving_ms: Spread,
    first_byte_ms: Spread,
    cpu_ms: f64,
}

#[derive(Serialize)]
struct Rate {
    #[serde(flatten)]
    row: Row,
    at_once: usize,
    sessions: usize,
    failures: Vec<String>,
    sessions_a_second: Spread,
    set_up_ms: Option<Spread>,
    released_ms: Option<Spread>,
    cpu_ms_a_session: f64,
    peak_memory_mib: f64,
}

#[derive(Serialize)]
struct Judged {
    what: String,
    threshold_ms: f64,
    measured_ms: f64,
    met: bool,
}

#[derive(Serialize)]
struct Whole<'a> {
    run: &'a Run,
    machine: &'a Machine,
    flush_ms: Spread,
    versions: &'a [(String, String)],
    first_byte: Vec<FirstByte>,
    rates: Vec<Rate>,
    thresholds: Vec<Judged>,
}

impl Report {
    /// Nothing yet; of this machine and these programs.
    pub fn of(all: &[Gateways]) -> Self {
        let first = all.first().expect("something is measured");
        Self {
            run: Run::of("control_plane", std::env::args().skip(1)),
            machine: Machine::look(),
            flush_ms: flush(first.prod.folder()),
            versions: first.versions(),
            first_bytes: BTreeMap::new(),
            rates: BTreeMap::new(),
        }
    }

    pub fn first_byte(&mut self, gateways: &Gateways, way: Way, took: Took) {
        self.first_bytes.entry((Row::of(gateways), way)).or_default().push(took);
    }

    pub fn rate(&mut self, gateways: &Gateways, at_once: usize, outcome: Outcome) {
        self.rates.entry((at_once, Row::of(gateways))).or_default().push(outcome);
    }

    /// Writes both forms into a folder.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("control_plane.json"), self.json() + "\n")?;
        fs::write(folder.join("control_plane.md"), self.markdown())?;
        self.draw(folder).map_err(|e| io::Error::other(e.to_string()))
    }

    fn draw(&self, folder: &Path) -> Result<(), Box<dyn Error>> {
        let bar = |row: &Row, what: String, Spread { least, median, most, .. }| {
            let colour = if row.backend == "native" { plot::OURS } else { plot::PARTLY_OURS };
            let build = if row.build == OURS { String::new() } else { format!(" ({})", row.build) };
            Bar { name: format!("{}{build}, {what}", row.backend), least, median, most, colour }
        };
        let first_bytes = self.rows_of_first_bytes();
        let bars: Vec<_> =
            first_bytes.iter().map(|one| bar(&one.row, one.way.word().into(), one.first_byte_ms)).collect();
        let title = "From REQ to the first byte (less is better)";
        plot::draw(title, "milliseconds", &bars, &folder.join("control_plane_first_byte.svg"))?;
        let rates = self.rows_of_rates();
        let at_once = |rate: &Rate| format!("{} at once", rate.at_once);
        let bars: Vec<_> = rates.iter().map(|rate| bar(&rate.row, at_once(rate), rate.sessions_a_second)).collect();
        let title = "Sessions set up and released at one gateway";
        plot::draw(title, "sessions a second", &bars, &folder.join("control_plane_sessions.svg"))
    }

    pub fn json(&self) -> String {
        let whole = Whole {
            run: &self.run,
            machine: &self.machine,
            flush_ms: self.flush_ms,
            versions: &self.versions,
            first_byte: self.rows_of_first_bytes(),
            rates: self.rows_of_rates(),
            thresholds: self.judged(),
        };
        serde_json::to_string_pretty(&whole).expect("plain data")
    }

    fn rows_of_first_bytes(&self) -> Vec<FirstByte> {
        let rows = self.first_bytes.iter().map(|((row, way), all)| FirstByte {
            row: row.clone(),
            way: *way,
            reserved_ms: spread(all, |took| took.reserved),
            serving_ms: spread(all, |took| took.serving),
            first_byte_ms: spread(all, |took| took.first_byte),
            cpu_ms: all.iter().map(|took| took.cpu).sum::<f64>() / all.len() as f64,
        });
        rows.collect()
    }

    fn rows_of_rates(&self) -> Vec<Rate> {
        let rows = self.rates.iter().map(|((at_once, row), all)| {
            let every = |of: fn(&Outcome) -> &Vec<f64>| Spread::of(all.iter().flat_map(of).copied().collect());
            let failures: Vec<_> = all.iter().flat_map(|outcome| outcome.failures.clone()).collect();
            Rate {
                row: row.clone(),
                at_once: *at_once,
                sessions: all.iter().map(|outcome| outcome.set_up.len()).sum(),
                failures,
                sessions_a_second: spread(all, |outcome| outcome.a_second),
                set_up_ms: every(|outcome| &outcome.set_up),
                released_ms: every(|outcome| &outcome.released),
                cpu_ms_a_session: spread(all, |outcome| outcome.cpu).median,
                peak_memory_mib: spread(all, |outcome| outcome.peak_memory).most,
            }
        });
        rows.collect()
    }

    /// What this build is held to: the whole tunnel, which takes longer than a half.
    fn judged(&self) -> Vec<Judged> {
        let row = |backend: &str| Row { backend: backend.into(), build: OURS.into() };
        let ours = |backend: &str| self.first_bytes.get(&(row(backend), Way::Tunnel));
        let judge = |(backend, threshold_ms): &(&str, f64)| {
            let measured_ms = spread(ours(backend)?, |took| took.first_byte).median;
            let what = format!("REQ to first byte through a tunnel of {backend}, median");
            Some(Judged { what, threshold_ms: *threshold_ms, measured_ms, met: measured_ms <= *threshold_ms })
        };
        MOST_TO_FIRST_BYTE.iter().filter_map(judge).collect()
    }

    pub fn markdown(&self) -> String {
        let mut text = String::new();
        self.write_markdown(&mut text).expect("a string takes all");
        text
    }

    fn write_markdown(&self, text: &mut String) -> std::fmt::Result {
        let Spread { median, p90, .. } = self.flush_ms;
        writeln!(text, "# The control plane\n\n{}\n", self.run.line())?;
        writeln!(text, "{}. A line at the end of a file is on its disk after {median:.1} ms", self.machine.line())?;
        let versions: Vec<_> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(text, "(median; p90 {p90:.1}). Backends: {}.\n", versions.join(", "))?;
        writeln!(text, "Both gateways of a tunnel, both applications and the client share the machine. Times are in")?;
        writeln!(text, "milliseconds, of backends in alternating rounds; processor time is that of the gateways and")?;
        writeln!(text, "their proxies, from REQ until after RELEASE.\n\n## REQ to first byte\n")?;
        writeln!(text, "Over control channels that stand: REQ with HELLO answered, then UPDATE answered, then a byte")?;
        writeln!(text, "of the producer's is here. A half is the producer's, a tunnel is both halves side by side.\n")?;
        writeln!(text, "| backend | build | | rounds | HELLO | UPDATE | first byte | p90 | least | most | CPU |")?;
        writeln!(text, "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for FirstByte { row, way, reserved_ms, serving_ms, first_byte_ms: first, cpu_ms } in self.rows_of_first_bytes()
        {
            let way = way.word();
            let Spread { count, least, median, p90, most, .. } = first;
            let (hello, update) = (reserved_ms.median, serving_ms.median);
            write!(text, "| {} | {} | {way} | {count} | {hello:.1} | {update:.1} | ", row.backend, row.build)?;
            writeln!(text, "**{median:.1}** | {p90:.1} | {least:.1} | {most:.1} | {cpu_ms:.0} |")?;
        }
        writeln!(
            text,
            "\n## Sessions a second\n\nHalves at one gateway, set up and released at once, so many together all"
        )?;
        writeln!(text, "the time. Peak memory is the controller's, of all rounds so far.\n")?;
        writeln!(
            text,
            "| at once | backend | build | sessions | failed | a second | set up | p90 | most | release | CPU | MiB |"
        )?;
        writeln!(text, "|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for rate in self.rows_of_rates() {
            let at = |spread: Option<Spread>, of: fn(Spread) -> f64| spread.map_or(f64::NAN, of);
            let (set_up, p90) = (at(rate.set_up_ms, |s| s.median), at(rate.set_up_ms, |s| s.p90));
            let (most, released) = (at(rate.set_up_ms, |s| s.most), at(rate.released_ms, |s| s.median));
            let (row, failed, a_second) = (rate.row, rate.failures.len(), rate.sessions_a_second.median);
            write!(text, "| {} | {} | {} | {} | ", rate.at_once, row.backend, row.build, rate.sessions)?;
            write!(text, "{failed} | **{a_second:.1}** | {set_up:.0} | {p90:.0} | {most:.0} | {released:.0} | ")?;
            writeln!(text, "{:.0} | {:.0} |", rate.cpu_ms_a_session, rate.peak_memory_mib)?;
        }
        writeln!(text, "\n## Judged\n\n| what | at most | measured | |\n|---|--:|--:|---|")?;
        for Judged { what, threshold_ms, measured_ms, met } in self.judged() {
            let met = if met { "met" } else { "**not met**" };
            writeln!(text, "| {what} | {threshold_ms:.0} | {measured_ms:.1} | {met} |")?;
        }
        Ok(())
    }
}

fn spread<T>(all: &[T], of: impl Fn(&T) -> f64) -> Spread {
    Spread::of(all.iter().map(of).collect()).expect("a row has a measurement")
}

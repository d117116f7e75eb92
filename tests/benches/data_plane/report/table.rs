//! The results as a Markdown table.

use std::fmt::Write as _;

use super::summary::RATIO;
use super::thresholds::{Bound, Threshold};
use super::{Report, Sample};

/// What a reader has to know.
const METHOD: &str = "\
Medians over all rounds, least and most in brackets. In each round every arrangement is started anew and asked \
everything, and `to direct` is against a direct connection in the same round. Producer, consumer and proxies share the \
processors. The producer writes one buffer again and again, within the host over sockets that have no timers (reno) \
even where BBR is the system's choice, which the proxies are left; the consumer has the kernel drop what came; bytes \
sent and bytes come are compared each time. `CPU s/GB` is user and system time of the proxies' processes alone, \
workers and ended children too.";
/// And of what was asked.
const METHODS: [(&str, &str); 6] = [
    ("idle", "Memory `each` is the growth for an open connection, in each of the programs."),
    (
        "bulk",
        "`Gb/s` is all bytes over the time until the last has come. `loaded` and `after` are all programs together, while bytes flow and when all have come.",
    ),
    ("stuck", "`stuck` is with one of the connections never read."),
    ("setup", "`setup` is 8 connections at once, each to its first echo."),
    (
        "path",
        "`path` is a link of 1 Gbit/s with a round trip of 20 ms, by a packet shaper of the bench's own between two \
        network namespaces (TUN, MTU 9000).",
    ),
    ("lossy path", "`lossy path` is the same with one packet in a thousand lost."),
];
/// And of one arrangement.
const DEPLOYED: (&str, &str) = (
    "stunnel deployed",
    "What a program computes in threads of the policy SCHED_BATCH is not counted: the deployed release's stunnel looks \
    for Diffie-Hellman parameters there, for as long as a minute, and is measured when it has them, or after 40 s; it \
    alone goes on from round to round.",
);

fn method(report: &Report) -> String {
    let asked = |workload: &str| report.summary.iter().any(|line| line.workload == workload);
    let of_workloads = METHODS.iter().filter(|(workload, _)| asked(workload));
    let of_deployed = Some(&DEPLOYED).filter(|(name, _)| report.arrangements.iter().any(|other| other == name));
    let words = of_workloads.chain(of_deployed).map(|(_, words)| *words);
    [METHOD].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// A heading, the figure below it, and how many decimals it is shown with.
type Column = (&'static str, &'static str, usize);

/// Over a link of the bench's own.
const LONG_WAY: &[Column] = &[("Gb/s", "gbit_per_s", 3), ("to direct", RATIO, 3), ("CPU s/GB", "cpu_s_per_gb", 3)];

/// Columns of each workload.
const COLUMNS: [(&str, &[Column]); 7] = [
    (
        "bulk",
        &[
            ("Gb/s", "gbit_per_s", 2),
            ("to direct", RATIO, 3),
            ("CPU s/GB", "cpu_s_per_gb", 3),
            ("loaded MiB", "loaded_rss_mib", 1),
            ("after MiB", "after_rss_mib", 1),
        ],
    ),
    ("stuck", &[("Gb/s", "gbit_per_s", 2), ("to direct", RATIO, 3), ("CPU s/GB", "cpu_s_per_gb", 3)]),
    (
        "setup",
        &[
            ("connections/s", "set_ups_per_s", 0),
            ("CPU ms each", "set_up_cpu_ms", 2),
            ("p50 ms", "set_up_p50_ms", 2),
            ("p99 ms", "set_up_p99_ms", 2),
        ],
    ),
    (
        "idle",
        &[
            ("bare RSS MiB", "bare_rss_mib", 1),
            ("bare dirty MiB", "bare_dirty_mib", 1),
            ("RSS KiB each", "idle_rss_kib_each", 1),
            ("dirty KiB each", "idle_dirty_kib_each", 1),
        ],
    ),
    ("path", LONG_WAY),
    ("lossy path", LONG_WAY),
    ("rtt", &[("p50 µs", "rtt_p50_us", 0), ("p99 µs", "rtt_p99_us", 0)]),
];

/// The machine, the thresholds, and a table for each workload and number of connections.
pub fn markdown(report: &Report) -> String {
    let mut text = preface(report);
    for (workload, columns) in COLUMNS {
        let mut counts: Vec<usize> =
            report.summary.iter().filter(|line| line.workload == workload).map(|line| line.connections).collect();
        counts.sort_unstable();
        counts.dedup();
        for count in counts {
            text += &table(report, workload, count, columns);
        }
    }
    text
}

fn preface(report: &Report) -> String {
    let setting = &report.setting;
    let programs: Vec<_> = setting.programs.iter().map(|(name, version)| format!("- {name}: {version}\n")).collect();
    let mut text = format!(
        "# The data plane, measured\n\n{}\n{} rounds; bytes flow for {} s each time. {}; apart from the host by: {}.\n\n{}\n{}\n\n",
        setting.run.line(),
        setting.rounds,
        setting.seconds,
        setting.machine.line(),
        setting.apart,
        programs.concat(),
        method(report),
    );
    if !report.thresholds.is_empty() {
        text += "## Thresholds\n\n| | has to be | is | |\n|---|---:|---:|---|\n";
    }
    for threshold in &report.thresholds {
        let sign = if threshold.bound == Bound::AtMost { "≤" } else { "≥" };
        let met = if threshold.met { "met" } else { "**not met**" };
        let Threshold { what, limit, measured, .. } = threshold;
        writeln!(text, "| {what} | {sign} {limit} | {measured:.3} | {met} |").expect("writing to a String cannot fail");
    }
    let failed = report.samples.iter().filter_map(|sample| Some((sample, sample.failed_to.as_ref()?)));
    for (index, (sample, failure)) in failed.enumerate() {
        text += if index == 0 { "\n## What failed\n\n" } else { "" };
        let Sample { round, arrangement, workload, connections, .. } = sample;
        let first = failure.lines().next().unwrap_or_default();
        writeln!(text, "- round {round}, {arrangement}, {workload}({connections}): failed to {first}")
            .expect("writing to a String cannot fail");
    }
    text
}

fn table(report: &Report, workload: &str, connections: usize, columns: &[Column]) -> String {
    let headings: Vec<&str> = columns.iter().map(|(heading, ..)| *heading).collect();
    let mut text = format!("\n### {workload}, {connections} connections\n\n| | {} |\n", headings.join(" | "));
    text += &format!("|---|{}\n", "---:|".repeat(columns.len()));
    for arrangement in &report.arrangements {
        let cell = |(_, figure, decimals): &Column| {
            let of_it = |line: &&super::summary::Line| {
                line.arrangement == *arrangement
                    && (line.workload, line.connections, line.figure) == (workload, connections, *figure)
            };
            report.summary.iter().find(of_it).map_or("–".to_owned(), |line| {
                let number = |value: f64| format!("{value:.decimals$}");
                format!("**{}** ({}–{})", number(line.median), number(line.min), number(line.max))
            })
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        // Not every workload is asked of every arrangement.
        if cells.iter().any(|cell| cell != "–") {
            writeln!(text, "| {arrangement} | {} |", cells.join(" | ")).expect("writing to a String cannot fail");
        }
    }
    text
}

//! The results as a Markdown table.

use std::fmt::Write as _;

use super::Report;
use super::summary::RATIO;

/// A heading, the figure below it, and how many decimals it is shown with.
type Column = (&'static str, &'static str, usize);

/// Columns of each workload.
const COLUMNS: [(&str, &[Column]); 4] = [
    (
        "bulk",
        &[
            ("Gb/s", "gbit_per_s", 2),
            ("to direct", RATIO, 3),
            ("CPU s/GB", "cpu_s_per_gb", 3),
            ("idle KiB each", "idle_rss_kib_each", 1),
            ("loaded MiB", "loaded_rss_mib", 1),
            ("after KiB each", "after_rss_kib_each", 1),
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
    ("rtt", &[("p50 µs", "rtt_p50_us", 0), ("p99 µs", "rtt_p99_us", 0)]),
];

/// All tables, one for each workload and number of connections.
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
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

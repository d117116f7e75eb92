//! The results as pictures: a bar for each arrangement.

use std::path::Path;

use plotters::style::RGBColor;

use super::Report;
use super::summary::{Line, RATIO};
use crate::failure::{Doing as _, Result};
use crate::support::plot::{self, Bar};

/// One picture.
struct Picture {
    file: &'static str,
    title: &'static str,
    workload: &'static str,
    connections: &'static [usize],
    figure: &'static str,
    unit: &'static str,
}

const PICTURES: [Picture; 7] = [
    Picture {
        file: "processor_time",
        title: "Processor time of the proxies (less is better)",
        workload: "bulk",
        connections: &[1, 4],
        figure: "cpu_s_per_gb",
        unit: "CPU seconds per GB",
    },
    Picture {
        file: "throughput",
        title: "Throughput, one machine for all",
        workload: "bulk",
        connections: &[1, 4, 64, 1024],
        figure: RATIO,
        unit: "ratio to a direct connection",
    },
    Picture {
        file: "memory",
        title: "Memory of an idle connection (less is better)",
        workload: "idle",
        connections: &[64, 1024],
        figure: "idle_rss_kib_each",
        unit: "KiB in each program",
    },
    Picture {
        file: "set_up",
        title: "New connections, 8 at once",
        workload: "setup",
        connections: &[8],
        figure: "set_ups_per_s",
        unit: "connections per second",
    },
    Picture {
        file: "round_trip",
        title: "Round trip of one byte, median (less is better)",
        workload: "rtt",
        connections: &[1],
        figure: "rtt_p50_us",
        unit: "microseconds",
    },
    Picture {
        file: "path",
        title: "Throughput over 20 ms",
        workload: "path",
        connections: &[1, 4],
        figure: "gbit_per_s",
        unit: "Gbit/s of a link of 1 Gbit/s",
    },
    Picture {
        file: "lossy_path",
        title: "Throughput over 20 ms, one packet in 1000 lost",
        workload: "lossy path",
        connections: &[1, 4],
        figure: "gbit_per_s",
        unit: "Gbit/s of a link of 1 Gbit/s",
    },
];

/// Others' programs.
const OTHERS: RGBColor = RGBColor(230, 159, 0);
/// What all are held against.
const NOTHING_BETWEEN: RGBColor = RGBColor(120, 120, 120);

/// Draws every picture for which there are figures.
///
/// # Errors
/// When one cannot be written.
pub fn draw(report: &Report, folder: &Path) -> Result<()> {
    for picture in &PICTURES {
        let of_it = |line: &&Line| {
            (line.workload, line.figure) == (picture.workload, picture.figure)
                && picture.connections.contains(&line.connections)
                // What is compared to itself says nothing.
                && !(picture.figure != "gbit_per_s" && line.arrangement == "direct" && line.median < f64::EPSILON)
        };
        let lines: Vec<&Line> = report.summary.iter().filter(of_it).collect();
        if !lines.is_empty() {
            let path = folder.join(format!("data_plane_{}.svg", picture.file));
            let bars: Vec<_> = lines.into_iter().map(bar).collect();
            plot::draw(picture.title, picture.unit, &bars, &path).doing(format!("draw {}", path.display()))?;
        }
    }
    Ok(())
}

fn bar(line: &Line) -> Bar {
    let colour = match line.arrangement.as_str() {
        "direct" => NOTHING_BETWEEN,
        name if name.starts_with("s2ds") => plot::OURS,
        name if name.starts_with("session") => plot::PARTLY_OURS,
        _ => OTHERS,
    };
    let name = format!("{} × {}", line.arrangement, line.connections);
    Bar { name, least: line.min, median: line.median, most: line.max, colour }
}

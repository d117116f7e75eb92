//! The results as pictures: a bar for each arrangement, with what lies around the median.

use std::path::Path;

use plotters::prelude::*;

use super::Report;
use super::summary::{Line, RATIO};
use crate::failure::{Doing as _, Result};

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

const WIDTH: u32 = 900;
const BAR: u32 = 18;
const AROUND: u32 = 90;
/// For the names of the arrangements.
const MARGIN: u32 = 290;

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
            bars(picture, &lines, &path).doing(format!("draw {}", path.display()))?;
        }
    }
    Ok(())
}

fn bars(picture: &Picture, lines: &[&Line], path: &Path) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let count = i32::try_from(lines.len())?;
    let most = lines.iter().map(|line| line.max).fold(0.0, f64::max) * 1.02;
    let root = SVGBackend::new(path, (WIDTH, AROUND + BAR * u32::try_from(count)?)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(picture.title, ("sans-serif", 18))
        .margin(8)
        .margin_right(24)
        .x_label_area_size(40)
        .y_label_area_size(MARGIN)
        .build_cartesian_2d(0.0..most, (0..count).into_segmented())?;
    let name = |place: &SegmentValue<i32>| match place {
        SegmentValue::CenterOf(index) => usize::try_from(count - 1 - index)
            .ok()
            .and_then(|index| lines.get(index))
            .map_or_else(String::new, |line| format!("{} × {}", line.arrangement, line.connections)),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_desc(picture.unit)
        .y_labels(lines.len())
        .y_label_formatter(&name)
        .label_style(("sans-serif", 12))
        .draw()?;
    for (line, place) in lines.iter().zip((0..count).rev()) {
        let (low, high) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
        let mut bar = Rectangle::new([(0.0, low), (line.median, high)], colour(&line.arrangement).filled());
        bar.set_margin(2, 2, 0, 0);
        let middle = SegmentValue::CenterOf(place);
        let spread = PathElement::new([(line.min, middle.clone()), (line.max, middle)], BLACK.stroke_width(1));
        chart.draw_series([bar])?;
        chart.draw_series([spread])?;
    }
    Ok(root.present()?)
}

/// Ours stand out.
fn colour(arrangement: &str) -> RGBColor {
    match arrangement {
        "direct" => RGBColor(120, 120, 120),
        name if name.starts_with("s2ds") => RGBColor(0, 114, 178),
        name if name.starts_with("session") => RGBColor(86, 180, 233),
        _ => RGBColor(230, 159, 0),
    }
}

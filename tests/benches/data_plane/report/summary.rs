//! Medians, and what lies around them.

use serde::Serialize;

use super::Sample;
use crate::support::statistics::Spread;

/// The ratio to direct in the same round.
pub const RATIO: &str = "ratio_to_direct";

/// One figure of one arrangement under one workload, over all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Which arrangement.
    pub arrangement: String,
    /// Which workload.
    pub workload: &'static str,
    /// Over how many connections.
    pub connections: usize,
    /// Which figure.
    pub figure: &'static str,
    /// In the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// Of so many rounds.
    pub rounds: usize,
}

/// A line for each figure, in the order of the arrangements.
pub fn summarize(arrangements: &[String], samples: &[Sample]) -> Vec<Line> {
    let mut lines = Vec::new();
    for arrangement in arrangements {
        let mut seen = Vec::new();
        for sample in samples.iter().filter(|sample| sample.arrangement == *arrangement) {
            for figure in sample.figures.keys().copied().chain(ratio(samples, sample).map(|_| RATIO)) {
                let key = (sample.workload, sample.connections, figure);
                if !seen.contains(&key) {
                    seen.push(key);
                }
            }
        }
        for (workload, connections, figure) in seen {
            let of_it = |sample: &&Sample| {
                sample.arrangement == *arrangement && sample.workload == workload && sample.connections == connections
            };
            let value = |sample: &Sample| match figure {
                RATIO => ratio(samples, sample),
                _ => sample.figures.get(figure).copied(),
            };
            let values: Vec<f64> = samples.iter().filter(of_it).filter_map(value).collect();
            lines.extend(line(arrangement, workload, connections, figure, values));
        }
    }
    lines
}

/// Throughput as against direct in the same round.
fn ratio(samples: &[Sample], sample: &Sample) -> Option<f64> {
    let alike = |other: &&Sample| {
        other.arrangement == "direct"
            && (other.round, other.workload, other.connections) == (sample.round, sample.workload, sample.connections)
    };
    let direct = samples.iter().find(alike)?.figures.get("gbit_per_s")?;
    Some(sample.figures.get("gbit_per_s")? / direct)
}

fn line(
    arrangement: &str,
    workload: &'static str,
    connections: usize,
    figure: &'static str,
    values: Vec<f64>,
) -> Option<Line> {
    let Spread { count: rounds, median, least: min, most: max, .. } = Spread::of(values)?;
    Some(Line { arrangement: arrangement.to_owned(), workload, connections, figure, median, min, max, rounds })
}

//! What many measurements of one thing come to.

use serde::Serialize;

/// Measurements, from the least to the most of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub count: usize,
    pub least: f64,
    pub median: f64,
    pub p90: f64,
    pub p99: f64,
    pub most: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // The lowest value that so many in a hundred do not exceed.
        let at = |percent: usize| values[(values.len() * percent).div_ceil(100).saturating_sub(1)];
        Some(Self {
            count: values.len(),
            least: values[0],
            median: middle(&values),
            p90: at(90),
            p99: at(99),
            most: values[last],
        })
    }
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

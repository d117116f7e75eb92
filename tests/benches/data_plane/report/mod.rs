//! From samples to what is read: medians, thresholds, JSON, a table, plots.

mod plot;
mod summary;
mod table;
mod thresholds;

use std::fs;
use std::path::Path;

use serde::Serialize;

use self::summary::{Line, summarize};
use self::thresholds::{Threshold, judge};
use crate::arguments::Options;
use crate::failure::{Doing as _, Result};
use crate::setting::Setting;
use crate::workloads::Figures;

/// What one workload gave in one round.
#[derive(Serialize)]
pub struct Sample {
    round: usize,
    arrangement: String,
    workload: &'static str,
    connections: usize,
    figures: Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_to: Option<String>,
}

impl Sample {
    /// Of an outcome.
    pub fn new(
        round: usize,
        arrangement: &str,
        workload: &'static str,
        connections: usize,
        outcome: Result<Figures>,
    ) -> Self {
        let (figures, failed_to) = match outcome {
            Ok(figures) => (figures, None),
            Err(failure) => (Figures::new(), Some(failure.to_string())),
        };
        Self { round, arrangement: arrangement.to_owned(), workload, connections, figures, failed_to }
    }
}

/// All that is known after the last round.
#[derive(Serialize)]
pub struct Report {
    setting: Setting,
    arrangements: Vec<String>,
    thresholds: Vec<Threshold>,
    summary: Vec<Line>,
    samples: Vec<Sample>,
}

impl Report {
    /// Summarizes the samples.
    pub fn of(setting: Setting, arrangements: Vec<String>, samples: Vec<Sample>) -> Self {
        let (thresholds, summary) = (judge(&arrangements, &samples), summarize(&arrangements, &samples));
        Self { setting, arrangements, thresholds, summary, samples }
    }

    /// Whether nothing failed.
    pub fn is_whole(&self) -> bool {
        self.samples.iter().all(|sample| sample.failed_to.is_none())
    }

    /// Prints the results, and keeps them where that is asked.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn publish(&self, options: &Options) -> Result<()> {
        let json = serde_json::to_string_pretty(self).doing("write JSON")?;
        let table = table::markdown(self);
        println!("{}", if options.json { &json } else { &table });
        let Some(folder) = &options.save else { return Ok(()) };
        fs::create_dir_all(folder).doing(format!("make {}", folder.display()))?;
        keep(&folder.join("data_plane.json"), &json)?;
        keep(&folder.join("data_plane.md"), &table)?;
        plot::draw(self, folder)
    }
}

fn keep(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text.trim_end().to_owned() + "\n").doing(format!("write {}", path.display()))
}

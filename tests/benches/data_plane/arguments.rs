//! The command line, of the bench and of its parts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::path::link::Link;

/// Measures s2ds beside stunnel, HAProxy, nginx, socat and a direct connection
#[derive(Parser)]
#[command(name = "data_plane", term_width = 100)]
pub struct Arguments {
    /// A part of the bench that runs as a process of its own
    #[command(subcommand)]
    pub part: Option<Part>,
    /// What to measure
    #[command(flatten)]
    pub options: Options,
}

/// What the bench starts of itself.
#[derive(Subcommand)]
pub enum Part {
    /// The bench, in namespaces of its own
    #[command(hide = true)]
    Inside(Inside),
    /// Sends bytes to whoever connects
    #[command(hide = true)]
    Producer {
        /// Where
        listen: SocketAddr,
    },
    /// Connects, and takes the bytes
    #[command(hide = true)]
    Consumer,
    /// Holds a network namespace open
    #[command(hide = true)]
    Holder,
    /// Carries packets between two network namespaces
    #[command(hide = true)]
    Shaper {
        /// What it does to them
        link: Link,
        /// A process in one
        near: u32,
        /// A process in the other
        far: u32,
    },
}

/// The bench, in namespaces of its own.
#[derive(Args)]
pub struct Inside {
    /// What keeps it apart from the host
    #[arg(long)]
    pub apart: String,
    /// Where its files are; removed when it ends
    #[arg(long)]
    pub folder: PathBuf,
    /// What to measure
    #[command(flatten)]
    pub options: Options,
}

/// What to measure, and where the results go.
#[derive(Args, Clone)]
pub struct Options {
    /// Fewer rounds, shorter, with 1 and 4 connections: a first look
    #[arg(long)]
    pub quick: bool,
    /// Only arrangements whose name has this in it (repeatable); direct is always there
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Only these workloads: idle, bulk, setup, rtt, stuck, path (repeatable)
    #[arg(long, value_name = "NAME")]
    pub workload: Vec<String>,
    /// An s2ds to measure, with a label to tell it from others (repeatable) [default: the one built beside this bench]
    #[arg(long, value_name = "[LABEL=]PATH")]
    pub s2ds: Vec<Build>,
    /// How often each is measured [default: 5, or 2 with --quick]
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// How long bytes flow in each measurement [default: 2, or 1 with --quick]
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<f64>,
    /// Numbers of connections [default: 1,4,64,1024, or 1,4 with --quick]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub connections: Vec<usize>,
    /// Print the results as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Keep the results (JSON, table, plots) in this folder
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = "packaging/doc/benchmarks")]
    pub save: Option<PathBuf>,
    /// Every backend at one end with every backend at the other, not a choice of them
    #[arg(long)]
    pub all_pairs: bool,
    /// Name the arrangements and end
    #[arg(long)]
    pub list: bool,
    /// Said by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A build of s2ds.
#[derive(Debug, Clone)]
pub struct Build {
    /// Tells it from others; empty when there is no need.
    pub label: String,
    /// The program.
    pub path: PathBuf,
}

impl FromStr for Build {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, path) = text.split_once('=').unwrap_or(("", text));
        let path = std::fs::canonicalize(path).map_err(|e| format!("{path}: {e}"))?;
        Ok(Self { label: label.to_owned(), path })
    }
}

impl Options {
    /// How often each arrangement is measured.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 }).max(1)
    }

    /// How long bytes flow.
    pub fn window(&self) -> Duration {
        let seconds = self.seconds.unwrap_or(if self.quick { 1.0 } else { 2.0 });
        Duration::from_secs_f64(seconds.clamp(0.1, 600.0))
    }

    /// Numbers of connections.
    pub fn connections(&self) -> Vec<usize> {
        match (self.connections.is_empty(), self.quick) {
            (false, _) => self.connections.clone(),
            (true, true) => vec![1, 4],
            (true, false) => vec![1, 4, 64, 1024],
        }
    }

    /// Whether an arrangement of this name is wanted.
    pub fn wants(&self, arrangement: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| arrangement.contains(only.as_str()))
    }

    /// Whether a workload of this name is wanted.
    pub fn wants_workload(&self, workload: &str) -> bool {
        self.workload.is_empty() || self.workload.iter().any(|wanted| wanted == workload)
    }
}

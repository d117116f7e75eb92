//! The machine that was measured on: without it no number means anything.

use std::fs;

use serde::Serialize;

/// What of a machine the numbers depend on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub processor: String,
    /// Of them, those that we may use.
    pub processors: usize,
    pub memory_gib: u64,
    pub kernel: String,
    pub system: String,
    pub openssl: String,
    pub congestion_control: String,
    /// How many others wanted to run before we began, of the last minute.
    pub load: f64,
}

impl Machine {
    /// Looks at this one.
    pub fn look() -> Self {
        let cpu = read("/proc/cpuinfo");
        let memory = value(&read("/proc/meminfo"), "MemTotal", ':');
        let kib: u64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            processor: value(&cpu, "model name", ':'),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease"),
            system: value(&read("/etc/os-release"), "PRETTY_NAME", '=').trim_matches('"').to_owned(),
            openssl: openssl::version::version().to_owned(),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            load: load.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default(),
        }
    }

    /// It in a line.
    pub fn line(&self) -> String {
        format!(
            "{} × {}, {} GiB, {}, Linux {}, {}, {}, load before {}",
            self.processors,
            self.processor,
            self.memory_gib,
            self.system,
            self.kernel,
            self.openssl,
            self.congestion_control,
            self.load
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The first value that `text` has for a name.
fn value(text: &str, name: &str, separator: char) -> String {
    let mut pairs = text.lines().filter_map(|line| line.split_once(separator));
    pairs.find(|(key, _)| key.trim() == name).map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

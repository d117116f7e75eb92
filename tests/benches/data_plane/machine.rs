//! The machine and the programs, as they are told of in the results.

use std::collections::BTreeMap;
use std::fs;
use std::thread::available_parallelism;
use std::time::SystemTime;

use serde::Serialize;

use crate::arrangements::Arrangement;
use crate::arrangements::program::tool;

/// What the figures were measured on.
#[derive(Serialize)]
pub struct Machine {
    /// When.
    pub date: String,
    /// The processor's name.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// How much memory, in GiB.
    pub memory_gib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// TCP's congestion control.
    pub congestion_control: String,
    /// What else it had to do when the bench began: load averages over 1, 5 and 15 minutes.
    pub load_before: String,
    /// What keeps the bench apart from the host.
    pub apart: String,
    /// The programs and what they say of themselves.
    pub programs: BTreeMap<String, String>,
}

impl Machine {
    /// Looks at this one.
    pub fn look(apart: &str, arrangements: &[Arrangement]) -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once([':', '=']).map_or("unknown", |(_, value)| value).trim().trim_matches('"').to_owned()
        };
        let memory = after(&file("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            processor: after(&file("/proc/cpuinfo"), "model name"),
            processors: available_parallelism().map_or(0, usize::from),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: after(&file("/etc/os-release"), "PRETTY_NAME"),
            congestion_control: file("/proc/sys/net/ipv4/tcp_congestion_control").trim().to_owned(),
            load_before: file("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            apart: apart.to_owned(),
            programs: programs(arrangements),
        }
    }
}

fn programs(arrangements: &[Arrangement]) -> BTreeMap<String, String> {
    let known = [
        ("openssl", "version", "OpenSSL"),
        ("haproxy", "-v", "version"),
        ("nginx", "-v", "nginx"),
        ("stunnel", "-version", "stunnel "),
        ("socat", "-V", "socat version"),
    ];
    let version = |name: &str, argument: &str, has: &str| {
        let said = tool(name, &[argument]).ok()?;
        Some(said.lines().find(|line| line.contains(has))?.trim().to_owned())
    };
    let mut all: BTreeMap<String, String> = known
        .into_iter()
        .map(|(name, argument, has)| (name.into(), version(name, argument, has).unwrap_or("not installed".into())))
        .collect();
    for arrangement in arrangements {
        if let Some(path) = arrangement.kind.s2ds() {
            let said = version(&path.to_string_lossy(), "--version", "s2ds").unwrap_or("does not say".into());
            all.insert(arrangement.name.clone(), said);
        }
    }
    all
}

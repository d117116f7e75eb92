//! What is asked of the arrangements: workloads, on loopback and over a long way.

use std::time::Duration;

use crate::arguments::Options;
use crate::arrangements::{Kind, Running};
use crate::failure::Result;
use crate::path::link::{LINKS, Link};
use crate::workloads::{self, Apps, Figures};

/// Over this way, these workloads.
pub struct Course {
    /// Between the gateways; loopback if there is none.
    pub link: Option<Link>,
    /// In this order.
    pub workloads: Vec<Workload>,
    /// How long bytes flow.
    pub window: Duration,
}

/// One thing that is asked of each arrangement.
#[derive(Debug, Clone, Copy)]
pub enum Workload {
    /// So many connections that are open and no more.
    Idle(usize),
    /// Round trips on so many connections.
    RoundTrips(usize),
    /// New connections.
    SetUp,
    /// Bytes over so many connections.
    Bulk(usize),
    /// Bytes over so many connections, one of which nobody reads.
    Stuck(usize),
}

/// Over a long way, where a connection takes its time to get fast.
const LONGER: u32 = 2;
/// There are many pairs; this shows enough of each.
const MOST_OF_A_SESSION: usize = 64;
/// Its handshakes, with Diffie-Hellman of the old kind, take some 50 ms each.
const MOST_OF_DEPLOYED: usize = 64;

impl Workload {
    /// What it is called in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Bulk(_) => "bulk",
            Self::SetUp => "setup",
            Self::RoundTrips(_) => "rtt",
            Self::Stuck(_) => "stuck",
        }
    }

    /// How many connections are open.
    pub fn connections(self) -> usize {
        match self {
            Self::SetUp => workloads::AT_ONCE,
            Self::Idle(count) | Self::Bulk(count) | Self::RoundTrips(count) | Self::Stuck(count) => count,
        }
    }

    /// Whether it is asked of such an arrangement.
    pub fn suits(self, kind: &Kind) -> bool {
        let most = match kind {
            Kind::Session(..) => MOST_OF_A_SESSION,
            Kind::StunnelDeployed => MOST_OF_DEPLOYED,
            _ => usize::MAX,
        };
        self.connections() <= most
    }

    /// Asks it.
    ///
    /// # Errors
    /// When it is not done.
    pub fn ask(self, apps: &mut Apps, running: &Running, window: Duration) -> Result<Figures> {
        match self {
            Self::Idle(count) => workloads::idle(apps, running, count),
            Self::Bulk(count) => workloads::bulk(apps, running, count, 0, window),
            Self::Stuck(count) => workloads::bulk(apps, running, count, 1, window),
            Self::SetUp => workloads::set_up(apps, running, window / 2),
            Self::RoundTrips(count) => workloads::round_trips(apps, running.entry, count, window / 4),
        }
    }
}

impl Course {
    /// What it is called in the results.
    pub fn name(&self) -> &'static str {
        self.link.as_ref().map_or("loopback", Link::name)
    }

    /// Whether such an arrangement is sent over it.
    pub fn has(&self, kind: &Kind) -> bool {
        self.link.is_none() || !matches!(kind, Kind::Session(..))
    }
}

/// What the options ask for.
pub fn courses(options: &Options) -> Vec<Course> {
    let connections = options.connections();
    let most = connections.iter().copied().max().unwrap_or(1);
    let mut workloads = vec![Workload::Idle(most)];
    workloads.extend(connections.iter().map(|count| Workload::RoundTrips(*count)));
    workloads.push(Workload::SetUp);
    workloads.extend(connections.iter().map(|count| Workload::Bulk(*count)));
    if most > 1 {
        workloads.push(Workload::Stuck(most));
    }
    workloads.retain(|workload| options.wants_workload(workload.name()));
    let mut all = vec![Course { link: None, workloads, window: options.window() }];
    if options.wants_workload("path") && !(options.quick && options.workload.is_empty()) {
        let workloads: Vec<_> = connections.iter().filter(|count| **count <= 4).copied().map(Workload::Bulk).collect();
        let over = |link| Course { link: Some(link), workloads: workloads.clone(), window: options.window() * LONGER };
        all.extend(LINKS.map(over));
    }
    all.retain(|course| !course.workloads.is_empty());
    all
}

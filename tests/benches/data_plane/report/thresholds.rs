//! What s2ds has to reach, and whether it did: each compared within the same round.

use serde::Serialize;

use super::Sample;
use crate::support::statistics::Spread;

/// A threshold and what was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Threshold {
    /// What has to hold.
    pub what: String,
    /// At least, or at most.
    pub bound: Bound,
    /// The number.
    pub limit: f64,
    /// The median over the rounds.
    pub measured: f64,
    /// Of so many rounds.
    pub rounds: usize,
    /// Whether it holds.
    pub met: bool,
}

/// On which side of the limit is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// No more.
    AtMost,
    /// No less.
    AtLeast,
}

/// A figure of an arrangement under a workload.
#[derive(Clone, Copy)]
struct Of<'a>(&'a str, &'static str, usize, &'static str);

const CPU: &str = "cpu_s_per_gb";
const SPEED: &str = "gbit_per_s";
const DEPLOYED: &str = "stunnel deployed";
const STUNNEL: &str = "stunnel tls1.3";
/// As many as are compared with few.
const MANY: usize = 1024;
/// Within what two runs of the same differ.
const ALIKE: f64 = 0.95;

/// Every threshold that the samples tell about, for each build of s2ds.
pub fn judge(arrangements: &[String], samples: &[Sample]) -> Vec<Threshold> {
    let judge = Judge { samples };
    let builds = |start: &'static str| arrangements.iter().filter(move |name| name.starts_with(start));
    let tls = builds("s2ds tls").flat_map(|name| judge.tls(name));
    let plain = builds("s2ds plain").flat_map(|name| judge.plain(name));
    let both = arrangements.iter().filter(|name| name.starts_with("s2ds ")).flat_map(|name| judge.many(name));
    tls.chain(plain).chain(both).collect()
}

struct Judge<'a> {
    samples: &'a [Sample],
}

impl Judge<'_> {
    fn tls(&self, name: &str) -> Vec<Threshold> {
        let of = |count, figure| Of(name, "bulk", count, figure);
        let mut all = Vec::new();
        for count in [1, 4] {
            for (other, cpu, speed) in [(DEPLOYED, 0.42, 2.2), (STUNNEL, 0.70, 1.4)] {
                let against = |figure| Of(other, "bulk", count, figure);
                all.extend([
                    self.ratio(Bound::AtMost, cpu, of(count, CPU), against(CPU)),
                    self.ratio(Bound::AtLeast, speed, of(count, SPEED), against(SPEED)),
                ]);
            }
        }
        for figure in ["rtt_p50_us", "rtt_p99_us"] {
            all.push(self.ratio(Bound::AtMost, 1.0, Of(name, "rtt", 1, figure), Of(STUNNEL, "rtt", 1, figure)));
        }
        let new = |name| Of(name, "setup", crate::workloads::AT_ONCE, "set_ups_per_s");
        all.push(self.ratio(Bound::AtLeast, 1.3, new(name), new(STUNNEL)));
        all.into_iter().flatten().collect()
    }

    fn plain(&self, name: &str) -> Vec<Threshold> {
        let compare = |count, (other, limit)| {
            self.ratio(Bound::AtMost, limit, Of(name, "bulk", count, CPU), Of(other, "bulk", count, CPU))
        };
        let others = [("haproxy", 0.35), ("haproxy splice", 1.2)];
        [1, 4].into_iter().flat_map(|count| others.map(|other| compare(count, other))).flatten().collect()
    }

    fn many(&self, name: &str) -> Vec<Threshold> {
        let of = |workload, count| Of(name, workload, count, SPEED);
        let each = self.itself(Bound::AtMost, 48.0, Of(name, "idle", MANY, "idle_rss_kib_each"));
        let sum = self.ratio(Bound::AtLeast, ALIKE, of("bulk", MANY), of("bulk", 4));
        let stuck = self.ratio(Bound::AtLeast, ALIKE, of("stuck", MANY), of("bulk", MANY));
        [sum, each, stuck].into_iter().flatten().collect()
    }

    fn rounds(&self, of: Of<'_>) -> impl Iterator<Item = (usize, f64)> {
        let Of(name, workload, connections, figure) = of;
        self.samples.iter().filter_map(move |sample| {
            let fits = sample.arrangement == name && (sample.workload, sample.connections) == (workload, connections);
            sample.figures.get(figure).filter(|_| fits).map(|value| (sample.round, *value))
        })
    }

    fn ratio(&self, bound: Bound, limit: f64, of: Of<'_>, to: Of<'_>) -> Option<Threshold> {
        let against: Vec<_> = self.rounds(to).collect();
        let alike = |(round, value)| Some(value / against.iter().find(|(other, _)| *other == round)?.1);
        let values = self.rounds(of).filter_map(alike).collect();
        threshold(format!("{}, to {}", words(of), words(to)), bound, limit, values)
    }

    fn itself(&self, bound: Bound, limit: f64, of: Of<'_>) -> Option<Threshold> {
        threshold(words(of), bound, limit, self.rounds(of).map(|(_, value)| value).collect())
    }
}

fn words(Of(name, workload, connections, figure): Of<'_>) -> String {
    format!("{name} {workload}({connections}) {figure}")
}

fn threshold(what: String, bound: Bound, limit: f64, values: Vec<f64>) -> Option<Threshold> {
    let rounds = values.len();
    let measured = Spread::of(values).map(|spread| spread.median).filter(|value| value.is_finite())?;
    let met = match bound {
        Bound::AtMost => measured <= limit,
        Bound::AtLeast => measured >= limit,
    };
    Some(Threshold { what, bound, limit, measured, rounds, met })
}

//! How much sessions may move at most: the site's bounds.

use crate::session::{Bandwidth, Capacity, Weight, least};

/// The rule for bandwidth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BandwidthPolicy {
    /// Whether sessions are kept to the rate that their clients send. Those of the
    /// deployed release send one without meaning it.
    pub enforce_rate: bool,
    /// What any session may move at most.
    pub most: Option<Bandwidth>,
    /// What all of them may move together.
    pub gateway: Option<Bandwidth>,
}

/// What a rule adds to that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleBandwidth {
    /// What a session may move at most.
    pub most: Option<Bandwidth>,
    /// What it counts among others.
    pub weight: Weight,
}

impl BandwidthPolicy {
    /// Whether it may bound a session.
    #[must_use]
    pub fn may_bound(&self) -> bool {
        self.enforce_rate || self.most.is_some() || self.gateway.is_some()
    }

    /// What a session gets that asks for so much: the least of what is meant. Who asks
    /// for more than that is not refused.
    #[must_use]
    pub fn grant(&self, asked: Option<Bandwidth>, rule: RuleBandwidth) -> Capacity {
        let meant = asked.filter(|_| self.enforce_rate);
        let limit = least(meant, least(rule.most, self.most));
        Capacity { asked, limit, weight: rule.weight, shared: self.gateway.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_what_is_meant_is_granted() {
        let limit = |enforce_rate, asked, of_rule, of_site| {
            let site = BandwidthPolicy { enforce_rate, most: Bandwidth::kilobytes(of_site), gateway: None };
            let rule = RuleBandwidth { most: Bandwidth::kilobytes(of_rule), weight: Weight::default() };
            let granted = site.grant(Bandwidth::kilobytes(asked), rule);
            assert_eq!(granted.asked, Bandwidth::kilobytes(asked), "what was asked is not forgotten");
            granted.limit.map_or(0, Bandwidth::kilobytes_per_second)
        };
        // Meant by nobody: today's clients.
        assert_eq!(limit(false, 10_000, 0, 0), 0);
        assert_eq!(limit(false, 10_000, 50_000, 0), 50_000);
        assert_eq!(limit(false, 10_000, 50_000, 20_000), 20_000);
        assert_eq!(limit(true, 10_000, 0, 0), 10_000);
        assert_eq!(limit(true, 10_000, 5000, 20_000), 5000);
        assert_eq!(limit(true, 10_000, 50_000, 20_000), 10_000);
        assert_eq!(limit(true, 0, 0, 20_000), 20_000);
        assert_eq!(limit(true, 0, 0, 0), 0);
    }
}

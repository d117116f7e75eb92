//! What a session can make use of, by what it has moved. All numbers are kB/s.

/// So many looks a change of the share must be old before it shows in what was
/// measured: the kernel is asked once a second, at another moment.
const LOOKS: usize = 3;

/// What is known of a session's use of its share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// What it was kept to at the last looks.
    kept_to: Vec<u64>,
    /// What it has at first: not measured yet.
    at_first: u64,
    demand: Option<u64>,
}

impl Usage {
    /// Of a session that was kept to this so far; 0: a new one.
    #[must_use]
    pub fn beginning(kept_to: u64) -> Self {
        Self { kept_to: vec![], at_first: kept_to, demand: Some(kept_to) }
    }

    /// Takes in what it has moved, and what it is kept to; `None`: nobody knows.
    pub fn look(&mut self, moved: Option<u64>, kept_to: u64) {
        if kept_to == 0 {
            return;
        }
        self.kept_to.push(kept_to);
        let many = self.kept_to.len() > LOOKS;
        if many {
            self.kept_to.remove(0);
        }
        let least = self.kept_to.iter().min().copied().unwrap_or_default();
        self.demand = match moved {
            // Nearly all that it may.
            Some(moved) if moved.saturating_mul(100) < least.saturating_mul(85) => {
                Some(if many { moved + moved / 2 } else { self.at_first })
            }
            _ => None,
        };
    }

    /// What it can make use of; `None`: more than it has.
    #[must_use]
    pub fn demand(&self) -> Option<u64> {
        self.demand
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_its_share_could_use_more_and_who_does_not_keeps_half_again() {
        let mut usage = Usage::beginning(0);
        assert_eq!(usage.demand(), Some(0));
        usage.look(Some(0), 100);
        assert_eq!(usage.demand(), Some(0), "idle");
        usage.look(Some(90), 100);
        assert_eq!(usage.demand(), None, "at once");
        // Raised meanwhile, which does not show yet.
        usage.look(Some(95), 1000);
        assert_eq!(usage.demand(), None);
        for _ in 0..3 {
            usage.look(Some(400), 1000);
        }
        assert_eq!(usage.demand(), Some(600));
        // What it is left then is not nearly all used, or it would go up and down for ever.
        for _ in 0..4 {
            usage.look(Some(400), 600);
        }
        assert_eq!(usage.demand(), Some(600));
    }

    #[test]
    fn one_that_was_taken_over_keeps_what_it_has_until_it_is_measured() {
        let mut usage = Usage::beginning(700);
        usage.look(Some(0), 700);
        assert_eq!(usage.demand(), Some(700));
        for _ in 0..3 {
            usage.look(Some(0), 700);
        }
        assert_eq!(usage.demand(), Some(0));
        usage.look(None, 700);
        assert_eq!(usage.demand(), None, "where nobody knows, it counts by its weight");
    }
}

//! Weighted max-min fairness, also known as filling with water. All numbers are kB/s.

/// What one of many may and would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// What it counts, at least 1.
    pub weight: u16,
    /// What it can make use of.
    pub demand: u64,
    /// What it may have at most, at least 1.
    pub limit: u64,
}

/// The share of each of `claims` in `cap`.
///
/// Nobody gets less than its part by weight but those who demand less; what those
/// leave goes to the others, by weight; what nobody demands goes to all, up to
/// their limits. As long as there is enough, nobody gets nothing.
#[must_use]
pub fn divide(cap: u64, claims: &[Claim]) -> Vec<u64> {
    let mut rest = cap;
    let mut shares = vec![0; claims.len()];
    let demanded = |claim: &Claim| claim.demand.min(claim.limit);
    for wish in [demanded, |claim: &Claim| claim.limit] {
        let missing: Vec<_> = claims.iter().zip(&shares).map(|(it, has)| wish(it).saturating_sub(*has)).collect();
        for (share, more) in shares.iter_mut().zip(fill(rest, claims, &missing)) {
            *share += more;
            rest -= more;
        }
    }
    // A program cannot be kept to nothing at all.
    while let Some(empty) = shares.iter().position(|share| *share == 0) {
        if rest > 0 {
            rest -= 1;
        } else {
            let Some(most) = shares.iter_mut().max().filter(|most| **most > 1) else { break };
            *most -= 1;
        }
        shares[empty] = 1;
    }
    shares
}

/// Divides `rest` by weight among those who miss something. The thirstiest for its weight comes last.
fn fill(mut rest: u64, claims: &[Claim], missing: &[u64]) -> Vec<u64> {
    let mut order: Vec<_> = (0..claims.len()).filter(|index| missing[*index] > 0).collect();
    let per_weight = |index: &usize| {
        let scaled = u128::from(missing[*index]) << 32;
        scaled / u128::from(claims[*index].weight.max(1))
    };
    order.sort_by_key(per_weight);
    let mut weights: u128 = order.iter().map(|index| u128::from(claims[*index].weight.max(1))).sum();
    let mut filled = vec![0; claims.len()];
    for index in order {
        let weight = u128::from(claims[index].weight.max(1));
        let part = u64::try_from(u128::from(rest) * weight / weights).unwrap_or(u64::MAX);
        filled[index] = part.min(missing[index]);
        rest -= filled[index];
        weights -= weight;
    }
    filled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: u64 = u64::MAX;

    fn claim(weight: u16, demand: u64, limit: u64) -> Claim {
        Claim { weight, demand, limit }
    }

    #[test]
    fn who_wants_all_gets_it_by_weight_and_the_modest_leave_theirs() {
        assert_eq!(divide(1000, &[claim(1, ALL, ALL), claim(3, ALL, ALL)]), [250, 750]);
        assert_eq!(divide(1000, &[claim(1, ALL, ALL), claim(3, 100, ALL)]), [900, 100]);
        assert_eq!(divide(1000, &[claim(1, ALL, 200), claim(3, ALL, 300)]), [200, 300]);
        assert_eq!(divide(1000, &[claim(1, ALL, 200), claim(1, ALL, ALL), claim(2, ALL, ALL)]), [200, 267, 533]);
        // Nobody wants it all: each may begin at once.
        assert_eq!(divide(1000, &[claim(1, 100, ALL), claim(1, 0, ALL)]), [550, 450]);
        assert_eq!(divide(1000, &[]), Vec::<u64>::new());
        assert_eq!(divide(2, &[claim(9, ALL, ALL), claim(1, ALL, ALL), claim(1, ALL, ALL)]).iter().sum::<u64>(), 2);
        assert_eq!(divide(9, &[claim(99, ALL, ALL), claim(1, ALL, ALL), claim(1, ALL, ALL)]), [7, 1, 1]);
        assert_eq!(divide(0, &[claim(1, ALL, ALL)]), [0]);
    }

    fn any_claims() -> impl Strategy<Value = Vec<Claim>> {
        let demand = prop_oneof![Just(ALL), 0..10_000_u64, Just(0)];
        let limit = prop_oneof![Just(ALL), 1..10_000_u64];
        let one = (1..1000_u16, demand, limit).prop_map(|(weight, demand, limit)| claim(weight, demand, limit));
        prop::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn shares_are_fair(cap in prop_oneof![0..100_u64, 0..1_000_000_u64, Just(ALL)], claims in any_claims()) {
            let shares = divide(cap, &claims);
            prop_assert_eq!(shares.len(), claims.len());
            let sum: u128 = shares.iter().map(|share| u128::from(*share)).sum();
            prop_assert!(sum <= u128::from(cap), "{sum} of {cap}");
            let number = u128::try_from(claims.len()).expect("few");
            // Nothing is left that anybody may have, but what rounding leaves.
            let most: u128 = claims.iter().map(|claim| u128::from(claim.limit)).sum();
            prop_assert!(sum + 2 * number >= most.min(u128::from(cap)), "{sum} of {cap}");
            // So much at most was taken from the largest for those who had nothing.
            let given = shares.iter().filter(|share| **share == 1).count() as u128;
            let weights: u128 = claims.iter().map(|claim| u128::from(claim.weight)).sum();
            for (claim, share) in claims.iter().zip(&shares) {
                prop_assert!(*share <= claim.limit);
                if u128::from(cap) >= number {
                    prop_assert!(*share >= 1, "nobody gets nothing");
                    // Its part by weight, or all that it demands.
                    let part = u128::from(cap) * u128::from(claim.weight) / weights;
                    let due = part.min(u128::from(claim.demand.min(claim.limit)));
                    prop_assert!(u128::from(*share) + given >= due, "{share} of {due} for {claim:?}");
                }
                // Nobody has much more for its weight than one who is short of what it demands,
                // by more than what was given away and what rounding leaves, which goes to the last.
                let rounded = 2 + number;
                let short = u128::from(*share) + given + rounded < u128::from(claim.demand.min(claim.limit));
                for (other, theirs) in claims.iter().zip(&shares) {
                    let more = u128::from(*theirs).saturating_sub(rounded) * u128::from(claim.weight);
                    let here = (u128::from(*share) + given + rounded) * u128::from(other.weight);
                    let excused = *theirs <= 1 || u128::from(cap) < number;
                    prop_assert!(!short || excused || more <= here, "{other:?} has {theirs}, {claim:?} {share}");
                }
            }
        }
    }
}

//! Weighted max-min fairness, also known as filling with water. All numbers are kB/s.

use std::cmp::{Ordering, Reverse};

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
            let most = (0..claims.len()).filter(|index| shares[*index] > 1);
            let Some(most) = most.max_by(|a, b| by_weight(claims, &shares, *a, *b)) else { break };
            shares[most] -= 1;
        }
        shares[empty] = 1;
    }
    shares
}

/// Divides `rest` by weight among those who miss something. Whom their part is enough
/// for get what they miss; the others share at one level what those leave, to the last unit.
fn fill(mut rest: u64, claims: &[Claim], missing: &[u64]) -> Vec<u64> {
    let mut thirsty: Vec<_> = (0..claims.len()).filter(|index| missing[*index] > 0).collect();
    thirsty.sort_by(|a, b| by_weight(claims, missing, *a, *b));
    let mut weights: u128 = thirsty.iter().map(|index| u128::from(claims[*index].weight)).sum();
    let mut filled = vec![0; claims.len()];
    let mut thirsty = thirsty.into_iter().peekable();
    while let Some(index) = thirsty
        .next_if(|index| u128::from(missing[*index]) * weights <= u128::from(rest) * u128::from(claims[*index].weight))
    {
        filled[index] = missing[index];
        rest -= missing[index];
        weights -= u128::from(claims[index].weight);
    }
    let mut thirsty: Vec<_> = thirsty.collect();
    let product = |index: &usize| u128::from(rest) * u128::from(claims[*index].weight);
    for index in &thirsty {
        // Less than what it misses, which is a u64.
        filled[*index] = u64::try_from(product(index) / weights).unwrap_or(missing[*index]);
    }
    // Rounding leaves less than one for each; whom it cost most get them.
    let left = rest - thirsty.iter().map(|index| filled[*index]).sum::<u64>();
    thirsty.sort_by_key(|index| Reverse(product(index) % weights));
    for index in thirsty.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        filled[index] += 1;
    }
    filled
}

/// Who has less of `amounts` for its weight.
fn by_weight(claims: &[Claim], amounts: &[u64], a: usize, b: usize) -> Ordering {
    let scaled = |one: usize, other: usize| u128::from(amounts[one]) * u128::from(claims[other].weight);
    scaled(a, b).cmp(&scaled(b, a))
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
                // Nobody has much more for its weight than one who is short of what it demands.
                let short = *share < claim.demand.min(claim.limit);
                for (other, theirs) in claims.iter().zip(&shares) {
                    let more = u128::from(*theirs).saturating_sub(2) * u128::from(claim.weight);
                    let here = (u128::from(*share) + given + 2) * u128::from(other.weight);
                    let excused = *theirs <= 1 || u128::from(cap) < number;
                    prop_assert!(!short || excused || more <= here, "{other:?} has {theirs}, {claim:?} {share}");
                }
            }
        }
    }
}

//! From the shares in force towards those that should be, without ever exceeding
//! the cap on the way. All numbers are kB/s.

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// What it was told last that it may move.
    pub told: u64,
    /// The most that it was told since it answered last: it may be about to do so.
    pub promised: u64,
    /// What its program is known to be kept to.
    pub in_force: u64,
    /// What it should have.
    pub wanted: u64,
}

impl Position {
    /// What it may be moving.
    fn held(self) -> u64 {
        self.told.max(self.promised).max(self.in_force)
    }

    fn needs_more(self) -> bool {
        is_worth_it(self.told, self.wanted)
    }
}

/// Whether a change upwards is worth a reload: a twentieth.
fn is_worth_it(from: u64, to: u64) -> bool {
    to > from.saturating_add(from / 20)
}

/// What each is to be told now.
///
/// What may be moving altogether, the greatest of what each was told, may take for
/// told still, and has in force, does not grow beyond the cap by it. As few are lowered
/// as those who need more make necessary.
#[must_use]
pub fn steer(cap: u64, members: &[Position]) -> Vec<u64> {
    let mut told: Vec<_> = members.iter().map(|member| member.told).collect();
    let held = sum(members.iter().map(|member| member.held()));
    let needed = sum(members.iter().filter(|it| it.needs_more()).map(|it| it.wanted.saturating_sub(it.held())));
    let mut under_way = sum(members.iter().map(|member| member.held() - member.told));

    let excess = |index: &usize| members[*index].told.saturating_sub(members[*index].wanted);
    let mut rich: Vec<_> = (0..members.len()).filter(|index| excess(index) > 0).collect();
    rich.sort_by_key(|index| std::cmp::Reverse(excess(index)));
    let mut rich = rich.into_iter();
    while (held + needed).saturating_sub(under_way) > u128::from(cap)
        && let Some(index) = rich.next()
    {
        told[index] = members[index].wanted;
        under_way += u128::from(excess(&index));
    }

    let mut free = u64::try_from(u128::from(cap).saturating_sub(held)).unwrap_or(u64::MAX);
    let mut poor: Vec<_> = (0..members.len()).filter(|index| members[*index].needs_more()).collect();
    poor.sort_by_key(|index| members[*index].told);
    for index in poor {
        let member = members[index];
        let missing = member.wanted.saturating_sub(member.held());
        let whole = missing <= free;
        let part = member.held().saturating_add(missing.min(free));
        // With more to come, it is not raised twice.
        if whole || under_way == 0 && is_worth_it(member.told, part) {
            told[index] = part.min(member.wanted);
            free -= told[index].saturating_sub(member.held());
        }
    }
    told
}

fn sum(numbers: impl Iterator<Item = u64>) -> u128 {
    numbers.map(u128::from).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(told: u64, in_force: u64, wanted: u64) -> Position {
        Position { told, promised: told, in_force, wanted }
    }

    #[test]
    fn one_is_raised_after_the_other_was_lowered() {
        let before = [at(1000, 1000, 250), at(0, 0, 750)];
        assert_eq!(steer(1000, &before), [250, 0]);
        assert_eq!(steer(1000, &[at(250, 1000, 250), at(0, 0, 750)]), [250, 0], "not confirmed yet");
        assert_eq!(steer(1000, &[at(250, 250, 250), at(0, 0, 750)]), [250, 750]);
    }

    #[test]
    fn as_few_as_must_are_lowered() {
        let mut members = vec![at(100, 100, 99); 10];
        members.push(at(0, 0, 3));
        let told = steer(1000, &members);
        assert_eq!(told.iter().filter(|told| **told == 99).count(), 3);
        members[0] = at(90, 90, 90);
        assert_eq!(steer(1000, &members)[1..], [[100; 9].as_slice(), &[3]].concat(), "there is enough");
    }

    #[test]
    fn what_hardly_differs_stays() {
        let members = [at(500, 500, 490), at(500, 500, 510)];
        assert_eq!(steer(1000, &members), [500, 500]);
    }

    #[test]
    fn a_cap_that_was_lowered_comes_into_force() {
        assert_eq!(steer(600, &[at(500, 500, 300), at(500, 500, 300)]), [300, 300]);
        // One that cannot be lowered leaves the rest to the others.
        assert_eq!(steer(600, &[at(500, 500, 300), at(0, 0, 300)]), [300, 0]);
        assert_eq!(steer(600, &[at(500, 500, 500), at(0, 0, 100)]), [500, 100]);
    }

    #[test]
    fn what_may_be_taken_still_is_held() {
        let late = Position { told: 100, promised: 900, in_force: 100, wanted: 100 };
        assert_eq!(steer(1000, &[late, at(0, 0, 900)]), [100, 0]);
    }

    fn any_member() -> impl Strategy<Value = Position> {
        (0..1000_u64, 0..1000_u64, 0..1000_u64).prop_map(|(told, in_force, wanted)| at(told, in_force, wanted))
    }

    /// A member as it is: it takes what it was told last, and answers some time later.
    struct Real {
        /// As the divider sees it.
        seen: Position,
        /// What it was told since what it works on.
        newer: Vec<u64>,
        working_on: Option<u64>,
        in_force: u64,
    }

    #[derive(Debug, Clone, Copy)]
    enum Deed {
        Nothing,
        Take,
        Finish,
    }

    impl Real {
        fn new(seen: Position) -> Self {
            Self { newer: vec![seen.told], working_on: None, in_force: seen.in_force, seen }
        }

        fn hear(&mut self, told: u64) {
            if told != self.seen.told {
                self.seen.told = told;
                self.newer.push(told);
                self.seen.promised = self.seen.promised.max(told);
            }
        }

        fn act(&mut self, deed: Deed) {
            match (deed, self.working_on) {
                (Deed::Take, None) if !self.newer.is_empty() => {
                    self.working_on = self.newer.pop();
                    self.newer.clear();
                }
                (Deed::Finish, Some(told)) => {
                    self.working_on = None;
                    self.in_force = told;
                    self.seen.in_force = told;
                    self.seen.promised = self.newer.iter().copied().max().unwrap_or(0);
                }
                _ => {}
            }
        }

        /// The most that it may move before it hears anything more.
        fn may_move(&self) -> u64 {
            self.newer.last().copied().into_iter().chain(self.working_on).chain([self.in_force]).max().unwrap_or(0)
        }
    }

    fn settle(cap: u64, members: &mut [Real], deeds: &[Deed]) {
        let told = steer(cap, &members.iter().map(|member| member.seen).collect::<Vec<_>>());
        for ((member, told), deed) in members.iter_mut().zip(told).zip(deeds) {
            member.hear(told);
            member.act(*deed);
        }
    }

    fn any_deed() -> impl Strategy<Value = Deed> {
        prop_oneof![Just(Deed::Nothing), Just(Deed::Take), Just(Deed::Finish)]
    }

    proptest! {
        #[test]
        fn the_cap_is_never_exceeded(
            cap in 1..5000_u64,
            members in prop::collection::vec(any_member(), 1..12),
            wishes in prop::collection::vec(prop::collection::vec(any::<u64>(), 12), 1..24),
            deeds in prop::collection::vec(prop::collection::vec(any_deed(), 12), 24),
        ) {
            let mut members: Vec<_> = members.into_iter().map(Real::new).collect();
            let held = |members: &[Real]| sum(members.iter().map(|member| member.seen.held()));
            let mut before = held(&members);
            for (wishes, deeds) in wishes.iter().zip(&deeds) {
                // Whatever is wanted is within the cap: it comes from a division of it.
                let claims: Vec<_> = members.iter().zip(wishes).map(|(_, wish)| super::super::Claim {
                    weight: u16::try_from(wish % 7 + 1).expect("small"), demand: wish % 3000, limit: u64::MAX,
                }).collect();
                for (member, wanted) in members.iter_mut().zip(super::super::divide(cap, &claims)) {
                    member.seen.wanted = wanted;
                }
                settle(cap, &mut members, deeds);
                for member in &members {
                    prop_assert!(member.may_move() <= member.seen.held(), "{:?}", member.seen);
                }
                let now = held(&members);
                prop_assert!(now <= before.max(u128::from(cap)), "{now} after {before}, of {cap}");
                before = now;
            }
            // In the end everybody has what it should, but for what is not worth it.
            for _ in 0..members.len() + 4 {
                for deed in [Deed::Finish, Deed::Take, Deed::Finish] {
                    settle(cap, &mut members, &[deed; 12]);
                }
            }
            let seen: Vec<_> = members.iter().map(|member| member.seen).collect();
            prop_assert!(!seen.iter().any(|member| member.needs_more()), "{seen:?}, cap {cap}");
            prop_assert!(sum(seen.iter().map(|member| member.held())) <= u128::from(cap), "{seen:?}, cap {cap}");
        }
    }
}

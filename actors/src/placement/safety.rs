//! When a stripe that is being written is safe: not by how many fragments are durable alone, but by where they lie.

use cairn_fragment::{Positions, geometry::needed_fragments};
use cairn_schema::record::{Group, Scheme};

use super::{DiskView, Topology};
use crate::error::StoreError;

/// Durable fragments that a stripe needs at least: the data's number plus the margin, never more than there are; copies
/// need at least one besides the first wherever there is a second.
pub fn write_quorum(scheme: Scheme, margin: u8) -> usize {
    let wanted = scheme.data() + usize::from(margin);
    let least = if matches!(scheme, Scheme::Replicated { .. }) { 2 } else { 0 };
    wanted.max(least).min(scheme.width())
}

/// What must be durable of a stripe in one group before it counts as written: as many fragments as [`write_quorum`]
/// says, and so many in so many failure domains that the loss of any one whole domain leaves enough to read it.
///
/// The second is asked for as far as the group's members can give it. A disk that is slow, or avoided because it does
/// not answer, is waited for; one that is known to be gone, or that takes no writes, is not, and if the group cannot
/// lose a domain besides it then nobody can write such a stripe: the first rule alone holds. Groups of disks that are
/// all fit are chosen before such a one.
#[derive(Clone, Debug)]
pub struct Safety {
    quorum: usize,
    needed: usize,
    /// By position, the number of the domain that its disk fails with. None: domains do not count.
    domains: Option<Vec<usize>>,
}

impl Safety {
    /// `members`: by position, the domain of its disk, and whether the disk may take a fragment.
    fn new<D: PartialEq>(scheme: Scheme, margin: u8, members: &[(D, bool)]) -> Self {
        // Without a margin nothing is to be lost, as whoever configures that wants it.
        let counted = margin > 0 && !members.is_empty();
        let number = |(domain, _): &(D, bool)| members.iter().position(|(other, _)| other == domain).unwrap_or(0);
        let domains = counted.then(|| members.iter().map(number).collect());
        let mut safety = Self { quorum: write_quorum(scheme, margin), needed: needed_fragments(scheme), domains };
        let may_take = members.iter().enumerate().filter(|(_, (_, takes))| *takes);
        if !safety.holds(may_take.map(|(position, _)| position as u8).collect()) {
            safety.domains = None;
        }
        safety
    }

    /// Whether a stripe of which these are durable is safe.
    pub fn holds(&self, durable: Positions) -> bool {
        durable.len() >= self.quorum && self.left_by_the_worst_loss(durable).is_none_or(|left| left >= self.needed)
    }

    /// Fragments that are left when the domain is lost that has most of them; None if domains do not count.
    fn left_by_the_worst_loss(&self, durable: Positions) -> Option<usize> {
        let domains = self.domains.as_ref()?;
        let mut crowds = vec![0; domains.len()];
        for (position, domain) in domains.iter().enumerate() {
            crowds[*domain] += usize::from(durable.contains(position as u8));
        }
        Some(durable.len() - crowds.into_iter().max().unwrap_or(0))
    }

    /// The error for a stripe of which no more than these become durable, for the reason `why`.
    pub fn refusal(&self, durable: Positions, why: String) -> StoreError {
        let (needed, durable_count) = (self.quorum, durable.len());
        match self.left_by_the_worst_loss(durable) {
            Some(left) if durable_count >= needed => StoreError::TooCrowded { left, needed: self.needed, why },
            _ => StoreError::NotEnoughFragments { durable: durable_count, needed, why },
        }
    }
}

impl Topology {
    /// What makes a stripe safe that is written to the group. Disks that are not known here are gone, each alone.
    pub fn safety(&self, group: &Group) -> Safety {
        let policy = self.policy();
        let member = |disk| match self.disk(disk) {
            Some(view) => (view.domain(policy.failure_domain), DiskView::may_take(view)),
            None => (disk.to_string(), false),
        };
        let members: Vec<_> = group.members.iter().map(|disk| member(*disk)).collect();
        Safety::new(group.scheme, policy.write_margin, &members)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quorum_is_data_plus_margin_and_copies_need_a_second() {
        let quorum = |scheme: &str, margin| write_quorum(scheme.parse().unwrap(), margin);
        assert_eq!(quorum("4+2", 1), 5);
        assert_eq!(quorum("4+2", 0), 4);
        assert_eq!(quorum("4+2", 9), 6);
        assert_eq!(quorum("replicated(1)", 1), 1);
        assert_eq!(quorum("replicated(2)", 0), 2);
        assert_eq!(quorum("replicated(3)", 1), 2);
        assert_eq!(quorum("replicated(3)", 2), 3);
    }

    fn safety(scheme: &str, margin: u8, domains: &[u8], gone: &[usize]) -> Safety {
        let members: Vec<_> =
            domains.iter().enumerate().map(|(position, domain)| (*domain, !gone.contains(&position))).collect();
        Safety::new(scheme.parse().unwrap(), margin, &members)
    }

    fn holds(safety: &Safety, durable: &[u8]) -> bool {
        safety.holds(durable.iter().copied().collect())
    }

    /// Four racks, 4+2: two of them have two members. Five fragments are too few, whichever is missing.
    #[test]
    fn dur_1_a_stripe_in_four_racks_waits_until_it_can_lose_one() {
        let four = safety("4+2", 1, &[1, 1, 2, 2, 3, 4], &[]);
        assert!(holds(&four, &[0, 1, 2, 3, 4, 5]));
        for missing in 0..6 {
            let five: Vec<u8> = (0..6).filter(|position| *position != missing).collect();
            // One pair is whole, and its loss leaves three.
            assert!(!holds(&four, &five), "without {missing}");
        }
        let refusal = four.refusal((0..5).collect(), String::new());
        assert!(matches!(refusal, StoreError::TooCrowded { left: 3, needed: 4, .. }), "{refusal}");
        let refusal = four.refusal((0..4).collect(), String::new());
        assert!(matches!(refusal, StoreError::NotEnoughFragments { durable: 4, needed: 5, .. }), "{refusal}");
        let six = safety("4+2", 1, &[1, 2, 3, 4, 5, 6], &[]);
        assert!(holds(&six, &[0, 1, 2, 3, 4]) && !holds(&six, &[0, 1, 2, 3]));
        // Copies need two racks, not two disks.
        let copies = safety("replicated(3)", 1, &[1, 1, 2], &[]);
        assert!(!holds(&copies, &[0, 1]) && holds(&copies, &[1, 2]));
    }

    /// What the disks that are left cannot give is not asked for.
    #[test]
    fn disks_that_are_gone_are_not_waited_for() {
        // One of six disks in three racks is down, and there is no other.
        let without = safety("4+2", 1, &[1, 1, 2, 2, 3, 3], &[5]);
        assert!(holds(&without, &[0, 1, 2, 3, 4]) && !holds(&without, &[0, 1, 2, 3]));
        // In six racks five can lose one still.
        let without = safety("4+2", 1, &[1, 2, 3, 4, 5, 6], &[5]);
        assert!(holds(&without, &[0, 1, 2, 3, 4]));
        // All in one rack, and no margin wanted: domains do not count.
        assert!(holds(&safety("4+2", 1, &[1; 6], &[]), &[0, 1, 2, 3, 4]));
        assert!(holds(&safety("4+2", 0, &[1, 1, 2, 2, 3, 3], &[]), &[0, 1, 2, 3]));
    }

    proptest! {
        /// Against the definition: for each domain, count what lies elsewhere.
        #[test]
        fn dur_1_what_holds_survives_the_loss_of_any_domain(
            domains in proptest::collection::vec(0u8..5, 6),
            durable in proptest::collection::btree_set(0u8..6, 0..=6),
        ) {
            let safety = safety("4+2", 1, &domains, &[]);
            let left = |of: &BTreeSet<u8>, domain: u8| {
                of.iter().filter(|position| domains[usize::from(**position)] != domain).count()
            };
            let survives = |of: &BTreeSet<u8>| (0..5).all(|domain| left(of, domain) >= 4);
            let possible = survives(&(0..6).collect());
            let expected = durable.len() >= 5 && (survives(&durable) || !possible);
            prop_assert_eq!(safety.holds(durable.into_iter().collect()), expected);
        }
    }
}

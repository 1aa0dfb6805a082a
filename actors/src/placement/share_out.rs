//! How many groups a disk is in, and which are made so that each has its share: pure functions, so that trials form
//! groups as the running cluster does.

use cairn_schema::{ids::DiskId, record::*};
use rand::Rng;

use super::members::{Candidate, CannotForm, pick_members};

/// No disk enters more groups of a scheme than this, whatever happens: keeps the sets of disks that share data few.
pub(super) const MAX_GROUPS_PER_DISK: usize = 64;

/// Groups of each scheme that an average one of so many disks is in, when all is well.
///
/// Each of a lost disk's groups gets another disk instead of it, so this is how many disks take its data, and k times
/// as many are read: where disks are many it is rebuilt by many. More would gain little, and make it likelier that
/// disks which are lost at the same time hold a whole group's redundancy: that grows with the number of groups. See
/// Cidon et al., "Copysets: Reducing the Frequency of Data Loss in Cloud Storage" (2013).
pub fn groups_per_disk(disks: usize) -> usize {
    (disks / 8).clamp(6, 48)
}

/// The member lists of the groups to make next, `at_once` at most, so that each disk comes to its share of `per_disk`
/// groups by its weight. They are counted in `candidates`.
pub fn share_out(
    scheme: Scheme,
    level: FailureDomain,
    candidates: &mut [Candidate],
    per_disk: usize,
    at_once: usize,
    rng: &mut impl Rng,
) -> Result<Vec<Vec<DiskId>>, CannotForm> {
    let all: u64 = candidates.iter().map(|disk| disk.weight).sum();
    let mean = all as f64 / candidates.len() as f64;
    let share = |disk: &Candidate| {
        let share = (per_disk as f64 * disk.weight as f64 / mean).round() as usize;
        share.clamp(1, MAX_GROUPS_PER_DISK)
    };
    let lacking = |candidates: &[Candidate]| -> usize {
        candidates.iter().map(|disk| share(disk).saturating_sub(disk.groups)).sum()
    };
    let most = (per_disk * candidates.len()).div_ceil(scheme.width()) + candidates.len();
    let mut plan = Vec::new();
    while plan.len() < most.min(at_once) {
        let before = lacking(candidates);
        let alone = candidates.iter().any(|disk| disk.groups == 0);
        // Half a group's worth of shares missing is as near as whole groups get.
        if before * 2 < scheme.width() && !alone || before == 0 {
            break;
        }
        let members = pick_members(scheme, level, candidates, rng)?;
        for disk in candidates.iter_mut().filter(|disk| members.contains(&disk.id)) {
            disk.groups += 1;
        }
        if lacking(candidates) == before {
            break;
        }
        plan.push(members);
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_of_a_large_cluster_are_in_more_groups_up_to_a_bound() {
        for (disks, groups) in [(0, 6), (12, 6), (48, 6), (100, 12), (384, 48), (10_000, 48)] {
            assert_eq!(groups_per_disk(disks), groups, "{disks} disks");
        }
        assert!(groups_per_disk(usize::MAX) < MAX_GROUPS_PER_DISK);
    }
}

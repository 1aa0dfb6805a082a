//! A lost disk leaves its groups, and one that crowds a failure domain: another takes its position, and one row of the
//! ledger says that the group is to be repaired.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use cairn_schema::{MetaError, ids::*, record::*};

use super::{Context, groups};
use crate::placement::{Rows, members::domain_cap};

const LEASE: Duration = Duration::from_secs(60);

/// The groups with lost members, those with most first, and of those the ones that fall to `node`.
pub(super) fn wounded(rows: &Rows, node: &NodeId) -> Vec<GroupId> {
    let count = |group: &Group| lost_positions(rows, group).len();
    let mut groups: Vec<_> = rows.groups.values().map(|group| (count(group), group.id)).collect();
    groups.retain(|(lost, _)| *lost > 0);
    let nodes = groups::live_nodes(rows);
    groups.sort_by_cached_key(|(lost, id)| (std::cmp::Reverse(*lost), groups::rank(node, &nodes, *id, &[]), *id));
    groups.into_iter().map(|(_, id)| id).collect()
}

fn lost_positions(rows: &Rows, group: &Group) -> Vec<usize> {
    // A disk without a row was registered after the rows were read: it is new, not lost.
    let gone = |disk: &DiskId| matches!(rows.state(*disk), Some(DiskState::Lost | DiskState::Removed));
    (0..group.members.len()).filter(|position| gone(&group.members[*position])).collect()
}

/// What came of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Replaced {
    pub members: usize,
    /// Lost members for which there is no disk.
    pub unplaceable: usize,
}

/// Replaces the lost members of a group, and those that `rows` have in `positions`. None: another node is at it, or the
/// group has just changed.
pub(super) async fn replace_lost(
    ctx: &Context,
    rows: &Rows,
    burden: &mut Burden,
    id: GroupId,
    positions: &[u8],
) -> Result<Option<Replaced>, MetaError> {
    under_lease(ctx, id, replace_under_lease(ctx, rows, burden, id, positions)).await
}

/// What `work` on the group comes to; None, without it, while another node is at it.
async fn under_lease(
    ctx: &Context,
    id: GroupId,
    work: impl Future<Output = Result<Option<Replaced>, MetaError>>,
) -> Result<Option<Replaced>, MetaError> {
    let Some(lease) = ctx.lease(&format!("repair/{id}"), LEASE).await? else { return Ok(None) };
    let result = work.await;
    ctx.release(lease).await;
    result
}

async fn replace_under_lease(
    ctx: &Context,
    rows: &Rows,
    burden: &mut Burden,
    id: GroupId,
    also: &[u8],
) -> Result<Option<Replaced>, MetaError> {
    let Some(group) = ctx.meta.group(id).await? else { return Ok(None) };
    let mut members = group.members.clone();
    let mut replaced = Vec::new();
    let mut result = Replaced::default();
    // Another node may have replaced one of them meanwhile.
    let judged = rows.groups.get(&id).filter(|judged| judged.epoch == group.epoch);
    let also = also.iter().filter(|_| judged.is_some()).map(|position| usize::from(*position));
    let positions: BTreeSet<usize> = lost_positions(rows, &group).into_iter().chain(also).collect();
    for position in positions {
        match stand_in(ctx, rows, burden, &group, &members, position).await {
            Some(disk) => {
                members[position] = disk;
                replaced.push(u8::try_from(position).unwrap_or(u8::MAX));
            }
            None => result.unplaceable += 1,
        }
    }
    if !replaced.is_empty() {
        if !install(ctx, &group, members.clone(), &replaced, MissingCause::DiskLost).await? {
            return Ok(None);
        }
        replaced.iter().for_each(|position| burden.add(members[usize::from(*position)]));
        tracing::info!(group = %id, positions = ?replaced, "other disks stand in for lost members of a group");
        result.members = replaced.len();
    }
    Ok(Some(result))
}

/// Makes these the group's members, and writes down what the new ones lack. False if the group has changed meanwhile.
async fn install(
    ctx: &Context,
    group: &Group,
    members: Vec<DiskId>,
    replaced: &[u8],
    cause: MissingCause,
) -> Result<bool, MetaError> {
    match ctx.meta.replace_members(group.id, group.epoch, members, cause).await {
        Ok(_) => {
            ctx.metrics.replaced_members.inc_by(replaced.len() as u64);
            Ok(true)
        }
        Err(MetaError::Stale(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The groups of which a failure domain holds more members than PLC-1 allows, in order of id: a disk was moved to
/// another rack, or the failure domain changed.
pub(crate) fn crowded(rows: &Rows, level: FailureDomain) -> Vec<GroupId> {
    let mut groups: Vec<_> = rows.groups.values().filter(|group| excess(rows, group, level).is_some()).collect();
    groups.sort_by_key(|group| group.id);
    groups.into_iter().map(|group| group.id).collect()
}

/// A position in the most crowded domain, if that holds more than it may.
fn excess(rows: &Rows, group: &Group, level: FailureDomain) -> Option<usize> {
    let mut crowds: HashMap<_, Vec<usize>> = HashMap::new();
    for (position, disk) in group.members.iter().enumerate() {
        if let Some(disk) = rows.disks.get(disk) {
            crowds.entry(domain(disk, level)).or_default().push(position);
        }
    }
    let most = crowds.into_values().max_by_key(|positions| (positions.len(), positions.last().copied()))?;
    (most.len() > domain_cap(group.scheme)).then(|| most.last().copied()).flatten()
}

/// Gives one member of a group that is in too crowded a domain a stand-in elsewhere, so that at most one fragment of
/// each stripe is missing until it has been made anew. What the old one has is deleted by scrub once the new one has
/// it. None: another node is at it, or the group has just changed.
pub(super) async fn uncrowd(
    ctx: &Context,
    rows: &Rows,
    burden: &Burden,
    id: GroupId,
) -> Result<Option<Replaced>, MetaError> {
    under_lease(ctx, id, uncrowd_under_lease(ctx, rows, burden, id)).await
}

async fn uncrowd_under_lease(
    ctx: &Context,
    rows: &Rows,
    burden: &Burden,
    id: GroupId,
) -> Result<Option<Replaced>, MetaError> {
    let Some(group) = ctx.meta.group(id).await? else { return Ok(None) };
    let Some(position) = excess(rows, &group, ctx.policy().failure_domain) else { return Ok(None) };
    let mut members = group.members.clone();
    let Some(disk) = stand_in(ctx, rows, burden, &group, &members, position).await else {
        return Ok(Some(Replaced { members: 0, unplaceable: 1 }));
    };
    members[position] = disk;
    let replaced = [u8::try_from(position).unwrap_or(u8::MAX)];
    if !install(ctx, &group, members, &replaced, MissingCause::NotFound).await? {
        return Ok(None);
    }
    tracing::info!(group = %id, ?position, %disk, "a member of a group moves out of too crowded a failure domain");
    Ok(Some(Replaced { members: 1, unplaceable: 0 }))
}

/// The best disk for a position that says it takes writes.
async fn stand_in(
    ctx: &Context,
    rows: &Rows,
    burden: &Burden,
    group: &Group,
    members: &[DiskId],
    position: usize,
) -> Option<DiskId> {
    for disk in candidates(rows, burden, group, ctx.policy().failure_domain, members, position) {
        let status = ctx.fragments.disk_status(disk, ctx.deadline()).await;
        if status.is_ok_and(|status| status.writable && status.failed.is_none()) {
            return Some(disk);
        }
    }
    None
}

/// How many groups each disk is a member of: counted once for many groups that get new members,
/// and kept true while they do, so that what a lost disk had comes to lie on many.
#[derive(Debug, Default)]
pub(super) struct Burden {
    groups: HashMap<DiskId, u64>,
}

/// The best of a few disks drawn at random is nearly as good as the best of all (Mitzenmacher, "The power of two
/// choices in randomized load balancing", 1996), and what one disk held does not come to lie on the few that have
/// least.
const CHOICES: usize = 8;

impl Burden {
    pub(super) fn of(rows: &Rows) -> Self {
        let mut burden = Self::default();
        rows.groups.values().flat_map(|group| &group.members).for_each(|member| burden.add(*member));
        burden
    }

    pub(super) fn add(&mut self, disk: DiskId) {
        *self.groups.entry(disk).or_default() += 1;
    }

    /// In proportion to the disk's size, as if it had the group already.
    fn with_one_more(&self, disk: &Disk) -> u128 {
        let groups = self.groups.get(&disk.id).copied().unwrap_or(0) + 1;
        u128::from(groups) * u128::from(u64::MAX) / u128::from(disk.capacity_bytes.max(1))
    }
}

/// Disks that may take `position` without any domain of `level` holding more than the scheme's parity (PLC-1), best
/// first: least crowded at that level, then at the others from the widest. Of those that are equally so, the ones that
/// a draw for this group puts first come in the order of how burdened they are with groups for their size.
pub(super) fn candidates(
    rows: &Rows,
    burden: &Burden,
    group: &Group,
    level: FailureDomain,
    members: &[DiskId],
    position: usize,
) -> Vec<DiskId> {
    let cap = domain_cap(group.scheme);
    let others: Vec<&Disk> = members
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != position)
        .filter_map(|(_, id)| rows.disks.get(id))
        .filter(|disk| !matches!(disk.state, DiskState::Lost | DiskState::Removed))
        .collect();
    let crowd = |disk: &Disk, level| {
        let domain = domain(disk, level);
        others.iter().filter(|other| self::domain(other, level) == domain).count()
    };
    let fits = |disk: &&Disk| disk.state == DiskState::Up && !members.contains(&disk.id) && crowd(disk, level) < cap;
    let mut candidates: Vec<_> = rows
        .disks
        .values()
        .filter(fits)
        .map(|disk| {
            let crowds =
                [level, FailureDomain::Zone, FailureDomain::Rack, FailureDomain::Node].map(|at| crowd(disk, at));
            (crowds, xxhash_rust::xxh3::xxh3_64_with_seed(&disk.id.0, u64::from(group.id.0)), disk)
        })
        .collect();
    candidates.sort_unstable_by_key(|(crowds, turn, disk)| (*crowds, *turn, disk.id));
    let best = candidates.first().map(|(crowds, ..)| *crowds);
    let drawn = candidates.iter().take(CHOICES).take_while(|(crowds, ..)| Some(*crowds) == best).count();
    candidates[..drawn].sort_by_key(|(.., disk)| burden.with_one_more(disk));
    candidates.into_iter().map(|(.., disk)| disk.id).collect()
}

/// Borrowed, where [`Disk::domain`] makes a name: it is asked of every disk for every group.
fn domain(disk: &Disk, level: FailureDomain) -> (&str, &str, [u8; 16]) {
    match level {
        FailureDomain::Disk => ("", "", disk.id.0),
        FailureDomain::Node => (disk.node.as_str(), "", [0; 16]),
        FailureDomain::Rack => (&disk.zone, &disk.rack, [0; 16]),
        FailureDomain::Zone => (&disk.zone, "", [0; 16]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `racks` racks of two nodes with one disk each; the disk's id is its number.
    fn rows(racks: u8) -> Rows {
        let mut rows = Rows::default();
        for id in 0..racks * 2 {
            let disk = Disk {
                id: DiskId([id; 16]),
                node: format!("n{id}").parse().unwrap(),
                rack: format!("r{}", id / 2),
                zone: "z".into(),
                capacity_bytes: 1 << 30,
                state: DiskState::Up,
                since_ms: 0,
            };
            rows.disks.insert(disk.id, disk);
        }
        rows
    }

    fn group(id: u32, scheme: Scheme, members: &[DiskId]) -> Group {
        Group { id: GroupId(id), scheme, members: members.to_vec(), epoch: 1, state: GroupState::Open }
    }

    fn ids(ids: &[u8]) -> Vec<DiskId> {
        ids.iter().map(|id| DiskId([*id; 16])).collect()
    }

    #[test]
    fn plc_1_a_stand_in_never_crowds_a_rack_beyond_m() {
        let scheme: Scheme = "4+2".parse().unwrap();
        let mut rows = rows(6);
        rows.disks.get_mut(&DiskId([0; 16])).unwrap().state = DiskState::Lost;
        let members = ids(&[0, 2, 4, 6, 8, 10]);
        let group = group(1, scheme, &members);
        let ranked = candidates(&rows, &Burden::of(&rows), &group, FailureDomain::Rack, &members, 0);
        assert_eq!(ranked[0], DiskId([1; 16]), "the free disk of the lost one's rack crowds nobody");
        assert_eq!(ranked.len(), 6);
        // Two in a rack are as many as may be, though it has a third disk.
        let crowded = ids(&[0, 2, 3, 6, 8, 10]);
        rows.disks.get_mut(&DiskId([7; 16])).unwrap().rack = "r1".into();
        let ranked = candidates(&rows, &Burden::of(&rows), &group, FailureDomain::Rack, &crowded, 0);
        assert!(ranked.iter().all(|disk| rows.disks[disk].rack != "r1"), "{ranked:?}");
        // Three racks of two for six fragments: no room once two disks are gone.
        let mut small = self::rows(3);
        small.disks.get_mut(&DiskId([0; 16])).unwrap().state = DiskState::Lost;
        let members = ids(&[0, 1, 2, 3, 4, 5]);
        assert!(candidates(&small, &Burden::of(&small), &group, FailureDomain::Rack, &members, 0).is_empty());
    }

    #[test]
    fn plc_1_a_disk_that_was_moved_to_a_crowded_rack_is_the_one_to_leave() {
        let mut rows = rows(6);
        let scheme = "4+2".parse().unwrap();
        let group = group(1, scheme, &ids(&[0, 1, 2, 4, 6, 8]));
        rows.groups.insert(group.id, group.clone().into());
        assert_eq!(crowded(&rows, FailureDomain::Rack), []);
        rows.disks.get_mut(&DiskId([6; 16])).unwrap().rack = "r0".into();
        assert_eq!(crowded(&rows, FailureDomain::Rack), [GroupId(1)]);
        assert_eq!(excess(&rows, &group, FailureDomain::Rack), Some(4));
        assert_eq!(crowded(&rows, FailureDomain::Node), []);
        // Another rack has room for it.
        let ranked = candidates(&rows, &Burden::of(&rows), &group, FailureDomain::Rack, &group.members, 4);
        assert!(!ranked.is_empty() && ranked.iter().all(|disk| rows.disks[disk].rack != "r0"), "{ranked:?}");
    }

    #[test]
    fn the_most_wounded_group_is_first() {
        let mut rows = rows(6);
        for id in [0, 2] {
            rows.disks.get_mut(&DiskId([id; 16])).unwrap().state = DiskState::Lost;
        }
        let scheme = "replicated(2)".parse().unwrap();
        for (id, members) in [(1, [0, 4]), (2, [0, 2]), (3, [4, 6])] {
            let group = group(id, scheme, &ids(&members));
            rows.groups.insert(group.id, group.into());
        }
        assert_eq!(wounded(&rows, &"n1".parse().unwrap()), [GroupId(2), GroupId(1)]);
    }

    #[test]
    fn what_a_lost_disk_had_comes_to_lie_on_many_disks() {
        let mut rows = rows(20);
        rows.disks.get_mut(&DiskId([0; 16])).unwrap().state = DiskState::Lost;
        let mut burden = Burden::of(&rows);
        let mut counts: HashMap<DiskId, u32> = HashMap::new();
        for id in 1..=78 {
            let group = group(id, "replicated(2)".parse().unwrap(), &ids(&[0, 39]));
            let ranked = candidates(&rows, &burden, &group, FailureDomain::Disk, &group.members, 0);
            burden.add(ranked[0]);
            *counts.entry(ranked[0]).or_default() += 1;
        }
        // 38 others could have two each; the rack of the one that stays is avoided.
        assert!(counts.len() >= 37 && counts.values().all(|count| (1..=4).contains(count)), "{counts:?}");
    }
}

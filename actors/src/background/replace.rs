//! Which groups have lost members, or too many in a failure domain: those that other disks are to take the places of.

use std::collections::{BTreeSet, HashMap};

use cairn_schema::{ids::*, record::*};

use super::{
    burden::{Burden, candidates},
    room::Room,
};
use crate::placement::{Rows, members::domain_cap};

/// The groups with lost members, those with most first.
pub(super) fn wounded(rows: &Rows) -> Vec<GroupId> {
    let count = |group: &Group| lost_positions(rows, group).count();
    let mut groups: Vec<_> = rows.groups.values().map(|group| (count(group), group.id)).collect();
    groups.retain(|(lost, _)| *lost > 0);
    groups.sort_unstable_by_key(|(lost, id)| (std::cmp::Reverse(*lost), *id));
    groups.into_iter().map(|(_, id)| id).collect()
}

/// Where a group has members that are lost.
pub(super) fn lost_positions<'a>(rows: &'a Rows, group: &'a Group) -> impl Iterator<Item = usize> + 'a {
    // A disk without a row was registered after the rows were read: it is new, not lost.
    let gone = |disk: &DiskId| matches!(rows.state(*disk), Some(DiskState::Lost | DiskState::Removed));
    (0..group.members.len()).filter(move |position| gone(&group.members[*position]))
}

/// Why no disk can take a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// None may without a failure domain holding more of the group than it may, or none that may takes writes.
    Disk,
    /// Those that may have no room for what the group has.
    Room,
}

/// Members of groups that are lost and have no stand-in yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Homeless {
    pub members: u64,
    /// Of those, the ones that could have one if a disk had room for it.
    pub without_room: u64,
}

/// Groups of which it is worked out for an operator whether their members lack room: each is compared with every disk.
const MOST_JUDGED: usize = 1000;

/// How many lost members are in groups still, by the rows and what disks have free now.
pub(crate) fn homeless(rows: &Rows, room: &Room, level: FailureDomain, free: impl Fn(DiskId) -> u64) -> Homeless {
    let (burden, mut homeless, mut judged) = (Burden::of(rows), Homeless::default(), 0);
    for group in rows.groups.values() {
        let lost: Vec<usize> = lost_positions(rows, group).collect();
        homeless.members += lost.len() as u64;
        judged += usize::from(!lost.is_empty());
        if judged > MOST_JUDGED {
            continue;
        }
        for position in lost {
            let mut candidates = candidates(&burden, group, level, &group.members, position).peekable();
            let needed = room.needed(group);
            let any = candidates.peek().is_some();
            let fits = candidates.any(|disk| room.fits(disk, free(disk), needed));
            homeless.without_room += u64::from(any && !fits);
        }
    }
    homeless
}

/// The positions of a group to be filled anew: the lost ones, and `also`.
pub(super) fn positions(rows: &Rows, group: &Group, also: &[u8]) -> BTreeSet<usize> {
    let known = also.iter().map(|position| usize::from(*position)).filter(|position| *position < group.members.len());
    lost_positions(rows, group).chain(known).collect()
}

/// The groups of which a failure domain holds more members than PLC-1 allows, in order of id: a disk was moved to
/// another rack, or the failure domain changed.
pub(crate) fn crowded(rows: &Rows, level: FailureDomain) -> Vec<GroupId> {
    let mut groups: Vec<_> = rows.groups.values().filter(|group| excess(rows, group, level).is_some()).collect();
    groups.sort_by_key(|group| group.id);
    groups.into_iter().map(|group| group.id).collect()
}

/// A position in the most crowded domain, if that holds more than it may.
pub(super) fn excess(rows: &Rows, group: &Group, level: FailureDomain) -> Option<usize> {
    let mut crowds: HashMap<_, Vec<usize>> = HashMap::new();
    for (position, disk) in group.members.iter().enumerate() {
        if let Some(disk) = rows.disks.get(disk) {
            crowds.entry(domain(disk, level)).or_default().push(position);
        }
    }
    let most = crowds.into_values().max_by_key(|positions| (positions.len(), positions.last().copied()))?;
    (most.len() > domain_cap(group.scheme)).then(|| most.last().copied()).flatten()
}

/// Borrowed, where [`Disk::domain`] makes a name: it is asked of every member of every group.
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
        let ranked = candidates(&Burden::of(&rows), &group, FailureDomain::Rack, &members, 0).collect::<Vec<_>>();
        assert_eq!(ranked[0], DiskId([1; 16]), "the free disk of the lost one's rack crowds nobody");
        assert_eq!(ranked.len(), 6);
        // Two in a rack are as many as may be, though it has a third disk.
        let crowded = ids(&[0, 2, 3, 6, 8, 10]);
        rows.disks.get_mut(&DiskId([7; 16])).unwrap().rack = "r1".into();
        let ranked = candidates(&Burden::of(&rows), &group, FailureDomain::Rack, &crowded, 0).collect::<Vec<_>>();
        assert!(ranked.iter().all(|disk| rows.disks[disk].rack != "r1"), "{ranked:?}");
        // Three racks of two for six fragments: no room once two disks are gone.
        let mut small = self::rows(3);
        small.disks.get_mut(&DiskId([0; 16])).unwrap().state = DiskState::Lost;
        let members = ids(&[0, 1, 2, 3, 4, 5]);
        assert_eq!(candidates(&Burden::of(&small), &group, FailureDomain::Rack, &members, 0).count(), 0);
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
        let ranked = candidates(&Burden::of(&rows), &group, FailureDomain::Rack, &group.members, 4).collect::<Vec<_>>();
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
        assert_eq!(wounded(&rows), [GroupId(2), GroupId(1)]);
    }

    #[test]
    fn what_a_lost_disk_had_comes_to_lie_on_many_disks() {
        let mut rows = rows(20);
        rows.disks.get_mut(&DiskId([0; 16])).unwrap().state = DiskState::Lost;
        let mut burden = Burden::of(&rows);
        let mut counts: HashMap<DiskId, u32> = HashMap::new();
        for id in 1..=78 {
            let group = group(id, "replicated(2)".parse().unwrap(), &ids(&[0, 39]));
            let best = candidates(&burden, &group, FailureDomain::Disk, &group.members, 0).next().unwrap();
            burden.add(best);
            *counts.entry(best).or_default() += 1;
        }
        // 38 others could have two each; the rack of the one that stays is avoided.
        assert!(counts.len() >= 37 && counts.values().all(|count| (1..=4).contains(count)), "{counts:?}");
    }
}

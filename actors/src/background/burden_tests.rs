#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LEVELS: [FailureDomain; 4] = [FailureDomain::Disk, FailureDomain::Node, FailureDomain::Rack, FailureDomain::Zone];

/// Of each disk its node, of 12 in 6 racks in 2 zones, and its state.
fn rows(disks: &[(u8, u8)]) -> Rows {
    let mut rows = Rows::default();
    for (number, (node, state)) in (0u8..).zip(disks) {
        let states =
            [DiskState::Up, DiskState::Up, DiskState::Up, DiskState::Down, DiskState::Lost, DiskState::Draining];
        let disk = Disk {
            id: DiskId([number; 16]),
            node: format!("n{node}").parse().unwrap(),
            rack: format!("r{}", node / 4),
            zone: format!("z{}", node % 2),
            capacity_bytes: 1 << 30,
            state: states[usize::from(*state)],
            since_ms: 0,
        };
        rows.disks.insert(disk.id, disk);
    }
    rows
}

/// How many of a group's other members that are not lost lie in the disk's domain.
fn crowd(rows: &Rows, members: &[DiskId], position: usize, disk: DiskId, level: FailureDomain) -> usize {
    let others = members.iter().enumerate().filter(|(at, _)| *at != position).map(|(_, id)| &rows.disks[id]);
    let others = others.filter(|other| other.state != DiskState::Lost);
    others.filter(|other| other.domain(level) == rows.disks[&disk].domain(level)).count()
}

proptest! {
    /// All that may take the position and no others, each once, and first those that crowd it least: as if every disk
    /// had been compared with every member.
    #[test]
    fn plc_1_candidates_are_those_that_comparing_each_disk_would_find(
        disks in prop::collection::vec((0u8..12, 0u8..6), 6..60),
        at in prop::sample::select(LEVELS.to_vec()),
        position in 0usize..6,
        shift in 0usize..60,
        id in any::<u32>(),
    ) {
        let rows = rows(&disks);
        let members: Vec<DiskId> =
            (0..6).map(|member| DiskId([((member * 7 + shift) % disks.len()) as u8; 16])).collect();
        prop_assume!(members.iter().collect::<BTreeSet<_>>().len() == 6);
        let scheme: Scheme = "4+2".parse().unwrap();
        let group = Group { id: GroupId(id), scheme, members: members.clone(), epoch: 1, state: GroupState::Open };
        let burden = Burden::of(&rows);
        let found: Vec<DiskId> = candidates(&burden, &group, at, &members, position).collect();
        let crowds = |disk: DiskId| {
            [at, FailureDomain::Zone, FailureDomain::Rack, FailureDomain::Node]
                .map(|level| crowd(&rows, &members, position, disk, level))
        };
        let may = |disk: &&Disk| {
            disk.state == DiskState::Up && !members.contains(&disk.id) && crowds(disk.id)[0] < domain_cap(scheme)
        };
        let expected: BTreeSet<DiskId> = rows.disks.values().filter(may).map(|disk| disk.id).collect();
        prop_assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "each once");
        prop_assert!(found.windows(2).all(|two| crowds(two[0]) <= crowds(two[1])), "{:?}", found);
        prop_assert_eq!(candidates(&burden, &group, at, &members, position).collect::<Vec<_>>(), found);
    }
}

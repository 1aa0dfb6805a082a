#![allow(clippy::unwrap_used)]
use super::*;

fn id(number: u8) -> DiskId {
    DiskId([number; 16])
}

/// `disks` disks on a node each, and group 1 over the first six.
fn rows(disks: u8) -> Rows {
    let mut rows = Rows::default();
    for number in 0..disks {
        let (rack, zone) = (format!("r{number}"), "z".to_owned());
        let node = format!("n{number}").parse().unwrap();
        let disk = Disk { id: id(number), node, rack, zone, capacity_bytes: 1, state: DiskState::Up, since_ms: 0 };
        rows.disks.insert(disk.id, disk);
    }
    add_group(&mut rows, 1, [0, 1, 2, 3, 4, 5]);
    rows
}

fn add_group(rows: &mut Rows, number: u32, members: [u8; 6]) {
    let (scheme, members) = ("4+2".parse().unwrap(), members.map(id).to_vec());
    let group = Group { id: GroupId(number), scheme, members, epoch: 2, state: GroupState::Open };
    rows.groups.insert(group.id, group.into());
}

fn repair(group: u32, positions: &[u8], missing: u64) -> GroupRepair {
    let position = |position: &u8| PositionRepair {
        position: *position,
        epoch: 2,
        cause: MissingCause::DiskLost,
        since_ms: 0,
        from: id(99),
        start: None,
        wrapped: false,
        missing,
    };
    GroupRepair { group: GroupId(group), cursor: None, positions: positions.iter().map(position).collect() }
}

fn scan(rows: &Rows, repairs: &[GroupRepair], rank: impl Fn(GroupId) -> usize) -> GroupScan {
    let mut scan = GroupScan::default();
    for repair in repairs {
        scan.take(rows, repair, 100, |repair| rank(repair.group), |_| false);
    }
    scan.trim(100);
    scan
}

#[test]
fn the_nearest_to_being_lost_comes_first_then_ones_own_then_the_larger() {
    let mut rows = rows(7);
    for group in 2..=5 {
        add_group(&mut rows, group, [0, 1, 2, 3, 4, 6]);
    }
    let repairs =
        [repair(1, &[0], 10), repair(2, &[0], 20), repair(3, &[0, 1], 1), repair(4, &[0], 99), repair(5, &[0], 5)];
    let scan = scan(&rows, &repairs, |group| usize::from(group == GroupId(4)));
    let order: Vec<u32> = scan.groups.iter().map(|group| group.id.0).collect();
    assert_eq!(order, [3, 2, 1, 5, 4]);
    assert_eq!(scan.by_margin, BTreeMap::from([(0, 2), (1, 134)]));
    assert!(scan.filled.has(GroupId(3), 1) && !scan.filled.has(GroupId(1), 1));
}

#[test]
fn a_new_member_that_dies_is_replaced_after_a_while_or_at_once() {
    let mut rows = rows(6);
    let down = rows.disks.get_mut(&id(0)).unwrap();
    (down.state, down.since_ms) = (DiskState::Down, now_ms());
    let waits = scan(&rows, &[repair(1, &[0], 1)], |_| 0);
    assert!(waits.groups.is_empty() && waits.deserted.is_empty(), "it may only have been started again");
    let urgent = scan(&rows, &[repair(1, &[0, 1], 1)], |_| 0);
    assert_eq!(urgent.deserted, BTreeMap::from([(GroupId(1), vec![0])]), "nothing more may be lost");
    rows.disks.get_mut(&id(0)).unwrap().since_ms -= PATIENCE_MS;
    let over = scan(&rows, &[repair(1, &[0], 1)], |_| 0);
    assert_eq!(over.deserted, BTreeMap::from([(GroupId(1), vec![0])]));
    // Who works on its node brings it back.
    rows.maintained.insert("n0".parse().unwrap());
    assert!(scan(&rows, &[repair(1, &[0], 1)], |_| 0).deserted.is_empty());
    let urgent = scan(&rows, &[repair(1, &[0, 1], 1)], |_| 0);
    assert_eq!(urgent.deserted, BTreeMap::from([(GroupId(1), vec![0])]), "nothing more may be lost");
}

#[test]
fn what_cannot_be_read_waits() {
    let mut rows = rows(6);
    for number in 3..6 {
        rows.disks.get_mut(&id(number)).unwrap().state = DiskState::Lost;
    }
    let scan = scan(&rows, &[repair(1, &[0], 7)], |_| 0);
    assert!(scan.groups.is_empty());
    assert_eq!(scan.by_margin, BTreeMap::from([(-2, 7)]));
}

#[test]
fn a_group_falls_first_to_a_node_that_it_is_rebuilt_on() {
    let rows = rows(10);
    let nodes = live_nodes(&rows);
    for positions in [&[1][..], &[1, 4]] {
        let repair = repair(1, positions, 1);
        let homes = homes(&rows, &repair);
        let mut order: Vec<&NodeId> = nodes.iter().collect();
        order.sort_by_key(|node| rank(node, &nodes, repair.group, &homes));
        let mut first = order[..positions.len()].to_vec();
        first.sort_unstable();
        assert_eq!(first, homes);
    }
}

#[test]
fn groups_fall_to_all_nodes_alike_and_stay_when_others_go() {
    let nodes = live_nodes(&rows(10));
    assert_eq!(nodes.len(), 10);
    let first = |nodes: &[NodeId], group| {
        let mine: Vec<&NodeId> = nodes.iter().filter(|node| rank(node, nodes, GroupId(group), &[]) == 0).collect();
        assert_eq!(mine.len(), 1, "each group falls to one node first");
        mine[0].clone()
    };
    let mut counts: BTreeMap<NodeId, u32> = BTreeMap::new();
    for group in 0..5000 {
        let before = first(&nodes, group);
        let after = first(&nodes[1..], group);
        assert!(before == nodes[0] || before == after, "a node that goes moves only its own");
        *counts.entry(before).or_default() += 1;
    }
    assert!(counts.values().all(|count| (350..650).contains(count)), "{counts:?}");
}

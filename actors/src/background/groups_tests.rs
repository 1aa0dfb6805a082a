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
        scan.take(&judge(rows, repair).unwrap(), 100, || rank(repair.group), |_| false);
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

/// Whatever the order in which they are read.
#[test]
fn of_many_groups_the_first_are_kept_and_all_are_counted() {
    let mut rows = rows(7);
    let groups = 2..=1000;
    groups.clone().for_each(|group| add_group(&mut rows, group, [0, 1, 2, 3, 4, 6]));
    let mut repairs: Vec<GroupRepair> = groups.clone().map(|group| repair(group, &[0], 1)).collect();
    repairs[700] = repair(702, &[0, 1], 1);
    let rank = |group: u32| (group as usize * 7919) % 997;
    let mut expected: Vec<u32> = groups.collect();
    expected.sort_by_key(|group| (*group != 702, rank(*group), *group));
    for turned in [false, true] {
        if turned {
            repairs.reverse();
        }
        let mut scan = GroupScan::default();
        for repair in &repairs {
            scan.take(&judge(&rows, repair).unwrap(), 10, || rank(repair.group.0), |_| false);
        }
        scan.trim(10);
        let kept: Vec<u32> = scan.groups.iter().map(|group| group.id.0).collect();
        assert_eq!(kept, expected[..10]);
        assert_eq!(scan.by_margin, BTreeMap::from([(0, 2), (1, 998)]));
    }
}

#[test]
fn among_many_nodes_a_rank_is_about_how_many_have_a_better_claim() {
    let nodes: Vec<NodeId> = (0..500).map(|number| format!("n{number}").parse().unwrap()).collect();
    let mut off = 0;
    for group in (0..100).map(GroupId) {
        let homes = [&nodes[3], &nodes[77]];
        let mut order: Vec<&NodeId> = nodes.iter().collect();
        order.sort_by_key(|node| Reverse(claim(node, group, &homes)));
        for (place, node) in order.into_iter().enumerate() {
            let rank = rank(node, &nodes, group, &homes);
            assert_eq!(place < 2, homes.contains(&node) && rank == place, "homes come first, in their order");
            off += rank.abs_diff(place);
        }
    }
    assert!(off / (100 * 500) <= 15, "off by {} in the mean", off / (100 * 500));
}

#[test]
fn what_is_read_for_plans_is_a_bounded_share_of_the_time() {
    let seconds = Duration::from_secs;
    assert_eq!(plan_age(Duration::ZERO, false), PLAN_AGE);
    assert_eq!(plan_age(Duration::ZERO, true), CHANGED_AGE);
    assert_eq!((plan_age(seconds(6), false), plan_age(seconds(6), true)), (seconds(120), seconds(30)));
}

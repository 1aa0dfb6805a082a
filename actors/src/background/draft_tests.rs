#![allow(clippy::unwrap_used)]
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::*;
use crate::background::{replace::crowded, room::Space};

const STRIPES: u64 = 100;
const LEVEL: FailureDomain = FailureDomain::Rack;

fn disk_id(node: usize, disk: usize) -> DiskId {
    DiskId(((node as u128 + 1) << 64 | (disk as u128 + 1)).to_be_bytes())
}

/// Racks of so many nodes with two disks each, and groups of 4+2 over a disk of each of six racks.
struct World {
    rows: Rows,
    stripes: BTreeMap<GroupId, u64>,
}

fn disk(node: usize, number: usize, racks: usize) -> Disk {
    Disk {
        id: disk_id(node, number),
        node: format!("n{node}").parse().unwrap(),
        rack: format!("r{}", node % racks),
        zone: "z".into(),
        capacity_bytes: 1 << 40,
        state: DiskState::Up,
        since_ms: 0,
    }
}

impl World {
    fn new(seed: u64, racks: usize, nodes: usize, groups: u32) -> Self {
        let (mut rows, mut stripes) = (Rows::default(), BTreeMap::new());
        for node in 0..nodes {
            for number in 0..2 {
                let disk = disk(node, number, racks);
                rows.disks.insert(disk.id, disk);
            }
        }
        let mut rng = StdRng::seed_from_u64(seed);
        let scheme: Scheme = "4+2".parse().unwrap();
        let mut counts: BTreeMap<DiskId, u32> = rows.disks.keys().map(|id| (*id, 0)).collect();
        for id in 1..=groups {
            let mut order: Vec<usize> = (0..racks).collect();
            order.shuffle(&mut rng);
            let member = |rack: usize, counts: &mut BTreeMap<DiskId, u32>| {
                let here = (0..nodes)
                    .filter(|node| node % racks == rack)
                    .flat_map(|node| [0, 1].map(|disk| disk_id(node, disk)));
                let least = here.min_by_key(|id| (counts[id], *id)).unwrap();
                *counts.get_mut(&least).unwrap() += 1;
                least
            };
            let members = order.iter().take(6).map(|rack| member(*rack, &mut counts)).collect();
            let group = Group { id: GroupId(id), scheme, members, epoch: 1, state: GroupState::Open };
            rows.groups.insert(group.id, group.into());
            stripes.insert(GroupId(id), STRIPES);
        }
        Self { rows, stripes }
    }

    fn room(&self) -> Room {
        let policy = Policy::new("4+2".parse().unwrap(), "replicated(3)".parse().unwrap(), LEVEL);
        Room::new(&self.rows, &policy, self.stripes.clone(), &[], |_| None::<Space>)
    }

    fn drain(&self, drained: impl Fn(DiskId) -> bool, most: usize, free: u64) -> Draft {
        let free = |_| Some(free);
        let mut stock = Stock::new(LEVEL, self.room(), &self.rows, &free);
        drain(&self.rows, drained, &HashSet::new(), &mut stock, most)
    }

    fn level_out(&self, most: usize) -> Draft {
        let free = |_| Some(u64::MAX);
        let mut stock = Stock::new(LEVEL, self.room(), &self.rows, &free);
        level_out(&self.rows, &HashSet::new(), &mut stock, most)
    }

    /// Makes the first `most` moves of a draft, and looks at each group then.
    fn apply(&mut self, draft: &Draft) {
        for moved in &draft.moves {
            let group = Arc::make_mut(self.rows.groups.get_mut(&moved.group).unwrap());
            for (position, to) in &moved.to {
                assert_eq!(self.rows.disks[to].state, DiskState::Up);
                group.members[usize::from(*position)] = *to;
            }
            group.epoch += 1;
            let distinct: HashSet<_> = group.members.iter().collect();
            assert_eq!(distinct.len(), group.members.len());
            assert_eq!(crowded(&self.rows, LEVEL), [], "PLC-1");
        }
    }

    fn positions(&self, of: impl Fn(&Disk) -> bool) -> usize {
        let members = self.rows.groups.values().flat_map(|group| &group.members);
        members.filter(|member| of(&self.rows.disks[member])).count()
    }

    fn set(&mut self, state: DiskState, of: impl Fn(&Disk) -> bool) {
        self.rows.disks.values_mut().filter(|disk| of(disk)).for_each(|disk| disk.state = state);
    }
}

fn seed() -> u64 {
    let seed = std::env::var("CAIRN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("CAIRN_SEED={seed}");
    seed
}

#[test]
fn plc_1_a_disk_a_node_and_a_rack_are_emptied_a_few_groups_at_a_time() {
    let seed = seed();
    let first = disk_id(3, 1);
    type Meant = Box<dyn Fn(&Disk) -> bool>;
    let cases: [(&str, Meant); 3] = [
        ("disk", Box::new(move |disk| disk.id == first)),
        ("node", Box::new(|disk| disk.node.as_str() == "n4")),
        ("rack", Box::new(|disk| disk.rack == "r2")),
    ];
    for (what, of) in cases {
        let mut world = World::new(seed, 7, 21, 200);
        let (mut left, mut steps) = (world.positions(&of), 0);
        assert!(left > 0, "{what}");
        world.set(DiskState::Draining, &of);
        while left > 0 {
            let drained: HashSet<DiskId> =
                world.rows.disks.values().filter(|disk| of(disk)).map(|disk| disk.id).collect();
            let draft = world.drain(|disk| drained.contains(&disk), 10, u64::MAX);
            assert!(!draft.moves.is_empty() && draft.moves.len() <= 10 && draft.stuck.is_empty(), "{what}: {draft:?}");
            world.apply(&draft);
            let now = world.positions(&of);
            assert_eq!(left - now, draft.sum().positions as usize, "{what}: only what is drained moves");
            (left, steps) = (now, steps + 1);
        }
        println!("{what}: empty after {steps} drafts");
    }
}

/// It comes to lie on all the others, and not on a few of them.
#[test]
fn what_a_drained_node_had_comes_to_lie_on_many_disks() {
    let mut world = World::new(seed(), 7, 21, 210);
    let of = |disk: &Disk| disk.node.as_str() == "n4";
    let before = world.positions(of);
    world.set(DiskState::Draining, of);
    let rows = world.rows.clone();
    let draft = world.drain(|disk| of(&rows.disks[&disk]), usize::MAX, u64::MAX);
    let mut gained: HashMap<DiskId, usize> = HashMap::new();
    draft.moves.iter().flat_map(|moved| moved.to.values()).for_each(|to| *gained.entry(*to).or_default() += 1);
    assert_eq!(gained.values().sum::<usize>(), before);
    let most = gained.values().max().unwrap();
    assert!(*most <= 8 * before.div_ceil(40), "{most} of {before} positions came to one disk");
}

#[test]
fn what_has_nowhere_to_go_is_named_and_what_has_goes() {
    // Three racks of two: none may hold more than two of six.
    let mut world = World::new(seed(), 6, 6, 0);
    let scheme: Scheme = "4+2".parse().unwrap();
    world.rows.disks.values_mut().for_each(|disk| {
        let node: usize = disk.node.as_str()[1..].parse().unwrap();
        disk.rack = format!("r{}", node / 2);
    });
    let members: Vec<DiskId> = (0..6).map(|node| disk_id(node, 0)).collect();
    let group = Group { id: GroupId(1), scheme, members, epoch: 1, state: GroupState::Open };
    world.rows.groups.insert(group.id, group.into());
    world.stripes.insert(GroupId(1), STRIPES);
    let of = |disk: &Disk| disk.rack == "r0";
    world.set(DiskState::Draining, of);
    let rows = world.rows.clone();
    let draft = world.drain(|disk| of(&rows.disks[&disk]), usize::MAX, u64::MAX);
    assert_eq!(
        (draft.moves.len(), &draft.stuck[..]),
        (0, &[(GroupId(1), 0, Lacking::Disk), (GroupId(1), 1, Lacking::Disk)][..])
    );
    // One disk only: the other of its node may take it, if it has room.
    world.set(DiskState::Up, |_| true);
    world.set(DiskState::Draining, |disk| disk.id == disk_id(0, 0));
    let needed = world.room().needed(&world.rows.groups[&GroupId(1)]);
    let draft = world.drain(|disk| disk == disk_id(0, 0), usize::MAX, needed - 1);
    assert_eq!((draft.moves.len(), &draft.stuck[..]), (0, &[(GroupId(1), 0, Lacking::Room)][..]));
    let draft = world.drain(|disk| disk == disk_id(0, 0), usize::MAX, needed);
    assert_eq!(draft.sum(), Moved { positions: 1, bytes: needed });
    world.apply(&draft);
    // A member is away: nothing of its groups moves.
    world.set(DiskState::Down, |disk| disk.id == disk_id(3, 0));
    world.set(DiskState::Draining, |disk| disk.id == disk_id(1, 0));
    let draft = world.drain(|disk| disk == disk_id(1, 0), usize::MAX, u64::MAX);
    assert_eq!((draft.moves.len(), &draft.waiting[..]), (0, &[GroupId(1)][..]));
}

/// Levels out a few moves at a time, as the mover does; how many positions moved.
fn levelled(world: &mut World) -> Moved {
    let mut sum = Moved::default();
    loop {
        let draft = world.level_out(7);
        if draft.moves.is_empty() {
            return sum;
        }
        sum += draft.sum();
        world.apply(&draft);
        assert!(sum.positions < 10_000, "it never ends");
    }
}

#[test]
fn plc_1_an_added_node_gets_its_share_and_no_more_is_moved() {
    let seed = seed();
    for (racks, nodes, groups) in [(6, 11, 120), (6, 11, 400), (11, 11, 220)] {
        let mut world = World::new(seed, racks, nodes, groups);
        for number in 0..2 {
            let disk = disk(nodes, number, racks);
            world.rows.disks.insert(disk.id, disk);
        }
        let of = |disk: &Disk| disk.node.as_str() == format!("n{nodes}");
        let before: BTreeMap<DiskId, usize> = counts(&world);
        let moved = levelled(&mut world);
        let all = groups as f64 * 6.0;
        let fair = all / (nodes as f64 + 1.0);
        let has = world.positions(of) as f64;
        println!("{racks} racks, {nodes} nodes, {groups} groups: {moved:?}, fair {fair:.1}, has {has}");
        assert!((has - fair).abs() <= fair * 0.15, "{has} positions came, {fair} are fair");
        // What the others needed for their own balance besides is the racks' doing.
        let uneven: f64 = before.values().map(|count| (*count as f64 - all / before.len() as f64).abs() / 2.0).sum();
        let positions = moved.positions as f64;
        assert!(
            positions >= has && positions <= (fair + uneven) * 1.15,
            "{moved:?} for {fair} fair and {uneven} uneven before"
        );
        assert_eq!(moved.bytes, moved.positions * world.room().needed(&world.rows.groups[&GroupId(1)]));
        assert_eq!(world.level_out(1).moves, [], "and then it rests");
    }
}

/// A share of so many positions and a half cannot be had: as near as it can be is near enough, and nothing goes to and
/// fro.
#[test]
fn an_odd_share_of_each_disk_is_levelled_to_the_nearest_and_then_rests() {
    let seed = seed();
    for groups in [1, 3, 7, 13, 25, 51] {
        // Twelve disks for six times as many positions.
        let mut world = World::new(seed, 6, 6, groups);
        assert_eq!(world.level_out(usize::MAX).moves, [], "{groups} groups are as even as they can be");
        // All of a rack on one of its disks.
        for group in world.rows.groups.values_mut() {
            for member in &mut Arc::make_mut(group).members {
                let node = (0..6).find(|node| disk_id(*node, 1) == *member || disk_id(*node, 0) == *member).unwrap();
                *member = disk_id(node, 0);
            }
        }
        let (mut moved, mut before) = (HashSet::new(), unevenness(&world));
        loop {
            let draft = world.level_out(1);
            let Some(first) = draft.moves.first() else { break };
            let (position, _) = first.to.first_key_value().unwrap();
            assert!(moved.insert((first.group, *position)), "{groups} groups: a position goes to and fro");
            world.apply(&draft);
            let now = unevenness(&world);
            assert!(now < before, "{groups} groups: {before} became {now}");
            before = now;
        }
        // Half of each rack's goes, and half a position is left over.
        assert_eq!(moved.len(), 6 * (groups as usize / 2), "{groups} groups");
        let share = [groups as usize / 2, groups as usize / 2 + 1];
        assert!(counts(&world).values().all(|count| share.contains(count)), "{:?}", counts(&world));
    }
}

/// The sum of the squares of what disks have: the less, the more even they are.
fn unevenness(world: &World) -> usize {
    counts(world).values().map(|count| count * count).sum()
}

fn counts(world: &World) -> BTreeMap<DiskId, usize> {
    let mut counts: BTreeMap<DiskId, usize> = world.rows.disks.keys().map(|id| (*id, 0)).collect();
    world
        .rows
        .groups
        .values()
        .flat_map(|group| &group.members)
        .for_each(|member| *counts.get_mut(member).unwrap() += 1);
    counts
}

#[test]
fn a_disk_three_times_as_large_takes_three_times_as_much() {
    let mut world = World::new(seed(), 12, 24, 400);
    let large = disk_id(5, 0);
    world.rows.disks.get_mut(&large).unwrap().capacity_bytes *= 3;
    let moved = levelled(&mut world);
    let counts = counts(&world);
    let others: Vec<usize> = counts.iter().filter(|(id, _)| **id != large).map(|(_, count)| *count).collect();
    let mean = others.iter().sum::<usize>() as f64 / others.len() as f64;
    let ratio = counts[&large] as f64 / mean;
    assert!((ratio - 3.0).abs() <= 0.45, "{ratio:.2} times the mean of {mean:.1}, by {moved:?}");
}

/// Groups that hold nothing need not move, and whatever there is, levelling ends and lessens the spread.
#[test]
fn levelling_ends_for_groups_of_any_size() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..20 {
        let mut world = World::new(rng.random(), 6, 12, rng.random_range(1..60));
        for stripes in world.stripes.values_mut() {
            *stripes = if rng.random_bool(0.3) { 0 } else { rng.random_range(1..5000) };
        }
        for disk in world.rows.disks.values_mut() {
            disk.capacity_bytes = rng.random_range(1..5u64) << 38;
        }
        let moved = levelled(&mut world);
        assert!(moved.positions <= 60 * 6 * 3, "round {round}: {moved:?}");
        let idle = world.stripes.iter().filter(|(_, stripes)| **stripes == 0);
        idle.for_each(|(group, _)| assert_eq!(world.rows.groups[group].epoch, 1, "{group} holds nothing"));
    }
}

#[test]
fn few_groups_are_under_way_at_a_time() {
    for (groups, most) in [(0, 4), (10, 4), (100, 5), (400, 20), (100_000, 64)] {
        assert_eq!(at_once(groups), most, "{groups} groups");
    }
}

#[test]
fn what_is_under_way_counts_as_moved() {
    let world = World::new(1, 6, 12, 10);
    let group = &world.rows.groups[&GroupId(1)];
    let position = PositionMove { position: 2, from: group.members[2], to: disk_id(11, 1), up_since_ms: 0 };
    let moved = GroupMove {
        group: group.id,
        id: AttemptId([0; 16]),
        job: JobId(1),
        epoch: 1,
        since_ms: 0,
        was_open: true,
        positions: vec![position],
        cursor: None,
        walked: false,
        bytes: 0,
    };
    let then = under_way(&world.rows, std::slice::from_ref(&moved));
    assert_eq!(then.groups[&GroupId(1)].members[2], position.to);
    assert_eq!(then.groups[&GroupId(2)], world.rows.groups[&GroupId(2)]);
    let stale = GroupMove { epoch: 7, ..moved };
    assert_eq!(under_way(&world.rows, &[stale]).groups[&GroupId(1)].members, group.members);
}

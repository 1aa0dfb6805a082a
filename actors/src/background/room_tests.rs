#![allow(clippy::unwrap_used)]
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedMutRandom};

use super::{
    super::{
        burden::{Burden, candidates},
        replace::*,
    },
    *,
};

const RACKS: u8 = 6;
const DISKS: u8 = 4;
const LEVEL: FailureDomain = FailureDomain::Rack;

/// Six racks of four disks and groups of 4+2 over them; what each disk has, and could have.
struct World {
    rows: Rows,
    policy: Policy,
    stripes: BTreeMap<GroupId, u64>,
    repairs: Vec<GroupRepair>,
    used: HashMap<DiskId, u64>,
    capacity: HashMap<DiskId, u64>,
    fragment_bytes: u64,
}

fn id(number: u8) -> DiskId {
    DiskId([number; 16])
}

impl World {
    /// Filled to so many percent, each disk a little more or less.
    fn new(rng: &mut StdRng, percent: u64) -> Self {
        let scheme: Scheme = "4+2".parse().unwrap();
        let policy = Policy::new(scheme, scheme, LEVEL);
        let mut rows = Rows::default();
        for number in 0..RACKS * DISKS {
            let disk = Disk {
                id: id(number),
                node: format!("n{number}").parse().unwrap(),
                rack: format!("r{}", number / DISKS),
                zone: "z".into(),
                capacity_bytes: 1,
                state: DiskState::Up,
                since_ms: 0,
            };
            rows.disks.insert(disk.id, disk);
        }
        // Not as large as they may be, as is usual.
        let fragment_bytes = u64::from(policy.fragment_bytes) / rng.random_range(1..5);
        let (mut stripes, mut used) = (BTreeMap::new(), HashMap::new());
        for group in 1..=60 {
            let members: Vec<DiskId> = (0..RACKS).map(|rack| id(rack * DISKS + rng.random_range(0..DISKS))).collect();
            let count = rng.random_range(1..2000);
            members.iter().for_each(|member| *used.entry(*member).or_default() += count * fragment_bytes);
            let id = GroupId(group);
            stripes.insert(id, count);
            rows.groups.insert(id, Group { id, scheme, members, epoch: 1, state: GroupState::Open }.into());
        }
        let mut capacity = HashMap::new();
        for (disk, row) in &mut rows.disks {
            let used = used.get(disk).copied().unwrap_or(0);
            let bytes = used * 100 / rng.random_range(percent - 10..=percent) + fragment_bytes * 50;
            capacity.insert(*disk, bytes);
            row.capacity_bytes = bytes;
        }
        Self { rows, policy, stripes, repairs: Vec::new(), used, capacity, fragment_bytes }
    }

    fn free(&self, disk: DiskId) -> u64 {
        self.capacity[&disk] - self.used.get(&disk).copied().unwrap_or(0)
    }

    fn room(&self) -> Room {
        let space = |disk| {
            let used = self.used.get(&disk).copied().unwrap_or(0);
            (self.rows.state(disk) == Some(DiskState::Up)).then(|| Space { used, free: self.free(disk) })
        };
        Room::new(&self.rows, &self.policy, self.stripes.clone(), &self.repairs, space)
    }

    /// Some groups get new members, by what is known now. How many lost members found room.
    fn replace(&mut self, groups: usize) -> usize {
        let (room, mut placed) = (self.room(), 0);
        let burden = Burden::of(&self.rows);
        let mut room = room;
        for id in wounded(&self.rows).into_iter().take(groups) {
            let mut group = (*self.rows.groups[&id]).clone();
            let needed = room.needed(&group);
            for position in positions(&self.rows, &group, &[]) {
                let fits = |disk: &DiskId| room.fits(*disk, self.free(*disk), needed);
                let found = candidates(&burden, &group, LEVEL, &group.members, position).find(fits);
                let Some(disk) = found else { continue };
                room.promise(disk, needed);
                let from = std::mem::replace(&mut group.members[position], disk);
                let positions = vec![PositionRepair {
                    position: position as u8,
                    epoch: 2,
                    cause: MissingCause::DiskLost,
                    since_ms: 0,
                    from,
                    start: None,
                    wrapped: false,
                    missing: self.stripes[&id],
                }];
                self.repairs.push(GroupRepair { group: id, cursor: None, positions });
                placed += 1;
            }
            self.rows.groups.insert(id, group.into());
        }
        placed
    }

    /// Repair makes some of what is missing.
    fn make(&mut self, rng: &mut StdRng) {
        let rows = &self.rows;
        let Some(repair) = self.repairs.choose_mut(rng) else { return };
        let position = &mut repair.positions[0];
        let made = rng.random_range(0..=position.missing);
        position.missing -= made;
        let disk = rows.groups[&repair.group].members[usize::from(position.position)];
        *self.used.entry(disk).or_default() += made * self.fragment_bytes;
        self.repairs.retain(|repair| repair.positions[0].missing > 0);
    }
}

#[test]
fn a_rack_lost_in_a_nearly_full_cluster_overfills_no_disk_and_what_has_no_room_is_counted() {
    let seed = std::env::var("CAIRN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("CAIRN_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut roomless, mut all) = (0, 0);
    for percent in [60, 75, 85, 90, 95] {
        for _ in 0..10 {
            let mut world = World::new(&mut rng, percent);
            let rack = rng.random_range(0..RACKS);
            let lost = (rack * DISKS..(rack + 1) * DISKS).map(id);
            lost.for_each(|disk| world.rows.disks.get_mut(&disk).unwrap().state = DiskState::Lost);
            // In several passes, each by another node that knows only the rows, while repair goes on.
            let (mut placed, mut in_vain) = (0, 0);
            while in_vain < 3 {
                let groups = rng.random_range(1..80);
                let now = world.replace(groups);
                placed += now;
                in_vain = if now == 0 { in_vain + 1 } else { 0 };
                world.make(&mut rng);
            }
            let free = |disk| world.free(disk);
            let homeless = homeless(&world.rows, &world.room(), LEVEL, free);
            assert_eq!(placed as u64 + homeless.members, 60, "seed {seed}, {percent} %");
            while !world.repairs.is_empty() {
                world.make(&mut rng);
            }
            for (disk, used) in &world.used {
                let capacity = world.capacity[disk];
                assert!(*used <= capacity, "seed {seed}, {percent} %: {used} of {capacity} on {disk}");
            }
            roomless += homeless.without_room;
            all += homeless.members;
        }
    }
    assert!(roomless > 0 && all > 0, "seed {seed}: no cluster was full");
}

#[test]
fn what_a_position_brings_is_told_by_the_disks_of_its_group() {
    let mut world = World::new(&mut StdRng::seed_from_u64(1), 50);
    let group = world.rows.groups[&GroupId(7)].clone();
    let exact = world.stripes[&group.id] * world.fragment_bytes;
    let off = |room: Room| room.needed(&group).abs_diff(exact) * 1000 / exact;
    assert_eq!(off(world.room()), 0, "all disks have fragments of the same size");
    // What is on its way to a disk is not there yet, and makes its fragments no smaller.
    world.rows.disks.get_mut(&id(0)).unwrap().state = DiskState::Lost;
    world.replace(60);
    assert!(off(world.room()) <= 1);
    // Disks that do not answer tell nothing: as large as they may be, at most.
    let nobody = Room::new(&world.rows, &world.policy, world.stripes.clone(), &[], |_| None);
    assert_eq!(nobody.needed(&group), world.stripes[&group.id] * u64::from(world.policy.fragment_bytes));
    let none = Room::new(&world.rows, &world.policy, BTreeMap::new(), &[], |_| None);
    assert!(none.fits(id(1), 0, none.needed(&group)), "a store that does not count promises nothing");
}

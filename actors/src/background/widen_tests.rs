#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::{
    background::{replace::crowded, room::Room, room::Space},
    placement::{
        members::{Candidate, pick_members},
        tolerance::tolerances,
    },
};

const LEVEL: FailureDomain = FailureDomain::Rack;

/// Racks with so many disks each, every disk on a node of its own.
struct World {
    rows: Rows,
    stripes: BTreeMap<GroupId, u64>,
}

fn id(rack: usize, number: usize) -> DiskId {
    DiskId(((rack as u128 + 1) << 64 | (number as u128 + 1)).to_be_bytes())
}

impl World {
    fn new(racks: &[usize]) -> Self {
        let mut rows = Rows::default();
        for (rack, disks) in racks.iter().enumerate() {
            for number in 0..*disks {
                let disk = Disk {
                    id: id(rack, number),
                    node: format!("n{rack}-{number}").parse().unwrap(),
                    rack: format!("r{rack}"),
                    zone: "z".into(),
                    capacity_bytes: 1 << 40,
                    state: DiskState::Up,
                    since_ms: 0,
                };
                rows.disks.insert(disk.id, disk);
            }
        }
        Self { rows, stripes: BTreeMap::new() }
    }

    /// Groups as they are formed while only some racks are there.
    fn form(&mut self, scheme: Scheme, groups: usize, there: impl Fn(&Disk) -> bool, seed: u64) -> bool {
        use rand::SeedableRng;
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let mut candidates: Vec<Candidate> =
            self.rows.disks.values().filter(|disk| there(disk)).map(candidate).collect();
        candidates.sort_by_key(|candidate| candidate.id);
        for _ in 0..groups {
            let Ok(members) = pick_members(scheme, LEVEL, &candidates, &mut rng) else { return false };
            for candidate in candidates.iter_mut().filter(|candidate| members.contains(&candidate.id)) {
                candidate.groups += 1;
            }
            let number = GroupId(self.rows.groups.len() as u32 + 1);
            let group = Group { id: number, scheme, members, epoch: 1, state: GroupState::Open };
            self.rows.groups.insert(number, group.into());
            self.stripes.insert(number, 10);
        }
        true
    }

    fn draft(&self, rebalance_too: bool, free: u64) -> Draft {
        let policy = Policy::new("4+2".parse().unwrap(), "replicated(3)".parse().unwrap(), LEVEL);
        let room = Room::new(&self.rows, &policy, self.stripes.clone(), &[], |_| None::<Space>);
        let free = |_| Some(free);
        let mut stock = Stock::new(LEVEL, room, &self.rows, &free);
        let skip = HashSet::new();
        if rebalance_too {
            rebalance(&self.rows, &skip, &mut stock, usize::MAX)
        } else {
            widen(&self.rows, &skip, &mut stock, usize::MAX)
        }
    }

    fn apply(&mut self, draft: &Draft) {
        for moved in &draft.moves {
            let group = Arc::make_mut(self.rows.groups.get_mut(&moved.group).unwrap());
            group.members = moved.members(&group.members);
            let distinct: HashSet<_> = group.members.iter().collect();
            assert_eq!(distinct.len(), group.members.len());
        }
        assert_eq!(crowded(&self.rows, LEVEL), [], "PLC-1");
    }

    fn thin(&self) -> u64 {
        tolerances(&self.rows, LEVEL, &self.stripes).iter().map(|of| of.thin()).sum()
    }
}

fn candidate(disk: &Disk) -> Candidate {
    Candidate {
        id: disk.id,
        node: disk.domain(FailureDomain::Node),
        rack: disk.domain(FailureDomain::Rack),
        zone: disk.zone.clone(),
        weight: 1,
        groups: 0,
    }
}

#[test]
fn what_was_written_in_four_racks_is_spread_over_six_by_two_members_a_group() {
    let mut world = World::new(&[2; 6]);
    let there = |disk: &Disk| !matches!(disk.rack.as_str(), "r4" | "r5");
    assert!(world.form("4+2".parse().unwrap(), 8, there, 1));
    assert_eq!(world.thin(), 80);
    assert_eq!(world.draft(false, 0).moves, [], "no room");
    let draft = world.draft(false, u64::MAX);
    assert!(draft.moves.len() == 8 && draft.moves.iter().all(|moved| moved.to.len() == 2), "{draft:?}");
    world.apply(&draft);
    assert_eq!((world.thin(), world.draft(false, u64::MAX)), (0, Draft::default()));
    // Nor of a group that holds nothing.
    assert!(world.form("4+2".parse().unwrap(), 1, there, 1));
    world.stripes.insert(GroupId(9), 0);
    assert_eq!(world.draft(false, u64::MAX), Draft::default());
    // A member that is away leaves its group as it is.
    world.stripes.insert(GroupId(9), 1);
    let member = world.rows.groups[&GroupId(9)].members[0];
    world.rows.disks.get_mut(&member).unwrap().state = DiskState::Down;
    assert_eq!(world.draft(false, u64::MAX), Draft::default());
}

proptest! {
    /// Whatever racks there are, and whichever were there when groups were formed: nothing breaks PLC-1, no group comes
    /// to lose less than before, all come to what is possible where there is a disk for it, and it comes to an end.
    #[test]
    fn plc_1_groups_come_to_lose_what_the_layout_allows(
        racks in prop::collection::vec(1usize..4, 3..9),
        away in prop::collection::vec(any::<bool>(), 9),
        scheme in prop::sample::select(vec!["4+2", "2+2", "replicated(3)", "replicated(2)", "3+1"]),
        groups in 1usize..12,
        seed in any::<u64>(),
        rebalance_too in any::<bool>(),
    ) {
        let mut world = World::new(&racks);
        let there = |disk: &Disk| !away[disk.rack[1..].parse::<usize>().unwrap()];
        if !world.form(scheme.parse().unwrap(), groups, there, seed) {
            return Ok(());
        }
        let of = |world: &World| {
            let layout = Layout::of(&world.rows, LEVEL);
            let groups = world.rows.groups.values();
            groups.map(|group| (group.id, layout.of_members(group.scheme, &group.members))).collect::<BTreeMap<_, _>>()
        };
        for round in 0.. {
            prop_assert!(round < 200, "it never ends");
            let (before, draft) = (of(&world), world.draft(rebalance_too, u64::MAX));
            if draft.moves.is_empty() {
                break;
            }
            world.apply(&draft);
            let after = of(&world);
            prop_assert!(before.iter().all(|(id, could)| after[id] >= *could), "{before:?} {after:?}");
        }
        // One member a rack is possible wherever there are as many racks as members.
        if racks.len() >= scheme.parse::<Scheme>().unwrap().width() {
            prop_assert_eq!(world.thin(), 0);
        }
    }
}

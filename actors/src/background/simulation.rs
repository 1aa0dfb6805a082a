//! Losses in clusters that no machine here could hold: the rows, the choice of stand-ins and the order of work are the
//! real ones, time is virtual, and nothing is read or written. `CAIRN_SIM_DISKS` and `CAIRN_SIM_GROUPS` set its size.
#![allow(clippy::unwrap_used)]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
};

use cairn_schema::{ids::*, record::*};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    groups::{EndangeredGroup, GroupScan, claim, homes, live_nodes},
    replace::{Burden, candidates, crowded, wounded},
};
use crate::placement::Rows;

const RACKS: usize = 20;
const DISKS_PER_NODE: usize = 10;
const WIDTH: usize = 12;
/// Fragments of a group in one position, and what making one takes a node, in virtual milliseconds.
const STRIPES: u64 = 1000;
const FRAGMENT_MS: u64 = 5;
/// As long as `repair` keeps a plan, and as many groups.
const PLAN_MS: u64 = 30_000;
const QUEUE: usize = 4096;
/// Changes of the metadata for a group: its lease, its new members and what they make of rows of single fragments, the
/// lease back; then for the walk the lease, its renewals, the pages' ends, the end, the lease back.
const REPLACE_CHANGES: u64 = 4;
const BLOBS_PER_PAGE: u64 = 256;

struct Cluster {
    rows: Rows,
    nodes: Vec<NodeId>,
}

fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn disk_id(number: usize) -> DiskId {
    DiskId((number as u128 + 1).to_be_bytes())
}

impl Cluster {
    /// 8+4 over a disk of each of twelve racks, drawn at random.
    fn new(seed: u64) -> Self {
        let (disks, groups) = (size("CAIRN_SIM_DISKS", 400), size("CAIRN_SIM_GROUPS", 4000));
        let mut rng = StdRng::seed_from_u64(seed);
        let mut rows = Rows::default();
        for number in 0..disks {
            let node = number / DISKS_PER_NODE;
            let disk = Disk {
                id: disk_id(number),
                node: format!("n{node}").parse().unwrap(),
                rack: format!("r{}", node % RACKS),
                zone: "z".into(),
                capacity_bytes: 20 << 40,
                state: DiskState::Up,
                since_ms: 0,
            };
            rows.disks.insert(disk.id, disk);
        }
        let nodes_per_rack = disks / DISKS_PER_NODE / RACKS;
        for id in 1..=groups as u32 {
            let racks = rand::seq::index::sample(&mut rng, RACKS, WIDTH);
            let member = |rack: usize| {
                let node = rng.random_range(0..nodes_per_rack) * RACKS + rack;
                disk_id(node * DISKS_PER_NODE + rng.random_range(0..DISKS_PER_NODE))
            };
            let members = racks.iter().map(member).collect();
            let scheme = Scheme::Rs { data: 8, parity: 4, code: ErasureCode::Gf256 };
            let group = Group { id: GroupId(id), scheme, members, epoch: 1, state: GroupState::Open };
            rows.groups.insert(group.id, group.into());
        }
        let nodes = live_nodes(&rows);
        Self { rows, nodes }
    }

    fn lose(&mut self, gone: impl Fn(&Disk) -> bool) -> usize {
        let lost = self.rows.disks.values_mut().filter(|disk| gone(disk));
        let count = lost.map(|disk| disk.state = DiskState::Lost).count();
        self.nodes = live_nodes(&self.rows);
        count
    }

    /// Gives every wounded group its new members; what they are to get, in the order in which that is written down.
    fn replace(&mut self) -> Vec<GroupRepair> {
        let mut burden = Burden::of(&self.rows);
        let mut repairs = Vec::new();
        for id in wounded(&self.rows, &self.nodes[0]) {
            let mut group = (*self.rows.groups[&id]).clone();
            let mut positions = Vec::new();
            for position in 0..WIDTH {
                let from = group.members[position];
                if self.rows.state(from) != Some(DiskState::Lost) {
                    continue;
                }
                let level = FailureDomain::Rack;
                let disk = candidates(&burden, &group, level, &group.members, position).next().unwrap();
                burden.add(disk);
                group.members[position] = disk;
                let (cause, start, wrapped, missing) = (MissingCause::DiskLost, None, false, STRIPES);
                let position = position as u8;
                positions.push(PositionRepair {
                    position,
                    epoch: 2,
                    cause,
                    since_ms: 0,
                    from,
                    start,
                    wrapped,
                    missing,
                });
            }
            self.rows.groups.insert(id, group.into());
            repairs.push(GroupRepair { group: id, cursor: None, positions });
        }
        repairs
    }
}

/// How a loss was repaired.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    groups: usize,
    fragments: u64,
    seconds: u64,
    /// What a node did at most, and at least, in groups.
    busiest: u64,
    idlest: u64,
    changes_per_group: u64,
    /// Groups that were begun while one that could lose less waited unknown to the plan.
    out_of_order: u64,
}

/// Which node a group falls to first, second and so on: `rank` for all nodes at once.
fn ranks(cluster: &Cluster, repair: &GroupRepair) -> Vec<u16> {
    let (nodes, homes) = (&cluster.nodes, homes(&cluster.rows, repair));
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_cached_key(|node| Reverse(claim(&nodes[*node], repair.group, &homes)));
    let mut ranks = vec![0; nodes.len()];
    (0u16..).zip(order).for_each(|(rank, node)| ranks[node] = rank);
    ranks
}

/// Every node takes the first group of its plan that nobody has, and works on it alone.
fn repair(cluster: &Cluster, repairs: Vec<GroupRepair>) -> Run {
    let mut run = Run { groups: repairs.len(), ..Run::default() };
    let ranks: HashMap<GroupId, Vec<u16>> =
        repairs.iter().map(|repair| (repair.group, ranks(cluster, repair))).collect();
    let margin = |repair: &GroupRepair| 4 - repair.positions.len() as i32;
    let mut waiting: BTreeMap<GroupId, GroupRepair> =
        repairs.into_iter().map(|repair| (repair.group, repair)).collect();
    let mut by_margin: BTreeSet<(i32, GroupId)> =
        waiting.values().map(|repair| (margin(repair), repair.group)).collect();
    let mut free: BinaryHeap<Reverse<(u64, usize)>> = (0..cluster.nodes.len()).map(|node| Reverse((0, node))).collect();
    let mut plans: Vec<(u64, Vec<EndangeredGroup>)> = vec![(0, Vec::new()); cluster.nodes.len()];
    let mut done = vec![0u64; cluster.nodes.len()];
    let mut changes = 0;
    let mut end = 0;
    while let Some(Reverse((now, node))) = free.pop() {
        let (planned, plan) = &mut plans[node];
        if plan.is_empty() || now - *planned >= PLAN_MS {
            let mut scan = GroupScan::default();
            for repair in waiting.values() {
                scan.take(&cluster.rows, repair, QUEUE, |repair| ranks[&repair.group][node].into(), |_| false);
            }
            scan.trim(QUEUE);
            scan.groups.reverse();
            (*planned, *plan) = (now, scan.groups);
        }
        let next = std::iter::from_fn(|| plan.pop()).find_map(|group| waiting.remove(&group.id));
        let Some(taken) = next else {
            // It looks again at once while something waits; else everything that is left is being worked on.
            if !waiting.is_empty() {
                free.push(Reverse((now, node)));
            }
            continue;
        };
        let key = (margin(&taken), taken.group);
        by_margin.remove(&key);
        run.out_of_order += u64::from(by_margin.first().is_some_and(|(least, _)| *least < key.0));
        let fragments = taken.positions.iter().map(|position| position.missing).sum::<u64>();
        let took = fragments * FRAGMENT_MS;
        // A page's end, or a second's; the lease is renewed every six.
        let told = (STRIPES.div_ceil(BLOBS_PER_PAGE)).max(took / 1000) + 1;
        changes += REPLACE_CHANGES + 2 + took / 6000 + told;
        run.fragments += fragments;
        done[node] += 1;
        end = end.max(now + took);
        free.push(Reverse((now + took, node)));
    }
    assert!(waiting.is_empty(), "{} groups are repaired by nobody", waiting.len());
    run.seconds = end / 1000;
    run.busiest = done.iter().copied().max().unwrap_or(0);
    run.idlest = done.iter().copied().min().unwrap_or(0);
    run.changes_per_group = changes / run.groups.max(1) as u64;
    run
}

fn check(what: &str, seed: u64, gone: impl Fn(&Disk) -> bool) -> Run {
    let mut cluster = Cluster::new(seed);
    let lost = cluster.lose(gone);
    let before: HashMap<DiskId, u64> = counts(&cluster);
    let repairs = cluster.replace();
    // PLC-1, and the new members lie on many disks.
    assert_eq!(crowded(&cluster.rows, FailureDomain::Rack), []);
    let now = counts(&cluster);
    let gained: Vec<u64> = now.iter().map(|(disk, count)| count - before.get(disk).unwrap_or(&0)).collect();
    let most = gained.iter().max().unwrap();
    let run = repair(&cluster, repairs);
    let groups_per_disk = (cluster.rows.groups.len() * WIDTH / cluster.rows.disks.len()) as u64;
    println!(
        "{what}: {} disks, {} groups, {} nodes; {lost} disks lost, {run:?}; a disk gained {most} groups at most, where it had {groups_per_disk}",
        cluster.rows.disks.len(),
        cluster.rows.groups.len(),
        cluster.nodes.len(),
    );
    // No node is idle while another has a queue: what all did together is what one after another would have taken.
    let work = run.fragments * FRAGMENT_MS / 1000;
    let longest = 4 * STRIPES * FRAGMENT_MS / 1000;
    assert!(run.seconds <= work / cluster.nodes.len() as u64 + longest, "{run:?}: {work} s of work");
    assert_eq!(run.out_of_order, 0, "{run:?}");
    assert!(run.changes_per_group <= 40, "{run:?}");
    // One disk writes at most a few times as much of it as all would if it were spread evenly.
    let evenly = gained.iter().sum::<u64>().div_ceil(gained.len() as u64);
    assert!(*most <= 8 * evenly, "{most} groups came to one disk, {evenly} if spread evenly");
    run
}

/// How many groups each disk that is not lost is in.
fn counts(cluster: &Cluster) -> HashMap<DiskId, u64> {
    let mut counts: HashMap<DiskId, u64> = HashMap::new();
    for member in cluster.rows.groups.values().flat_map(|group| &group.members) {
        if cluster.rows.state(*member) == Some(DiskState::Up) {
            *counts.entry(*member).or_default() += 1;
        }
    }
    counts
}

#[test]
fn a_lost_disk_node_and_rack_are_repaired_by_all_in_order_of_danger() {
    let seed = size("CAIRN_SEED", 7) as u64;
    println!("CAIRN_SEED={seed}");
    let one = disk_id(3);
    let run = check("a disk", seed, |disk| disk.id == one);
    assert_eq!(run, check("a disk again", seed, |disk| disk.id == one), "the same seed, the same run");
    check("a node", seed, |disk| disk.node.as_str() == "n7");
    check("a rack", seed, |disk| disk.rack == "r3");
    check("two racks", seed, |disk| disk.rack == "r3" || disk.rack == "r11");
}

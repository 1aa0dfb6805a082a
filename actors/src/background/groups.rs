//! Which groups are to be repaired, and which of them first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use cairn_fragment::geometry;
use cairn_schema::{MetaError, clock::now_ms, ids::*, record::*};

use super::Context;
use crate::placement::Rows;

const ROWS_PER_PAGE: usize = 1000;
/// A new member that is down before it was filled is replaced again after this, in milliseconds: a restart takes less,
/// and what it was given already is lost with it. Later if somebody works on its node; at once when nothing more may be
/// lost.
const PATIENCE_MS: u64 = 60_000;
/// A plan older than this is made anew: others repair too, and dangers change.
const PLAN_AGE: Duration = Duration::from_secs(30);
/// The same once disks or groups have changed: what is nearest to being lost may be another. Changes come in swarms.
const CHANGED_AGE: Duration = Duration::from_secs(1);
/// A plan lasts for so many times as long as it took to read what it is made of, at least, and after changes: what
/// nodes read for their plans is then a bounded share of their time, however many groups there are to be repaired.
const READING_SHARE: u32 = 20;
const CHANGED_SHARE: u32 = 5;

/// For how long a plan is good that took so long to make, once it is known whether disks or groups have changed since.
pub(super) fn plan_age(took: Duration, changed: bool) -> Duration {
    match changed {
        true => (took * CHANGED_SHARE).max(CHANGED_AGE),
        false => (took * READING_SHARE).max(PLAN_AGE),
    }
}

/// What a group is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lack {
    /// What new members lack, for which one row stands.
    Members,
    /// Fragments with rows of their own.
    Fragments,
}

/// A group that can be repaired now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndangeredGroup {
    /// Fragments more than needed that are thought to be readable.
    pub margin: i32,
    /// How many nodes the group rather falls to than to this one.
    pub rank: usize,
    /// Bytes that it is to get, if its fragments are as large as they may be.
    pub bytes: u64,
    pub id: GroupId,
    pub lack: Lack,
}

impl EndangeredGroup {
    /// The smaller the sooner.
    fn turn(&self) -> (i32, usize, Reverse<u64>, GroupId, Lack) {
        (self.margin, self.rank, Reverse(self.bytes), self.id, self.lack)
    }
}

/// Sorts so that those that come first are first, and leaves away what is more than `limit`.
pub(super) fn first_come(groups: &mut Vec<EndangeredGroup>, limit: usize) {
    groups.sort_unstable_by_key(EndangeredGroup::turn);
    groups.truncate(limit);
}

/// Positions of groups that are not filled yet.
#[derive(Debug, Default)]
pub(super) struct Filled {
    positions: HashMap<GroupId, Vec<u8>>,
}

impl Filled {
    /// Of one group.
    pub(super) fn of(repair: Option<&GroupRepair>) -> Self {
        let positions = |repair: &GroupRepair| repair.positions.iter().map(|position| position.position).collect();
        Self { positions: repair.map(|repair| (repair.group, positions(repair))).into_iter().collect() }
    }

    pub(super) fn has(&self, group: GroupId, position: u8) -> bool {
        self.positions.get(&group).is_some_and(|positions| positions.contains(&position))
    }
}

/// What a pass over the groups under repair found.
#[derive(Debug, Default)]
pub(super) struct GroupScan {
    /// Those that can be repaired now, the one that comes first first.
    pub groups: Vec<EndangeredGroup>,
    /// Of at most as many groups as were asked for.
    pub filled: Filled,
    /// New members that died before they were filled.
    pub deserted: BTreeMap<GroupId, Vec<u8>>,
    /// Fragments to be made, by how many more than needed their stripes have.
    pub by_margin: BTreeMap<i32, u64>,
    /// What comes after this one is not kept.
    last: Option<EndangeredGroup>,
}

/// One pass over the groups under repair, keeping only the `limit` that come first.
///
/// What is nearest to being lost comes first, and of that what falls to this node: each group falls to the nodes in an
/// order of its own (rendezvous hashing), so that all nodes work at once, and none waits while another has a queue.
/// Those come first in it that have a disk to be filled: what they make need not be sent.
pub(super) async fn scan(
    ctx: &Context,
    rows: &Rows,
    limit: usize,
    skip: impl Fn(&GroupId) -> bool,
) -> Result<GroupScan, MetaError> {
    let mut scan = GroupScan::default();
    let nodes = live_nodes(rows);
    let mut after = None;
    loop {
        let page = ctx.meta.group_repairs(after, ROWS_PER_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.group);
        for repair in &page {
            let Some(judged) = judge(rows, repair) else { continue };
            scan.take(&judged, limit, || rank(&ctx.node, &nodes, repair.group, &homes(rows, repair)), &skip);
        }
    }
    scan.trim(limit);
    Ok(scan)
}

/// What a group under repair is to whoever looks at it.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub id: GroupId,
    pub margin: i32,
    /// Where it has new members that are not filled yet.
    positions: Vec<u8>,
    missing: u64,
    bytes: u64,
    /// New members that died before they were filled.
    deserted: Vec<u8>,
    repairable: bool,
}

/// None of a group that is not known.
pub(super) fn judge(rows: &Rows, repair: &GroupRepair) -> Option<Judged> {
    let group = rows.groups.get(&repair.group)?;
    let positions: Vec<u8> = repair.positions.iter().map(|position| position.position).collect();
    let margin = margin(rows, group, |position| positions.contains(&position));
    let missing = repair.positions.iter().map(|position| position.missing).sum();
    let deserted: Vec<u8> =
        positions.iter().copied().filter(|position| is_deserted(rows, group, *position, margin)).collect();
    let serve = || positions.iter().all(|position| serves(rows, group, *position));
    let repairable = deserted.is_empty() && margin >= 0 && serve();
    let bytes = at_most(rows, group, missing);
    Some(Judged { id: repair.group, margin, positions, missing, bytes, deserted, repairable })
}

impl GroupScan {
    /// `rank` is asked only of what can be repaired and comes early enough.
    pub(super) fn take(
        &mut self,
        judged: &Judged,
        limit: usize,
        rank: impl FnOnce() -> usize,
        skip: impl FnOnce(&GroupId) -> bool,
    ) {
        let Judged { id, margin, bytes, .. } = *judged;
        *self.by_margin.entry(margin).or_default() += judged.missing;
        if self.filled.positions.len() < limit {
            self.filled.positions.insert(id, judged.positions.clone());
        }
        if !judged.deserted.is_empty() {
            self.deserted.insert(id, judged.deserted.clone());
        }
        let too_late = self.last.is_some_and(|last| margin > last.margin);
        if !judged.repairable || too_late || skip(&id) {
            return;
        }
        let group = EndangeredGroup { margin, rank: rank(), bytes, id, lack: Lack::Members };
        if self.last.is_some_and(|last| last.turn() < group.turn()) {
            return;
        }
        self.groups.push(group);
        if self.groups.len() >= limit.max(1) * 2 {
            self.cut(limit.max(1));
        }
    }

    /// Leaves away what cannot be among the first `limit` any more: without an order, for most of the next is none of
    /// them either.
    fn cut(&mut self, limit: usize) {
        let (_, last, _) = self.groups.select_nth_unstable_by_key(limit - 1, EndangeredGroup::turn);
        self.last = Some(*last);
        self.groups.truncate(limit);
    }

    pub(super) fn trim(&mut self, limit: usize) {
        first_come(&mut self.groups, limit);
    }
}

/// What so many fragments of a group take, if they are as large as the policy makes them.
pub(super) fn at_most(rows: &Rows, group: &Group, fragments: u64) -> u64 {
    let largest = rows.policy.map_or(1, |kept| largest_fragment(&kept.policy, group.scheme));
    fragments.saturating_mul(largest)
}

/// Bytes: of a stripe as large as the policy makes them, or of the largest small object.
pub(super) fn largest_fragment(policy: &Policy, scheme: Scheme) -> u64 {
    let fragment = u64::from(policy.fragment_bytes);
    if scheme != policy.small_scheme || scheme == policy.scheme {
        return fragment;
    }
    policy.small_below.div_ceil(geometry::needed_fragments(scheme).max(1) as u64).min(fragment).max(1)
}

/// Whether the member at a position answers.
pub(super) fn serves(rows: &Rows, group: &Group, position: u8) -> bool {
    let state = group.members.get(usize::from(position)).and_then(|disk| rows.state(*disk));
    state.is_some_and(DiskState::serves)
}

/// Whether all members answer.
pub(super) fn is_whole(rows: &Rows, group: &Group) -> bool {
    (0..group.members.len()).all(|position| u8::try_from(position).is_ok_and(|position| serves(rows, group, position)))
}

/// Fragments more than needed that are readable when those `missing` are not; below 0 nothing can be read now.
pub(super) fn margin(rows: &Rows, group: &Group, missing: impl Fn(u8) -> bool) -> i32 {
    let positions = 0..u8::try_from(group.members.len()).unwrap_or(u8::MAX);
    let survivors = positions.filter(|position| serves(rows, group, *position) && !missing(*position)).count();
    survivors as i32 - geometry::needed_fragments(group.scheme) as i32
}

fn is_deserted(rows: &Rows, group: &Group, position: u8, margin: i32) -> bool {
    let disk = group.members.get(usize::from(position)).and_then(|disk| rows.disks.get(disk));
    disk.is_some_and(|disk| {
        let down_ms = now_ms().saturating_sub(disk.since_ms);
        let patient = down_ms < PATIENCE_MS || rows.maintained.contains(&disk.node);
        disk.state == DiskState::Down && (margin <= 0 || !patient)
    })
}

/// Nodes with a disk that is up: those that repair.
pub(super) fn live_nodes(rows: &Rows) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> =
        rows.disks.values().filter(|disk| disk.state.serves()).map(|disk| disk.node.clone()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// The nodes of the disks that are to be filled.
pub(super) fn homes<'a>(rows: &'a Rows, repair: &GroupRepair) -> Vec<&'a NodeId> {
    let Some(group) = rows.groups.get(&repair.group) else { return Vec::new() };
    let disk = |position: &PositionRepair| group.members.get(usize::from(position.position));
    let disks = repair.positions.iter().filter_map(disk);
    disks.filter_map(|disk| Some(&rows.disks.get(disk)?.node)).collect()
}

/// Of more nodes than this it is not counted how many have a better claim, but worked out from the claim itself.
const COUNTED: usize = 32;

/// How many of `nodes` a group falls to rather than to `node`. Highest random weight, as Thaler and Ravishankar
/// describe it in "Using name-based mappings to increase hit rates" (1998), first among those that are `homes`.
///
/// Where nodes are many it is about so many: to compare each group with each node would take longer than to repair
/// it, on all nodes together, and an order that is nearly as good serves as well; the lease says who has it.
pub(super) fn rank(node: &NodeId, nodes: &[NodeId], group: GroupId, homes: &[&NodeId]) -> usize {
    let own = claim(node, group, homes);
    let better = |other: &NodeId| other != node && claim(other, group, homes) > own;
    if nodes.len() <= COUNTED {
        return nodes.iter().filter(|other| better(other)).count();
    }
    match own {
        (true, ..) => homes.iter().filter(|home| better(home)).count(),
        // All homes go before, and weights are spread evenly over all there are.
        (false, weight, _) => {
            let others = nodes.len().saturating_sub(homes.len() + 1) as u128;
            homes.len() + ((u128::from(u64::MAX - weight) * others) >> 64) as usize
        }
    }
}

/// A node's claim to a group.
fn claim<'a>(node: &'a NodeId, group: GroupId, homes: &[&NodeId]) -> (bool, u64, &'a str) {
    let weight = xxhash_rust::xxh3::xxh3_64_with_seed(node.as_str().as_bytes(), u64::from(group.0));
    (homes.contains(&node), weight, node.as_str())
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;

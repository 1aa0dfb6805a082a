//! Which groups are to be repaired, and which of them first.

use std::collections::{BTreeMap, HashMap};

use cairn_fragment::geometry;
use cairn_schema::{MetaError, clock::now_ms, ids::*, record::*};

use super::Context;
use crate::placement::Rows;

const ROWS_PER_PAGE: usize = 1000;
/// A new member that is down before it was filled is replaced again after this, in milliseconds: a restart takes less,
/// and what it was given already is lost with it. Later if somebody works on its node; at once when nothing more may be
/// lost.
const PATIENCE_MS: u64 = 60_000;

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

/// Sorts so that those that come first are first, and leaves away what is more than `limit`.
pub(super) fn first_come(groups: &mut Vec<EndangeredGroup>, limit: usize) {
    groups.sort_by_key(|group| (group.margin, group.rank, std::cmp::Reverse(group.bytes), group.id, group.lack));
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
            scan.take(rows, repair, limit, |repair| rank(&ctx.node, &nodes, repair.group, &homes(rows, repair)), &skip);
        }
    }
    scan.trim(limit);
    Ok(scan)
}

impl GroupScan {
    pub(super) fn take(
        &mut self,
        rows: &Rows,
        repair: &GroupRepair,
        limit: usize,
        rank: impl Fn(&GroupRepair) -> usize,
        skip: impl Fn(&GroupId) -> bool,
    ) {
        let id = repair.group;
        let Some(group) = rows.groups.get(&id) else { return };
        let positions: Vec<u8> = repair.positions.iter().map(|position| position.position).collect();
        let margin = margin(rows, group, |position| positions.contains(&position));
        let missing: u64 = repair.positions.iter().map(|position| position.missing).sum();
        *self.by_margin.entry(margin).or_default() += missing;
        let deserted: Vec<u8> =
            positions.iter().copied().filter(|position| is_deserted(rows, group, *position, margin)).collect();
        if !deserted.is_empty() {
            self.deserted.insert(id, deserted);
        } else if positions.iter().all(|position| serves(rows, group, *position)) && margin >= 0 && !skip(&id) {
            let (rank, bytes) = (rank(repair), at_most(rows, group, missing));
            self.groups.push(EndangeredGroup { margin, rank, bytes, id, lack: Lack::Members });
        }
        if self.filled.positions.len() < limit {
            self.filled.positions.insert(id, positions);
        }
        if self.groups.len() >= limit.max(1) * 2 {
            self.trim(limit);
        }
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

/// How many of `nodes` a group falls to rather than to `node`. Highest random weight, as Thaler and Ravishankar
/// describe it in "Using name-based mappings to increase hit rates" (1998), first among those that are `homes`.
pub(super) fn rank(node: &NodeId, nodes: &[NodeId], group: GroupId, homes: &[&NodeId]) -> usize {
    let own = claim(node, group, homes);
    nodes.iter().filter(|other| *other != node && claim(other, group, homes) > own).count()
}

/// A node's claim to a group.
pub(super) fn claim<'a>(node: &'a NodeId, group: GroupId, homes: &[&NodeId]) -> (bool, u64, &'a str) {
    let weight = xxhash_rust::xxh3::xxh3_64_with_seed(node.as_str().as_bytes(), u64::from(group.0));
    (homes.contains(&node), weight, node.as_str())
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;

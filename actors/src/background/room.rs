//! How much room disks have for what the new members of groups are still to get.
//!
//! A new member's bytes are reserved from the moment it is one: they follow from the rows of the groups under repair,
//! so nobody has to write them down, or to give them back.

use std::collections::{BTreeMap, HashMap};

use cairn_schema::{MetaError, ids::*, record::*};

use super::{Context, groups::largest_fragment};
use crate::placement::{Rows, all_group_repairs};

/// What a disk says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    pub used: u64,
    /// Without its reserve.
    pub free: u64,
}

/// What is promised to whom.
#[derive(Debug, Default)]
pub(crate) struct Room {
    stripes: BTreeMap<GroupId, u64>,
    /// Bytes that the largest fragment of a scheme takes.
    largest: HashMap<Scheme, u64>,
    /// What the fragments of a disk take in the mean, in millionths of the largest of their schemes.
    filling: HashMap<DiskId, u64>,
    promised: HashMap<DiskId, u64>,
}

const MILLION: u64 = 1_000_000;

impl Room {
    /// By what the metadata and the disks say now.
    pub(super) async fn read(ctx: &Context, rows: &Rows) -> Result<Self, MetaError> {
        let topology = ctx.placement.topology();
        let space = |disk| {
            let load = topology.disk(disk)?.load?;
            Some(Space { used: load.used_bytes, free: load.free_bytes })
        };
        // A store of before stripes were counted cannot tell: there a disk that is full is replaced again.
        let stripes = ctx.meta.group_stripes().await?.unwrap_or_default();
        let repairs = all_group_repairs(&ctx.meta).await?;
        let mut room = Self::new(rows, &ctx.policy(), stripes, &repairs, space);
        room.promise_moves(rows, &ctx.meta.group_moves().await?);
        Ok(room)
    }

    /// What is being moved to a disk it is to have room for, as if nothing of it were there yet.
    pub(crate) fn promise_moves(&mut self, rows: &Rows, moves: &[GroupMove]) {
        for moved in moves {
            let Some(group) = rows.groups.get(&moved.group) else { continue };
            let needed = self.needed(group);
            moved.positions.iter().for_each(|position| self.promise(position.to, needed));
        }
    }

    pub(crate) fn new(
        rows: &Rows,
        policy: &Policy,
        stripes: BTreeMap<GroupId, u64>,
        repairs: &[GroupRepair],
        space: impl Fn(DiskId) -> Option<Space>,
    ) -> Self {
        let mut room = Self { stripes, ..Self::default() };
        for group in rows.groups.values() {
            room.largest.entry(group.scheme).or_insert_with(|| largest_fragment(policy, group.scheme));
        }
        // What a disk would hold if all of its fragments were as large as they may be.
        let mut full: HashMap<DiskId, u64> = HashMap::new();
        for group in rows.groups.values() {
            let bytes = room.at_most(group, room.stripes_of(group.id));
            for member in &group.members {
                let sum = full.entry(*member).or_default();
                *sum = sum.saturating_add(bytes);
            }
        }
        let underway: Vec<(&Group, DiskId, u64)> =
            repairs.iter().flat_map(|repair| room.underway(rows, repair)).collect();
        for (group, disk, missing) in &underway {
            let sum = full.entry(*disk).or_default();
            *sum = sum.saturating_sub(room.at_most(group, *missing));
        }
        for (disk, full) in full {
            // One that has used nothing was asked before any of it came.
            if let Some(Space { used, .. }) = space(disk).filter(|space| full > 0 && space.used > 0) {
                let filling = (u128::from(used) * u128::from(MILLION)).div_ceil(u128::from(full));
                room.filling.insert(disk, u64::try_from(filling).unwrap_or(MILLION).min(MILLION));
            }
        }
        for (group, disk, missing) in underway {
            let bytes = room.bytes(group, missing);
            room.promise(disk, bytes);
        }
        room
    }

    fn underway<'a>(&self, rows: &'a Rows, repair: &GroupRepair) -> Vec<(&'a Group, DiskId, u64)> {
        let Some(group) = rows.groups.get(&repair.group) else { return Vec::new() };
        let disk = |position: &PositionRepair| group.members.get(usize::from(position.position)).copied();
        repair.positions.iter().filter_map(|position| Some((&**group, disk(position)?, position.missing))).collect()
    }

    pub(super) fn stripes_of(&self, group: GroupId) -> u64 {
        self.stripes.get(&group).copied().unwrap_or(0)
    }

    fn at_most(&self, group: &Group, fragments: u64) -> u64 {
        fragments.saturating_mul(self.largest.get(&group.scheme).copied().unwrap_or(0))
    }

    /// What so many fragments of a group will take: as large as those of that member on which they are largest, in the
    /// mean; as large as they may be if no member tells.
    fn bytes(&self, group: &Group, fragments: u64) -> u64 {
        let told = group.members.iter().filter_map(|member| self.filling.get(member)).max();
        let filling = told.copied().unwrap_or(MILLION);
        let bytes = (u128::from(self.at_most(group, fragments)) * u128::from(filling)).div_ceil(u128::from(MILLION));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// What a new member of a group will have to take.
    pub(crate) fn needed(&self, group: &Group) -> u64 {
        self.bytes(group, self.stripes_of(group.id))
    }

    /// Whether a disk with so much space takes so many bytes besides those that it is still to get.
    pub(super) fn fits(&self, disk: DiskId, free: u64, bytes: u64) -> bool {
        self.promised.get(&disk).copied().unwrap_or(0).saturating_add(bytes) <= free
    }

    pub(super) fn promise(&mut self, disk: DiskId, bytes: u64) {
        let promised = self.promised.entry(disk).or_default();
        *promised = promised.saturating_add(bytes);
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;

//! A lost disk leaves its groups, and one that crowds a failure domain: another takes its position, and one row of the
//! ledger says that the group is to be repaired.
//!
//! One node of the cluster does it at a time: what it promises on disks nobody else gives away meanwhile, and the next
//! finds it in the rows of the groups under repair. The others repair what has its new members already.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::{MetaError, ids::*, record::*};

use super::{
    Context,
    burden::{Burden, candidates},
    groups,
    replace::{self, Lacking},
    room::Room,
};
use crate::placement::Rows;

const LEASE_NAME: &str = "replace";
const LEASE: Duration = Duration::from_secs(30);
/// How long groups are given new members before the rows are read again: so many times as long as reading them took,
/// as far as the lease suffices for that.
const REPLACING: Duration = Duration::from_secs(5);
const READINGS: u32 = 4;
/// How long another node that is at it is left alone.
const OTHERS: Duration = Duration::from_secs(1);
/// Room that was lacking is looked for again after this: disks become emptier without a change of the placement.
const ROOM_AGAIN: Duration = Duration::from_secs(30);

/// Gives groups new members.
#[derive(Default)]
pub(super) struct Replacer {
    /// Groups with lost members, in the rows that were judged last.
    wounded: Vec<GroupId>,
    /// New members of groups that are to be replaced again: they died, or are full.
    deserted: BTreeMap<GroupId, Vec<u8>>,
    /// Groups whose lost members found no stand-in.
    stuck: HashMap<GroupId, Stuck>,
    /// Groups of which a failure domain holds too many members.
    crowded: Vec<GroupId>,
    /// When to ask again for the lease that another node had.
    again_at: Option<Instant>,
    /// How many members lacked room, as it was told last.
    told: usize,
}

/// Not tried again until the placement changes, or after a while if only room is lacking.
struct Stuck {
    members: usize,
    for_room: usize,
    until: Option<Instant>,
}

/// What came of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Replaced {
    members: usize,
    /// Members for which there is no disk.
    without_disk: usize,
    without_room: usize,
}

impl Replacer {
    /// Disks or groups changed: what could not be done may be possible now.
    pub(super) fn judge(&mut self, ctx: &Context, rows: &Rows) {
        self.wounded = replace::wounded(rows);
        self.crowded = replace::crowded(rows, ctx.policy().failure_domain);
        self.stuck.clear();
        ctx.metrics.crowded_groups.set(self.crowded.len() as i64);
        self.show(ctx);
    }

    /// New members that died before they were filled, by the rows that were judged last.
    pub(super) fn set_deserted(&mut self, deserted: BTreeMap<GroupId, Vec<u8>>) {
        self.deserted = deserted;
    }

    /// A new member that takes no more.
    pub(super) fn desert(&mut self, group: GroupId, position: u8) {
        self.deserted.entry(group).or_default().push(position);
    }

    pub(super) fn waits(&self) -> bool {
        !self.deserted.is_empty()
    }

    /// Lost members of groups replaced, and new ones that cannot be filled, if nobody else is at it. `judged` are the
    /// rows by which they are such. True when there was something to do.
    pub(super) async fn replace(&mut self, ctx: &Context, judged: &Rows) -> Result<bool, MetaError> {
        let now = Instant::now();
        self.stuck.retain(|_, stuck| stuck.until.is_none_or(|until| now < until));
        let has_work = self.wounded.iter().chain(self.deserted.keys()).any(|group| !self.stuck.contains_key(group));
        if !has_work || self.again_at.is_some_and(|at| now < at) {
            return Ok(false);
        }
        let Some(lease) = ctx.lease(LEASE_NAME, LEASE).await? else {
            self.again_at = Some(now + OTHERS);
            return Ok(false);
        };
        let result = self.replace_alone(ctx, judged).await;
        ctx.release(lease).await;
        result
    }

    async fn replace_alone(&mut self, ctx: &Context, judged: &Rows) -> Result<bool, MetaError> {
        // With all that the one before has done.
        let reading = Instant::now();
        let mut pass = Pass::begin(ctx).await?;
        let began = Instant::now();
        let took = began - reading;
        let long = (took * READINGS).clamp(REPLACING, REPLACING.max(LEASE.saturating_sub(took) / 2));
        let mut groups = replace::wounded(&pass.rows);
        groups.extend(self.deserted.keys());
        let mut replaced = 0;
        for id in groups {
            let also = self.deserted.remove(&id).unwrap_or_default();
            if self.stuck.contains_key(&id) {
                continue;
            }
            let Some(group) = pass.rows.groups.get(&id).cloned() else { continue };
            // Another may have replaced one of them meanwhile.
            let known = judged.groups.get(&id).is_some_and(|judged| judged.epoch == group.epoch);
            let positions = replace::positions(&pass.rows, &group, if known { &also } else { &[] });
            let done = pass.fill(&group, positions, MissingCause::DiskLost).await?;
            self.note(id, done);
            replaced += usize::from(done.members > 0);
            if began.elapsed() >= long {
                break;
            }
        }
        self.show(ctx);
        Ok(replaced > 0)
    }

    fn note(&mut self, group: GroupId, done: Replaced) {
        let Replaced { without_disk, without_room: for_room, .. } = done;
        if without_disk > 0 {
            tracing::error!(%group, members = without_disk, "no disk may stand in for lost members; add disks");
        }
        let members = without_disk + for_room;
        if members > 0 {
            let until = (for_room > 0).then(|| Instant::now() + ROOM_AGAIN);
            self.stuck.insert(group, Stuck { members, for_room, until });
        }
    }

    fn show(&mut self, ctx: &Context) {
        let metrics = &ctx.metrics;
        metrics.unplaceable_members.set(self.stuck.values().map(|stuck| stuck.members).sum::<usize>() as i64);
        let for_room = self.stuck.values().map(|stuck| stuck.for_room).sum::<usize>();
        metrics.roomless_members.set(for_room as i64);
        if for_room > self.told {
            tracing::error!(members = for_room, "no disk has room for what lost members of groups held; add disks");
        }
        self.told = for_room;
    }

    /// One member moved out of too crowded a failure domain (PLC-1), if nothing is missing and nobody else is at it: so
    /// at most one fragment of each stripe is missing until it has been made anew. What the old one has is deleted by
    /// scrub once the new one has it. True when there was something to do.
    pub(super) async fn uncrowd(&mut self, ctx: &Context) -> Result<bool, MetaError> {
        // It costs redundancy until the moved fragments are made anew: nothing else may be missing then.
        if self.crowded.is_empty() || ctx.meta.ledger_len().await? > 0 {
            return Ok(false);
        }
        let Some(lease) = ctx.lease(LEASE_NAME, LEASE).await? else { return Ok(false) };
        let result = self.uncrowd_alone(ctx).await;
        ctx.release(lease).await;
        result
    }

    async fn uncrowd_alone(&mut self, ctx: &Context) -> Result<bool, MetaError> {
        let mut pass = Pass::begin(ctx).await?;
        for id in self.crowded.clone() {
            let Some(group) = pass.rows.groups.get(&id).cloned() else { continue };
            // With a member away, which may come back, moving another would leave less than there is; and the one that
            // is away could not be copied from.
            // What somebody works on goes at any moment.
            let leaves = group.members.iter().any(|disk| pass.rows.is_maintained(*disk));
            if leaves || !groups::is_whole(&pass.rows, &group) || self.stuck.contains_key(&id) {
                continue;
            }
            let Some(position) = replace::excess(&pass.rows, &group, ctx.policy().failure_domain) else { continue };
            let done = pass.fill(&group, [position], MissingCause::NotFound).await?;
            if done.members > 0 {
                return Ok(true);
            }
            self.note(id, done);
        }
        self.show(ctx);
        Ok(false)
    }
}

/// Replacing under the lease.
struct Pass<'a> {
    ctx: &'a Context,
    rows: Arc<Rows>,
    burden: Burden,
    room: Room,
    free: Free,
}

impl<'a> Pass<'a> {
    async fn begin(ctx: &'a Context) -> Result<Self, MetaError> {
        let rows = ctx.placement.refresh().await?;
        let room = Room::read(ctx, &rows).await?;
        Ok(Self { ctx, burden: Burden::of(&rows), rows, room, free: Free::default() })
    }

    /// Other disks for these positions of a group, as far as there are such.
    async fn fill(
        &mut self,
        group: &Group,
        positions: impl IntoIterator<Item = usize>,
        cause: MissingCause,
    ) -> Result<Replaced, MetaError> {
        let (mut members, mut filled, mut done) = (group.members.clone(), Vec::new(), Replaced::default());
        for position in positions {
            match self.stand_in(group, &members, position).await {
                Ok(disk) => {
                    members[position] = disk;
                    filled.push((position, disk));
                }
                Err(Lacking::Disk) => done.without_disk += 1,
                Err(Lacking::Room) => done.without_room += 1,
            }
        }
        if filled.is_empty() {
            return Ok(done);
        }
        match self.ctx.meta.replace_members(group.id, group.epoch, members, cause).await {
            Ok(_) => {}
            // It has changed meanwhile: it is judged anew.
            Err(MetaError::Stale(_)) => return Ok(Replaced::default()),
            Err(error) => return Err(error),
        }
        let needed = self.room.needed(group);
        for (_, disk) in &filled {
            self.burden.add(*disk);
            self.room.promise(*disk, needed);
        }
        self.ctx.metrics.replaced_members.inc_by(filled.len() as u64);
        tracing::info!(group = %group.id, ?filled, bytes = needed, "other disks stand in for members of a group");
        done.members = filled.len();
        Ok(done)
    }

    /// The best disk for a position that says it takes writes, and so many bytes.
    async fn stand_in(&mut self, group: &Group, members: &[DiskId], position: usize) -> Result<DiskId, Lacking> {
        let needed = self.room.needed(group);
        let mut lacking = Lacking::Disk;
        let level = self.ctx.policy().failure_domain;
        for disk in candidates(&self.burden, group, level, members, position) {
            let Some(free) = self.free.on(self.ctx, &self.rows, disk).await else { continue };
            if self.room.fits(disk, free, needed) {
                return Ok(disk);
            }
            lacking = Lacking::Room;
        }
        Err(lacking)
    }
}

/// What disks said they have free; None of those that take no writes.
#[derive(Default)]
struct Free(HashMap<DiskId, Option<u64>>);

impl Free {
    async fn on(&mut self, ctx: &Context, rows: &Rows, disk: DiskId) -> Option<u64> {
        if let Some(free) = self.0.get(&disk) {
            return *free;
        }
        // It is about to be stopped.
        if rows.is_maintained(disk) {
            return None;
        }
        let status = ctx.fragments.disk_status(disk, ctx.deadline()).await.ok();
        let free = status.filter(|status| status.writable && status.failed.is_none()).map(|status| status.free_bytes);
        self.0.insert(disk, free);
        free
    }
}

#[cfg(test)]
#[path = "replacer_tests.rs"]
mod tests;

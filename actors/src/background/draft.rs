//! Which positions of groups move where: off disks that are drained, and from the disks that are fullest for their size
//! to the emptiest. Pure, so that what is shown before anything moves is what moves then.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use cairn_schema::{ids::*, record::*};

use super::{
    burden::{self, Burden},
    groups,
    replace::Lacking,
    room::Room,
};
use crate::placement::Rows;

/// Groups that are moved at a time: one in so many, so that nearly all of the cluster takes writes and is as it was
/// when something fails; but never fewer than keep one node busy, nor more than a person could look through.
const ONE_IN: usize = 20;
const LEAST_AT_ONCE: usize = 4;
const MOST_AT_ONCE: usize = 64;

/// How many of so many groups may be under way at a time.
pub(crate) fn at_once(groups: usize) -> usize {
    (groups / ONE_IN).clamp(LEAST_AT_ONCE, MOST_AT_ONCE)
}

/// Disks whose load differs by no more than this part of the mean are balanced.
const SPREAD: f64 = 0.05;
/// Of the fullest and the emptiest disks so many are tried against each other before it is given up.
const TRIED: usize = 16;

/// What disks can still take, kept true while positions are given to them.
pub(crate) struct Stock<'a> {
    level: FailureDomain,
    room: Room,
    burden: Burden,
    /// None of a disk that takes no writes, or that nothing is known of.
    free: &'a dyn Fn(DiskId) -> Option<u64>,
}

impl<'a> Stock<'a> {
    /// Of disks that are members as `rows` have it.
    pub(crate) fn new(level: FailureDomain, room: Room, rows: &Rows, free: &'a dyn Fn(DiskId) -> Option<u64>) -> Self {
        Self { level, room, burden: Burden::of(rows), free }
    }

    pub(super) fn level(&self) -> FailureDomain {
        self.level
    }

    pub(super) fn stripes_of(&self, group: GroupId) -> u64 {
        self.room.stripes_of(group)
    }

    /// What one position of a group takes.
    pub(super) fn needed(&self, group: &Group) -> u64 {
        self.room.needed(group)
    }

    /// The best disk for a position that has room for it, of those that are such.
    pub(super) fn stand_in_where(
        &self,
        group: &Group,
        members: &[DiskId],
        position: usize,
        such: impl Fn(DiskId) -> bool,
    ) -> Option<DiskId> {
        let bytes = self.needed(group);
        let mut candidates = burden::candidates(&self.burden, group, self.level, members, position);
        candidates.find(|disk| such(*disk) && self.fits(*disk, bytes))
    }

    fn fits(&self, disk: DiskId, bytes: u64) -> bool {
        (self.free)(disk).is_some_and(|free| self.room.fits(disk, free, bytes))
    }

    pub(super) fn take(&mut self, disk: DiskId, bytes: u64) {
        self.burden.add(disk);
        self.room.promise(disk, bytes);
    }

    fn stand_in(&self, group: &Group, members: &[DiskId], position: usize, bytes: u64) -> Result<DiskId, Lacking> {
        let mut lacking = Lacking::Disk;
        for disk in burden::candidates(&self.burden, group, self.level, members, position) {
            if self.fits(disk, bytes) {
                return Ok(disk);
            }
            lacking = Lacking::Room;
        }
        Err(lacking)
    }
}

/// A group to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DraftMove {
    pub group: GroupId,
    pub epoch: u64,
    pub to: BTreeMap<u8, DiskId>,
    /// Of all its positions that move.
    pub bytes: u64,
}

impl DraftMove {
    /// Of its group when it is done, as they are `now`.
    pub(super) fn members(&self, now: &[DiskId]) -> Vec<DiskId> {
        let member = |(position, disk): (u8, &DiskId)| self.to.get(&position).copied().unwrap_or(*disk);
        (0u8..).zip(now).map(member).collect()
    }
}

/// What is to be done next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    pub moves: Vec<DraftMove>,
    /// Positions that have nowhere to go.
    pub stuck: Vec<(GroupId, u8, Lacking)>,
    /// Groups that wait, because a member is away: it may come back, and with it away nothing is to be moved.
    pub waiting: Vec<GroupId>,
}

impl Draft {
    pub(crate) fn sum(&self) -> Moved {
        let mut sum = Moved::default();
        for moved in &self.moves {
            sum += Moved { positions: moved.to.len() as u64, bytes: moved.bytes };
        }
        sum
    }
}

/// What each job that runs does next, of so many groups together. None: it waits until disks are drained, for what a
/// drain moves would be moved twice. `rebalance` is what a job does that is about all disks.
pub(super) fn drafts<'a>(
    jobs: &'a [Job],
    moves: &[GroupMove],
    then: &Rows,
    skip: &HashSet<GroupId>,
    stock: &mut Stock<'_>,
    mut slots: usize,
    rebalance: impl Fn(&Rows, &HashSet<GroupId>, &mut Stock<'_>, usize) -> Draft,
) -> Vec<(&'a Job, Option<Draft>)> {
    let running = jobs.iter().filter(|job| job.state == JobState::Running);
    let (drains, others): (Vec<&Job>, Vec<&Job>) = running.partition(|job| job.kind == JobKind::Drain);
    let (mut drafts, mut draining) = (Vec::new(), false);
    for job in drains {
        if slots == 0 {
            return drafts;
        }
        let drained = |disk| then.disks.get(&disk).is_some_and(|disk| job.means(disk));
        let draft = drain(then, drained, skip, stock, slots);
        slots -= draft.moves.len().min(slots);
        draining |= !draft.moves.is_empty() || moves.iter().any(|moved| moved.job == job.id);
        drafts.push((job, Some(draft)));
    }
    for job in others.into_iter().filter(|_| draining || slots > 0) {
        let draft = (!draining).then(|| rebalance(then, skip, stock, slots));
        drafts.push((job, draft));
    }
    drafts
}

/// The rows as they will be when what is under way has come to its end.
pub(crate) fn under_way(rows: &Rows, moves: &[GroupMove]) -> Rows {
    let mut rows = rows.clone();
    for moved in moves {
        let Some(group) = rows.groups.get_mut(&moved.group).filter(|group| group.epoch == moved.epoch) else {
            continue;
        };
        for position in &moved.positions {
            if let Some(member) = Arc::make_mut(group).members.get_mut(usize::from(position.position)) {
                *member = position.to;
            }
        }
    }
    rows
}

/// The first `most` groups with members on disks that are drained, each with new members for those, and why others
/// cannot have any. Groups to be skipped are under way already, or were tried in vain not long ago.
pub(crate) fn drain(
    rows: &Rows,
    drained: impl Fn(DiskId) -> bool,
    skip: &HashSet<GroupId>,
    stock: &mut Stock<'_>,
    most: usize,
) -> Draft {
    let mut draft = Draft::default();
    let mut ids: Vec<GroupId> = rows.groups.keys().filter(|id| !skip.contains(id)).copied().collect();
    ids.sort_unstable();
    for group in ids.iter().filter_map(|id| rows.groups.get(id)) {
        if draft.moves.len() >= most {
            break;
        }
        let positions = (0u8..).zip(group.members.iter().copied()).filter(|(_, disk)| drained(*disk));
        let positions: Vec<u8> = positions.map(|(position, _)| position).collect();
        if positions.is_empty() {
            continue;
        }
        if !groups::is_whole(rows, group) {
            draft.waiting.push(group.id);
            continue;
        }
        let (bytes, mut members, mut to) = (stock.room.needed(group), group.members.clone(), BTreeMap::new());
        for position in positions {
            match stock.stand_in(group, &members, usize::from(position), bytes) {
                Ok(disk) => {
                    members[usize::from(position)] = disk;
                    stock.take(disk, bytes);
                    to.insert(position, disk);
                }
                Err(lacking) => draft.stuck.push((group.id, position, lacking)),
            }
        }
        if !to.is_empty() {
            let bytes = bytes.saturating_mul(to.len() as u64);
            draft.moves.push(DraftMove { group: group.id, epoch: group.epoch, to, bytes });
        }
    }
    draft
}

/// The first `most` moves that bring all disks that are up nearer to the same load for their size.
///
/// One position at a time goes from the disk that is fullest to the emptiest that may take it, and only where at least
/// half of it is above the mean where it comes from, and below the mean where it goes: so about what the emptiest lack
/// is moved, and no more. Load is what the groups' stripes take, not what disks have used: what was moved away is
/// counted where it is now, though scrub has yet to delete it where it was. Each scheme is levelled by itself, for its
/// stripes are alike; how large those of one are beside those of another is not known of any group.
pub(super) fn level_out(rows: &Rows, skip: &HashSet<GroupId>, stock: &mut Stock<'_>, most: usize) -> Draft {
    let schemes: BTreeSet<Scheme> = rows.groups.values().map(|group| group.scheme).collect();
    let mut draft = Draft::default();
    for scheme in schemes {
        let mut scales = Scales::of(rows, scheme, skip, stock);
        while draft.moves.len() < most {
            let Some((group, position, to, weight)) = scales.next(stock) else { break };
            scales.shift(group.id, position, to, weight);
            let bytes = stock.room.needed(&group);
            stock.take(to, bytes);
            // A position of a group at a time: the next would have to be judged by where this one lies then.
            let to = BTreeMap::from([(position, to)]);
            draft.moves.push(DraftMove { group: group.id, epoch: group.epoch, to, bytes });
        }
    }
    draft
}

/// What lies on each disk, of what may be moved and what not.
struct Scales {
    /// How much, and of how much at most.
    loads: BTreeMap<DiskId, (u64, u64)>,
    /// Positions that may be moved, the heaviest first.
    positions: HashMap<DiskId, Vec<(u64, GroupId, u8)>>,
    groups: HashMap<GroupId, Arc<Group>>,
    mean: f64,
}

impl Scales {
    fn of(rows: &Rows, scheme: Scheme, skip: &HashSet<GroupId>, stock: &Stock<'_>) -> Self {
        let up = rows.disks.values().filter(|disk| disk.state == DiskState::Up);
        let mut loads: BTreeMap<DiskId, (u64, u64)> =
            up.map(|disk| (disk.id, (0, disk.capacity_bytes.max(1)))).collect();
        let (mut positions, mut groups): (HashMap<_, Vec<_>>, HashMap<_, _>) = Default::default();
        for group in rows.groups.values().filter(|group| group.scheme == scheme) {
            let weight = stock.room.stripes_of(group.id);
            let movable = weight > 0 && !skip.contains(&group.id) && groups::is_whole(rows, group);
            for (position, member) in (0u8..).zip(&group.members) {
                let Some((load, _)) = loads.get_mut(member) else { continue };
                *load = load.saturating_add(weight);
                if movable {
                    positions.entry(*member).or_default().push((weight, group.id, position));
                }
            }
            if movable {
                groups.insert(group.id, group.clone());
            }
        }
        positions.values_mut().for_each(|positions| positions.sort_unstable_by_key(|position| Reverse(*position)));
        let (load, capacity) = loads
            .values()
            .fold((0u128, 0u128), |(load, capacity), of| (load + u128::from(of.0), capacity + u128::from(of.1)));
        let mean = load as f64 / (capacity as f64).max(1.0);
        Self { loads, positions, groups, mean }
    }

    /// The heaviest position of one of the fullest disks that may go to one of the emptiest, and its weight.
    fn next(&self, stock: &Stock<'_>) -> Option<(Arc<Group>, u8, DiskId, u64)> {
        let full = |(load, capacity): (u64, u64)| load as f64 / capacity as f64;
        let mut order: Vec<(f64, DiskId)> = self.loads.iter().map(|(id, load)| (full(*load), *id)).collect();
        let rising = |(a, _): &(f64, DiskId), (b, _): &(f64, DiskId)| a.total_cmp(b);
        let falling = |a: &(f64, DiskId), b: &(f64, DiskId)| rising(b, a);
        let emptiest = first(&mut order, rising);
        let fullest = first(&mut order, falling);
        if fullest.first()?.0 - emptiest.first()?.0 <= self.mean * SPREAD {
            return None;
        }
        // Of equal worth: half of the position must lie beyond the mean on either side.
        let excess = |id: DiskId| {
            self.loads.get(&id).map_or(0.0, |(load, capacity)| *load as f64 - self.mean * *capacity as f64)
        };
        for (_, from) in &fullest {
            let positions = self.positions.get(from).map(Vec::as_slice).unwrap_or_default();
            for (_, to) in &emptiest {
                // What is gained is to be a fifth of what is moved at least in sum, or positions go back and forth.
                let (over, under) = (excess(*from), -excess(*to));
                let most = (over.min(under) * 2.0).min((over + under) * 0.8);
                for (weight, group, position) in positions.iter().copied().filter(|(weight, ..)| *weight as f64 <= most)
                {
                    let Some(group) = self.groups.get(&group) else { continue };
                    let terms = (group.scheme, stock.level);
                    if stock.fits(*to, stock.room.needed(group))
                        && burden::keeps_spread(&stock.burden, terms, &group.members, position.into(), *to)
                    {
                        return Some((group.clone(), position, *to, weight));
                    }
                }
            }
        }
        None
    }

    /// Moves a position, and leaves its group alone from then on.
    fn shift(&mut self, group: GroupId, position: u8, to: DiskId, weight: u64) {
        let Some(group) = self.groups.remove(&group) else { return };
        let from = group.members.get(usize::from(position));
        if let Some((load, _)) = from.and_then(|from| self.loads.get_mut(from)) {
            *load = load.saturating_sub(weight);
        }
        for member in &group.members {
            if let Some(positions) = self.positions.get_mut(member) {
                positions.retain(|(_, other, _)| *other != group.id);
            }
        }
        if let Some((load, _)) = self.loads.get_mut(&to) {
            *load = load.saturating_add(weight);
        }
    }
}

/// The [`TRIED`] that come first, in order.
fn first<T: Copy>(all: &mut [T], order: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if all.len() > TRIED {
        all.select_nth_unstable_by(TRIED, &order);
    }
    let mut some = all.get(..TRIED.min(all.len())).map(<[T]>::to_vec).unwrap_or_default();
    some.sort_by(order);
    some
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;

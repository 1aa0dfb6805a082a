//! What is known of the fragments that stripes have: of each group, where its stripes lack one. From that follows how
//! many more may be lost, whichever disks are away. Pure, so that every case can be compared with a model.
//!
//! Three kinds of rows tell of it. A row of the ledger names a single fragment. The row of a group's repair stands for
//! everything that new members are still to get; which stripes lack which of them follows from the walk's place only
//! in part, and where it does not the worst is thought possible, and not certain. And every group has a count of its
//! stripes: those that no row speaks of are whole.

use std::collections::{BTreeMap, BTreeSet};

use cairn_fragment::geometry;
use cairn_schema::{ids::*, record::*};

use super::Rows;

/// Kinds of stripes that are told apart in one group. More are never seen but where fragments are missing at random,
/// and then the rest counts as not read.
const MOST_KINDS: usize = 512;

/// Whether a disk can be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    There,
    /// It should be there, and does not answer, or nothing is known of it.
    Unknown,
    Away,
}

/// Stripes that lack their fragments in the same places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Where, in order.
    pub at: Vec<u8>,
    /// How many such stripes there are; None: that is not known.
    pub stripes: Option<u64>,
    /// There is one for certain.
    pub certain: bool,
}

/// The stripes of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLacks {
    pub lacks: Vec<Lack>,
    /// There are rows of single fragments that were not read: what these stripes lack is not known.
    pub unread: bool,
}

/// The stripes of a group with a row of a single fragment, by where they lack one.
type Kinds = BTreeMap<(Vec<u8>, Vec<u8>), u64>;

/// Rows of single fragments, a stripe at a time.
#[derive(Debug, Default)]
pub struct Singles {
    /// By where stripes lack a fragment for certain, and where they may lack one besides.
    groups: BTreeMap<GroupId, Kinds>,
    unread: BTreeSet<GroupId>,
}

impl Singles {
    /// All rows of one stripe. `repair` is its group's, if it is under repair.
    pub fn take(&mut self, repair: Option<&GroupRepair>, rows: &[LedgerEntry]) {
        let Some(FragmentName { group, blob, .. }) = rows.first().map(|row| row.fragment) else { return };
        let mut at: Vec<u8> = rows.iter().map(|row| row.fragment.position).collect();
        at.sort_unstable();
        at.dedup();
        let mut besides = Vec::new();
        if let Some(repair) = repair {
            // The epoch of the blob's commit is not known here: 0 is before any.
            let may_lack = |position: &&PositionRepair| position.covers(repair.cursor, blob, 0);
            besides.extend(repair.positions.iter().filter(may_lack).map(|position| position.position));
            besides.retain(|position| !at.contains(position));
        }
        let kinds = self.groups.entry(group).or_default();
        if kinds.len() >= MOST_KINDS && !kinds.contains_key(&(at.clone(), besides.clone())) {
            self.unread.insert(group);
            return;
        }
        *kinds.entry((at, besides)).or_default() += 1;
    }

    /// A group has more rows than were read.
    pub fn leave_unread(&mut self, group: GroupId) {
        self.unread.insert(group);
    }

    pub fn unread(&self) -> usize {
        self.unread.len()
    }
}

/// What the stripes of all groups lack.
#[derive(Debug, Default)]
pub struct Redundancy {
    groups: BTreeMap<GroupId, GroupLacks>,
    /// Disks that become members of groups at any moment, by position.
    moves: BTreeMap<(GroupId, u8), DiskId>,
}

/// How many more fragments than needed the stripes of a group have; below 0 they cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Margins {
    /// Some stripe has no more than this for certain, even if all disks are there of which that is not known.
    pub certain: Option<i32>,
    /// No stripe has less, even if none of these disks is there. None: the group has no stripes.
    pub worst: Option<i32>,
    /// What the stripe lacks that has least.
    pub worst_at: Vec<u8>,
    /// Stripes that cannot be read if none of these disks is there; of None it is not known how many they are.
    pub unreadable: Option<u64>,
}

impl Redundancy {
    /// `stripes` is how many each group has; None in a store that does not count them. `may_get` tells whether a group
    /// could be given a stripe at any moment: one that has none so far counts as if it had.
    pub fn of(
        rows: &Rows,
        stripes: Option<&BTreeMap<GroupId, u64>>,
        repairs: &[GroupRepair],
        singles: &Singles,
        may_get: impl Fn(&Group) -> bool,
    ) -> Self {
        let repairs: BTreeMap<GroupId, &GroupRepair> = repairs.iter().map(|repair| (repair.group, repair)).collect();
        let of_group = |group: &Group| {
            let mut known = GroupLacks { unread: singles.unread.contains(&group.id), lacks: Vec::new() };
            let of_singles = singles.groups.get(&group.id).into_iter().flatten();
            known.lacks.extend(of_singles.flat_map(|((at, besides), stripes)| of_single(at, besides, *stripes)));
            known.lacks.extend(repairs.get(&group.id).into_iter().flat_map(|repair| of_repair(repair)));
            let lacking: u64 = known.lacks.iter().filter_map(|lack| lack.stripes.filter(|_| lack.certain)).sum();
            let all = stripes.map(|stripes| stripes.get(&group.id).copied().unwrap_or(0));
            let whole = all.map(|all| all.saturating_sub(lacking));
            // A store that does not count may have some in any group.
            if whole != Some(0) || (all == Some(0) && may_get(group)) {
                let certain = whole.is_some_and(|whole| whole > 0);
                known.lacks.push(Lack { at: Vec::new(), stripes: whole, certain });
            }
            (group.id, known)
        };
        Self { groups: rows.groups.values().map(|group| of_group(group)).collect(), moves: BTreeMap::new() }
    }

    /// With moves under way: a moment later the other disk may be the member, so a position counts as there only if
    /// both are.
    pub fn moving(mut self, rows: &Rows, moves: &[GroupMove]) -> Self {
        let same = |moved: &&GroupMove| rows.groups.get(&moved.group).is_some_and(|group| group.epoch == moved.epoch);
        for moved in moves.iter().filter(same) {
            self.moves.extend(moved.positions.iter().map(|to| ((moved.group, to.position), to.to)));
        }
        self
    }

    /// Disks that become members of a group at any moment.
    pub fn coming(&self, id: GroupId) -> impl Iterator<Item = DiskId> {
        self.moves.range((id, 0)..=(id, u8::MAX)).map(|(_, to)| *to)
    }

    pub fn group(&self, id: GroupId) -> Option<&GroupLacks> {
        self.groups.get(&id)
    }

    /// How much the stripes of a group can lose when the disks are there or not as `presence` says.
    pub fn margins(&self, group: &Group, presence: impl Fn(DiskId) -> Presence) -> Margins {
        let member = |(position, disk): (u8, &DiskId)| match self.moves.get(&(group.id, position)) {
            Some(to) if presence(*to) != Presence::There => presence(*disk).max(Presence::Unknown),
            _ => presence(*disk),
        };
        let members: Vec<Presence> = (0u8..).zip(&group.members).map(member).collect();
        let margin = |lack: &Lack, at_most: Presence| {
            let readable = |(position, is): (u8, &Presence)| *is <= at_most && !lack.at.contains(&position);
            let readable = (0u8..).zip(&members).filter(|member| readable(*member)).count();
            readable as i32 - geometry::needed_fragments(group.scheme) as i32
        };
        let mut margins = Margins { unreadable: Some(0), ..Margins::default() };
        let Some(known) = self.groups.get(&group.id) else { return margins };
        for lack in &known.lacks {
            let worst = margin(lack, Presence::There);
            if margins.worst.is_none_or(|least| worst < least) {
                margins.worst = Some(worst);
                margins.worst_at = lack.at.clone();
            }
            if worst < 0 {
                margins.unreadable = margins.unreadable.zip(lack.stripes).map(|(sum, stripes)| sum + stripes);
            }
            if lack.certain {
                let certain = margin(lack, Presence::Unknown);
                margins.certain = Some(margins.certain.map_or(certain, |least| least.min(certain)));
            }
        }
        margins
    }
}

fn of_single(at: &[u8], besides: &[u8], stripes: u64) -> Vec<Lack> {
    let mut lacks = vec![Lack { at: at.to_vec(), stripes: Some(stripes), certain: true }];
    if !besides.is_empty() {
        lacks.push(Lack { at: union(at, besides), stripes: None, certain: false });
    }
    lacks
}

fn union(a: &[u8], b: &[u8]) -> Vec<u8> {
    let all: BTreeSet<u8> = a.iter().chain(b).copied().collect();
    all.into_iter().collect()
}

/// What the stripes lack that a walk is still to come to.
///
/// Of positions that joined the walk at the same place the one that joined under the lower epoch is lacked only by
/// stripes that lack the others as well: so it is known how many lack what. Of others it is known of each alone.
fn of_repair(repair: &GroupRepair) -> Vec<Lack> {
    let mut positions: Vec<&PositionRepair> = repair.positions.iter().collect();
    positions.sort_by_key(|position| position.epoch);
    let region = |position: &PositionRepair| (position.start, position.wrapped);
    let together = positions.windows(2).all(|pair| region(pair[0]) == region(pair[1]));
    let sorted = |positions: &[&PositionRepair]| {
        let mut at: Vec<u8> = positions.iter().map(|position| position.position).collect();
        at.sort_unstable();
        at
    };
    let mut lacks = Vec::new();
    let mut counted = 0;
    for (first, position) in positions.iter().enumerate() {
        let at = if together { sorted(&positions[first..]) } else { vec![position.position] };
        let stripes = position.missing.saturating_sub(if together { counted } else { 0 });
        counted = position.missing.max(counted);
        if stripes > 0 {
            lacks.push(Lack { at, stripes: Some(stripes), certain: true });
        }
    }
    // In a store that does not count stripes the walk may have to do with more than was counted.
    let all = sorted(&positions);
    if !all.is_empty() && !lacks.iter().any(|lack| lack.at == all) {
        lacks.push(Lack { at: all, stripes: None, certain: false });
    }
    lacks
}

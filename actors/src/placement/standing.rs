//! How the data stands as a whole: how much of what the schemes tolerate is used up. Pure.

use std::collections::BTreeMap;

use cairn_fragment::geometry;
use cairn_schema::{ids::*, record::*};
use serde::Serialize;

use super::{
    Rows,
    redundancy::{Lack, Presence, Redundancy},
};

/// From best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Every stripe has all its fragments where they can be read.
    Safe,
    /// Some have fewer, and can lose at least one more.
    Degraded,
    /// Some can lose nothing more.
    AtRisk,
    /// Some cannot be read now.
    Unavailable,
}

impl Grade {
    /// Of stripes that lack a fragment and could lose so many more.
    pub(crate) fn of_lacking(margin: i32) -> Self {
        Self::of(margin, i32::MAX)
    }

    /// Of stripes with so many fragments more than needed, of `tolerated` when they are whole.
    fn of(margin: i32, tolerated: i32) -> Self {
        match margin {
            ..0 => Self::Unavailable,
            // A scheme without redundancy has none to lose.
            _ if margin >= tolerated => Self::Safe,
            0 => Self::AtRisk,
            _ => Self::Degraded,
        }
    }
}

/// How many stripes: exactly, or at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub stripes: u64,
    pub at_least: bool,
}

impl Count {
    fn add(&mut self, stripes: Option<u64>) {
        self.stripes = self.stripes.saturating_add(stripes.unwrap_or(0));
        self.at_least |= stripes.is_none();
    }
}

/// How the stripes of all groups stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// No group has stripes.
    pub empty: bool,
    /// Of the stripe that stands worst, for certain: even if all disks that do not answer are there.
    pub at_least: Grade,
    /// If none of these is, and stripes lack what they may lack.
    pub at_worst: Grade,
    /// The same with all of these disks there.
    pub at_worst_if_there: Grade,
    /// Groups with rows of single fragments that were not read: they may stand worse.
    pub unread_groups: u64,
    /// Of the stripes that have used up most: losses, of how many that are tolerated. If nothing unknown is there.
    pub used: u32,
    pub tolerated: u32,
    /// Stripes by how many more fragments they could lose, if nothing unknown is there; only of those that have not
    /// all their fragments.
    pub by_margin: BTreeMap<i32, Count>,
}

/// How the stripes stand when disks are there or not as `presence` says.
pub fn standing(rows: &Rows, redundancy: &Redundancy, presence: impl Fn(DiskId) -> Presence) -> Standing {
    let mut standing = Standing {
        empty: true,
        at_least: Grade::Safe,
        at_worst: Grade::Safe,
        at_worst_if_there: Grade::Safe,
        unread_groups: 0,
        used: 0,
        tolerated: 0,
        by_margin: BTreeMap::new(),
    };
    for group in rows.groups.values() {
        let Some(known) = redundancy.group(group.id) else { continue };
        standing.unread_groups += u64::from(known.unread);
        let members: Vec<Presence> = group.members.iter().map(|disk| presence(*disk)).collect();
        // Groups without stripes stand for nothing.
        known.lacks.iter().filter(|lack| lack.stripes != Some(0)).for_each(|lack| standing.take(group, &members, lack));
    }
    standing
}

impl Standing {
    fn take(&mut self, group: &Group, members: &[Presence], lack: &Lack) {
        self.empty = false;
        let needed = geometry::needed_fragments(group.scheme) as i32;
        let tolerated = members.len() as i32 - needed;
        let margin = |at_most: Presence| {
            let readable = |(position, is): &(u8, &Presence)| **is <= at_most && !lack.at.contains(position);
            (0u8..).zip(members).filter(readable).count() as i32 - needed
        };
        let (worst, best) = (margin(Presence::There), margin(Presence::Unknown));
        self.at_worst = self.at_worst.max(Grade::of(worst, tolerated));
        self.at_worst_if_there = self.at_worst_if_there.max(Grade::of(best, tolerated));
        if lack.certain {
            self.at_least = self.at_least.max(Grade::of(best, tolerated));
        }
        if worst >= tolerated {
            return;
        }
        self.by_margin.entry(worst).or_default().add(lack.stripes);
        let (used, of) = ((tolerated - worst).unsigned_abs(), tolerated.unsigned_abs());
        // By what is left, then by what was lost.
        let left = |used: u32, of: u32| (i64::from(of) - i64::from(used), std::cmp::Reverse(used));
        if self.used == 0 || left(used, of) < left(self.used, self.tolerated) {
            (self.used, self.tolerated) = (used, of);
        }
    }

    /// Stripes that have less than all their fragments and can lose no more than `most`.
    pub fn stripes_up_to(&self, most: i32) -> Count {
        let mut sum = Count::default();
        for count in self.by_margin.range(..=most).map(|(_, count)| count) {
            sum.stripes = sum.stripes.saturating_add(count.stripes);
            sum.at_least |= count.at_least;
        }
        sum
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;

//! Which groups have rows of single fragments in the ledger, and how endangered the stripes are that these are of. Rows
//! that stand for many are the business of `groups`.
//!
//! A plan reads the first rows of each group only: what it costs goes with the number of groups that lack something,
//! not with what they lack. The rest is read by whoever goes through the group (`singles`).

use std::{collections::BTreeMap, time::Instant};

use cairn_schema::{MetaError, ids::*, record::*};

use super::{
    Context,
    backoff::Backoff,
    groups::{EndangeredGroup, Filled, Lack, at_most, first_come, margin, rank, serves},
};
use crate::placement::Rows;

const GROUPS_PER_PAGE: usize = 64;
/// Rows that a plan reads of all groups together, if they are not so many that it is fewer than the least of each.
const ROWS: usize = 16 * 1024;
/// Of one group: at least those of a few stripes, and no more than one transaction may well read.
const LEAST_ROWS: usize = 16;
const MOST_ROWS: usize = 1000;

/// A stripe's name.
pub(super) type StripeName = (GroupId, BlobId, u32);

/// A stripe with fragments in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endangered {
    /// Fragments more than needed that are thought to be readable; below 0 the stripe cannot be read now.
    pub margin: i32,
    pub name: StripeName,
    /// Its rows whose disk can take the fragment back now.
    pub entries: Vec<LedgerEntry>,
}

/// What a look at the ledger found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Groups that can be repaired now, in no order.
    pub groups: Vec<EndangeredGroup>,
    /// Rows that were read, of groups that have no others and of groups that have, by how many fragments more than
    /// needed their stripes have.
    whole: BTreeMap<i32, u64>,
    partly: BTreeMap<i32, u64>,
}

/// Who looks, and what is to be left alone for now.
pub(super) struct Terms<'a> {
    pub limit: usize,
    pub node: &'a NodeId,
    pub nodes: &'a [NodeId],
    /// Stripes that failed not long ago.
    pub failed: &'a Backoff<StripeName>,
    /// Groups of which rows were read in vain not long ago.
    pub barren: &'a Backoff<GroupId>,
    pub now: Instant,
}

/// One pass over the groups with rows, keeping only the `limit` that come first.
pub(super) async fn scan(ctx: &Context, rows: &Rows, filled: &Filled, terms: &Terms<'_>) -> Result<Scan, MetaError> {
    let each = (ROWS / rows.groups.len().max(1)).clamp(LEAST_ROWS, MOST_ROWS);
    let mut scan = Scan::default();
    let mut after = None;
    loop {
        let page = ctx.meta.ledger_groups(after, GROUPS_PER_PAGE, each).await?;
        let Some(last) = page.last() else { return Ok(scan) };
        after = Some(last.group);
        page.into_iter().for_each(|first| scan.take(rows, filled, first, terms));
    }
}

impl Scan {
    fn take(&mut self, rows: &Rows, filled: &Filled, mut first: GroupLedger, terms: &Terms<'_>) {
        let Some(group) = rows.groups.get(&first.group) else { return };
        if first.more {
            cut_short(&mut first.entries);
        }
        let counts = if first.more { &mut self.partly } else { &mut self.whole };
        let (mut missing, mut least) = (0, None);
        for rows_of_one in first.entries.chunk_by(|a, b| stripe_of(a) == stripe_of(b)) {
            let count = rows_of_one.len() as u64;
            let Some(stripe) = assess(rows, filled, rows_of_one.to_vec()) else { continue };
            *counts.entry(stripe.margin).or_default() += count;
            missing += count;
            if !stripe.entries.is_empty() && !terms.failed.waits(&stripe.name, terms.now) {
                least = Some(least.map_or(stripe.margin, |least: i32| least.min(stripe.margin)));
            }
        }
        let margin = match least {
            Some(margin) => margin,
            // Nothing can be done about these. What comes after them may be another matter.
            None if first.more && !terms.barren.waits(&first.group, terms.now) => {
                margin(rows, group, |position| filled.has(group.id, position)) - 1
            }
            None => return,
        };
        let (rank, bytes) = (rank(terms.node, terms.nodes, group.id, &[]), at_most(rows, group, missing));
        self.groups.push(EndangeredGroup { margin, rank, bytes, id: group.id, lack: Lack::Fragments });
        if self.groups.len() >= terms.limit.max(1) * 2 {
            first_come(&mut self.groups, terms.limit);
        }
    }

    /// How many fragments are missing by how many more than needed their stripes have, where `all` have rows of their
    /// own: those that were not read are taken for such as the others of their groups.
    pub(super) fn by_margin(&self, all: u64) -> BTreeMap<i32, u64> {
        let mut by_margin = self.whole.clone();
        let read: u64 = self.partly.values().sum();
        let there = all.saturating_sub(self.whole.values().sum()).max(read);
        let mut left = there;
        for (at, (margin, count)) in self.partly.iter().enumerate() {
            let share = u128::from(there) * u128::from(*count) / u128::from(read.max(1));
            let share = if at + 1 == self.partly.len() { left } else { u64::try_from(share).unwrap_or(left).min(left) };
            left -= share;
            *by_margin.entry(*margin).or_default() += share;
        }
        by_margin
    }
}

pub(super) fn stripe_of(entry: &LedgerEntry) -> StripeName {
    (entry.fragment.group, entry.fragment.blob, entry.fragment.stripe)
}

/// Leaves away the last stripe, of which more rows may follow; not if it is all there is.
pub(super) fn cut_short(entries: &mut Vec<LedgerEntry>) {
    let Some(last) = entries.last().map(stripe_of) else { return };
    let whole = entries.iter().rposition(|entry| stripe_of(entry) != last);
    if let Some(whole) = whole {
        entries.truncate(whole + 1);
    }
}

/// How endangered a stripe is; None of a group that is not known. Its entries are those that something can be done
/// about now.
pub(super) fn assess(rows: &Rows, filled: &Filled, mut entries: Vec<LedgerEntry>) -> Option<Endangered> {
    let name = stripe_of(entries.first()?);
    let group = rows.groups.get(&name.0)?;
    let listed = |position: u8| {
        filled.has(group.id, position) || entries.iter().any(|entry| entry.fragment.position == position)
    };
    let margin = margin(rows, group, listed);
    entries.retain(|entry| serves(rows, group, entry.fragment.position));
    Some(Endangered { margin, name, entries })
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

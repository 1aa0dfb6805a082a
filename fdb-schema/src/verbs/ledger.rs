//! The ledger of missing fragments.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    ids::{FragmentName, GroupId},
    keyspace::{self, Space},
    kv::{RangeQuery, Row, counter, key_after, prefix_end},
    record::{Blob, Group, GroupLedger, LedgerEntry, rows::LedgerRow},
    verbs::{
        Meta, Verb,
        covered::covered,
        tx::{Outcome, Tx, transact},
    },
};

/// Entries added in one transaction.
pub(crate) const ADD_PAGE: usize = 256;

impl Meta {
    /// Adds rows for fragments found missing; those of blobs that no longer exist are skipped, and those that the
    /// repair of their group stands for. A row that is there stays as it is. When it fails some may have been added;
    /// adding them again is harmless.
    pub fn ledger_add<'a>(&'a self, entries: &'a [LedgerEntry]) -> Verb<'a, ()> {
        Box::pin(async move {
            for page in entries.chunks(ADD_PAGE) {
                transact!(self, "ledger_add", |tx| add(tx, page, Covers::All))?;
            }
            Ok(())
        })
    }

    /// Rows of single fragments, in order of name; [`Meta::group_repairs`] has those that stand for many.
    pub fn ledger(&self, after: Option<FragmentName>, limit: usize) -> Verb<'_, Vec<LedgerEntry>> {
        Box::pin(async move { transact!(self, "ledger", |tx| list(tx, after, limit)) })
    }

    /// The groups that have rows of single fragments, in order of id, each with its first `rows` of them. What it costs
    /// goes with the number of such groups, however many rows they have.
    pub fn ledger_groups(&self, after: Option<GroupId>, limit: usize, rows: usize) -> Verb<'_, Vec<GroupLedger>> {
        Box::pin(async move { transact!(self, "ledger_groups", |tx| groups(tx, after, limit, rows)) })
    }

    /// Rows of single fragments of one group, in order of name.
    pub fn ledger_of(&self, group: GroupId, after: Option<FragmentName>, limit: usize) -> Verb<'_, Vec<LedgerEntry>> {
        Box::pin(async move { transact!(self, "ledger_of", |tx| list_of(tx, group, after, limit)) })
    }

    /// How many fragments are missing, those included that a group's repair stands for.
    pub fn ledger_len(&self) -> Verb<'_, u64> {
        Box::pin(async move { transact!(self, "ledger_len", |tx| len(tx)) })
    }

    /// Removes a row once its fragment is verified to be durable, if the group's epoch still is `epoch`; Err(Stale)
    /// otherwise.
    pub fn ledger_clear(&self, fragment: FragmentName, epoch: u64) -> Verb<'_, ()> {
        Box::pin(async move {
            let mut first_seen = None;
            transact!(self, "ledger_clear", |tx| clear(tx, fragment, epoch, &mut first_seen))
        })
    }
}

/// Adds a row that is known not to be there, without counting it.
pub(crate) fn insert(tx: &mut Tx, entry: &LedgerEntry) {
    let row = LedgerRow { cause: entry.cause, since_ms: entry.since_ms };
    tx.set(keyspace::ledger(entry.fragment), &row);
}

/// Counts rows that came (or went).
pub(crate) fn count(tx: &mut Tx, rows: i64) {
    tx.add(keyspace::ledger_count(rand::random()), rows);
}

/// Whether the repair of its group, if it is still to get to a fragment, makes a row of its own needless.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Covers {
    All,
    Nothing,
}

pub(crate) async fn add(tx: &mut Tx, entries: &[LedgerEntry], covers: Covers) -> Outcome<()> {
    let blobs: Vec<Bytes> = entries.iter().map(|entry| keyspace::blob(entry.fragment.blob)).collect();
    let blobs = tx.get_many::<Blob>(&blobs).await?;
    let rows: Vec<Bytes> = entries.iter().map(|entry| keyspace::ledger(entry.fragment)).collect();
    tx.prefetch(&rows).await?;
    let groups: BTreeSet<_> = entries.iter().map(|entry| entry.fragment.group).collect();
    tx.prefetch(&groups.into_iter().map(keyspace::group_repair).collect::<Vec<_>>()).await?;
    let mut added = 0;
    for ((entry, blob), row) in entries.iter().zip(blobs).zip(rows) {
        // Each row is read again after an insert: a fragment may be named twice.
        let is_new = blob.is_some() && tx.raw(&row).await?.is_none();
        if is_new && (covers == Covers::Nothing || !is_covered(tx, entry.fragment).await?) {
            insert(tx, entry);
            added += 1;
        }
    }
    count(tx, added);
    Ok(())
}

async fn is_covered(tx: &mut Tx, name: FragmentName) -> Outcome<bool> {
    let covered = covered(tx, name.group, name.blob).await?;
    Ok(covered.is_some_and(|covered| covered.has(name.position)))
}

async fn list(tx: &mut Tx, after: Option<FragmentName>, limit: usize) -> Outcome<Vec<LedgerEntry>> {
    let (first, end) = keyspace::space(Space::Ledger);
    let begin = after.map_or(first, |after| key_after(&keyspace::ledger(after)));
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    entries(&page.rows)
}

async fn list_of(tx: &mut Tx, group: GroupId, after: Option<FragmentName>, limit: usize) -> Outcome<Vec<LedgerEntry>> {
    let all = keyspace::ledger_group(group);
    let end = prefix_end(&all);
    let begin = after.map_or(all, |after| key_after(&keyspace::ledger(after)));
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    entries(&page.rows)
}

/// From one group's first row to the next group's, over all that lie between.
async fn groups(tx: &mut Tx, after: Option<GroupId>, limit: usize, rows: usize) -> Outcome<Vec<GroupLedger>> {
    let (first, end) = keyspace::space(Space::Ledger);
    let mut begin = after.map_or(first, |after| prefix_end(&keyspace::ledger_group(after)));
    let mut groups = Vec::new();
    // The prefix of the last group of all has an end behind the space's.
    while groups.len() < limit && begin < end {
        let page = tx.range(RangeQuery::new(begin, end.clone(), rows + 1).snapshot()).await?;
        let mut entries = entries(&page.rows)?;
        let Some(group) = entries.first().map(|entry| entry.fragment.group) else { break };
        entries.retain(|entry| entry.fragment.group == group);
        let more = entries.len() > rows;
        entries.truncate(rows);
        groups.push(GroupLedger { group, entries, more });
        begin = prefix_end(&keyspace::ledger_group(group));
    }
    Ok(groups)
}

fn entries(rows: &[Row]) -> Outcome<Vec<LedgerEntry>> {
    let mut entries = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let LedgerRow { cause, since_ms } = LedgerRow::read(key, value)?;
        let fragment = keyspace::ledger_fragment(key)
            .ok_or_else(|| MetaError::Corrupt { what: "ledger row", why: format!("key {}", hex::encode(key)) })?;
        entries.push(LedgerEntry { fragment, cause, since_ms });
    }
    Ok(entries)
}

async fn len(tx: &mut Tx) -> Outcome<u64> {
    let (begin, end) = keyspace::space(Space::LedgerCount);
    let page = tx.range(RangeQuery::new(begin, end, keyspace::USAGE_STRIPES.into()).snapshot()).await?;
    let sum = page.rows.iter().map(|(_, value)| counter(Some(value))).fold(0, i64::wrapping_add);
    Ok(u64::try_from(sum).unwrap_or_default())
}

/// `first_seen` is the row that the first try found. There are too many of these to remember each attempt; if a later
/// try finds another row then this one was taken away, and a scrub has since found the fragment missing again, which
/// must stay known (RED-1).
async fn clear(tx: &mut Tx, fragment: FragmentName, epoch: u64, first_seen: &mut Option<Bytes>) -> Outcome<()> {
    let (group, row) = (keyspace::group(fragment.group), keyspace::ledger(fragment));
    tx.prefetch(&[group.clone(), row.clone()]).await?;
    let Some(present) = tx.raw(&row).await? else { return Ok(()) };
    if *first_seen.get_or_insert(present.clone()) != present {
        return Ok(());
    }
    if tx.get::<Group>(&group).await?.is_none_or(|group| group.epoch != epoch) {
        return Err(MetaError::Stale("group epoch").into());
    }
    tx.clear(row);
    count(tx, -1);
    Ok(())
}

/// Removes the rows of a blob that is gone. Bounded by the blob's fragments, so it may take several transactions:
/// whether rows are left.
pub(crate) async fn forget_blob(tx: &mut Tx, blob: &Blob, limit: &mut usize) -> Outcome<bool> {
    let (mut gone, limit_before) = (0, *limit);
    for run in &blob.runs {
        if gone == limit_before {
            break;
        }
        let begin = keyspace::ledger_blob(run.group, blob.id);
        let end = prefix_end(&begin);
        let page = tx.range(RangeQuery::new(begin, end, limit_before - gone)).await?;
        gone += page.rows.len();
        page.rows.into_iter().for_each(|(key, _)| tx.clear(key));
    }
    count(tx, -i64::try_from(gone).unwrap_or(i64::MAX));
    *limit -= gone;
    Ok(*limit == 0)
}

//! Blobs and the references to them.
//!
//! A blob's row exists from its commit until its fragments are deleted. The first reference needs no count: only those
//! beyond it are counted, so that most blobs never have a counter. A copy adds to the counter without reading it; what
//! keeps that right is that the copy has read the version it copies, which held a reference when it was committed.
//! Whoever takes a reference away reads the counter, and queues the blob when it was the last.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    error::{MetaError, Result},
    ids::{BlobId, GroupId, UploadId},
    keyspace::{self, ReclaimKind, Space},
    kv::{RangeQuery, counter, key_after, limits, prefix_end},
    record::{
        Blob, Group, LedgerEntry, MissingCause, NewBlob, Slice,
        rows::{GroupBlobRow, PartList, PartRow, ReclaimRow},
    },
    verbs::{
        Meta, Verb, by_policy, group_moves, group_repair, ledger,
        tx::{Outcome, Tx, all_rows, transact},
    },
};

/// Fragments that a blob may be without when it is committed: each is a row of the ledger, and all are written in one
/// transaction. The store has `prefix_bytes` of its own before every key.
pub const fn most_absent(prefix_bytes: usize) -> usize {
    const KEY_BYTES: usize = 26;
    const VALUE_BYTES: usize = 24;
    /// The other rows and what was read: a version, a blob and an attempt of the greatest length, and the rows of the
    /// blob's groups.
    const OTHERS: usize = limits::TRANSACTION_BYTES / 10;
    (limits::TRANSACTION_BYTES - OTHERS) / limits::write_bytes(prefix_bytes + KEY_BYTES, VALUE_BYTES)
}

impl Meta {
    /// None for those with no row (never committed, or reclaimed).
    pub fn blobs<'a>(&'a self, ids: &'a [BlobId]) -> Verb<'a, Vec<Option<Blob>>> {
        Box::pin(async move {
            let keys: Vec<Bytes> = ids.iter().map(|id| keyspace::blob(*id)).collect();
            transact!(self, "blobs", |tx| tx.get_many(&keys))
        })
    }

    /// How many stripes each group holds, of groups that hold any. None in a store of before they were counted: an
    /// export of it, imported into a new one, counts them.
    pub fn group_stripes(&self) -> Verb<'_, Option<BTreeMap<GroupId, u64>>> {
        Box::pin(async move { transact!(self, "group_stripes", |tx| group_stripes(tx)) })
    }

    /// Blobs with stripes in the group, in id order: what scrub expects to find.
    pub fn group_blobs(&self, group: GroupId, after: Option<BlobId>, limit: usize) -> Verb<'_, Vec<Blob>> {
        Box::pin(async move { transact!(self, "group_blobs", |tx| group_blobs(tx, group, after, limit)) })
    }
}

async fn group_stripes(tx: &mut Tx) -> Outcome<Option<BTreeMap<GroupId, u64>>> {
    if tx.raw(&keyspace::stripes_are_counted()).await?.is_none() {
        return Ok(None);
    }
    let rows = all_rows(tx, Space::GroupStripes).await?;
    let counted = rows.iter().filter_map(|(key, value)| {
        let stripes = u64::try_from(counter(Some(value))).unwrap_or_default();
        Some((keyspace::group_of_stripes(key)?, stripes)).filter(|_| stripes > 0)
    });
    Ok(Some(counted.collect()))
}

async fn group_blobs(tx: &mut Tx, group: GroupId, after: Option<BlobId>, limit: usize) -> Outcome<Vec<Blob>> {
    let first = keyspace::group_blobs(group);
    let end = prefix_end(&first);
    let begin = after.map_or(first, |after| key_after(&keyspace::group_blob(group, after)));
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    let ids = page.rows.iter().filter_map(|(key, _)| keyspace::group_blob_id(key));
    let keys: Vec<Bytes> = ids.map(keyspace::blob).collect();
    Ok(tx.get_many(&keys).await?.into_iter().flatten().collect())
}

/// Rows that [`register`] will read.
pub(crate) fn read_ahead(new: &NewBlob) -> impl Iterator<Item = Bytes> {
    let groups = new.epochs.iter().flat_map(|(group, _)| [keyspace::group(*group), keyspace::group_move(*group)]);
    let policy = new.policy.map(|_| keyspace::policy());
    groups.chain([keyspace::blob(new.blob.id), keyspace::condemned(new.blob.id)]).chain(policy)
}

/// Counts a blob's stripes in its groups: those that came with a `sign` of 1, those that went with -1.
fn count_stripes(tx: &mut Tx, blob: &Blob, sign: i64) {
    for (group, stripes) in blob.stripes_by_group() {
        tx.add(keyspace::group_stripes(group), sign * i64::try_from(stripes).unwrap_or(i64::MAX));
    }
}

/// Writes the rows of a new blob, which thereby has its first reference, if its groups are as they were when its
/// fragments were written.
pub(crate) async fn register(tx: &mut Tx, new: &NewBlob) -> Outcome<()> {
    let blob = &new.blob;
    let groups = blob.stripes_by_group();
    for group in groups.keys() {
        if !new.epochs.iter().any(|(named, _)| named == group) {
            return Err(MetaError::Invalid { what: "blob", why: format!("no epoch of group {group}") }.into());
        }
    }
    if let Some(generation) = new.policy {
        by_policy::check(tx, generation).await?;
    }
    for (id, epoch) in &new.epochs {
        let group = tx.get::<Group>(&keyspace::group(*id)).await?;
        if group.is_none_or(|group| group.epoch != *epoch) {
            return Err(MetaError::GroupChanged(*id).into());
        }
    }
    let key = keyspace::blob(blob.id);
    if tx.raw(&key).await?.is_some() {
        return Err(MetaError::Stale("blob was committed before").into());
    }
    if tx.raw(&keyspace::condemned(blob.id)).await?.is_some() {
        return Err(MetaError::Stale("write, which took so long that its bytes were given up").into());
    }
    tx.set(key, blob);
    for (group, epoch) in &new.epochs {
        if let Some(&stripes) = groups.get(group) {
            tx.set(keyspace::group_blob(*group, blob.id), &GroupBlobRow { epoch: *epoch, stripes });
            group_moves::note_commit(tx, *group, blob.id).await?;
        }
    }
    count_stripes(tx, blob, 1);
    let missing: BTreeSet<_> = new.missing.iter().copied().collect();
    ledger::count(tx, i64::try_from(missing.len()).unwrap_or(i64::MAX));
    for fragment in missing {
        let entry = LedgerEntry { fragment, cause: MissingCause::WriteAbsent, since_ms: tx.now_ms };
        ledger::insert(tx, &entry);
    }
    Ok(())
}

/// Takes the rows of a blob away, with its ledger; whether some are left for another transaction. `ledger_rows` is how
/// many more of the ledger's this one may take away.
pub(crate) async fn forget(tx: &mut Tx, blob: &Blob, ledger_rows: &mut usize) -> Outcome<bool> {
    if *ledger_rows == 0 || ledger::forget_blob(tx, blob, ledger_rows).await? {
        return Ok(true);
    }
    for (group, stripes) in blob.stripes_by_group() {
        group_repair::forget_blob(tx, group, blob.id, stripes).await?;
        tx.clear(keyspace::group_blob(group, blob.id));
    }
    count_stripes(tx, blob, -1);
    tx.clear(keyspace::blob(blob.id));
    Ok(false)
}

/// Another reference to each slice. The version that the slices are of must have been read in this transaction.
pub(crate) fn share_slices(tx: &mut Tx, slices: &[Slice]) {
    for slice in slices {
        tx.add(keyspace::blob_extra(slice.blob.id), 1);
    }
}

/// Another reference to everything a version has. The version must have been read in this transaction.
pub(crate) fn share(tx: &mut Tx, parts: &PartList) {
    match parts {
        PartList::Inline(parts) => {
            for id in parts.iter().flat_map(PartRow::references) {
                tx.add(keyspace::blob_extra(id), 1);
            }
        }
        PartList::Listed { list, .. } => tx.add(keyspace::list_extra(*list), 1),
    }
}

/// Takes away the references of a version that is no more.
pub(crate) async fn release(tx: &mut Tx, parts: &PartList) -> Outcome<()> {
    match parts {
        PartList::Inline(parts) => release_parts(tx, parts, tx.now_ms).await,
        PartList::Listed { list, .. } => release_list(tx, *list).await,
    }
}

pub(crate) async fn release_list(tx: &mut Tx, list: UploadId) -> Outcome<()> {
    let extra = keyspace::list_extra(list);
    if counter(tx.raw(&extra).await?.as_deref()) > 0 {
        tx.add(extra, -1);
    } else {
        tx.set(keyspace::reclaim(ReclaimKind::List, tx.now_ms, list.0), &ReclaimRow::List);
    }
    Ok(())
}

/// Takes away the references of parts that nobody has seen since `queued_ms`. A blob that was shared may have been seen
/// later, by way of a reference that is gone by now: its grace period begins today.
pub(crate) async fn release_parts(tx: &mut Tx, parts: &[PartRow], queued_ms: u64) -> Outcome<()> {
    let ids: Vec<BlobId> = parts.iter().flat_map(PartRow::references).collect();
    let keys: Vec<Bytes> = ids.iter().map(|id| keyspace::blob_extra(*id)).collect();
    if !keys.is_empty() {
        tx.prefetch(&keys).await?;
    }
    for (id, extra) in ids.into_iter().zip(keys) {
        // Each counter is read again after a change: two slices may share a blob.
        let shared = tx.raw(&extra).await?;
        if counter(shared.as_deref()) > 0 {
            tx.add(extra, -1);
        } else {
            let queued_ms = if shared.is_some() { tx.now_ms } else { queued_ms };
            tx.set(keyspace::reclaim(ReclaimKind::Blob, queued_ms, id.0), &ReclaimRow::Blob);
        }
    }
    Ok(())
}

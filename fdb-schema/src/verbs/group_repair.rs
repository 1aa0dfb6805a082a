//! Groups whose members were replaced, and what the new ones are still to get.
//!
//! That a disk was lost is one row for each of its groups, written in the transaction that replaces the member, however
//! many fragments it held: their number is the group's counter of stripes. From then on every commit puts its fragments
//! on the new member, and every blob's row in the group tells whether it was committed before. So what the row stands
//! for is known exactly at each moment: the walk that repairs the group takes away what it has seen to, a blob that is
//! forgotten takes away its own, and the ledger's length counts the rest.

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    ids::{AttemptId, BlobId, DiskId, FragmentName, GroupId},
    keyspace::{self, Space},
    kv::{RangeQuery, counter, key_after, prefix_end},
    record::{
        Blob, Group, GroupRepair, GroupRepairStep, LedgerEntry, MissingCause, PlacedBlob, PositionRepair,
        rows::{AttemptRow, GroupBlobRow},
    },
    verbs::{
        Meta, Verb, attempts,
        covered::{Covered, covered},
        ledger::{self, Covers},
        placement,
        tx::{Outcome, Tx, transact},
    },
};

/// Rows of a group's blobs that are read at a time.
const BLOB_PAGE: usize = 1000;
/// Ledger rows that are looked at in one transaction.
const LEDGER_PAGE: usize = 1000;

impl Meta {
    /// Replaces members of a group if its epoch still is `epoch`, and writes down that the new ones lack everything
    /// that the group has: in one transaction, so that nothing is ever missing without being in the ledger (RED-1).
    pub fn replace_members(
        &self,
        id: GroupId,
        epoch: u64,
        members: Vec<DiskId>,
        cause: MissingCause,
    ) -> Verb<'_, Group> {
        Box::pin(async move {
            // Stores of before stripes were counted count them for this.
            let uncounted = match transact!(self, "stripes_are_counted", |tx| is_counted(tx))? {
                true => 0,
                false => self.count_stripes_of(id).await?,
            };
            let attempt = AttemptId::random();
            let group = transact!(self, "replace_members", |tx| {
                replace(tx, attempt, (id, epoch), &members, cause, uncounted)
            })?;
            let mut after = None;
            loop {
                after = transact!(self, "absorb", |tx| absorb(tx, id, after))?;
                if after.is_none() {
                    return Ok(group);
                }
            }
        })
    }

    /// The groups under repair, in order of id.
    pub fn group_repairs(&self, after: Option<GroupId>, limit: usize) -> Verb<'_, Vec<GroupRepair>> {
        Box::pin(async move { transact!(self, "group_repairs", |tx| list(tx, after, limit)) })
    }

    pub fn group_repair(&self, group: GroupId) -> Verb<'_, Option<GroupRepair>> {
        Box::pin(async move {
            let key = keyspace::group_repair(group);
            transact!(self, "group_repair", |tx| tx.get(&key))
        })
    }

    /// Blobs with stripes in the group, in id order, and since when: what a walk over the group goes through.
    pub fn placed_blobs(&self, group: GroupId, after: Option<BlobId>, limit: usize) -> Verb<'_, Vec<PlacedBlob>> {
        Box::pin(async move { transact!(self, "placed_blobs", |tx| placed(tx, group, after, limit)) })
    }

    /// Gives fragments that a walk is about to leave behind, because they cannot be made now, rows of their own. Until
    /// the walk has moved on they are counted twice: too many for a moment rather than too few (RED-1). When it fails
    /// some may have been added; adding them again is harmless.
    pub fn leave_behind<'a>(&'a self, entries: &'a [LedgerEntry]) -> Verb<'a, ()> {
        Box::pin(async move {
            for page in entries.chunks(ledger::ADD_PAGE) {
                transact!(self, "leave_behind", |tx| ledger::add(tx, page, Covers::Nothing))?;
            }
            Ok(())
        })
    }

    /// Notes how far a walk has come; what is left to do after that, None: there is nothing more. What it could not
    /// make was left behind before.
    ///
    /// # Errors
    /// Stale when the group has changed, or another walk has moved on from where this one began.
    pub fn advance_group_repair(&self, step: GroupRepairStep) -> Verb<'_, Option<GroupRepair>> {
        Box::pin(async move {
            let mut first_seen = None;
            transact!(self, "advance_group_repair", |tx| advance(tx, &step, &mut first_seen))
        })
    }

    async fn count_stripes_of(&self, group: GroupId) -> Result<u64> {
        let (mut stripes, mut after) = (0, None);
        loop {
            let blobs = self.group_blobs(group, after, BLOB_PAGE).await?;
            let Some(last) = blobs.last() else { return Ok(stripes) };
            after = Some(last.id);
            stripes += blobs.iter().filter_map(|blob| blob.stripes_by_group().remove(&group)).sum::<u64>();
        }
    }
}

async fn replace(
    tx: &mut Tx,
    attempt: AttemptId,
    (id, epoch): (GroupId, u64),
    members: &[DiskId],
    cause: MissingCause,
    uncounted: u64,
) -> Outcome<Group> {
    let (key, row, stripes) = (keyspace::group(id), keyspace::group_repair(id), keyspace::group_stripes(id));
    tx.prefetch(&[keyspace::attempt(attempt), key.clone(), row.clone(), stripes.clone()]).await?;
    if let Some(AttemptRow::Group(group)) = attempts::earlier(tx, attempt).await? {
        return Ok(group);
    }
    let group = tx.get::<Group>(&key).await?.ok_or(MetaError::Stale("group"))?;
    if group.epoch != epoch {
        return Err(MetaError::Stale("group epoch").into());
    }
    placement::check_members(group.scheme, members)?;
    let counted = is_counted(tx).await?;
    let stripes = match counted {
        true => u64::try_from(counter(tx.raw(&stripes).await?.as_deref())).unwrap_or_default(),
        false => uncounted,
    };
    let new = Group { members: members.to_vec(), epoch: epoch + 1, ..group.clone() };
    let repair = tx.get::<GroupRepair>(&row).await?;
    let mut repair = repair.unwrap_or(GroupRepair { group: id, cursor: None, positions: Vec::new() });
    let (mut before, mut after) = (0, 0);
    for (position, (from, _)) in (0u8..).zip(group.members.iter().zip(members)).filter(|(_, (from, to))| from != to) {
        // A member that is replaced before it was filled has left nothing.
        repair.positions.retain(|filled| {
            before += if filled.position == position { filled.missing } else { 0 };
            filled.position != position
        });
        let (epoch, since_ms, start) = (new.epoch, tx.now_ms, repair.cursor);
        let (from, wrapped) = (*from, false);
        repair.positions.push(PositionRepair {
            position,
            epoch,
            cause,
            since_ms,
            from,
            start,
            wrapped,
            missing: stripes,
        });
        after += stripes;
    }
    if new.members == group.members {
        return Ok(group);
    }
    repair.positions.sort_by_key(|filled| filled.position);
    tx.set(key, &new);
    keep(tx, &mut repair, |filled| !counted || filled.missing > 0);
    ledger::count(tx, signed(after) - signed(before));
    attempts::remember(tx, attempt, &AttemptRow::Group(new.clone()));
    placement::changed(tx).await?;
    Ok(new)
}

fn signed(fragments: u64) -> i64 {
    i64::try_from(fragments).unwrap_or(i64::MAX)
}

/// Whether the count of what is missing is exact, so that none means that nothing is: not in a store of before stripes
/// were counted, where only the end of the walk tells.
async fn is_counted(tx: &mut Tx) -> Outcome<bool> {
    Ok(tx.raw(&keyspace::stripes_are_counted()).await?.is_some())
}

/// Stores the row with those of its positions that are to stay, or takes it away when none does.
fn keep(tx: &mut Tx, repair: &mut GroupRepair, stays: impl Fn(&PositionRepair) -> bool) {
    repair.positions.retain(|filled| stays(filled));
    let key = keyspace::group_repair(repair.group);
    if repair.positions.is_empty() { tx.clear(key) } else { tx.set(key, repair) }
}

async fn list(tx: &mut Tx, after: Option<GroupId>, limit: usize) -> Outcome<Vec<GroupRepair>> {
    let (first, end) = keyspace::space(Space::GroupRepair);
    let begin = after.map_or(first, |after| key_after(&keyspace::group_repair(after)));
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    Ok(page.rows.iter().map(|(key, value)| GroupRepair::read(key, value)).collect::<Result<_>>()?)
}

async fn placed(tx: &mut Tx, group: GroupId, after: Option<BlobId>, limit: usize) -> Outcome<Vec<PlacedBlob>> {
    let first = keyspace::group_blobs(group);
    let end = prefix_end(&first);
    let begin = after.map_or(first, |after| key_after(&keyspace::group_blob(group, after)));
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    let ids: Vec<BlobId> = page.rows.iter().filter_map(|(key, _)| keyspace::group_blob_id(key)).collect();
    let keys: Vec<Bytes> = ids.into_iter().map(keyspace::blob).collect();
    let mut placed = Vec::with_capacity(keys.len());
    for ((key, value), blob) in page.rows.iter().zip(tx.get_many::<Blob>(&keys).await?) {
        let epoch = GroupBlobRow::noted(key, value)?.map_or(0, |row| row.epoch);
        placed.extend(blob.map(|blob| PlacedBlob { blob, epoch }));
    }
    Ok(placed)
}

/// `first_seen` is the row that the first try found: if a later one finds another, either this step was committed
/// after all, or another walk has gone on from the same place, and has seen to the same.
async fn advance(tx: &mut Tx, step: &GroupRepairStep, first_seen: &mut Option<Bytes>) -> Outcome<Option<GroupRepair>> {
    let (group, row) = (keyspace::group(step.group), keyspace::group_repair(step.group));
    tx.prefetch(&[group.clone(), row.clone()]).await?;
    let Some(stored) = tx.raw(&row).await? else { return Ok(None) };
    let mut repair = GroupRepair::read(&row, &stored)?;
    if *first_seen.get_or_insert(stored.clone()) != stored {
        return Ok(Some(repair));
    }
    if tx.get::<Group>(&group).await?.is_none_or(|group| group.epoch != step.epoch) {
        return Err(MetaError::Stale("group epoch").into());
    }
    if repair.cursor != step.from {
        return Err(MetaError::Stale("place of a group's repair").into());
    }
    let done = take_seen(tx, step, &mut repair).await?;
    ledger::count(tx, -signed(done));
    repair.cursor = step.to;
    if step.to.is_none() {
        for filled in &mut repair.positions {
            // Round the end for the second time: the blob where it started is gone, and was the last.
            filled.start = filled.start.filter(|_| !filled.wrapped);
            filled.wrapped = true;
        }
    }
    let (cursor, counted) = (repair.cursor, is_counted(tx).await?);
    let is_done = |filled: &PositionRepair| filled.is_done(cursor) || (counted && filled.missing == 0);
    let rest: u64 = repair.positions.iter().filter(|filled| is_done(filled)).map(|filled| filled.missing).sum();
    // Nothing, unless the store is one that does not count.
    ledger::count(tx, -signed(rest));
    keep(tx, &mut repair, |filled| !is_done(filled));
    Ok((!repair.positions.is_empty()).then_some(repair))
}

/// Takes what a step has seen to away from what is missing; how many fragments.
async fn take_seen(tx: &mut Tx, step: &GroupRepairStep, repair: &mut GroupRepair) -> Outcome<u64> {
    let cursor = repair.cursor;
    let all = keyspace::group_blobs(step.group);
    let mut begin = step.from.map_or_else(|| all.clone(), |from| key_after(&keyspace::group_blob(step.group, from)));
    let end = step.to.map_or_else(|| prefix_end(&all), |to| key_after(&keyspace::group_blob(step.group, to)));
    let mut done = 0;
    loop {
        let page = tx.range(RangeQuery::new(begin, end.clone(), BLOB_PAGE)).await?;
        for (key, value) in &page.rows {
            let Some(blob) = keyspace::group_blob_id(key) else { continue };
            let Some(GroupBlobRow { epoch, stripes }) = placed_row(tx, step.group, blob, key, value).await? else {
                continue;
            };
            for filled in repair.positions.iter_mut().filter(|filled| filled.covers(cursor, blob, epoch)) {
                let less = stripes.min(filled.missing);
                filled.missing -= less;
                done += less;
            }
        }
        match page.rows.last().filter(|_| page.more) {
            Some((last, _)) => begin = key_after(last),
            None => return Ok(done),
        }
    }
}

/// What a row of a group's blobs says; of one that says nothing, what the blob's own does.
async fn placed_row(
    tx: &mut Tx,
    group: GroupId,
    blob: BlobId,
    key: &Bytes,
    value: &Bytes,
) -> Outcome<Option<GroupBlobRow>> {
    if let Some(row) = GroupBlobRow::noted(key, value)? {
        return Ok(Some(row));
    }
    let blob = tx.get::<Blob>(&keyspace::blob(blob)).await?;
    let stripes = blob.and_then(|blob| blob.stripes_by_group().remove(&group));
    Ok(stripes.map(|stripes| GroupBlobRow { epoch: 0, stripes }))
}

/// Of a blob that is gone nothing is missing any more.
pub(crate) async fn forget_blob(tx: &mut Tx, group: GroupId, blob: BlobId, stripes: u64) -> Outcome<()> {
    let Some(Covered { mut repair, blob, epoch }) = covered(tx, group, blob).await? else { return Ok(()) };
    let (cursor, mut gone) = (repair.cursor, 0);
    for filled in repair.positions.iter_mut().filter(|filled| filled.covers(cursor, blob, epoch)) {
        let less = stripes.min(filled.missing);
        filled.missing -= less;
        gone += less;
    }
    if gone > 0 {
        let counted = is_counted(tx).await?;
        keep(tx, &mut repair, |filled| !counted || filled.missing > 0);
        ledger::count(tx, -signed(gone));
    }
    Ok(())
}

/// Takes away ledger rows of fragments that a row of the group's repair stands for since; returns where to go on.
async fn absorb(tx: &mut Tx, group: GroupId, after: Option<FragmentName>) -> Outcome<Option<FragmentName>> {
    let all = keyspace::ledger_group(group);
    let begin = after.map_or_else(|| all.clone(), |after| key_after(&keyspace::ledger(after)));
    let page = tx.range(RangeQuery::new(begin, prefix_end(&all), LEDGER_PAGE)).await?;
    let names: Vec<FragmentName> = page.rows.iter().filter_map(|(key, _)| keyspace::ledger_fragment(key)).collect();
    let blobs: Vec<Bytes> = names.iter().map(|name| keyspace::group_blob(group, name.blob)).collect();
    tx.prefetch(&blobs).await?;
    tx.prefetch(&[keyspace::group_repair(group)]).await?;
    let mut gone = 0;
    for name in &names {
        if covered(tx, group, name.blob).await?.is_some_and(|covered| covered.has(name.position)) {
            tx.clear(keyspace::ledger(*name));
            gone += 1;
        }
    }
    ledger::count(tx, -gone);
    Ok(names.last().copied().filter(|_| page.more))
}

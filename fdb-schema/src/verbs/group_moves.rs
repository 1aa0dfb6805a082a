//! Members of groups that are moved to other disks without anything being missing meanwhile.
//!
//! A move has a row of its own beside the group's, and until it ends the group's members are who they were: readers,
//! writers and repair know nothing of it. What makes that exact is that a commit reads the row of the move: of a commit
//! and the beginning of the move one is seen by the other, so whatever the walk over the group's blobs could miss is in
//! the move's tail. The members change in a transaction that reads the tail and finds nothing there.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::MetaError,
    ids::{AttemptId, BlobId, DiskId, GroupId},
    keyspace::{self, Space},
    kv::{RangeQuery, prefix_end},
    record::{
        Blob, Disk, Group, GroupMove, GroupState, Job, JobId, JobState, MoveEnd, MoveStep, PositionMove, TailBlob,
        rows::AttemptRow,
    },
    verbs::{
        Meta, Verb, attempts, placement,
        tx::{Outcome, Tx, all, transact},
    },
};

impl Meta {
    /// Begins to move positions of a group to other disks, as part of a job that runs. The group takes no new stripes
    /// until the move ends. One that has begun like that already is returned as it is.
    ///
    /// # Errors
    /// Stale when the group is another by now, is under repair or is moved otherwise, when a disk is not up, or the job
    /// does not run; Invalid for members that no group could have.
    pub fn begin_move(&self, group: GroupId, epoch: u64, job: JobId, to: BTreeMap<u8, DiskId>) -> Verb<'_, GroupMove> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "begin_move", |tx| begin(tx, attempt, group, epoch, job, &to))
        })
    }

    /// All moves under way, in order of group: they are few.
    pub fn group_moves(&self) -> Verb<'_, Vec<GroupMove>> {
        Box::pin(async move { transact!(self, "group_moves", |tx| all(tx, Space::GroupMove)) })
    }

    pub fn group_move(&self, group: GroupId) -> Verb<'_, Option<GroupMove>> {
        Box::pin(async move {
            let key = keyspace::group_move(group);
            transact!(self, "group_move", |tx| tx.get(&key))
        })
    }

    /// Notes how far the walk of a move has come; the move as it is then. None: it is no more.
    ///
    /// # Errors
    /// Stale when another walk has moved on from where this one began.
    pub fn advance_move(&self, step: MoveStep) -> Verb<'_, Option<GroupMove>> {
        Box::pin(async move {
            let mut first_seen = None;
            transact!(self, "advance_move", |tx| advance(tx, &step, &mut first_seen))
        })
    }

    /// The first blobs of a move's tail.
    pub fn move_tail(&self, group: GroupId, limit: usize) -> Verb<'_, Vec<TailBlob>> {
        Box::pin(async move { transact!(self, "move_tail", |tx| tail(tx, group, limit)) })
    }

    /// Takes blobs of the tail away whose fragments are on the new disks, or that are no more. A blob comes into the
    /// tail once, with its commit: to take it away twice is harmless.
    pub fn clear_move_tail<'a>(&'a self, group: GroupId, id: AttemptId, blobs: &'a [BlobId]) -> Verb<'a, ()> {
        Box::pin(async move { transact!(self, "clear_move_tail", |tx| clear_tail(tx, group, id, blobs)) })
    }

    /// Makes the new disks the members, if the walk has come to the end and the tail is empty. The job's count grows in
    /// the same transaction.
    pub fn finish_move(&self, group: GroupId, epoch: u64) -> Verb<'_, MoveEnd> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "finish_move", |tx| finish(tx, attempt, group, epoch))
        })
    }

    /// Ends a move without having changed the members; the group takes writes again if it did before. What was copied
    /// is left to scrub. True if there was such a move.
    pub fn end_move(&self, group: GroupId, epoch: u64) -> Verb<'_, bool> {
        Box::pin(async move {
            let mut ended = false;
            transact!(self, "end_move", |tx| end_one(tx, group, epoch, &mut ended))
        })
    }
}

async fn begin(
    tx: &mut Tx,
    attempt: AttemptId,
    id: GroupId,
    epoch: u64,
    job: JobId,
    to: &BTreeMap<u8, DiskId>,
) -> Outcome<GroupMove> {
    let (key, row, repair) = (keyspace::group(id), keyspace::group_move(id), keyspace::group_repair(id));
    tx.prefetch(&[key.clone(), row.clone(), repair.clone(), keyspace::job(job)]).await?;
    let group = tx.get::<Group>(&key).await?.filter(|group| group.epoch == epoch);
    let mut group = group.ok_or(MetaError::Stale("group epoch"))?;
    if tx.get::<Job>(&keyspace::job(job)).await?.is_none_or(|job| job.state != JobState::Running) {
        return Err(MetaError::Stale("job").into());
    }
    let mut members = group.members.clone();
    let mut positions = Vec::with_capacity(to.len());
    let keys: Vec<Bytes> = to.values().copied().map(keyspace::disk).collect();
    let disks = tx.get_many::<Disk>(&keys).await?;
    for ((position, to), disk) in to.iter().zip(disks) {
        let why = format!("it has no position {position}");
        let none = MetaError::Invalid { what: "move of a group", why };
        let member = members.get_mut(usize::from(*position)).ok_or(none)?;
        let up_since_ms = disk.map_or(0, |disk| disk.since_ms);
        positions.push(PositionMove { position: *position, from: *member, to: *to, up_since_ms });
        *member = *to;
    }
    if positions.is_empty() {
        return Err(MetaError::Invalid { what: "move of a group", why: "it moves nothing".to_owned() }.into());
    }
    placement::check_members(group.scheme, &members)?;
    if let Some(begun) = tx.get::<GroupMove>(&row).await? {
        let same = begun.epoch == epoch && begun.job == job && begun.positions == positions;
        return if same { Ok(begun) } else { Err(MetaError::Stale("move of a group").into()) };
    }
    if tx.raw(&repair).await?.is_some() {
        return Err(MetaError::Stale("group, which is under repair").into());
    }
    must_be_up(tx, &positions).await?;
    let was_open = group.state == GroupState::Open;
    let begun = GroupMove {
        group: id,
        id: attempt,
        job,
        epoch,
        since_ms: tx.now_ms,
        was_open,
        positions,
        cursor: None,
        walked: false,
        bytes: 0,
    };
    tx.set(row, &begun);
    if was_open {
        group.state = GroupState::Sealed;
        tx.set(key, &group);
    }
    placement::changed(tx).await?;
    Ok(begun)
}

async fn must_be_up(tx: &mut Tx, positions: &[PositionMove]) -> Outcome<()> {
    let keys: Vec<Bytes> = positions.iter().map(|position| keyspace::disk(position.to)).collect();
    let disks = tx.get_many::<Disk>(&keys).await?;
    let up =
        |(position, disk): (&PositionMove, &Option<Disk>)| disk.as_ref().is_some_and(|disk| position.is_up_still(disk));
    if positions.iter().zip(&disks).all(up) {
        return Ok(());
    }
    Err(MetaError::Stale("disk that was to be a member").into())
}

/// `first_seen` is the row that the first try found: if a later one finds another, either this step was committed
/// after all, or another walk has gone on from the same place, and has seen to the same.
async fn advance(tx: &mut Tx, step: &MoveStep, first_seen: &mut Option<Bytes>) -> Outcome<Option<GroupMove>> {
    let row = keyspace::group_move(step.group);
    let Some(stored) = tx.raw(&row).await? else { return Ok(None) };
    let mut walked = GroupMove::read(&row, &stored)?;
    if (walked.epoch, walked.id) != (step.epoch, step.id) {
        return Ok(None);
    }
    if *first_seen.get_or_insert(stored.clone()) != stored {
        return Ok(Some(walked));
    }
    if walked.cursor != step.from || walked.walked {
        return Err(MetaError::Stale("place of a group's move").into());
    }
    match step.to {
        Some(to) => walked.cursor = Some(to),
        None => walked.walked = true,
    }
    walked.bytes = walked.bytes.saturating_add(step.bytes);
    tx.set(row, &walked);
    Ok(Some(walked))
}

async fn tail(tx: &mut Tx, group: GroupId, limit: usize) -> Outcome<Vec<TailBlob>> {
    let begin = keyspace::move_tail(group);
    let page = tx.range(RangeQuery::new(begin.clone(), prefix_end(&begin), limit).snapshot()).await?;
    let ids: Vec<BlobId> = page.rows.iter().filter_map(|(key, _)| keyspace::move_tail_id(key)).collect();
    let keys: Vec<Bytes> = ids.iter().copied().map(keyspace::blob).collect();
    let blobs = tx.get_many::<Blob>(&keys).await?;
    Ok(ids.into_iter().zip(blobs).collect())
}

async fn clear_tail(tx: &mut Tx, group: GroupId, id: AttemptId, blobs: &[BlobId]) -> Outcome<()> {
    // Of another move the tail is what its own disks lack.
    let moved = tx.get::<GroupMove>(&keyspace::group_move(group)).await?;
    if moved.is_none_or(|moved| moved.id != id) {
        return Ok(());
    }
    for blob in blobs {
        tx.clear(keyspace::move_tail_blob(group, *blob));
    }
    Ok(())
}

/// Read by every commit, of the groups that it has stripes in: those of them that are moved get the blob in their tail.
pub(crate) async fn note_commit(tx: &mut Tx, group: GroupId, blob: BlobId) -> Outcome<()> {
    if tx.raw(&keyspace::group_move(group)).await?.is_some() {
        tx.set_raw(keyspace::move_tail_blob(group, blob), Bytes::new());
    }
    Ok(())
}

async fn finish(tx: &mut Tx, attempt: AttemptId, id: GroupId, epoch: u64) -> Outcome<MoveEnd> {
    let (key, row, repair) = (keyspace::group(id), keyspace::group_move(id), keyspace::group_repair(id));
    tx.prefetch(&[keyspace::attempt(attempt), key.clone(), row.clone(), repair.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(MoveEnd::Done);
    }
    let moved = tx.get::<GroupMove>(&row).await?.filter(|moved| moved.epoch == epoch);
    let Some(moved) = moved else { return Ok(MoveEnd::Gone) };
    let group = tx.get::<Group>(&key).await?.filter(|group| group.epoch == epoch);
    // Repair has given it other members meanwhile, or it lacks something that comes first.
    let (Some(mut group), None) = (group, tx.raw(&repair).await?) else {
        end(tx, &moved).await?;
        return Ok(MoveEnd::Gone);
    };
    match must_be_up(tx, &moved.positions).await {
        Err(crate::verbs::tx::Abort::Meta(MetaError::Stale(_))) => {
            end(tx, &moved).await?;
            return Ok(MoveEnd::Gone);
        }
        up => up?,
    }
    let tail = keyspace::move_tail(id);
    let tail = tx.range(RangeQuery::new(tail.clone(), prefix_end(&tail), 1)).await?;
    if !moved.walked || !tail.rows.is_empty() {
        return Ok(MoveEnd::Tail);
    }
    for PositionMove { position, to, .. } in &moved.positions {
        if let Some(member) = group.members.get_mut(usize::from(*position)) {
            *member = *to;
        }
    }
    placement::check_members(group.scheme, &group.members)?;
    group.epoch += 1;
    if moved.was_open {
        group.state = GroupState::Open;
    }
    tx.set(key, &group);
    tx.clear(row);
    if let Some(mut job) = tx.get::<Job>(&keyspace::job(moved.job)).await? {
        job.moved += moved.moved();
        job.blocked = None;
        tx.set(keyspace::job(moved.job), &job);
    }
    attempts::remember(tx, attempt, &AttemptRow::Done);
    placement::changed(tx).await?;
    Ok(MoveEnd::Done)
}

/// `ended` is whether an earlier try of this call took it away.
async fn end_one(tx: &mut Tx, group: GroupId, epoch: u64, ended: &mut bool) -> Outcome<bool> {
    match tx.get::<GroupMove>(&keyspace::group_move(group)).await?.filter(|moved| moved.epoch == epoch) {
        Some(moved) => {
            *ended = true;
            end(tx, &moved).await?;
            Ok(true)
        }
        None => Ok(*ended),
    }
}

/// Takes a move away, whose row was read in this transaction, with its tail.
pub(crate) async fn end(tx: &mut Tx, moved: &GroupMove) -> Outcome<()> {
    let (key, tail) = (keyspace::group(moved.group), keyspace::move_tail(moved.group));
    tx.clear(keyspace::group_move(moved.group));
    tx.clear_range(tail.clone(), prefix_end(&tail));
    if let Some(mut group) = tx.get::<Group>(&key).await?.filter(|_| moved.was_open) {
        group.state = GroupState::Open;
        tx.set(key, &group);
    }
    placement::changed(tx).await
}

/// Ends all moves of a job: it does not run any more.
pub(crate) async fn end_all(tx: &mut Tx, job: JobId) -> Outcome<()> {
    for moved in all::<GroupMove>(tx, Space::GroupMove).await?.into_iter().filter(|moved| moved.job == job) {
        // `all` reads beside the transaction: this is where a change of it is noticed.
        if let Some(moved) = tx.get::<GroupMove>(&keyspace::group_move(moved.group)).await? {
            end(tx, &moved).await?;
        }
    }
    Ok(())
}

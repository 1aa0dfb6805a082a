//! Jobs of operators: begun, paused, gone on with, ended; and disks that are taken out when a drain has emptied them.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::MetaError,
    ids::{AttemptId, DiskId, GroupId},
    keyspace::{self, Space},
    kv::RangeQuery,
    record::{
        Disk, DiskState, Group, GroupMove, GroupRepair, Job, JobId, JobKind, JobState, Moved, NewJob, rows::AttemptRow,
    },
    verbs::{
        Meta, Verb, attempts, group_moves, placement,
        policy::first,
        tx::{Outcome, Tx, all, transact},
    },
};

/// Jobs that are not over, at one time.
const MOST_ACTIVE: usize = 16;
/// Jobs that are kept: of those that are over the oldest go first.
const MOST_KEPT: usize = 64;
/// A reason for which nothing moves has no more bytes than this.
const LONGEST_REASON: usize = 500;

impl Meta {
    /// Begins a job. The disks that a drain is about are draining from this transaction on, those that are up.
    ///
    /// # Errors
    /// Invalid for one that makes no sense, or that means no disk; InUse when another is about the same disks, or
    /// levels out already; TooLarge when too many are under way.
    pub fn start_job(&self, new: NewJob) -> Verb<'_, Job> {
        Box::pin(async move { transact!(self, "start_job", |tx| start(tx, &new)) })
    }

    /// All that are kept, in order of number.
    pub fn jobs(&self) -> Verb<'_, Vec<Job>> {
        Box::pin(async move { transact!(self, "jobs", |tx| all(tx, Space::Job)) })
    }

    /// Pauses, resumes, cancels or ends a job; the job as it is then. One that is in that state already stays as it is.
    /// The moves of one that does not run any more end; what was moved stays where it is. When a drain is cancelled its
    /// disks are up again, but for those that another drains too.
    ///
    /// # Errors
    /// NoSuchEntry; Invalid when it cannot come into that state from the one that it is in.
    pub fn set_job_state(&self, id: JobId, state: JobState) -> Verb<'_, Job> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_job_state", |tx| set_state(tx, attempt, id, state))
        })
    }

    /// Has disks drained that are in these states and that a job is about, in one transaction with the reading of the
    /// jobs; those that none is about stay as they are. Returns those that are draining now.
    pub fn drain_disks(&self, disks: Vec<(DiskId, DiskState)>) -> Verb<'_, Vec<Disk>> {
        Box::pin(async move { transact!(self, "drain_disks", |tx| drain_disks(tx, &disks)) })
    }

    /// Notes why nothing moves though the job runs; None: something does. Nothing happens to a job that does not run.
    pub fn note_job(&self, id: JobId, blocked: Option<String>) -> Verb<'_, ()> {
        Box::pin(async move {
            let blocked = blocked.map(cut_short);
            transact!(self, "note_job", |tx| note(tx, id, &blocked))
        })
    }

    /// Takes disks out for good: they are removed then. All of them or none.
    ///
    /// # Errors
    /// InUse, naming the disk and what is left of it: it is up, a group has it as a member, it is being copied from, or
    /// a move is about it. NoSuchEntry for a disk that is not known.
    pub fn remove_disks<'a>(&'a self, disks: &'a [DiskId]) -> Verb<'a, Vec<Disk>> {
        Box::pin(async move { transact!(self, "remove_disks", |tx| remove(tx, disks)) })
    }
}

/// At a character's boundary.
fn cut_short(mut reason: String) -> String {
    let mut end = LONGEST_REASON.min(reason.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

/// The jobs, with what this transaction reads of them noticed when it changes.
async fn kept(tx: &mut Tx) -> Outcome<Vec<Job>> {
    let (begin, end) = keyspace::space(Space::Job);
    let page = tx.range(RangeQuery::new(begin, end, 2 * MOST_KEPT + 1)).await?;
    let jobs: Result<_, MetaError> = page.rows.iter().map(|(key, value)| Job::read(key, value)).collect();
    Ok(jobs?)
}

fn no_such(id: JobId) -> MetaError {
    MetaError::NoSuchEntry { what: "job", name: id.to_string() }
}

async fn start(tx: &mut Tx, new: &NewJob) -> Outcome<Job> {
    let jobs = kept(tx).await?;
    if let Some(begun) = jobs.iter().find(|job| job.attempt == new.attempt) {
        return Ok(begun.clone());
    }
    first(new.problem().into_iter().collect())?;
    let active: Vec<&Job> = jobs.iter().filter(|job| job.state.is_active()).collect();
    let too_many =
        |what, count: usize, limit: usize| MetaError::TooLarge { what, actual: count as u64 + 1, limit: limit as u64 };
    if active.len() >= MOST_ACTIVE {
        return Err(too_many("number of jobs under way", active.len(), MOST_ACTIVE).into());
    }
    if jobs.len() >= 2 * MOST_KEPT {
        return Err(too_many("number of drains whose disks were not removed", jobs.len(), 2 * MOST_KEPT).into());
    }
    let in_use = |what, name: String, by: &Job| MetaError::InUse { what, name, by: format!("job {}", by.id) };
    if new.kind == JobKind::Rebalance
        && let Some(other) = active.iter().find(|job| job.kind == JobKind::Rebalance)
    {
        return Err(in_use("the balance of the disks", "all".to_owned(), other).into());
    }
    let disks: Vec<Disk> = all::<Disk>(tx, Space::Disk).await?;
    let meant = |disk: &Disk| new.targets.iter().any(|target| target.means(disk)) && disk.state != DiskState::Removed;
    for target in &new.targets {
        if !disks.iter().any(|disk| disk.state != DiskState::Removed && target.means(disk)) {
            return Err(MetaError::NoSuchEntry { what: "disk of", name: target.to_string() }.into());
        }
    }
    for disk in disks.iter().filter(|disk| meant(disk)) {
        if let Some(other) = active.iter().find(|job| job.means(disk)) {
            return Err(in_use("disk", disk.id.to_string(), other).into());
        }
    }
    for disk in disks.iter().filter(|disk| meant(disk)) {
        // Read again: `all` reads beside the transaction.
        enter(tx, disk.id, DiskState::Up, DiskState::Draining).await?;
    }
    let id = JobId(jobs.last().map_or(0, |job| job.id.0) + 1);
    let job = Job {
        id,
        kind: new.kind,
        targets: new.targets.clone(),
        by: new.by.clone(),
        created_ms: tx.now_ms,
        state: JobState::Running,
        state_ms: tx.now_ms,
        blocked: None,
        planned: new.planned,
        moved: Moved::default(),
        ran_ms: 0,
        moved_before: Moved::default(),
        attempt: new.attempt,
    };
    tx.set(keyspace::job(id), &job);
    // A drain that is done tells that its disks are to stay empty, as long as they are there.
    let tells =
        |job: &Job| job.drains() && disks.iter().any(|disk| disk.state != DiskState::Removed && job.means(disk));
    let over = jobs.iter().filter(|job| !job.state.is_active() && !tells(job));
    for oldest in over.take((jobs.len() + 1).saturating_sub(MOST_KEPT)) {
        tx.clear(keyspace::job(oldest.id));
    }
    placement::changed(tx).await?;
    Ok(job)
}

/// Brings a disk from one state into another if it is in the first.
async fn enter(tx: &mut Tx, id: DiskId, from: DiskState, to: DiskState) -> Outcome<()> {
    let key = keyspace::disk(id);
    if let Some(mut disk) = tx.get::<Disk>(&key).await?.filter(|disk| disk.state == from) {
        (disk.state, disk.since_ms) = (to, tx.now_ms);
        tx.set(key, &disk);
    }
    Ok(())
}

async fn drain_disks(tx: &mut Tx, disks: &[(DiskId, DiskState)]) -> Outcome<Vec<Disk>> {
    let (jobs, mut draining, mut any) = (kept(tx).await?, Vec::new(), false);
    for (id, from) in disks {
        let key = keyspace::disk(*id);
        let Some(mut disk) = tx.get::<Disk>(&key).await? else { continue };
        if disk.state == *from && jobs.iter().any(|job| job.drains() && job.means(&disk)) {
            (disk.state, disk.since_ms, any) = (DiskState::Draining, tx.now_ms, true);
            tx.set(key, &disk);
        }
        draining.extend((disk.state == DiskState::Draining).then_some(disk));
    }
    if any {
        placement::changed(tx).await?;
    }
    Ok(draining)
}

async fn set_state(tx: &mut Tx, attempt: AttemptId, id: JobId, state: JobState) -> Outcome<Job> {
    let done_before = attempts::done_before(tx, attempt).await?;
    let jobs = kept(tx).await?;
    let mut job = jobs.iter().find(|job| job.id == id).cloned().ok_or_else(|| no_such(id))?;
    if job.state == state || done_before {
        return Ok(job);
    }
    if !job.state.may_become(state) {
        let why = format!("job {id} is {} and cannot become {state}", job.state);
        return Err(MetaError::Invalid { what: "change of a job", why }.into());
    }
    job.enter(state, tx.now_ms);
    tx.set(keyspace::job(id), &job);
    if state != JobState::Running {
        group_moves::end_all(tx, id).await?;
    }
    if state == JobState::Cancelled && job.kind == JobKind::Drain {
        let others: Vec<&Job> = jobs.iter().filter(|other| other.id != id && other.drains()).collect();
        for disk in all::<Disk>(tx, Space::Disk).await? {
            if job.means(&disk) && !others.iter().any(|other| other.means(&disk)) {
                enter(tx, disk.id, DiskState::Draining, DiskState::Up).await?;
            }
        }
    }
    attempts::remember(tx, attempt, &AttemptRow::Done);
    placement::changed(tx).await?;
    Ok(job)
}

async fn note(tx: &mut Tx, id: JobId, blocked: &Option<String>) -> Outcome<()> {
    let key = keyspace::job(id);
    let Some(mut job) = tx.get::<Job>(&key).await? else { return Ok(()) };
    if job.state == JobState::Running && job.blocked != *blocked {
        job.blocked.clone_from(blocked);
        tx.set(key, &job);
    }
    Ok(())
}

/// Every change of groups, repairs' new members and moves changes the revision, which is read and changed here too: so
/// none comes between what is read and the removal.
async fn remove(tx: &mut Tx, disks: &[DiskId]) -> Outcome<Vec<Disk>> {
    let keys: Vec<Bytes> = disks.iter().map(|disk| keyspace::disk(*disk)).collect();
    let mut rows = Vec::with_capacity(disks.len());
    for (id, row) in disks.iter().zip(tx.get_many::<Disk>(&keys).await?) {
        let unknown = MetaError::NoSuchEntry { what: "disk", name: id.to_string() };
        rows.push(row.ok_or(unknown)?);
    }
    let in_use = |disk: DiskId, by: String| MetaError::InUse { what: "disk", name: disk.to_string(), by };
    let gone = |disk: &Disk| disk.state == DiskState::Removed;
    if rows.iter().all(gone) {
        return Ok(rows);
    }
    for disk in rows.iter().filter(|disk| !gone(disk)) {
        if !matches!(disk.state, DiskState::Draining | DiskState::Lost) {
            let by = format!("the cluster: it is {}, not drained; drain it first", disk.state.name());
            return Err(in_use(disk.id, by).into());
        }
    }
    let out: BTreeSet<DiskId> = rows.iter().map(|disk| disk.id).collect();
    still_held(tx, &out).await?.map_or(Ok(()), |(disk, by)| Err(in_use(disk, by)))?;
    for disk in rows.iter_mut().filter(|disk| !gone(disk)) {
        (disk.state, disk.since_ms) = (DiskState::Removed, tx.now_ms);
        tx.set(keyspace::disk(disk.id), &*disk);
    }
    placement::changed(tx).await?;
    Ok(rows)
}

/// A disk among these that something is left of, and what.
async fn still_held(tx: &mut Tx, out: &BTreeSet<DiskId>) -> Outcome<Option<(DiskId, String)>> {
    let mut member: Option<(DiskId, GroupId, usize)> = None;
    for group in all::<Group>(tx, Space::Group).await? {
        for disk in group.members.iter().filter(|disk| out.contains(disk)) {
            match &mut member {
                Some((first, _, count)) => *count += usize::from(first == disk),
                None => member = Some((*disk, group.id, 1)),
            }
        }
    }
    if let Some((disk, group, count)) = member {
        return Ok(Some((disk, format!("{count} of the groups, the first of them group {group}"))));
    }
    for repair in all::<GroupRepair>(tx, Space::GroupRepair).await? {
        if let Some(position) = repair.positions.iter().find(|position| out.contains(&position.from)) {
            return Ok(Some((position.from, format!("the repair of group {}, which copies from it", repair.group))));
        }
    }
    for moved in all::<GroupMove>(tx, Space::GroupMove).await? {
        let ends = moved.positions.iter().flat_map(|position| [position.from, position.to]);
        if let Some(disk) = ends.into_iter().find(|disk| out.contains(disk)) {
            return Ok(Some((disk, format!("the move of group {}", moved.group))));
        }
    }
    Ok(None)
}

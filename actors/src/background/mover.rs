//! Operators' jobs carried out: disks emptied that are drained, and data spread evenly over those that there are.
//!
//! One node at a time does it, under a lease. It keeps nothing of its own: which disks are to be empty is in the rows
//! of the jobs, which groups are under way in those of the moves, what was done in the members of groups. So whoever
//! takes the lease next goes on where the last one died, and a job that is paused or cancelled stops with the next
//! transaction of whoever is at it.
//!
//! Repair comes first: while anything is missing, or a lost member of a group has no stand-in, nothing is copied and no
//! member changes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cairn_schema::{MetaError, ids::*, record::*};

use super::{
    Context,
    backoff::Backoff,
    blocked,
    draft::{Draft, Stock, at_once, drafts, under_way},
    move_walk::{MoveWalk, Stepped},
    rebuild::RebuildError,
    replace,
    room::Room,
    unasked::Unasked,
    widen::rebalance,
};
use crate::{
    data_path::Codecs,
    placement::Rows,
    supervisor::{Step, StepError, Worker},
};

const LEASE_NAME: &str = "move";
/// Another node goes on after this when the one that moves has died. A step and the longest rest after it are shorter.
const LEASE: Duration = Duration::from_secs(75);
const FRESH: Duration = Duration::from_secs(6);
/// How long another node that is at it is left alone.
const OTHERS: Duration = Duration::from_secs(1);
/// A move begins to copy this long after its group was closed to writes, in milliseconds: by then nodes have learned of
/// that, most writes that had chosen the group have ended, and so have deletes by scrub that did not know of the move.
const SETTLE_MS: u64 = 3_000;
/// How often it is worked out what moves next, when nothing did.
const DRAFT_EVERY: Duration = Duration::from_secs(1);
/// What keeps everything from moving is told once it has lasted for so long: writes that lack a fragment come and go.
const TOLD_AFTER: Duration = Duration::from_secs(3);
/// A move that has failed so often before ends.
const TRIES: u32 = 4;

/// Carries out jobs.
pub struct Mover {
    ctx: Context,
    codecs: Codecs,
    /// The revision of the rows by which there was nothing to do.
    at_rest: Option<u64>,
    lease: Option<(Lease, Instant)>,
    /// When to ask again for the lease that another node had.
    again_at: Option<Instant>,
    walk: Option<MoveWalk>,
    drafted: Option<Instant>,
    /// Groups that could not be moved, and why.
    failed: Backoff<GroupId>,
    reasons: BTreeMap<GroupId, String>,
    /// Where the walks were that failed last: one that has got on since is not at its end for failing again.
    places: HashMap<GroupId, (Option<BlobId>, bool)>,
    /// Since when something else comes first.
    held: Option<Instant>,
    unasked: Unasked,
}

impl Mover {
    pub fn new(ctx: Context) -> Self {
        Self {
            ctx,
            codecs: Codecs::default(),
            at_rest: None,
            lease: None,
            again_at: None,
            walk: None,
            drafted: None,
            failed: Backoff::new(),
            reasons: BTreeMap::new(),
            places: HashMap::new(),
            held: None,
            unasked: Unasked::default(),
        }
    }

    async fn hold(&mut self) -> Result<bool, MetaError> {
        if self.lease.as_ref().is_some_and(|(_, since)| since.elapsed() < FRESH / 2) {
            return Ok(true);
        }
        let asked = Instant::now();
        if self.again_at.is_some_and(|at| asked < at) {
            return Ok(false);
        }
        self.lease = self.ctx.lease(LEASE_NAME, LEASE).await?.map(|lease| (lease, asked));
        self.again_at = self.lease.is_none().then(|| asked + OTHERS);
        Ok(self.lease.is_some())
    }

    async fn rest(&mut self, revision: Option<u64>) {
        self.at_rest = revision;
        (self.walk, self.held) = (None, None);
        self.reasons.clear();
        self.places.clear();
        self.failed.clear();
        if let Some((lease, _)) = self.lease.take() {
            self.ctx.release(lease).await;
        }
    }

    /// Disks that are up and are to be empty: one that was away comes back as up, and one may have been added to a node
    /// that is drained.
    async fn mark_drained(&self, rows: &Rows, jobs: &[Job]) -> Result<bool, MetaError> {
        let drained =
            |disk: &&Disk| disk.state == DiskState::Up && jobs.iter().any(|job| job.drains() && job.means(disk));
        let changes: Vec<_> = rows.disks.values().filter(drained).map(|disk| (disk.id, disk.state)).collect();
        if changes.is_empty() {
            return Ok(false);
        }
        tracing::info!(disks = changes.len(), "disks are up that are to be empty: they are drained");
        self.ctx.meta.drain_disks(changes).await?;
        Ok(true)
    }

    /// What is to be done before anything is moved.
    async fn comes_first(&self, rows: &Rows) -> Result<Option<String>, MetaError> {
        let missing = self.ctx.meta.ledger_len().await?;
        if missing > 0 {
            let them = if missing == 1 { "1 fragment is".to_owned() } else { format!("{missing} fragments are") };
            return Ok(Some(format!("{them} missing: repair comes first")));
        }
        // In a store of before stripes were counted the ledger's length does not tell all.
        if let Some(repair) = self.ctx.meta.group_repairs(None, 1).await?.first() {
            return Ok(Some(format!("group {} is under repair, which comes first", repair.group)));
        }
        let wounded = replace::wounded(rows);
        Ok(wounded.first().map(|group| format!("group {group} has lost members without stand-ins: that comes first")))
    }

    /// Says of jobs why nothing moves, if they do not say so already.
    async fn tell(&self, jobs: &[Job], why: Option<&str>) -> Result<(), MetaError> {
        for job in jobs.iter().filter(|job| job.state == JobState::Running && job.blocked.as_deref() != why) {
            if let Some(why) = why {
                tracing::warn!(job = %job.id, why, "nothing moves for a job");
            }
            self.ctx.meta.note_job(job.id, why.map(str::to_owned)).await?;
        }
        Ok(())
    }

    /// Moves that cannot come to their end: of jobs that do not run, of groups that have changed, and those of which a
    /// disk is not there any more. What they copied is found to be there if they begin again soon.
    async fn end_vain(
        &mut self,
        rows: &Rows,
        jobs: &[Job],
        moves: Vec<GroupMove>,
    ) -> Result<Vec<GroupMove>, MetaError> {
        let runs = |id: JobId| jobs.iter().any(|job| job.id == id && job.state == JobState::Running);
        let serves = |disk: DiskId| rows.state(disk).is_some_and(DiskState::serves);
        // What somebody works on is about to be stopped.
        let takes = |position: &PositionMove| {
            let disk = rows.disks.get(&position.to);
            disk.is_some_and(|disk| position.is_up_still(disk)) && !rows.is_maintained(position.to)
        };
        let mut left = Vec::with_capacity(moves.len());
        for moved in moves {
            let same = rows.groups.get(&moved.group).is_some_and(|group| group.epoch == moved.epoch);
            let there = moved.positions.iter().all(|position| serves(position.from) && takes(position));
            if same && there && runs(moved.job) {
                left.push(moved);
                continue;
            }
            tracing::info!(group = %moved.group, job = %moved.job, "a move ends without having come to anything");
            self.ctx.meta.end_move(moved.group, moved.epoch).await?;
        }
        if self.walk.as_ref().is_some_and(|walk| !left.iter().any(|moved| moved.group == walk.moved.group)) {
            self.walk = None;
        }
        Ok(left)
    }

    /// Goes on with a move; None when none can be gone on with now.
    async fn go_on(&mut self, rows: &Rows, moves: &[GroupMove]) -> Result<Option<u64>, StepError> {
        let now = self.ctx.meta.now_ms();
        let settled = |moved: &&GroupMove| {
            let age = now.saturating_sub(moved.since_ms);
            // By a clock that is behind: those of nodes differ.
            age >= SETTLE_MS || moved.since_ms > now.saturating_add(SETTLE_MS)
        };
        if self.walk.is_none() {
            let tried = |moved: &&GroupMove| !self.failed.waits(&moved.group, Instant::now());
            let next = moves.iter().filter(settled).filter(tried).min_by_key(|moved| (moved.since_ms, moved.group));
            self.walk = next.and_then(|moved| MoveWalk::new(moved.clone(), rows));
        }
        let Some(mut walk) = self.walk.take() else { return Ok(None) };
        let held = self.lease.as_ref().map(|(_, since)| *since);
        let lease_holds = move || held.is_some_and(|since| since.elapsed() < FRESH * 2);
        match walk.step(&self.ctx, &self.codecs, &lease_holds).await {
            Ok(Stepped::On(mended)) => {
                self.reasons.remove(&walk.moved.group);
                self.ctx.metrics.moved_bytes.inc_by(mended.bytes);
                self.walk = Some(walk);
                // Read and written.
                Ok(Some(mended.bytes.saturating_mul(2)))
            }
            Ok(Stepped::Ended(end)) => {
                let (group, positions) = (walk.moved.group, walk.moved.positions.len());
                if end == MoveEnd::Done {
                    self.failed.succeeded(&group);
                    self.reasons.remove(&group);
                    self.ctx.metrics.moved_members.inc_by(positions as u64);
                    tracing::info!(%group, job = %walk.moved.job, positions = ?walk.moved.positions, "members of a group were moved");
                }
                Ok(Some(0))
            }
            // Another went on with it.
            Err(RebuildError::Meta(MetaError::Stale(_))) => Ok(Some(0)),
            Err(RebuildError::Meta(error)) => Err(error.into()),
            Err(error) => {
                self.move_failed(&walk.moved, error).await?;
                Ok(Some(0))
            }
        }
    }

    /// Others have their turn. It is gone on with where it was: a disk may just not have answered, or a blob have been
    /// reclaimed under the walk. After some tries the group takes writes again until it is begun anew.
    async fn move_failed(&mut self, moved: &GroupMove, error: RebuildError) -> Result<(), MetaError> {
        let (group, place) = (moved.group, (moved.cursor, moved.walked));
        if self.places.insert(group, place).is_some_and(|before| before != place) {
            self.failed.succeeded(&group);
        }
        let tries = self.failed.failed(group);
        tracing::info!(%group, job = %moved.job, tries, %error, "a group is not moved yet");
        self.reasons.insert(group, error.to_string());
        if tries >= TRIES {
            self.ctx.meta.end_move(group, moved.epoch).await?;
        }
        Ok(())
    }

    /// Begins what can be, and ends jobs that have come to their end. True if anything changed.
    async fn draft(&mut self, rows: &Arc<Rows>, jobs: &[Job], moves: &[GroupMove]) -> Result<bool, StepError> {
        if self.drafted.is_some_and(|when| when.elapsed() < DRAFT_EVERY) {
            return Ok(false);
        }
        let changed = self.draft_now(rows, jobs, moves).await?;
        self.drafted = (!changed).then(Instant::now);
        Ok(changed)
    }

    async fn draft_now(&mut self, rows: &Arc<Rows>, jobs: &[Job], moves: &[GroupMove]) -> Result<bool, StepError> {
        let most = at_once(rows.groups.len());
        let slots = most.saturating_sub(moves.len());
        // Several at a time: all groups are looked through for it.
        if slots == 0 || slots * 4 < most {
            return Ok(false);
        }
        let (topology, now) = (self.ctx.placement.topology(), Instant::now());
        let then = under_way(rows, moves);
        let free = |disk| topology.free_for_moves(disk);
        let room = Room::read(&self.ctx, rows).await?;
        let waits = rows.groups.keys().filter(|group| self.failed.waits(group, now)).copied();
        let skip: HashSet<GroupId> = moves.iter().map(|moved| moved.group).chain(waits).collect();
        let drafts = {
            let mut stock = Stock::new(self.ctx.policy().failure_domain, room, &then, &free);
            drafts(jobs, moves, &then, &skip, &mut stock, slots, rebalance)
        };
        let mut changed = false;
        for (job, draft) in drafts {
            match draft {
                Some(draft) => changed |= self.carry_out(rows, job, moves, draft).await?,
                None => self.tell(std::slice::from_ref(job), Some("disks are drained first")).await?,
            }
        }
        Ok(changed)
    }

    async fn carry_out(
        &mut self,
        rows: &Rows,
        job: &Job,
        moves: &[GroupMove],
        draft: Draft,
    ) -> Result<bool, MetaError> {
        let mut begun = 0;
        for moved in &draft.moves {
            match self.ctx.meta.begin_move(moved.group, moved.epoch, job.id, moved.to.clone()).await {
                Ok(_) => begun += 1,
                // It has changed meanwhile: it is judged anew.
                Err(MetaError::Stale(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if begun > 0 {
            tracing::info!(job = %job.id, groups = begun, "groups begin to move");
            self.tell(std::slice::from_ref(job), None).await?;
            return Ok(true);
        }
        let goes_on = |moved: &GroupMove| moved.job == job.id && !self.reasons.contains_key(&moved.group);
        if !draft.moves.is_empty() || moves.iter().any(goes_on) {
            return Ok(false);
        }
        match blocked::why(&self.ctx, rows, job, &draft, &self.reasons).await? {
            Some(why) => {
                self.tell(std::slice::from_ref(job), Some(&why)).await?;
                Ok(false)
            }
            None => {
                tracing::info!(job = %job.id, kind = %job.kind, "a job is done");
                self.ctx.meta.set_job_state(job.id, JobState::Done).await?;
                Ok(true)
            }
        }
    }

    fn show(&self, jobs: &[Job], moves: usize) {
        let count = |which: &dyn Fn(&Job) -> bool| jobs.iter().filter(|job| which(job)).count() as i64;
        let gauge = |state: &str, count: i64| self.ctx.metrics.jobs.with_label_values(&[state]).set(count);
        let running = |job: &Job| job.state == JobState::Running;
        gauge("running", count(&|job| running(job) && job.blocked.is_none()));
        gauge("blocked", count(&|job| running(job) && job.blocked.is_some()));
        gauge("paused", count(&|job| job.state == JobState::Paused));
        self.ctx.metrics.groups_moving.set(moves as i64);
    }

    /// True if there is a job now, of this node's.
    async fn begin_unasked(&mut self, rows: &Arc<Rows>, jobs: &[Job]) -> Result<bool, StepError> {
        if !self.unasked.is_due() || !self.unasked.may_begin(&self.ctx, rows, jobs) {
            return Ok(false);
        }
        if !self.hold().await? || self.comes_first(rows).await?.is_some() {
            return Ok(false);
        }
        self.unasked.begin(&self.ctx, rows).await
    }

    async fn work(&mut self, rows: &Arc<Rows>, jobs: &[Job], moves: Vec<GroupMove>) -> Result<Step, StepError> {
        let moves = self.end_vain(rows, jobs, moves).await?;
        if let Some(why) = self.comes_first(rows).await? {
            if self.held.get_or_insert_with(Instant::now).elapsed() >= TOLD_AFTER {
                self.tell(jobs, Some(&why)).await?;
            }
            return Ok(Step::Idle);
        }
        self.held = None;
        // Of groups that are another job's, or nobody's, by now.
        self.reasons.retain(|group, _| rows.groups.contains_key(group) && self.failed.knows(group));
        self.places.retain(|group, _| self.failed.knows(group));
        if self.draft(rows, jobs, &moves).await? {
            return Ok(Step::Worked { bytes: 0 });
        }
        match self.go_on(rows, &moves).await? {
            Some(bytes) => {
                let goes_on = self.walk.as_ref().map(|walk| walk.moved.job).filter(|_| bytes > 0);
                if let Some(job) = goes_on.and_then(|id| jobs.iter().find(|job| job.id == id)) {
                    self.tell(std::slice::from_ref(job), None).await?;
                }
                Ok(Step::Worked { bytes })
            }
            None => Ok(Step::Idle),
        }
    }
}

#[async_trait]
impl Worker for Mover {
    async fn step(&mut self) -> Result<Step, StepError> {
        let rows = self.ctx.placement.refresh().await?;
        if rows.revision.is_some() && self.at_rest == rows.revision && !self.unasked.is_due() {
            return Ok(Step::Idle);
        }
        let jobs = self.ctx.meta.jobs().await?;
        let moves = self.ctx.meta.group_moves().await?;
        self.show(&jobs, moves.len());
        let due = |disk: &Disk| disk.state == DiskState::Up && jobs.iter().any(|job| job.drains() && job.means(disk));
        let runs = jobs.iter().any(|job| job.state == JobState::Running);
        if !runs && moves.is_empty() && !rows.disks.values().any(due) {
            let begun = self.begin_unasked(&rows, &jobs).await?;
            if !begun {
                self.rest(rows.revision).await;
            }
            return Ok(if begun { Step::Worked { bytes: 0 } } else { Step::Idle });
        }
        self.at_rest = None;
        if !self.hold().await? {
            self.walk = None;
            return Ok(Step::Idle);
        }
        if self.mark_drained(&rows, &jobs).await? {
            return Ok(Step::Worked { bytes: 0 });
        }
        self.work(&rows, &jobs, moves).await
    }
}

#[cfg(test)]
#[path = "mover_tests.rs"]
mod tests;

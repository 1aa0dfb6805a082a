//! Scrub: re-reads every fragment of a disk on a schedule, and compares what is there with what should be.
//!
//! Each disk has a scrub of its own, and each pass two halves. First every fragment on the disk, in order of name:
//! verified; damaged ones go to the ledger; those whose blob has no row, and that are older than the grace period by
//! the disk's own clock, are deleted (GC-2). Then every group the disk is in: what the metadata expects there and the
//! disk has not goes to the ledger (RED-1). How far a pass has come is kept on the disk, so that a restart goes on with
//! it. Each pass goes in the same order, so what comes next is what was verified longest ago. What a busy disk gave no
//! answer for is looked at again at the end: a pass that must leave something out has not verified the disk.
//!
//! Besides, the blobs that begin on the disk are decoded as wholes, some in each pass ([`deep`](super::deep)).
//!
//! A pass over a disk of 20 TB at the usual 32 MiB a second takes a week, of the two that it has.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cairn_fragment::{DiskError, FragmentInfo, TransportError};
use cairn_schema::{clock::now_ms, ids::*, record::*};

use super::{
    Context,
    deep::has_turn,
    deep_queue::{Decoded, DeepQueue, existing, settle},
    inventory::{GroupCheck, before},
    scrub_position::Position,
};
use crate::{
    data_path::Codecs,
    placement::Rows,
    supervisor::{Step, StepError, Worker},
};

/// Fragments of one step at most, and bytes after which a step ends early.
const FRAGMENTS_PER_STEP: usize = 64;
const BYTES_PER_STEP: u64 = 8 << 20;
/// How often a step is tried before the fragment that it fails at is passed over.
const TRIES: u32 = 3;
/// How often it is looked whether inconsistent blobs still exist.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a pass that left something out, the next begins after this part of the usual time.
const SOONER: u32 = 8;
/// How much of a pass a restart may repeat.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// Where a pass is.
enum Stage {
    /// Waits for the next pass.
    Rest,
    /// Among the fragments, after this name.
    Fragments { after: Option<FragmentName> },
    /// Decoding blobs of the fragments up to this one.
    Deep { queue: DeepQueue, after: FragmentName },
    /// Comparing the disk with its groups; the last is next.
    Groups { left: Vec<(GroupId, u8)>, check: Option<GroupCheck> },
    /// Looking again at what was skipped; the last is next.
    Again { left: Vec<FragmentName> },
}

/// Some fragments that were looked at.
struct Window {
    last: FragmentName,
    /// Blobs to be decoded first.
    queue: DeepQueue,
    /// What could not be looked at.
    skipped: Vec<FragmentName>,
}

/// Reads every fragment of one of this node's disks now and then.
pub struct Scrub {
    ctx: Context,
    disk: DiskId,
    /// Where the disk is, and its position kept.
    folder: PathBuf,
    rows: Arc<Rows>,
    codecs: Codecs,
    stage: Stage,
    /// None until it has been read.
    position: Option<Position>,
    saved: Option<Instant>,
    /// How often the present step has failed.
    tries: u32,
    begin_at: Instant,
    /// No pass begins before.
    rest_until: Instant,
    /// When inconsistent blobs are looked for next.
    look_at: Instant,
}

impl Scrub {
    /// It begins, or goes on, after `delay`.
    pub fn new(ctx: Context, disk: DiskId, folder: PathBuf, delay: Duration) -> Self {
        let begin_at = Instant::now() + delay;
        let (rows, stage) = (Arc::default(), Stage::Rest);
        let (codecs, look_at) = (Codecs::default(), Instant::now());
        let (position, saved, tries, rest_until) = (None, None, 0, begin_at);
        Self { ctx, disk, folder, rows, codecs, stage, position, saved, tries, begin_at, rest_until, look_at }
    }

    /// Where the scrub is, from the disk if that was not read yet.
    async fn position(&mut self) -> Position {
        if let Some(position) = &self.position {
            return position.clone();
        }
        let folder = self.folder.clone();
        let position = match tokio::task::spawn_blocking(move || Position::load(&folder)).await {
            Ok(Ok(position)) => position,
            Ok(Err(error)) => {
                tracing::warn!(disk = %self.disk, %error, "where scrub was is not known: it begins anew");
                Position::default()
            }
            // The runtime is going.
            Err(_) => Position::default(),
        };
        if position.began_ms.is_some() {
            self.stage = Stage::Fragments { after: position.after };
        }
        self.position = Some(position.clone());
        self.show_inconsistent(&position);
        position
    }

    /// Notes where the scrub is, on the disk as well if `now`, or if that is due.
    async fn note(&mut self, position: Position, now: bool) {
        self.position = Some(position.clone());
        if !now && self.saved.is_some_and(|saved| saved.elapsed() < SAVE_EVERY) {
            return;
        }
        self.saved = Some(Instant::now());
        let folder = self.folder.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || position.save(&folder)).await {
            tracing::warn!(disk = %self.disk, %error, "where scrub is was not kept: a restart would begin anew");
        }
    }

    /// Whether the next pass is to begin.
    fn is_due(&self, position: &Position) -> bool {
        let interval = u64::try_from(self.ctx.timings.scrub_interval.as_millis()).unwrap_or(u64::MAX);
        let now = now_ms();
        // A clock that was wrong must not put it off for ever.
        let is_due = position.verified_ms.is_none_or(|began| began > now || now - began >= interval);
        is_due && Instant::now() >= self.rest_until
    }

    fn show_age(&self, position: &Position) {
        let age = position.verified_ms.map(|began| now_ms().saturating_sub(began) / 1000);
        let age = age.map_or(-1, |age| i64::try_from(age).unwrap_or(i64::MAX));
        self.ctx.metrics.scrub_oldest_seconds.with_label_values(&[&self.disk.to_string()]).set(age);
    }

    /// The next fragments. Returns the bytes read and where to go on; None after the last.
    async fn fragments(
        &self,
        after: Option<FragmentName>,
        position: &Position,
    ) -> Result<(u64, Option<Window>), StepError> {
        let disk = self.disk;
        let listed = self.ctx.fragments.list(disk, None, after, FRAGMENTS_PER_STEP, self.ctx.deadline()).await?;
        let mut bytes = 0;
        let mut count = 0;
        for info in &listed {
            if bytes >= BYTES_PER_STEP {
                break;
            }
            bytes += u64::from(info.length);
            count += 1;
        }
        let some = &listed[..count];
        let mut skipped = Vec::new();
        let blobs = self.check(disk, some, position, &mut skipped).await?;
        let Some(last) = some.last() else { return Ok((bytes, None)) };
        let begin_here = some.iter().filter(|info| info.name.stripe == 0 && info.name.position == 0);
        let to_decode = begin_here.filter_map(|info| {
            let blob = blobs.get(&info.name.blob).filter(|blob| self.belongs(disk, blob, info.name))?;
            let turn = has_turn(blob.id, position.pass, self.ctx.timings.deep_scrub_passes);
            (turn || position.inconsistent.contains(&blob.id)).then(|| Arc::new(blob.clone()))
        });
        let queue = DeepQueue::new(to_decode.collect());
        Ok((bytes, Some(Window { last: last.name, queue, skipped })))
    }

    /// The blobs that these are of, as far as there are any. Notes which of them could not be looked at.
    async fn check(
        &self,
        disk: DiskId,
        fragments: &[FragmentInfo],
        position: &Position,
        skipped: &mut Vec<FragmentName>,
    ) -> Result<HashMap<BlobId, Blob>, StepError> {
        let mut ids: Vec<BlobId> = fragments.iter().map(|info| info.name.blob).collect();
        ids.dedup();
        let known = self.ctx.meta.blobs(&ids).await?;
        let blobs: HashMap<BlobId, Blob> = known.into_iter().flatten().map(|blob| (blob.id, blob)).collect();
        for info in fragments {
            match blobs.get(&info.name.blob) {
                Some(blob) if self.belongs(disk, blob, info.name) => {
                    let may_skip = position.may_skip(skipped.len() + 1);
                    if !self.verify(disk, info, may_skip).await? {
                        skipped.push(info.name);
                    }
                }
                Some(blob) if group_of(blob, info.name.stripe) != Some(info.name.group) => {
                    self.other_group(disk, info).await?;
                }
                Some(_) => self.misplaced(disk, info).await?,
                None => self.orphan(disk, info).await?,
            }
        }
        Ok(blobs)
    }

    fn belongs(&self, disk: DiskId, blob: &Blob, name: FragmentName) -> bool {
        let place = self.rows.groups.get(&name.group).and_then(|group| group.members.get(usize::from(name.position)));
        place == Some(&disk) && group_of(blob, name.stripe) == Some(name.group)
    }

    /// Whether it could be looked at.
    async fn verify(&self, disk: DiskId, info: &FragmentInfo, may_skip: bool) -> Result<bool, StepError> {
        let cause = match self.ctx.fragments.verify(disk, info.name, self.ctx.deadline()).await {
            Ok(_) => {
                self.ctx.metrics.scrubbed_fragments.inc();
                self.ctx.metrics.scrubbed_bytes.inc_by(info.length.into());
                return Ok(true);
            }
            Err(TransportError::Disk(error)) if error.is_damage() => {
                tracing::error!(%disk, fragment = %info.name, %error, "scrub found damage");
                self.found("corrupt");
                MissingCause::Corrupt
            }
            // Deleted since it was listed, or gone: the second half of the pass tells which.
            Err(TransportError::Disk(DiskError::NotFound(_))) => return Ok(true),
            Err(error) if may_skip => return self.step_over(info.name, error).map(|()| false),
            Err(error) => return Err(error.into()),
        };
        let entry = LedgerEntry { fragment: info.name, cause, since_ms: now_ms() };
        self.ctx.meta.ledger_add(&[entry]).await?;
        Ok(true)
    }

    /// A fragment that cannot be looked at is tried a few times; then those behind it have their turn, for it must not
    /// keep the pass from them for ever.
    fn step_over(&self, name: FragmentName, error: TransportError) -> Result<(), StepError> {
        if self.tries < TRIES {
            return Err(error.into());
        }
        tracing::warn!(fragment = %name, %error, "scrub cannot look at a fragment now and goes on without it: it comes again at the end of the pass");
        self.found("skipped");
        Ok(())
    }

    fn found(&self, kind: &str) {
        self.ctx.metrics.scrub_findings.with_label_values(&[kind]).inc();
    }

    fn old(&self, info: &FragmentInfo) -> bool {
        let grace = u64::try_from(self.ctx.timings.reclaim_grace.as_millis()).unwrap_or(u64::MAX);
        now_ms().saturating_sub(info.written_ms) > grace
    }

    /// No blob row: not committed yet, or never, or reclaimed.
    async fn orphan(&self, disk: DiskId, info: &FragmentInfo) -> Result<(), StepError> {
        if !self.old(info) {
            return Ok(());
        }
        // GC-1: from now on it cannot be committed, however late its writer comes.
        if !self.ctx.meta.condemn(info.name.blob).await? {
            return Ok(());
        }
        self.delete(disk, info.name, "orphan").await
    }

    /// The stripe was sent to this group as well, or in vain, and committed in another: which one never changes.
    async fn other_group(&self, disk: DiskId, info: &FragmentInfo) -> Result<(), StepError> {
        if !self.old(info) {
            return Ok(());
        }
        self.delete(disk, info.name, "orphan").await
    }

    /// A fragment of a live blob that belongs elsewhere, since its group changed: it goes once the disk that now has
    /// its place proves to have it too. Until then it may be the only copy (GC-1).
    async fn misplaced(&self, disk: DiskId, info: &FragmentInfo) -> Result<(), StepError> {
        if !self.old(info) {
            return Ok(());
        }
        let Some(group) = self.ctx.meta.group(info.name.group).await? else { return Ok(()) };
        let Some(place) = group.members.get(usize::from(info.name.position)).copied() else { return Ok(()) };
        let there = self.ctx.fragments.verify(place, info.name, self.ctx.deadline()).await;
        if place == disk || !there.is_ok_and(|there| there.length == info.length) {
            return Ok(());
        }
        // Asked last: it may be here because the group is about to move here. Who begins a move lets the deletes end
        // that were decided on before.
        let moved = self.ctx.meta.group_move(info.name.group).await?;
        let positions = moved.iter().flat_map(|moved| &moved.positions);
        let awaited = |to: &PositionMove| to.to == disk && to.position == info.name.position;
        if !positions.into_iter().any(awaited) {
            self.delete(disk, info.name, "misplaced").await?;
        }
        Ok(())
    }

    async fn delete(&self, disk: DiskId, name: FragmentName, kind: &str) -> Result<(), StepError> {
        match self.ctx.fragments.delete(disk, vec![name], self.ctx.deadline()).await {
            Ok(_) => self.found(kind),
            Err(error) => self.step_over(name, error)?,
        }
        Ok(())
    }

    /// Looks again at what was skipped; whether that could be done.
    async fn look_again(&self, name: FragmentName, position: &Position) -> Result<bool, StepError> {
        let deadline = self.ctx.deadline();
        let listed = self.ctx.fragments.list(self.disk, Some(name.group), before(name), 1, deadline).await?;
        let mut skipped = Vec::new();
        if listed.first().is_some_and(|info| info.name == name) {
            self.check(self.disk, &listed, position, &mut skipped).await?;
        }
        Ok(skipped.is_empty())
    }

    /// The pass is over; the next begins sooner if it had to leave something out.
    async fn finish(&mut self, position: Position) {
        let left_out = position.skipped.len();
        self.note(position.finish(), true).await;
        if left_out == 0 {
            return tracing::info!(disk = %self.disk, "scrub pass finished");
        }
        self.rest_until = Instant::now() + self.ctx.timings.scrub_interval / SOONER;
        tracing::warn!(disk = %self.disk, left_out, "a scrub pass finished without some fragments: it does not count");
    }

    /// None after the last group.
    async fn step_groups(
        &self,
        mut left: Vec<(GroupId, u8)>,
        check: Option<GroupCheck>,
    ) -> Result<Option<Stage>, StepError> {
        let mut check = match (check, left.pop()) {
            (Some(check), next) => {
                left.extend(next);
                check
            }
            (None, Some((group, position))) => GroupCheck::new(self.disk, group, position),
            (None, None) => return Ok(None),
        };
        let page = check.page(&self.ctx).await?;
        if let Some(page) = &page {
            self.ctx.metrics.scrub_findings.with_label_values(&["missing"]).inc_by(page.missing);
        }
        Ok(Some(Stage::Groups { left, check: page.is_some().then_some(check) }))
    }

    /// One step of decoding; None after the last blob.
    async fn decode(&mut self, queue: &mut DeepQueue, position: &Position) -> Result<Option<u64>, StepError> {
        let (blob, verdict) = match queue.step(&self.ctx, &self.rows, &self.codecs).await? {
            Decoded::Stripe(bytes) => return Ok(Some(bytes)),
            Decoded::All => return Ok(None),
            Decoded::Blob(blob, verdict) => (blob, verdict),
        };
        let mut position = position.clone();
        settle(&self.ctx, self.disk, blob, verdict, &mut position).await?;
        let news = self.position.as_ref().is_none_or(|before| before.inconsistent != position.inconsistent);
        self.show_inconsistent(&position);
        self.note(position, news).await;
        Ok(Some(0))
    }

    fn show_inconsistent(&self, position: &Position) {
        let gauge = self.ctx.metrics.inconsistent_blobs.with_label_values(&[&self.disk.to_string()]);
        gauge.set(i64::try_from(position.inconsistent.len()).unwrap_or(i64::MAX));
        self.ctx.inconsistent.set(self.disk, &position.inconsistent);
    }

    /// Forgets inconsistent blobs that were deleted.
    async fn look_for_inconsistent(&mut self, mut position: Position) -> Result<Position, StepError> {
        if position.inconsistent.is_empty() || Instant::now() < self.look_at {
            return Ok(position);
        }
        self.look_at = Instant::now() + LOOK_EVERY;
        let left = existing(&self.ctx, &position.inconsistent).await?;
        if left != position.inconsistent {
            position.inconsistent = left;
            self.show_inconsistent(&position);
            self.note(position.clone(), true).await;
        }
        Ok(position)
    }

    /// The next step of a pass, and the bytes that it read.
    async fn advance(&mut self, stage: Stage, position: Position) -> Result<(Stage, u64), StepError> {
        match stage {
            Stage::Rest => {
                self.note(position.begin(now_ms()), true).await;
                Ok((Stage::Fragments { after: None }, 0))
            }
            Stage::Fragments { after } => {
                let (bytes, last) = self.fragments(after, &position).await?;
                let Some(Window { last, queue, skipped }) = last else {
                    let left = self.rows.positions_of(self.disk);
                    return Ok((Stage::Groups { left, check: None }, bytes));
                };
                let mut position = position;
                position.skipped.extend(skipped);
                if !queue.is_empty() {
                    self.position = Some(position);
                    // Only when its blobs are decoded the window is behind us.
                    return Ok((Stage::Deep { queue, after: last }, bytes));
                }
                self.note(Position { after: Some(last), ..position }, false).await;
                Ok((Stage::Fragments { after: Some(last) }, bytes))
            }
            Stage::Deep { mut queue, after } => match self.decode(&mut queue, &position).await? {
                Some(bytes) => Ok((Stage::Deep { queue, after }, bytes)),
                None => {
                    self.note(Position { after: Some(after), ..position }, false).await;
                    Ok((Stage::Fragments { after: Some(after) }, 0))
                }
            },
            Stage::Groups { left, check } => match self.step_groups(left, check).await? {
                Some(stage) => Ok((stage, 0)),
                None => Ok((Stage::Again { left: position.skipped.into_iter().collect() }, 0)),
            },
            Stage::Again { mut left } => {
                let Some(name) = left.pop() else {
                    self.finish(position).await;
                    return Ok((Stage::Rest, 0));
                };
                if self.look_again(name, &position).await? {
                    let mut position = position;
                    position.skipped.remove(&name);
                    self.note(position, false).await;
                }
                Ok((Stage::Again { left }, 0))
            }
        }
    }
}

#[async_trait]
impl Worker for Scrub {
    async fn step(&mut self) -> Result<Step, StepError> {
        if Instant::now() < self.begin_at {
            return Ok(Step::Idle);
        }
        let position = self.position().await;
        self.show_age(&position);
        let position = self.look_for_inconsistent(position).await?;
        if matches!(self.stage, Stage::Rest) && !self.is_due(&position) {
            return Ok(Step::Idle);
        }
        self.rows = self.ctx.placement.refresh().await?;
        if !self.rows.state(self.disk).is_some_and(DiskState::serves) {
            return Ok(Step::Idle);
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Rest);
        let again = match &stage {
            Stage::Rest => Stage::Rest,
            Stage::Fragments { after } => Stage::Fragments { after: *after },
            Stage::Deep { queue, after } => Stage::Deep { queue: queue.clone(), after: *after },
            Stage::Groups { .. } => Stage::Groups { left: self.rows.positions_of(self.disk), check: None },
            Stage::Again { left } => Stage::Again { left: left.clone() },
        };
        match self.advance(stage, position).await {
            Ok((stage, bytes)) => {
                (self.stage, self.tries) = (stage, 0);
                Ok(Step::Worked { bytes })
            }
            Err(error) => {
                (self.stage, self.tries) = (again, self.tries.saturating_add(1));
                Err(error)
            }
        }
    }
}

fn group_of(blob: &Blob, stripe: u32) -> Option<GroupId> {
    let mut end = 0u64;
    let holds = |run: &&StripeRun| {
        end += u64::from(run.stripes);
        u64::from(stripe) < end
    };
    blob.runs.iter().find(holds).map(|run| run.group)
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;

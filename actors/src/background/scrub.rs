//! Scrub: re-reads every fragment of this node's disks on a schedule, and compares what is there with what should be.
//!
//! A pass over a disk has two halves. First every fragment on the disk: verified; damaged ones go to the ledger; those
//! whose blob has no row, and that are older than the grace period by the disk's own clock, are deleted (GC-2). Then
//! every group the disk is in: what the metadata expects there and the disk has not goes to the ledger (RED-1).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cairn_fragment::{DiskError, FragmentInfo, TransportError};
use cairn_schema::{clock::now_ms, ids::*, record::*};

use super::{Context, inventory::GroupCheck};
use crate::{
    placement::Rows,
    supervisor::{Step, StepError, Worker},
};

/// Fragments of one step at most, and bytes after which a step ends early.
const FRAGMENTS_PER_STEP: usize = 64;
const BYTES_PER_STEP: u64 = 8 << 20;
/// How often a step is tried before the fragment that it fails at is passed over.
const TRIES: u32 = 3;

/// Where a pass is.
enum Stage {
    /// Waits for the next pass.
    Rest,
    /// Among the fragments of `own[disk]`, after this name.
    Fragments { disk: usize, after: Option<FragmentName> },
    /// Comparing `own[disk]` with its groups; the last is next.
    Groups { disk: usize, left: Vec<(GroupId, u8)>, check: Option<GroupCheck> },
}

/// Reads every fragment of this node's disks now and then.
pub struct Scrub {
    ctx: Context,
    own: Vec<DiskId>,
    rows: Arc<Rows>,
    stage: Stage,
    /// How often the present step has failed.
    tries: u32,
    next_pass: Instant,
}

impl Scrub {
    /// The first pass begins after `delay`.
    pub fn new(ctx: Context, own: Vec<DiskId>, delay: Duration) -> Self {
        Self { ctx, own, rows: Arc::default(), stage: Stage::Rest, tries: 0, next_pass: Instant::now() + delay }
    }

    /// Begins with the disk, or ends the pass if there is none of this number.
    fn begin(&self, disk: usize) -> Stage {
        if disk < self.own.len() {
            return Stage::Fragments { disk, after: None };
        }
        self.ctx.metrics.scrub_finished_at.set(i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX));
        tracing::info!(disks = self.own.len(), "scrub pass finished");
        Stage::Rest
    }

    /// The next fragments of a disk. Returns the bytes read and where to go on; None after the last.
    async fn fragments(
        &self,
        disk: DiskId,
        after: Option<FragmentName>,
    ) -> Result<(u64, Option<FragmentName>), StepError> {
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
        self.check(disk, some).await?;
        Ok((bytes, some.last().map(|info| info.name)))
    }

    async fn check(&self, disk: DiskId, fragments: &[FragmentInfo]) -> Result<(), StepError> {
        let mut ids: Vec<BlobId> = fragments.iter().map(|info| info.name.blob).collect();
        ids.dedup();
        let known = self.ctx.meta.blobs(&ids).await?;
        let blobs: HashMap<BlobId, Blob> = known.into_iter().flatten().map(|blob| (blob.id, blob)).collect();
        for info in fragments {
            match blobs.get(&info.name.blob) {
                Some(blob) if self.belongs(disk, blob, info.name) => self.verify(disk, info).await?,
                Some(blob) if group_of(blob, info.name.stripe) != Some(info.name.group) => {
                    self.other_group(disk, info).await?;
                }
                Some(_) => self.misplaced(disk, info).await?,
                None => self.orphan(disk, info).await?,
            }
        }
        Ok(())
    }

    fn belongs(&self, disk: DiskId, blob: &Blob, name: FragmentName) -> bool {
        let place = self.rows.groups.get(&name.group).and_then(|group| group.members.get(usize::from(name.position)));
        place == Some(&disk) && group_of(blob, name.stripe) == Some(name.group)
    }

    async fn verify(&self, disk: DiskId, info: &FragmentInfo) -> Result<(), StepError> {
        let cause = match self.ctx.fragments.verify(disk, info.name, self.ctx.deadline()).await {
            Ok(_) => {
                self.ctx.metrics.scrubbed_fragments.inc();
                self.ctx.metrics.scrubbed_bytes.inc_by(info.length.into());
                return Ok(());
            }
            Err(TransportError::Disk(error)) if error.is_damage() => {
                tracing::error!(%disk, fragment = %info.name, %error, "scrub found damage");
                self.found("corrupt");
                MissingCause::Corrupt
            }
            // Deleted since it was listed, or gone: the second half of the pass tells which.
            Err(TransportError::Disk(DiskError::NotFound(_))) => return Ok(()),
            Err(error) => return self.step_over(info.name, error),
        };
        let entry = LedgerEntry { fragment: info.name, cause, since_ms: now_ms() };
        self.ctx.meta.ledger_add(&[entry]).await?;
        Ok(())
    }

    /// A fragment that cannot be looked at is tried a few times; then those behind it have their turn, for it must not
    /// keep the pass from them for ever.
    fn step_over(&self, name: FragmentName, error: TransportError) -> Result<(), StepError> {
        if self.tries < TRIES {
            return Err(error.into());
        }
        tracing::warn!(fragment = %name, %error, "scrub cannot look at a fragment and goes on without it until the next pass");
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
        if place != disk && there.is_ok_and(|there| there.length == info.length) {
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

    async fn step_groups(
        &self,
        disk: usize,
        mut left: Vec<(GroupId, u8)>,
        check: Option<GroupCheck>,
    ) -> Result<Stage, StepError> {
        let mut check = match (check, left.pop()) {
            (Some(check), next) => {
                left.extend(next);
                check
            }
            (None, Some((group, position))) => GroupCheck::new(self.own[disk], group, position),
            (None, None) => return Ok(self.begin(disk + 1)),
        };
        match check.page(&self.ctx).await? {
            Some(page) => {
                self.ctx.metrics.scrub_findings.with_label_values(&["missing"]).inc_by(page.missing);
                Ok(Stage::Groups { disk, left, check: Some(check) })
            }
            None => Ok(Stage::Groups { disk, left, check: None }),
        }
    }

    async fn advance(&mut self, stage: Stage) -> Result<(Stage, u64), StepError> {
        match stage {
            Stage::Rest => {
                self.next_pass = Instant::now() + self.ctx.timings.scrub_interval;
                Ok((self.begin(0), 0))
            }
            Stage::Fragments { disk, after } => {
                let (bytes, last) = self.fragments(self.own[disk], after).await?;
                let next = match last {
                    Some(name) => Stage::Fragments { disk, after: Some(name) },
                    None => Stage::Groups { disk, left: self.rows.positions_of(self.own[disk]), check: None },
                };
                Ok((next, bytes))
            }
            Stage::Groups { disk, left, check } => Ok((self.step_groups(disk, left, check).await?, 0)),
        }
    }

    /// A disk that fails under scrub must not keep the others from being scrubbed.
    fn skip(&self, stage: Stage) -> Stage {
        match stage {
            Stage::Rest => Stage::Rest,
            Stage::Fragments { disk, .. } | Stage::Groups { disk, .. } => self.begin(disk + 1),
        }
    }
}

#[async_trait]
impl Worker for Scrub {
    async fn step(&mut self) -> Result<Step, StepError> {
        if matches!(self.stage, Stage::Rest) && Instant::now() < self.next_pass {
            return Ok(Step::Idle);
        }
        self.rows = self.ctx.placement.refresh().await?;
        let disk = match &self.stage {
            Stage::Rest => None,
            Stage::Fragments { disk, .. } | Stage::Groups { disk, .. } => self.own.get(*disk).copied(),
        };
        let up = disk.is_none_or(|disk| self.rows.state(disk) == Some(DiskState::Up));
        let stage = std::mem::replace(&mut self.stage, Stage::Rest);
        if !up {
            self.stage = self.skip(stage);
            return Ok(Step::Worked { bytes: 0 });
        }
        let again = match &stage {
            Stage::Rest => Stage::Rest,
            Stage::Fragments { disk, after } => Stage::Fragments { disk: *disk, after: *after },
            Stage::Groups { disk, .. } => {
                let left = self.rows.positions_of(self.own[*disk]);
                Stage::Groups { disk: *disk, left, check: None }
            }
        };
        match self.advance(stage).await {
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

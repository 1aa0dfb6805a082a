//! Garbage collection: deletes the fragments of blobs that nothing has referenced for the grace period.
//!
//! Members that cannot be reached keep their fragments; scrub finds those as orphans once the blob's row is gone
//! (GC-2).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cairn_schema::{MetaError, clock::now_ms, ids::*, keyspace::RECLAIM_BUCKETS, record::*};
use futures::{FutureExt, StreamExt, future::BoxFuture};

use super::{Context, inventory::names_in};
use crate::{
    placement::Rows,
    policy::Timings,
    supervisor::{Step, StepError, Worker},
};

/// Blobs of one step.
const BLOBS_AT_ONCE: usize = 1000;
/// Fragments of one round of a step, unless a single blob has more: each disk is told of all of its at once, and the
/// rows of all these blobs go in a few transactions.
const FRAGMENTS_AT_ONCE: usize = 1 << 16;
const NAMES_AT_ONCE: usize = 1024;
/// Calls of one disk that are under way together: a disk writes down all that waits with one sync.
const CALLS_AT_ONCE: usize = 4;
const LEASE: Duration = Duration::from_secs(60);
/// Nobody repeats an attempt after this. A request does so for a minute at most; but an attempt's age is told by the
/// clock of its node, which may be wrong by hours. As long a client may ask what became of an upload that it completed.
const ATTEMPTS_KEPT: Duration = Duration::from_secs(24 * 3600);
const COMPLETED_AT_ONCE: usize = 1000;
/// No write outlives this, not even one whose process was stopped and went on.
const CONDEMNED_KEPT: Duration = Timings::LONGEST_GRACE;
const CONDEMNED_AT_ONCE: usize = 1000;
/// How often those are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Deletes the fragments of blobs that nothing refers to any more.
pub struct Gc {
    ctx: Context,
    rows: Arc<Rows>,
    bucket: u8,
    /// Buckets in a row that had nothing.
    empty: u8,
    /// When attempts are forgotten next: a queue that is never empty must not keep them.
    forget_at: Instant,
    /// How far the condemned blobs have been looked through.
    condemned_after: Option<BlobId>,
}

impl Gc {
    pub fn new(ctx: Context) -> Self {
        // Nodes begin at different buckets.
        let start = xxhash_rust::xxh3::xxh3_64(ctx.node.as_str().as_bytes()) % u64::from(RECLAIM_BUCKETS);
        Self {
            ctx,
            rows: Arc::default(),
            bucket: start as u8,
            empty: 0,
            forget_at: Instant::now(),
            condemned_after: None,
        }
    }

    /// Bytes of work done in the present bucket.
    async fn collect(&mut self) -> Result<u64, StepError> {
        let grace = u64::try_from(self.ctx.timings.reclaim_grace.as_millis()).unwrap_or(u64::MAX);
        let before = now_ms().saturating_sub(grace);
        if self.ctx.meta.reclaimable(self.bucket, before, 1).await?.is_empty() {
            return Ok(0);
        }
        let Some(lease) = self.ctx.lease(&format!("gc/{}", self.bucket), LEASE).await? else { return Ok(0) };
        let done = self.collect_under_lease(before).await;
        self.ctx.release(lease).await;
        done
    }

    async fn collect_under_lease(&mut self, before: u64) -> Result<u64, StepError> {
        let mut deleted = 0;
        let reclaims = self.ctx.meta.reclaimable(self.bucket, before, BLOBS_AT_ONCE).await?;
        for round in rounds(&reclaims) {
            deleted += self.delete(round).await;
            // They were queued because their last reference went, and none can come back: references are only copied
            // from versions and parts that have them, in a transaction that has read those. So nothing needs to be
            // checked again, and fragments may go before the row (GC-1). Who read the row before has had the grace
            // period to read the fragments.
            self.ctx.meta.reclaimed(round).await?;
            self.ctx.metrics.reclaimed_blobs.inc_by(round.len() as u64);
        }
        self.ctx.metrics.reclaimed_fragments.inc_by(deleted);
        Ok(deleted.max(1))
    }

    /// Works on the queue. False after a round in which no bucket had anything.
    async fn collect_next(&mut self) -> Result<bool, StepError> {
        self.rows = self.ctx.placement.refresh().await?;
        if self.collect().await? > 0 {
            self.empty = 0;
            return Ok(true);
        }
        self.bucket = (self.bucket + 1) % RECLAIM_BUCKETS;
        self.empty = (self.empty + 1) % RECLAIM_BUCKETS;
        Ok(self.empty > 0)
    }

    /// Forgets attempts that nobody can be waiting for, when it is time. True when there may be more.
    async fn forget_attempts(&mut self) -> Result<bool, StepError> {
        if Instant::now() < self.forget_at {
            return Ok(false);
        }
        let mut more = false;
        if let Some(lease) = self.ctx.lease("gc/attempts", LEASE).await? {
            let forgotten = self.forget_under_lease().await;
            self.ctx.release(lease).await;
            more = forgotten?;
        }
        if !more {
            self.forget_at = Instant::now() + FORGET_EVERY;
        }
        Ok(more)
    }

    async fn forget_under_lease(&mut self) -> Result<bool, MetaError> {
        let before = |kept: Duration| now_ms().saturating_sub(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX));
        let more = self.ctx.meta.expire_attempts(before(ATTEMPTS_KEPT)).await?;
        let completed = self.ctx.meta.expire_completed(before(ATTEMPTS_KEPT), COMPLETED_AT_ONCE).await?;
        let after = self.condemned_after.take();
        self.condemned_after = self.ctx.meta.forget_condemned(before(CONDEMNED_KEPT), after, CONDEMNED_AT_ONCE).await?;
        Ok(more || completed >= COMPLETED_AT_ONCE)
    }

    /// Deletes the blobs' fragments wherever they can be reached; how many there were.
    async fn delete(&self, reclaims: &[Reclaim]) -> u64 {
        let mut by_disk: HashMap<DiskId, Vec<FragmentName>> = HashMap::new();
        for Reclaim { blob, .. } in reclaims {
            for group in blob.stripes_by_group().keys().filter_map(|id| self.rows.groups.get(id)) {
                for (position, disk) in (0u8..).zip(&group.members) {
                    by_disk.entry(*disk).or_default().extend(names_in(blob, group.id, position));
                }
            }
        }
        let reachable = |disk: &DiskId| matches!(self.rows.state(*disk), Some(DiskState::Up | DiskState::Draining));
        let per_disk = by_disk.into_iter().filter(|(disk, _)| reachable(disk));
        let deletes = per_disk.map(|(disk, names)| self.delete_on(disk, names));
        futures::future::join_all(deletes).await.into_iter().sum()
    }

    async fn delete_on(&self, disk: DiskId, names: Vec<FragmentName>) -> u64 {
        // Boxed here: the compiler cannot see through the adapters that these futures may move between threads.
        let calls: Vec<BoxFuture<'_, _>> = names
            .chunks(NAMES_AT_ONCE)
            // Each has its time from when it begins, not from when it was thought of.
            .map(|some| async { self.ctx.fragments.delete(disk, some.to_vec(), self.ctx.deadline()).await }.boxed())
            .collect();
        let mut calls = futures::stream::iter(calls).buffer_unordered(CALLS_AT_ONCE);
        let mut deleted = 0;
        while let Some(result) = calls.next().await {
            match result {
                Ok(count) => deleted += count,
                Err(error) => {
                    tracing::debug!(%disk, %error, "fragments of reclaimed blobs stay until scrub");
                    return deleted;
                }
            }
        }
        deleted
    }
}

/// Blobs one after another, as many together as have no more than [`FRAGMENTS_AT_ONCE`] fragments.
fn rounds(reclaims: &[Reclaim]) -> impl Iterator<Item = &[Reclaim]> {
    let mut rest = reclaims;
    std::iter::from_fn(move || {
        let mut fragments = 0;
        let fit = rest.iter().take_while(|Reclaim { blob, .. }| {
            let stripes: u64 = blob.runs.iter().map(|run| u64::from(run.stripes)).sum();
            fragments += usize::try_from(stripes).unwrap_or(usize::MAX).saturating_mul(blob.scheme.width());
            fragments <= FRAGMENTS_AT_ONCE
        });
        let count = fit.count().max(1).min(rest.len());
        let (round, others) = rest.split_at(count);
        rest = others;
        (!round.is_empty()).then_some(round)
    })
}

#[async_trait]
impl Worker for Gc {
    async fn step(&mut self) -> Result<Step, StepError> {
        // Neither waits for the other to succeed, or to have nothing to do.
        let (collected, forgotten) = (self.collect_next().await, self.forget_attempts().await);
        if collected? | forgotten? { Ok(Step::Worked { bytes: 0 }) } else { Ok(Step::Idle) }
    }
}

#[cfg(test)]
#[path = "gc_tests.rs"]
mod tests;

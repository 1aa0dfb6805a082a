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
use cairn_schema::{clock::now_ms, ids::*, keyspace::RECLAIM_BUCKETS, record::*};

use super::{Context, inventory::names_in};
use crate::{
    placement::Rows,
    supervisor::{Step, StepError, Worker},
};

const BLOBS_AT_ONCE: usize = 32;
const NAMES_AT_ONCE: usize = 1024;
const LEASE: Duration = Duration::from_secs(60);
/// Nobody repeats an attempt after this.
const ATTEMPTS_KEPT: Duration = Duration::from_secs(24 * 3600);
const ATTEMPTS_AT_ONCE: usize = 1000;
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
}

impl Gc {
    pub fn new(ctx: Context) -> Self {
        // Nodes begin at different buckets.
        let start = xxhash_rust::xxh3::xxh3_64(ctx.node.as_str().as_bytes()) % u64::from(RECLAIM_BUCKETS);
        Self { ctx, rows: Arc::default(), bucket: start as u8, empty: 0, forget_at: Instant::now() }
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
        for reclaim in self.ctx.meta.reclaimable(self.bucket, before, BLOBS_AT_ONCE).await? {
            deleted += self.delete(&reclaim.blob).await;
            // It was queued because its last reference went, and none can come back: references are only copied from
            // versions and parts that have them, in a transaction that has read those. So nothing needs to be checked
            // again, and fragments may go before the row (GC-1). Who read the row before has had the grace period to
            // read the fragments.
            self.ctx.meta.reclaimed(&reclaim).await?;
            self.ctx.metrics.reclaimed_blobs.inc();
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
        let kept = u64::try_from(ATTEMPTS_KEPT.as_millis()).unwrap_or(u64::MAX);
        let mut more = false;
        if let Some(lease) = self.ctx.lease("gc/attempts", LEASE).await? {
            let forgotten = self.ctx.meta.expire_attempts(now_ms().saturating_sub(kept), ATTEMPTS_AT_ONCE).await;
            self.ctx.release(lease).await;
            more = forgotten? >= ATTEMPTS_AT_ONCE;
        }
        if !more {
            self.forget_at = Instant::now() + FORGET_EVERY;
        }
        Ok(more)
    }

    /// Deletes a blob's fragments wherever they can be reached; how many there were.
    async fn delete(&self, blob: &Blob) -> u64 {
        let mut groups: Vec<GroupId> = blob.runs.iter().map(|run| run.group).collect();
        groups.sort_unstable();
        groups.dedup();
        let mut by_disk: HashMap<DiskId, Vec<(GroupId, u8)>> = HashMap::new();
        for group in groups.iter().filter_map(|id| self.rows.groups.get(id)) {
            for (position, disk) in (0u8..).zip(&group.members) {
                by_disk.entry(*disk).or_default().push((group.id, position));
            }
        }
        let reachable = |disk: &DiskId| matches!(self.rows.state(*disk), Some(DiskState::Up | DiskState::Draining));
        let per_disk = by_disk.into_iter().filter(|(disk, _)| reachable(disk));
        let deletes = per_disk.map(|(disk, places)| self.delete_on(disk, blob, places));
        futures::future::join_all(deletes).await.into_iter().sum()
    }

    async fn delete_on(&self, disk: DiskId, blob: &Blob, places: Vec<(GroupId, u8)>) -> u64 {
        let mut names = places.into_iter().flat_map(|(group, position)| names_in(blob, group, position));
        let mut deleted = 0;
        loop {
            let some: Vec<FragmentName> = names.by_ref().take(NAMES_AT_ONCE).collect();
            if some.is_empty() {
                return deleted;
            }
            match self.ctx.fragments.delete(disk, some, self.ctx.deadline()).await {
                Ok(count) => deleted += count,
                Err(error) => {
                    tracing::debug!(%disk, blob = %blob.id, %error, "fragments of a reclaimed blob stay until scrub");
                    return deleted;
                }
            }
        }
    }
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

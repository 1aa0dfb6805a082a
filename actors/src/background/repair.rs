//! Repair: works the ledger off, most endangered stripes first, under a lease per group.
//!
//! All of its state is the ledger: a repair that dies is continued by whoever takes the lease next. A row is cleared
//! only after its fragment was put (synced) and read back, and only while the group's epoch is the one it was put
//! under.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cairn_schema::{MetaError, ids::*, record::*};
use futures::{FutureExt, StreamExt, future::BoxFuture};

use super::{
    Context,
    queue::{Endangered, StripeName, scan},
    rebuild::{Mended, Rebuild, RebuildError},
    replace,
};
use crate::{
    data_path::Codecs,
    placement::Rows,
    supervisor::{Step, StepError, Worker},
};

/// Stripes kept from one pass over the ledger.
const QUEUE: usize = 4096;
/// Stripes of one step, and how many of them at a time: memory is that many stripes.
const BATCH: usize = 32;
const AT_A_TIME: usize = 4;
const LEASE: Duration = Duration::from_secs(30);
/// A lease is renewed, and deletes refused, when it is older than this.
const LEASE_FRESH: Duration = Duration::from_secs(12);
/// A queue older than this is made anew: others repair too, and dangers change.
const QUEUE_AGE: Duration = Duration::from_secs(30);
/// A ledger with nothing that can be repaired is read again after this, or when the placement has changed. If it has
/// grown (writes go on while a disk is away), sooner, but reading it takes at most a twentieth of the time.
const FRUITLESS_PAUSE: Duration = Duration::from_secs(15);
const GROWN_PAUSE: Duration = Duration::from_secs(1);
const READING_SHARE: u32 = 20;
/// A stripe that failed is tried again after this, doubled each time.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Fewer in vain are ordinary while nodes start.
const TRIES_TO_WARN: u32 = 4;
/// Failed stripes remembered.
const MAX_FAILED: usize = 16 * 1024;

/// Rebuilds what the ledger says is missing.
pub struct Repair {
    ctx: Context,
    rows: Arc<Rows>,
    codecs: Codecs,
    /// Most endangered last.
    queue: Vec<Endangered>,
    queued_at: Instant,
    leases: HashMap<GroupId, (Lease, Instant)>,
    failed: HashMap<StripeName, (Instant, u32)>,
    /// Groups whose lost members found no stand-in: not tried again until the placement changes.
    stuck: HashMap<GroupId, usize>,
    /// Groups of which a failure domain holds too many members, in the present rows.
    crowded: Vec<GroupId>,
    /// The last reading of the ledger, if it was in vain.
    fruitless: Option<Fruitless>,
    progress: Progress,
}

impl Repair {
    pub fn new(ctx: Context) -> Self {
        Self {
            ctx,
            rows: Arc::default(),
            codecs: Codecs::default(),
            queue: Vec::new(),
            queued_at: Instant::now(),
            leases: HashMap::new(),
            failed: HashMap::new(),
            stuck: HashMap::new(),
            crowded: Vec::new(),
            fruitless: None,
            progress: Progress::default(),
        }
    }

    /// One group's lost members replaced. True when there was something to do.
    async fn replace(&mut self) -> Result<bool, StepError> {
        let wounded = replace::wounded(&self.rows);
        for group in wounded {
            if self.stuck.contains_key(&group) {
                continue;
            }
            let Some(done) = replace::replace_lost(&self.ctx, &self.rows, group).await? else { continue };
            if done.unplaceable > 0 {
                tracing::error!(%group, members = done.unplaceable, "no disk may stand in for lost members; add disks");
                self.stuck.insert(group, done.unplaceable);
                self.ctx.metrics.unplaceable_members.set(self.stuck.values().sum::<usize>() as i64);
            }
            if done.members > 0 {
                self.queue.clear();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One member moved out of too crowded a failure domain (PLC-1). True when there was something to do.
    async fn uncrowd(&mut self) -> Result<bool, StepError> {
        // It costs redundancy until the moved fragments are made anew: nothing else may be missing then.
        if self.crowded.is_empty() || self.ctx.meta.ledger_len().await? > 0 {
            return Ok(false);
        }
        for group in self.crowded.clone() {
            if self.stuck.contains_key(&group) {
                continue;
            }
            let Some(done) = replace::uncrowd(&self.ctx, &self.rows, group).await? else { continue };
            if done.unplaceable > 0 {
                tracing::error!(%group, "a failure domain holds more of a group than it may, and no other has room; add disks");
                self.stuck.insert(group, done.unplaceable);
                continue;
            }
            self.queue.clear();
            return Ok(true);
        }
        Ok(false)
    }

    /// Sees to it that there is a queue. False when there is nothing to repair.
    async fn fill(&mut self) -> Result<bool, StepError> {
        if !self.queue.is_empty() && self.queued_at.elapsed() < QUEUE_AGE {
            return Ok(true);
        }
        self.release_all().await;
        self.queue.clear();
        let length = self.ctx.meta.ledger_len().await?;
        self.progress.note(&self.ctx, length);
        if length == 0 || self.fruitless.is_some_and(|reading| reading.suffices(length)) {
            return Ok(false);
        }
        let now = Instant::now();
        let waits = |name: &StripeName| self.failed.get(name).is_some_and(|(until, _)| *until > now);
        let wounded = scan(&self.ctx, &self.rows, QUEUE, waits).await?;
        self.queue = wounded.stripes;
        self.spread();
        self.queued_at = now;
        // Stripes that wait for another try do not make a pass fruitless.
        let in_vain = self.queue.is_empty() && self.failed.is_empty();
        self.fruitless = in_vain.then(|| Fruitless { length, ended: Instant::now(), took: now.elapsed() });
        Ok(!self.queue.is_empty())
    }

    /// Last is next. Among equally endangered stripes each node begins with other groups, so that they do not queue for
    /// leases.
    fn spread(&mut self) {
        let salt = xxhash_rust::xxh3::xxh3_64(self.ctx.node.as_str().as_bytes());
        let turn = |group: GroupId| xxhash_rust::xxh3::xxh3_64_with_seed(&group.0.to_be_bytes(), salt);
        self.queue.sort_by_cached_key(|stripe| std::cmp::Reverse((stripe.margin, turn(stripe.name.0), stripe.name)));
    }

    /// The next stripes whose groups are ours to repair.
    async fn take_batch(&mut self) -> Result<Vec<Endangered>, StepError> {
        let mut batch = Vec::new();
        let mut refused: Vec<GroupId> = Vec::new();
        while batch.len() < BATCH {
            let Some(stripe) = self.queue.pop() else { break };
            let group = stripe.name.0;
            if refused.contains(&group) {
                continue;
            }
            if self.hold(group).await? {
                batch.push(stripe);
            } else {
                refused.push(group);
            }
        }
        Ok(batch)
    }

    async fn hold(&mut self, group: GroupId) -> Result<bool, MetaError> {
        if self.leases.get(&group).is_some_and(|(_, since)| since.elapsed() < LEASE_FRESH / 2) {
            return Ok(true);
        }
        let asked = Instant::now();
        match self.ctx.lease(&format!("repair/{group}"), LEASE).await? {
            Some(lease) => {
                self.leases.insert(group, (lease, asked));
                Ok(true)
            }
            None => {
                self.leases.remove(&group);
                Ok(false)
            }
        }
    }

    async fn release_all(&mut self) {
        for (_, (lease, _)) in self.leases.drain() {
            self.ctx.release(lease).await;
        }
    }

    async fn mend(&mut self, batch: Vec<Endangered>) -> Result<u64, StepError> {
        let ids: Vec<BlobId> = batch.iter().map(|stripe| stripe.name.1).collect();
        let blobs = self.ctx.meta.blobs(&ids).await?;
        let blobs: BTreeMap<BlobId, Blob> = blobs.into_iter().flatten().map(|blob| (blob.id, blob)).collect();
        // Boxed here: the compiler cannot see through the adapters that these futures may move between threads.
        let mends: Vec<BoxFuture<'_, _>> =
            batch.into_iter().map(|stripe| self.mend_one(stripe, &blobs).boxed()).collect();
        let results: Vec<_> = futures::stream::iter(mends).buffer_unordered(AT_A_TIME).collect().await;
        let mut bytes = 0;
        for (stripe, result) in results {
            bytes += self.account(stripe, result);
        }
        Ok(bytes)
    }

    async fn mend_one(
        &self,
        stripe: Endangered,
        blobs: &BTreeMap<BlobId, Blob>,
    ) -> (Endangered, Result<Mended, RebuildError>) {
        let held = self.leases.get(&stripe.name.0).map(|(_, since)| *since);
        let lease_holds = move || held.is_some_and(|since| since.elapsed() < LEASE_FRESH);
        let (ctx, rows, codecs) = (&self.ctx, &self.rows, &self.codecs);
        let rebuild = Rebuild { ctx, rows, codecs, lease_holds: &lease_holds };
        let result = rebuild.stripe(&stripe, blobs.get(&stripe.name.1)).await;
        (stripe, result)
    }

    fn account(&mut self, stripe: Endangered, result: Result<Mended, RebuildError>) -> u64 {
        match result {
            Ok(mended) => {
                self.failed.remove(&stripe.name);
                self.ctx.metrics.repaired_fragments.inc_by(mended.rebuilt);
                self.ctx.metrics.repaired_bytes.inc_by(mended.bytes);
                self.progress.repaired += mended.bytes;
                // Read k, wrote and read back what was missing: roughly this many times its size.
                mended.bytes.saturating_mul(4)
            }
            // The group moved on: the rows are read again, and the stripe judged anew.
            Err(RebuildError::Meta(MetaError::Stale(_))) => 0,
            Err(error) => {
                let (group, blob, number) = stripe.name;
                self.ctx.metrics.repair_failures.inc();
                if self.failed.len() >= MAX_FAILED {
                    self.failed.clear();
                }
                let tries = self.failed.get(&stripe.name).map_or(0, |(_, tries)| *tries);
                // The nodes that hold the other fragments may be starting.
                if tries < TRIES_TO_WARN {
                    tracing::info!(%group, %blob, stripe = number, margin = stripe.margin, %error, "a stripe is not repaired yet");
                } else {
                    tracing::warn!(%group, %blob, stripe = number, margin = stripe.margin, tries, %error, "a stripe cannot be repaired");
                }
                let wait = RETRY.saturating_mul(2u32.saturating_pow(tries)).min(LONGEST_RETRY);
                self.failed.insert(stripe.name, (Instant::now() + wait, tries.saturating_add(1)));
                0
            }
        }
    }
}

#[async_trait]
impl Worker for Repair {
    async fn step(&mut self) -> Result<Step, StepError> {
        let rows = self.ctx.placement.refresh().await?;
        let before = std::mem::replace(&mut self.rows, rows);
        if before.revision != self.rows.revision {
            // Disks came or went: what could not be done may be possible now.
            self.failed.clear();
            self.stuck.clear();
            self.crowded = replace::crowded(&self.rows, self.ctx.policy().failure_domain);
            self.ctx.metrics.crowded_groups.set(self.crowded.len() as i64);
            self.ctx.metrics.unplaceable_members.set(0);
            self.fruitless = None;
            self.queue.clear();
        }
        if self.replace().await? {
            return Ok(Step::Worked { bytes: 0 });
        }
        if !self.fill().await? {
            return Ok(if self.uncrowd().await? { Step::Worked { bytes: 0 } } else { Step::Idle });
        }
        let batch = self.take_batch().await?;
        if batch.is_empty() {
            self.queue.clear();
            return Ok(Step::Idle);
        }
        let bytes = self.mend(batch).await?;
        Ok(Step::Worked { bytes })
    }
}

#[derive(Clone, Copy)]
struct Fruitless {
    /// The ledger's, when it was read.
    length: u64,
    ended: Instant,
    took: Duration,
}

impl Fruitless {
    /// There is no point yet in reading a ledger that is now of this length.
    fn suffices(&self, length: u64) -> bool {
        let grown = (self.took * READING_SHARE).clamp(GROWN_PAUSE, FRUITLESS_PAUSE);
        self.ended.elapsed() < if length == self.length { FRUITLESS_PAUSE } else { grown }
    }
}

/// How fast the ledger shrinks.
#[derive(Default)]
struct Progress {
    repaired: u64,
    last: Option<(Instant, u64, u64)>,
    bytes_per_second: f64,
    rows_per_second: f64,
}

/// Weight of the newest sample in the smoothed speeds.
const NEWEST: f64 = 0.3;
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

impl Progress {
    fn note(&mut self, ctx: &Context, length: u64) {
        let metrics = &ctx.metrics;
        metrics.ledger_fragments.set(i64::try_from(length).unwrap_or(i64::MAX));
        let now = Instant::now();
        match self.last {
            Some((then, rows, bytes)) if now.duration_since(then) >= SAMPLE_EVERY => {
                let seconds = now.duration_since(then).as_secs_f64();
                let shrunk = rows.saturating_sub(length) as f64 / seconds;
                let put = self.repaired.saturating_sub(bytes) as f64 / seconds;
                self.rows_per_second += NEWEST * (shrunk - self.rows_per_second);
                self.bytes_per_second += NEWEST * (put - self.bytes_per_second);
                self.last = Some((now, length, self.repaired));
            }
            None => self.last = Some((now, length, self.repaired)),
            Some(_) => {}
        }
        metrics.repair_rate.set(self.bytes_per_second as i64);
        let eta = match (length, self.rows_per_second) {
            (0, _) => 0,
            (_, speed) if speed > 0.01 => (length as f64 / speed) as i64,
            _ => -1,
        };
        metrics.repair_eta_seconds.set(eta);
    }
}

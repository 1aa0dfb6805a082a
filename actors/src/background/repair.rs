//! Repair: works the ledger off, most endangered first, under a lease per group.
//!
//! All of its state is the ledger: a repair that dies is continued by whoever takes the lease next. Groups with new
//! members are gone through with a cursor; fragments with rows of their own are looked up. Either counts as mended only
//! after the fragment was put (synced) and read back, and only while the group's epoch is the one it was put under.

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
    backoff::Backoff,
    groups::{self, EndangeredGroup, Lack},
    leases::Leases,
    progress::Progress,
    queue::{self, Endangered, StripeName},
    rebuild::{Mended, Rebuild, RebuildError},
    replacer::Replacer,
    singles::{self, Singles},
    walk::{AT_A_TIME, STEP, Walk, Walked, within},
};
use crate::{
    data_path::Codecs,
    placement::Rows,
    supervisor::{Step, StepError, Worker},
};

/// Groups kept from one pass over the ledger, of those that lack members and of those that lack fragments.
const QUEUE: usize = 4096;
/// Stripes of one step.
const BATCH: usize = 32;
/// A ledger with nothing that can be repaired is read again after this, or when the placement has changed. If it has
/// grown (writes go on while a disk is away), sooner, but reading it takes at most a twentieth of the time.
const FRUITLESS_PAUSE: Duration = Duration::from_secs(15);
const GROWN_PAUSE: Duration = Duration::from_secs(1);
const READING_SHARE: u32 = 20;
/// Fewer failures in a row are ordinary while nodes start.
const TRIES_TO_WARN: u32 = 4;

/// Makes anew what the ledger says is missing.
pub struct Repair {
    ctx: Context,
    rows: Arc<Rows>,
    codecs: Codecs,
    /// The group that is being gone through.
    work: Option<Work>,
    /// Groups to be gone through, the next last.
    queue: Vec<EndangeredGroup>,
    queued_at: Instant,
    /// What it took to make the queue.
    planning: Duration,
    leases: Leases,
    failed: Backoff<StripeName>,
    failed_groups: Backoff<GroupId>,
    /// Groups of whose rows of single fragments some were read in vain.
    barren: Backoff<GroupId>,
    /// The last row that is done, of groups with more rows of single fragments than are read at a time.
    places: HashMap<GroupId, FragmentName>,
    replacer: Replacer,
    /// Disks or groups have changed since the queue was made.
    changed: bool,
    /// The last reading of the ledger, if it was in vain.
    fruitless: Option<Fruitless>,
    progress: Progress,
}

/// What is done about a group now.
enum Work {
    /// Its new members are filled.
    Walk(Walk),
    /// Fragments that have rows of their own are put back.
    Singles(Singles),
}

impl Work {
    fn group(&self) -> GroupId {
        match self {
            Self::Walk(walk) => walk.group(),
            Self::Singles(singles) => singles.group,
        }
    }
}

impl Repair {
    pub fn new(ctx: Context) -> Self {
        Self {
            ctx,
            rows: Arc::default(),
            codecs: Codecs::default(),
            work: None,
            queue: Vec::new(),
            queued_at: Instant::now(),
            planning: Duration::ZERO,
            leases: Leases::default(),
            failed: Backoff::new(),
            failed_groups: Backoff::new(),
            barren: Backoff::new(),
            places: HashMap::new(),
            replacer: Replacer::default(),
            changed: false,
            fruitless: None,
            progress: Progress::default(),
        }
    }

    /// Whether there is something to repair. Looks into the ledger if what was found before is done, or old.
    async fn plan(&mut self) -> Result<bool, StepError> {
        let nothing = self.work.is_none() && self.queue.is_empty();
        if !nothing && self.queued_at.elapsed() < groups::plan_age(self.planning, self.changed) {
            return Ok(true);
        }
        self.put_away().await?;
        self.leases.release_all(&self.ctx).await;
        let length = self.ctx.meta.ledger_len().await?;
        self.progress.note(&self.ctx, length);
        // In a store of before stripes were counted a walk may have more to do than was counted.
        if length == 0 && self.ctx.meta.group_repairs(None, 1).await?.is_empty() {
            self.show_margins(&BTreeMap::new());
            return Ok(false);
        }
        if self.fruitless.is_some_and(|reading| reading.suffices(length)) {
            return Ok(false);
        }
        let began = Instant::now();
        self.queue = self.look(length, began).await?;
        (self.queued_at, self.planning, self.changed) = (Instant::now(), began.elapsed(), false);
        // What waits for another try does not make a pass fruitless.
        let failed = !self.failed.is_empty() || !self.failed_groups.is_empty() || self.replacer.waits();
        let in_vain = self.queue.is_empty() && !failed;
        self.fruitless = in_vain.then(|| Fruitless { length, ended: Instant::now(), took: began.elapsed() });
        Ok(!self.queue.is_empty())
    }

    /// The groups that something can be done about, the one that comes first last.
    async fn look(&mut self, length: u64, now: Instant) -> Result<Vec<EndangeredGroup>, MetaError> {
        let (ctx, rows) = (&self.ctx, &self.rows);
        let found = groups::scan(ctx, rows, QUEUE, |group| self.failed_groups.waits(group, now)).await?;
        let nodes = groups::live_nodes(rows);
        let (node, failed, barren) = (&ctx.node, &self.failed, &self.barren);
        let terms = queue::Terms { limit: QUEUE, node, nodes: &nodes, failed, barren, now };
        let singles = queue::scan(ctx, rows, &found.filled, &terms).await?;
        let mut by_margin = found.by_margin;
        let single = length.saturating_sub(by_margin.values().sum());
        for (margin, fragments) in singles.by_margin(single) {
            *by_margin.entry(margin).or_default() += fragments;
        }
        self.show_margins(&by_margin);
        self.replacer.set_deserted(found.deserted);
        let mut queue = found.groups;
        queue.extend(singles.groups);
        groups::first_come(&mut queue, 2 * QUEUE);
        queue.reverse();
        Ok(queue)
    }

    /// Forgets what was planned, and notes how far the walk has come.
    async fn put_away(&mut self) -> Result<(), MetaError> {
        self.queue.clear();
        match self.work.take() {
            Some(Work::Walk(mut walk)) => note(&mut walk, &self.ctx).await,
            Some(Work::Singles(_)) | None => Ok(()),
        }
    }

    /// What can lose least is made first, so a tolerance's end comes when all that can lose no more is made.
    fn show_margins(&self, by_margin: &BTreeMap<i32, u64>) {
        let (gauge, etas) = (&self.ctx.metrics.missing_by_tolerance, &self.ctx.metrics.repair_eta_by_tolerance);
        gauge.reset();
        etas.reset();
        let mut until_then = 0u64;
        for (margin, fragments) in by_margin {
            until_then = until_then.saturating_add(*fragments);
            let labels = [&*margin.to_string()];
            gauge.with_label_values(&labels).set(i64::try_from(*fragments).unwrap_or(i64::MAX));
            etas.with_label_values(&labels).set(self.progress.eta(until_then));
        }
    }

    /// Goes on with what was begun, or begins the next; None: none of the groups is ours to repair.
    async fn go_on(&mut self) -> Result<Option<u64>, StepError> {
        let work = match self.work.take() {
            Some(work) if self.leases.hold(&self.ctx, work.group()).await? => work,
            _ => match self.begin_next().await? {
                Some(work) => work,
                None => return Ok(None),
            },
        };
        match work {
            Work::Walk(walk) => self.walk(walk).await.map(Some),
            Work::Singles(singles) => self.mend_singles(singles).await.map(Some),
        }
    }

    async fn begin_next(&mut self) -> Result<Option<Work>, StepError> {
        while let Some(EndangeredGroup { id, margin, lack, .. }) = self.queue.pop() {
            if !self.leases.hold(&self.ctx, id).await? {
                continue;
            }
            if lack == Lack::Fragments {
                return Ok(Some(Work::Singles(Singles::new(id, self.places.get(&id).copied()))));
            }
            let Some(repair) = self.ctx.meta.group_repair(id).await? else { continue };
            let Some(group) = self.rows.groups.get(&id).cloned() else { continue };
            return Ok(Some(Work::Walk(Walk::new(repair, group, margin))));
        }
        Ok(None)
    }

    async fn walk(&mut self, mut walk: Walk) -> Result<u64, StepError> {
        let group = walk.group();
        match self.step_walk(&mut walk).await {
            Ok(Walked::On(mended)) => {
                self.work = Some(Work::Walk(walk));
                self.failed_groups.succeeded(&group);
                Ok(self.account(mended))
            }
            Ok(Walked::Done) => Ok(0),
            // The group moved on: it is judged anew.
            Err(RebuildError::Meta(MetaError::Stale(_))) => Ok(0),
            Err(error) => {
                self.group_failed(&walk, error);
                // What was done before that stands.
                note(&mut walk, &self.ctx).await?;
                Ok(0)
            }
        }
    }

    async fn step_walk(&self, walk: &mut Walk) -> Result<Walked, RebuildError> {
        let lease_holds = self.leases.watch(walk.group());
        let (ctx, rows, codecs) = (&self.ctx, &self.rows, &self.codecs);
        let rebuild =
            Rebuild { ctx, fragments: ctx.fragments_for(walk.margin), rows, codecs, lease_holds: &lease_holds };
        walk.step(&rebuild).await
    }

    fn group_failed(&mut self, walk: &Walk, error: RebuildError) {
        let (group, margin) = (walk.group(), walk.margin);
        self.ctx.metrics.repair_failures.inc();
        if let Some(position) = error.full_position() {
            tracing::warn!(%group, position, %error, "a new member of a group takes no more: another is looked for");
            self.replacer.desert(group, position);
        }
        let tries = self.failed_groups.failed(group);
        // Nodes that hold its fragments may be starting.
        if tries < TRIES_TO_WARN {
            tracing::info!(%group, margin, %error, "a group is not repaired yet");
        } else {
            tracing::warn!(%group, margin, tries, %error, "a group cannot be repaired");
        }
    }

    /// The next stripes of a group with rows of single fragments.
    async fn mend_singles(&mut self, mut singles: Singles) -> Result<u64, StepError> {
        let group = singles.group;
        if singles.margin().is_none() && !self.next_window(&mut singles).await? {
            return Ok(0);
        }
        let mut batch = singles.take(self.ctx.courtesy.batch(BATCH));
        let (bytes, begun) = self.mend(&batch).await?;
        singles.put_back(batch.split_off(begun));
        let next = self.queue.last().map(|next| next.margin);
        match singles.margin() {
            // What is left of it can lose more than what was to come after it.
            Some(margin) if next.is_some_and(|next| next < margin) => {
                let (rank, bytes, lack) = (0, 0, Lack::Fragments);
                self.queue.push(EndangeredGroup { margin, rank, bytes, id: group, lack });
                groups::first_come(&mut self.queue, 2 * QUEUE);
                self.queue.reverse();
            }
            _ => self.work = Some(Work::Singles(singles)),
        }
        Ok(bytes)
    }

    /// Reads on after a window that is done; false when there is nothing more to do about the group for now.
    async fn next_window(&mut self, singles: &mut Singles) -> Result<bool, MetaError> {
        self.keep_place(singles);
        if singles.ended {
            return Ok(false);
        }
        let now = Instant::now();
        while !singles.ended && now.elapsed() < STEP {
            singles.look(&self.ctx, &self.rows, |stripe| self.failed.waits(stripe, now)).await?;
            if singles.margin().is_some() {
                self.barren.succeeded(&singles.group);
                return Ok(true);
            }
            self.keep_place(singles);
        }
        self.barren.failed(singles.group);
        Ok(false)
    }

    /// Who goes through the group again goes on there, and after its last row begins with the first.
    fn keep_place(&mut self, singles: &Singles) {
        if self.places.len() >= 2 * QUEUE {
            self.places.clear();
        }
        match singles.after.filter(|_| !singles.ended) {
            Some(after) => self.places.insert(singles.group, after),
            None => self.places.remove(&singles.group),
        };
    }

    /// Mends stripes in order until the step's time is over: how many bytes were read and written, and how many stripes
    /// were begun.
    async fn mend(&mut self, batch: &[Endangered]) -> Result<(u64, usize), StepError> {
        let ids: Vec<BlobId> = batch.iter().map(|stripe| stripe.name.1).collect();
        let blobs = self.ctx.meta.blobs(&ids).await?;
        let blobs: BTreeMap<BlobId, Blob> = blobs.into_iter().flatten().map(|blob| (blob.id, blob)).collect();
        // Boxed here: the compiler cannot see through the adapters that these futures may move between threads.
        let mends: Vec<BoxFuture<'_, _>> = batch.iter().map(|stripe| self.mend_one(stripe, &blobs).boxed()).collect();
        let mends = futures::stream::iter(within(STEP, mends)).buffer_unordered(AT_A_TIME);
        let results: Vec<_> = mends.collect().await;
        let begun = results.len();
        let mut bytes = 0;
        for (stripe, result) in results {
            match result {
                Ok(mended) => {
                    self.failed.succeeded(&stripe.name);
                    bytes += self.account(mended);
                }
                // The group moved on: the rows are read again, and the stripe judged anew.
                Err(RebuildError::Meta(MetaError::Stale(_))) => {}
                Err(error) => self.stripe_failed(stripe, error),
            }
        }
        Ok((bytes, begun))
    }

    async fn mend_one<'a>(
        &self,
        stripe: &'a Endangered,
        blobs: &BTreeMap<BlobId, Blob>,
    ) -> (&'a Endangered, Result<Mended, RebuildError>) {
        let lease_holds = self.leases.watch(stripe.name.0);
        let (ctx, rows, codecs) = (&self.ctx, &self.rows, &self.codecs);
        let fragments = ctx.fragments_for(stripe.margin);
        let rebuild = Rebuild { ctx, fragments, rows, codecs, lease_holds: &lease_holds };
        (stripe, singles::mend(&rebuild, stripe, blobs.get(&stripe.name.1)).await)
    }

    /// Counts what was mended; roughly how many bytes were read and written for it.
    fn account(&mut self, mended: Mended) -> u64 {
        let metrics = &self.ctx.metrics;
        metrics.repaired_fragments.inc_by(mended.fragments);
        metrics.copied_fragments.inc_by(mended.copied);
        metrics.repaired_bytes.inc_by(mended.bytes);
        self.progress.bytes += mended.bytes;
        mended.bytes.saturating_mul(4)
    }

    fn stripe_failed(&mut self, stripe: &Endangered, error: RebuildError) {
        let ((group, blob, number), margin) = (stripe.name, stripe.margin);
        self.ctx.metrics.repair_failures.inc();
        let tries = self.failed.failed(stripe.name);
        // The nodes that hold the other fragments may be starting.
        if tries < TRIES_TO_WARN {
            tracing::info!(%group, %blob, stripe = number, margin, %error, "a stripe is not repaired yet");
        } else {
            tracing::warn!(%group, %blob, stripe = number, margin, tries, %error, "a stripe cannot be repaired");
        }
    }

    /// Disks or groups changed: what could not be done may be possible now.
    fn begin_anew(&mut self) {
        self.failed.clear();
        self.failed_groups.clear();
        self.barren.clear();
        self.replacer.judge(&self.ctx, &self.rows);
        self.fruitless = None;
        self.changed = true;
    }
}

#[async_trait]
impl Worker for Repair {
    async fn step(&mut self) -> Result<Step, StepError> {
        let rows = self.ctx.placement.refresh().await?;
        let before = std::mem::replace(&mut self.rows, rows);
        if before.revision != self.rows.revision {
            self.begin_anew();
        }
        if self.replacer.replace(&self.ctx, &self.rows).await? {
            return Ok(Step::Worked { bytes: 0 });
        }
        if !self.plan().await? {
            return Ok(if self.replacer.uncrowd(&self.ctx).await? { Step::Worked { bytes: 0 } } else { Step::Idle });
        }
        if self.progress.is_due() {
            let length = self.ctx.meta.ledger_len().await?;
            self.progress.note(&self.ctx, length);
        }
        if let Some(bytes) = self.go_on().await? {
            return Ok(Step::Worked { bytes });
        }
        // Others are at all of them.
        self.put_away().await?;
        Ok(Step::Idle)
    }
}

/// Notes how far a walk has come that ends here.
async fn note(walk: &mut Walk, ctx: &Context) -> Result<(), MetaError> {
    match walk.note(ctx).await {
        // Another has it now, or the group has changed: what was made is found to be there.
        Ok(_) | Err(MetaError::Stale(_)) => Ok(()),
        Err(error) => Err(error),
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

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;

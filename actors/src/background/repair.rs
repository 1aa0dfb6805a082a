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
    groups::{self, EndangeredGroup},
    progress::Progress,
    queue::{self, Endangered, StripeName},
    rebuild::{Mended, Rebuild, RebuildError, Wish},
    replace::{self, Burden},
    walk::{AT_A_TIME, Walk, Walked},
};
use crate::{
    data_path::Codecs,
    placement::Rows,
    supervisor::{Step, StepError, Worker},
};

/// Stripes, and groups, kept from one pass over the ledger.
const QUEUE: usize = 4096;
/// Stripes of one step.
const BATCH: usize = 32;
/// How long groups are given new members before the rows are read again.
const REPLACING: Duration = Duration::from_secs(5);
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
/// Fewer failures in a row are ordinary while nodes start.
const TRIES_TO_WARN: u32 = 4;

/// Makes anew what the ledger says is missing.
pub struct Repair {
    ctx: Context,
    rows: Arc<Rows>,
    codecs: Codecs,
    /// The group that is being gone through.
    walk: Option<Walk>,
    /// Groups to be gone through, the next last.
    groups: Vec<EndangeredGroup>,
    /// Single stripes, most endangered last.
    queue: Vec<Endangered>,
    queued_at: Instant,
    leases: HashMap<GroupId, (Lease, Instant)>,
    failed: Backoff<StripeName>,
    failed_groups: Backoff<GroupId>,
    /// Groups with lost members, in the present rows.
    wounded: Vec<GroupId>,
    /// New members of groups that are to be replaced again: they died, or are full.
    deserted: BTreeMap<GroupId, Vec<u8>>,
    /// Groups whose lost members found no stand-in: not tried again until the placement changes.
    stuck: HashMap<GroupId, usize>,
    burden: Burden,
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
            walk: None,
            groups: Vec::new(),
            queue: Vec::new(),
            queued_at: Instant::now(),
            leases: HashMap::new(),
            failed: Backoff::new(),
            failed_groups: Backoff::new(),
            wounded: Vec::new(),
            deserted: BTreeMap::new(),
            stuck: HashMap::new(),
            burden: Burden::default(),
            crowded: Vec::new(),
            fruitless: None,
            progress: Progress::default(),
        }
    }

    /// Lost members of groups replaced, and new ones that cannot be filled. True when there was something to do.
    async fn replace(&mut self) -> Result<bool, StepError> {
        let wounded: Vec<GroupId> = self.wounded.iter().chain(self.deserted.keys()).copied().collect();
        let began = Instant::now();
        let mut replaced = 0;
        for group in wounded {
            if self.stuck.contains_key(&group) {
                continue;
            }
            let positions = self.deserted.remove(&group).unwrap_or_default();
            let (ctx, rows, burden) = (&self.ctx, &self.rows, &mut self.burden);
            let Some(done) = replace::replace_lost(ctx, rows, burden, group, &positions).await? else { continue };
            if done.unplaceable > 0 {
                tracing::error!(%group, members = done.unplaceable, "no disk may stand in for lost members; add disks");
                self.stuck.insert(group, done.unplaceable);
                self.ctx.metrics.unplaceable_members.set(self.stuck.values().sum::<usize>() as i64);
            }
            replaced += usize::from(done.members > 0);
            if began.elapsed() >= REPLACING {
                break;
            }
        }
        Ok(replaced > 0)
    }

    /// One member moved out of too crowded a failure domain (PLC-1). True when there was something to do.
    async fn uncrowd(&mut self) -> Result<bool, StepError> {
        // It costs redundancy until the moved fragments are made anew: nothing else may be missing then.
        if self.crowded.is_empty() || self.ctx.meta.ledger_len().await? > 0 {
            return Ok(false);
        }
        for group in self.crowded.clone() {
            // With a member away, which may come back, moving another would leave less than there is; and the one that
            // is away could not be copied from.
            let whole = self.rows.groups.get(&group).is_some_and(|group| groups::is_whole(&self.rows, group));
            if !whole || self.stuck.contains_key(&group) {
                continue;
            }
            let uncrowd = replace::uncrowd(&self.ctx, &self.rows, &self.burden, group);
            let Some(done) = uncrowd.await? else { continue };
            if done.unplaceable > 0 {
                tracing::error!(%group, "a failure domain holds more of a group than it may, and no other has room; add disks");
                self.stuck.insert(group, done.unplaceable);
                continue;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether there is something to repair. Reads the ledger if what was read before is done, or old.
    async fn plan(&mut self) -> Result<bool, StepError> {
        let nothing = self.walk.is_none() && self.groups.is_empty() && self.queue.is_empty();
        if !nothing && self.queued_at.elapsed() < QUEUE_AGE {
            return Ok(true);
        }
        self.put_away().await?;
        self.release_all().await;
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
        let now = Instant::now();
        let waits = |group: &GroupId| self.failed_groups.waits(group, now);
        let groups = groups::scan(&self.ctx, &self.rows, QUEUE, waits).await?;
        let waits = |name: &StripeName| self.failed.waits(name, now);
        let stripes = queue::scan(&self.ctx, &self.rows, &groups.filled, QUEUE, waits).await?;
        let mut by_margin = groups.by_margin;
        stripes
            .by_margin
            .into_iter()
            .for_each(|(margin, fragments)| *by_margin.entry(margin).or_default() += fragments);
        self.show_margins(&by_margin);
        (self.groups, self.queue, self.queued_at) = (groups.groups, stripes.stripes, now);
        self.deserted = groups.deserted;
        self.spread();
        // What waits for another try does not make a pass fruitless.
        let failed = !self.failed.is_empty() || !self.failed_groups.is_empty() || !self.deserted.is_empty();
        let in_vain = self.queue.is_empty() && self.groups.is_empty() && !failed;
        self.fruitless = in_vain.then(|| Fruitless { length, ended: Instant::now(), took: now.elapsed() });
        Ok(!self.queue.is_empty() || !self.groups.is_empty())
    }

    /// Forgets what was planned, and notes how far the walk has come.
    async fn put_away(&mut self) -> Result<(), MetaError> {
        self.groups.clear();
        self.queue.clear();
        match self.walk.take() {
            Some(mut walk) => note(&mut walk, &self.ctx).await,
            None => Ok(()),
        }
    }

    fn show_margins(&self, by_margin: &BTreeMap<i32, u64>) {
        let gauge = &self.ctx.metrics.missing_by_tolerance;
        gauge.reset();
        for (margin, fragments) in by_margin {
            let fragments = i64::try_from(*fragments).unwrap_or(i64::MAX);
            gauge.with_label_values(&[&margin.to_string()]).set(fragments);
        }
    }

    /// Last is next. Among equally endangered stripes each node begins with other groups, so that they do not queue for
    /// leases.
    fn spread(&mut self) {
        let salt = xxhash_rust::xxh3::xxh3_64(self.ctx.node.as_str().as_bytes());
        let turn = |group: GroupId| xxhash_rust::xxh3::xxh3_64_with_seed(&group.0.to_be_bytes(), salt);
        self.queue.sort_by_cached_key(|stripe| std::cmp::Reverse((stripe.margin, turn(stripe.name.0), stripe.name)));
    }

    /// Whether a group comes before the single stripes: they wait for those that are nearer to being lost, or as near.
    fn is_groups_turn(&self) -> bool {
        let group = self.walk.as_ref().map(|walk| walk.margin).or(self.groups.last().map(|group| group.margin));
        let stripe = self.queue.last().map(|stripe| stripe.margin);
        group.is_some_and(|group| stripe.is_none_or(|stripe| group <= stripe))
    }

    /// Goes on with the walk, or begins the next; None: none of the groups is ours to repair.
    async fn walk(&mut self) -> Result<Option<u64>, StepError> {
        let mut walk = match self.walk.take() {
            Some(walk) if self.hold(walk.group()).await? => walk,
            _ => match self.next_walk().await? {
                Some(walk) => walk,
                None => return Ok(None),
            },
        };
        let group = walk.group();
        match self.step_walk(&mut walk).await {
            Ok(Walked::On(mended)) => {
                self.walk = Some(walk);
                self.failed_groups.succeeded(&group);
                Ok(Some(self.account(mended)))
            }
            Ok(Walked::Done) => Ok(Some(0)),
            // The group moved on: it is judged anew.
            Err(RebuildError::Meta(MetaError::Stale(_))) => Ok(Some(0)),
            Err(error) => {
                self.group_failed(&walk, error);
                // What was done before that stands.
                note(&mut walk, &self.ctx).await?;
                Ok(Some(0))
            }
        }
    }

    async fn step_walk(&self, walk: &mut Walk) -> Result<Walked, RebuildError> {
        let held = self.leases.get(&walk.group()).map(|(_, since)| *since);
        let lease_holds = move || held.is_some_and(|since| since.elapsed() < LEASE_FRESH);
        let (ctx, rows, codecs) = (&self.ctx, &self.rows, &self.codecs);
        let rebuild =
            Rebuild { ctx, fragments: ctx.fragments_for(walk.margin), rows, codecs, lease_holds: &lease_holds };
        walk.step(&rebuild).await
    }

    async fn next_walk(&mut self) -> Result<Option<Walk>, StepError> {
        while let Some(EndangeredGroup { id, margin, .. }) = self.groups.pop() {
            if !self.hold(id).await? {
                continue;
            }
            let Some(repair) = self.ctx.meta.group_repair(id).await? else { continue };
            let Some(group) = self.rows.groups.get(&id).cloned() else { continue };
            return Ok(Some(Walk::new(repair, group, margin)));
        }
        Ok(None)
    }

    fn group_failed(&mut self, walk: &Walk, error: RebuildError) {
        let (group, margin) = (walk.group(), walk.margin);
        self.ctx.metrics.repair_failures.inc();
        if let Some(position) = error.full_position() {
            tracing::warn!(%group, position, %error, "a new member of a group takes no more: another is looked for");
            self.deserted.entry(group).or_default().push(position);
        }
        let tries = self.failed_groups.failed(group);
        // Nodes that hold its fragments may be starting.
        if tries < TRIES_TO_WARN {
            tracing::info!(%group, margin, %error, "a group is not repaired yet");
        } else {
            tracing::warn!(%group, margin, tries, %error, "a group cannot be repaired");
        }
    }

    /// The next stripes whose groups are ours to repair.
    async fn take_batch(&mut self) -> Result<Vec<Endangered>, StepError> {
        let mut batch = Vec::new();
        let mut refused: Vec<GroupId> = Vec::new();
        let most = self.ctx.courtesy.batch(BATCH);
        while batch.len() < most {
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
            match result {
                Ok(mended) => {
                    self.failed.succeeded(&stripe.name);
                    bytes += self.account(mended);
                }
                // The group moved on: the rows are read again, and the stripe judged anew.
                Err(RebuildError::Meta(MetaError::Stale(_))) => {}
                Err(error) => self.stripe_failed(&stripe, error),
            }
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
        let fragments = ctx.fragments_for(stripe.margin);
        let rebuild = Rebuild { ctx, fragments, rows, codecs, lease_holds: &lease_holds };
        let result = self.mend_listed(&rebuild, &stripe, blobs.get(&stripe.name.1)).await;
        (stripe, result)
    }

    /// Mends what a stripe's rows say, and takes those away. Of a blob that was reclaimed meanwhile nobody needs it.
    async fn mend_listed(
        &self,
        rebuild: &Rebuild<'_>,
        stripe: &Endangered,
        blob: Option<&Blob>,
    ) -> Result<Mended, RebuildError> {
        let Some(group) = self.rows.groups.get(&stripe.name.0) else { return Err(MetaError::Stale("group").into()) };
        let wish = |entry: &LedgerEntry| Wish { position: entry.fragment.position, from: None };
        let wishes: Vec<Wish> = stripe.entries.iter().map(wish).collect();
        let mended = match blob {
            Some(blob) => rebuild.stripe(stripe.name, &wishes, blob).await?,
            None => Mended::default(),
        };
        for entry in &stripe.entries {
            self.ctx.meta.ledger_clear(entry.fragment, group.epoch).await?;
        }
        Ok(mended)
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

    /// Disks or groups changed: what could not be done may be possible now, and what is most endangered may be another.
    async fn begin_anew(&mut self) -> Result<(), MetaError> {
        self.failed.clear();
        self.failed_groups.clear();
        self.stuck.clear();
        self.wounded = replace::wounded(&self.rows, &self.ctx.node);
        self.burden = Burden::of(&self.rows);
        self.crowded = replace::crowded(&self.rows, self.ctx.policy().failure_domain);
        self.ctx.metrics.crowded_groups.set(self.crowded.len() as i64);
        self.ctx.metrics.unplaceable_members.set(0);
        self.fruitless = None;
        self.put_away().await
    }
}

#[async_trait]
impl Worker for Repair {
    async fn step(&mut self) -> Result<Step, StepError> {
        let rows = self.ctx.placement.refresh().await?;
        let before = std::mem::replace(&mut self.rows, rows);
        if before.revision != self.rows.revision {
            self.begin_anew().await?;
        }
        if self.replace().await? {
            return Ok(Step::Worked { bytes: 0 });
        }
        if !self.plan().await? {
            return Ok(if self.uncrowd().await? { Step::Worked { bytes: 0 } } else { Step::Idle });
        }
        if self.progress.is_due() {
            let length = self.ctx.meta.ledger_len().await?;
            self.progress.note(&self.ctx, length);
        }
        if self.is_groups_turn()
            && let Some(bytes) = self.walk().await?
        {
            return Ok(Step::Worked { bytes });
        }
        let batch = self.take_batch().await?;
        if !batch.is_empty() {
            let bytes = self.mend(batch).await?;
            return Ok(Step::Worked { bytes });
        }
        // Others are at those that are nearer to being lost: what comes after them must not wait for that.
        if let Some(bytes) = self.walk().await? {
            return Ok(Step::Worked { bytes });
        }
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

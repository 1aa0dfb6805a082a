//! One group under repair, gone through blob by blob.
//!
//! The metadata is told how far the walk has come a few times for each page of blobs, not for each fragment. What was
//! made and not told yet is found to be there when another goes on from the place that was.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::{MetaError, clock::now_ms, ids::*, record::*};
use futures::{FutureExt, StreamExt, future::BoxFuture};

use super::{
    Context,
    inventory::names_in,
    queue::StripeName,
    rebuild::{Mended, Rebuild, RebuildError, Wish},
};

const BLOBS_PER_PAGE: usize = 256;
/// Stripes of one step, and how many of them at a time: memory is that many stripes.
const BATCH: usize = 32;
pub(super) const AT_A_TIME: usize = 4;
/// A step begins no more stripes after this, so that the metadata is told, and what has changed is seen: stripes may be
/// large, and disks slow.
pub(super) const STEP: Duration = Duration::from_secs(1);
/// How often the metadata is told, within a page.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// What a step came to.
pub(super) enum Walked {
    On(Mended),
    /// There is nothing more to get for the group's new members.
    Done,
}

/// A walk over a group whose lease is held.
pub(super) struct Walk {
    /// As the metadata has it.
    repair: GroupRepair,
    group: Arc<Group>,
    /// Fragments more than needed that are thought to be readable.
    pub margin: i32,
    /// Blobs that were read ahead and are not done.
    page: VecDeque<PlacedBlob>,
    /// How many stripes of the first of them are.
    stripes_done: usize,
    /// The last blob that is.
    last_done: Option<BlobId>,
    /// Fragments that were left behind.
    left: u64,
    noted_at: Instant,
}

/// A stripe of the page.
struct Job {
    /// Its blob's place in the page, and its own among the blob's.
    place: (usize, usize),
    stripe: u32,
    wishes: Arc<[Wish]>,
}

impl Walk {
    pub(super) fn new(repair: GroupRepair, group: Arc<Group>, margin: i32) -> Self {
        let (page, noted_at) = (VecDeque::new(), Instant::now());
        Self { repair, group, margin, page, stripes_done: 0, last_done: None, left: 0, noted_at }
    }

    pub(super) fn group(&self) -> GroupId {
        self.group.id
    }

    /// Repairs the next stripes.
    ///
    /// # Errors
    /// Those after which the walk cannot go on: a home that takes nothing, a group that has changed, the metadata's. A
    /// stripe that cannot be made is left behind with rows of its own.
    pub(super) async fn step(&mut self, rebuild: &Rebuild<'_>) -> Result<Walked, RebuildError> {
        if self.page.is_empty() {
            if !self.note(rebuild.ctx).await? {
                return Ok(Walked::Done);
            }
            let page = rebuild.ctx.meta.placed_blobs(self.group.id, self.repair.cursor, BLOBS_PER_PAGE).await?;
            if page.is_empty() {
                let more = self.tell(rebuild.ctx, None).await?;
                return Ok(if more { Walked::On(Mended::default()) } else { Walked::Done });
            }
            self.page = page.into();
        }
        let (jobs, reached) = self.batch(rebuild.ctx.courtesy.batch(BATCH));
        let (mended, begun) = self.mend(rebuild, &jobs).await?;
        // Those that were begun are all done, and they are the first.
        self.move_on(jobs.get(begun).map_or(reached, |job| job.place));
        if self.noted_at.elapsed() >= NOTE_EVERY && !self.note(rebuild.ctx).await? {
            return Ok(Walked::Done);
        }
        Ok(Walked::On(mended))
    }

    /// The next stripes, and where in the page the walk will be after them: a blob, and how many of its stripes.
    fn batch(&self, most: usize) -> (Vec<Job>, (usize, usize)) {
        let mut jobs = Vec::with_capacity(most);
        let mut skip = self.stripes_done;
        for (at, PlacedBlob { blob, epoch }) in self.page.iter().enumerate() {
            let covered = |position: &&PositionRepair| position.covers(self.repair.cursor, blob.id, *epoch);
            let wish = |position: &PositionRepair| Wish { position: position.position, from: Some(position.from) };
            let wishes: Arc<[Wish]> = self.repair.positions.iter().filter(covered).map(wish).collect();
            if !wishes.is_empty() {
                for (done, name) in names_in(blob, self.group.id, 0).enumerate().skip(skip) {
                    if jobs.len() == most {
                        return (jobs, (at, done));
                    }
                    jobs.push(Job { place: (at, done), stripe: name.stripe, wishes: wishes.clone() });
                }
            }
            skip = 0;
        }
        (jobs, (self.page.len(), 0))
    }

    /// Mends stripes in order until the step's time is over; also how many were begun.
    async fn mend(&mut self, rebuild: &Rebuild<'_>, jobs: &[Job]) -> Result<(Mended, usize), RebuildError> {
        let (page, group) = (&self.page, self.group.id);
        // Boxed here: the compiler cannot see through the adapters that these futures may move between threads.
        let mends: Vec<BoxFuture<'_, _>> = jobs
            .iter()
            .map(|job| {
                let blob = &page[job.place.0].blob;
                let name: StripeName = (group, blob.id, job.stripe);
                async move { (name, job, rebuild.stripe(name, &job.wishes, blob).await) }.boxed()
            })
            .collect();
        let mut mends = futures::stream::iter(within(STEP, mends)).buffer_unordered(AT_A_TIME);
        let (mut sum, mut left, mut begun) = (Mended::default(), Vec::new(), 0);
        while let Some((name, job, result)) = mends.next().await {
            begun += 1;
            match result {
                Ok(mended) => sum += mended,
                Err(error) if error.is_of_the_stripe() => {
                    let (_, blob, stripe) = name;
                    tracing::warn!(%group, %blob, stripe, %error, "a stripe of a group under repair cannot be made now");
                    rebuild.ctx.metrics.repair_failures.inc();
                    left.extend(job.wishes.iter().map(|wish| self.row(name, wish.position)));
                }
                Err(error) => return Err(error),
            }
        }
        drop(mends);
        // Before the walk moves on: from then on nothing else tells of them.
        rebuild.ctx.meta.leave_behind(&left).await?;
        self.left += left.len() as u64;
        Ok((sum, begun))
    }

    fn row(&self, (group, blob, stripe): StripeName, position: u8) -> LedgerEntry {
        let of = |repair: &&PositionRepair| repair.position == position;
        let cause = self.repair.positions.iter().find(of).map_or(MissingCause::NotFound, |repair| repair.cause);
        LedgerEntry { fragment: FragmentName { group, blob, stripe, position }, cause, since_ms: now_ms() }
    }

    fn move_on(&mut self, (at, stripes_done): (usize, usize)) {
        if let Some(last) = self.page.drain(..at).next_back() {
            self.last_done = Some(last.blob.id);
        }
        self.stripes_done = stripes_done;
    }

    /// Tells the metadata what is done; whether there is more to do.
    pub(super) async fn note(&mut self, ctx: &Context) -> Result<bool, MetaError> {
        self.noted_at = Instant::now();
        match self.last_done.take() {
            Some(last) => self.tell(ctx, Some(last)).await,
            None => Ok(true),
        }
    }

    async fn tell(&mut self, ctx: &Context, to: Option<BlobId>) -> Result<bool, MetaError> {
        let (group, epoch, from) = (self.group.id, self.group.epoch, self.repair.cursor);
        let step = GroupRepairStep { group, epoch, from, to };
        match ctx.meta.advance_group_repair(step).await? {
            Some(repair) => self.repair = repair,
            None => {
                tracing::info!(%group, left = self.left, "the new members of a group have what they were to get");
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Those of `works` that are asked for in time.
pub(super) fn within<T>(time: Duration, works: Vec<T>) -> impl Iterator<Item = T> {
    let (until, mut works) = (Instant::now() + time, works.into_iter());
    std::iter::from_fn(move || if Instant::now() < until { works.next() } else { None })
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;

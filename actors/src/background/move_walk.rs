//! One group under way to other disks, gone through blob by blob: what there was when the move began, then what was
//! committed since, until there is nothing the new disks lack.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::{MetaError, ids::*, record::*};
use futures::{FutureExt, StreamExt, future::BoxFuture};

use super::{
    Context,
    inventory::names_in,
    queue::StripeName,
    rebuild::{Mended, Rebuild, RebuildError, Wish},
    walk::{AT_A_TIME, STEP, within},
};
use crate::{data_path::Codecs, placement::Rows};

const BLOBS_PER_PAGE: usize = 256;
/// Stripes of one step.
const BATCH: usize = 32;
/// How often the metadata is told within a page; at its end in any case.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// What a step came to.
pub(super) enum Stepped {
    On(Mended),
    Ended(MoveEnd),
}

/// A move that is gone on with.
pub(super) struct MoveWalk {
    /// As the metadata has it.
    pub moved: GroupMove,
    /// The group with its new members, and their disks: what is wished for is looked for there.
    rows: Rows,
    wishes: Vec<Wish>,
    /// Blobs that were read ahead and are not done: of the walk, or of the tail.
    page: VecDeque<Blob>,
    /// How many stripes of the first of them are.
    stripes_done: usize,
    /// Blobs that are done and were not told of, and what was copied for them.
    done: Vec<BlobId>,
    bytes: u64,
    noted_at: Instant,
}

impl MoveWalk {
    /// None when the group is another by now.
    pub(super) fn new(moved: GroupMove, rows: &Rows) -> Option<Self> {
        let group = rows.groups.get(&moved.group).filter(|group| group.epoch == moved.epoch)?;
        let mut group = Group::clone(group);
        let mut wishes = Vec::with_capacity(moved.positions.len());
        let mut small = Rows { revision: rows.revision, ..Rows::default() };
        let here = group.members.iter().chain(moved.positions.iter().map(|position| &position.to));
        small.disks = here.filter_map(|id| Some((*id, rows.disks.get(id)?.clone()))).collect();
        for PositionMove { position, from, to, .. } in &moved.positions {
            *group.members.get_mut(usize::from(*position))? = *to;
            wishes.push(Wish { position: *position, from: Some(*from) });
        }
        small.groups.insert(group.id, Arc::new(group));
        let (page, done, noted_at) = (VecDeque::new(), Vec::new(), Instant::now());
        Some(Self { moved, rows: small, wishes, page, stripes_done: 0, done, bytes: 0, noted_at })
    }

    /// Copies the next stripes, or makes the new disks members once there are none.
    ///
    /// # Errors
    /// Those after which the move cannot go on for now: a disk that takes nothing or gives no answer, a stripe that
    /// cannot be read, the metadata's.
    pub(super) async fn step(
        &mut self,
        ctx: &Context,
        codecs: &Codecs,
        lease_holds: &(dyn Fn() -> bool + Sync),
    ) -> Result<Stepped, RebuildError> {
        if self.page.is_empty() {
            if !self.moved.walked && !self.next_page(ctx).await? {
                return Ok(Stepped::Ended(MoveEnd::Gone));
            }
            if self.moved.walked && !self.next_tail(ctx).await? {
                return Ok(match ctx.meta.finish_move(self.moved.group, self.moved.epoch).await? {
                    MoveEnd::Tail => Stepped::On(Mended::default()),
                    end => Stepped::Ended(end),
                });
            }
        }
        // Behind clients: nothing is missing while it waits.
        let fragments = ctx.fragments.clone();
        let rebuild = Rebuild { ctx, fragments, rows: &self.rows, codecs, lease_holds };
        let (jobs, reached) = self.batch(ctx.courtesy.batch(BATCH));
        let (mended, begun) = self.copy(&rebuild, &jobs).await?;
        self.bytes = self.bytes.saturating_add(mended.bytes);
        // Those that were begun are all done, and they are the first.
        self.move_on(jobs.get(begun).map_or(reached, |(place, ..)| *place));
        let due = self.page.is_empty() || self.noted_at.elapsed() >= NOTE_EVERY;
        if due && !self.note(ctx).await? {
            return Ok(Stepped::Ended(MoveEnd::Gone));
        }
        Ok(Stepped::On(mended))
    }

    /// The walk's next blobs; notes its end. False when the move is no more.
    async fn next_page(&mut self, ctx: &Context) -> Result<bool, MetaError> {
        let page = ctx.meta.placed_blobs(self.moved.group, self.moved.cursor, BLOBS_PER_PAGE).await?;
        if page.is_empty() {
            return self.tell(ctx, None).await;
        }
        self.page = page.into_iter().map(|placed| placed.blob).collect();
        Ok(true)
    }

    /// The tail's next blobs; false when there are none.
    async fn next_tail(&mut self, ctx: &Context) -> Result<bool, MetaError> {
        let tail = ctx.meta.move_tail(self.moved.group, BLOBS_PER_PAGE).await?;
        let is_empty = tail.is_empty();
        for (id, blob) in tail {
            match blob {
                Some(blob) => self.page.push_back(blob),
                None => self.done.push(id),
            }
        }
        if self.page.is_empty() && !self.done.is_empty() {
            self.note(ctx).await?;
        }
        Ok(!is_empty)
    }

    /// The next stripes with their places in the page, and where in it the walk will be after them: a blob, and how
    /// many of its stripes.
    #[allow(clippy::type_complexity)]
    fn batch(&self, most: usize) -> (Vec<((usize, usize), StripeName)>, (usize, usize)) {
        let mut jobs = Vec::with_capacity(most);
        let mut skip = self.stripes_done;
        for (at, blob) in self.page.iter().enumerate() {
            for (done, name) in names_in(blob, self.moved.group, 0).enumerate().skip(skip) {
                if jobs.len() == most {
                    return (jobs, (at, done));
                }
                jobs.push(((at, done), (self.moved.group, blob.id, name.stripe)));
            }
            skip = 0;
        }
        (jobs, (self.page.len(), 0))
    }

    /// Copies stripes in order until the step's time is over; also how many were begun.
    async fn copy(
        &self,
        rebuild: &Rebuild<'_>,
        jobs: &[((usize, usize), StripeName)],
    ) -> Result<(Mended, usize), RebuildError> {
        // Boxed here: the compiler cannot see through the adapters that these futures may move between threads.
        let copies: Vec<BoxFuture<'_, _>> =
            jobs.iter().map(|((at, _), name)| rebuild.stripe(*name, &self.wishes, &self.page[*at]).boxed()).collect();
        let mut copies = futures::stream::iter(within(STEP, copies)).buffer_unordered(AT_A_TIME);
        let (mut sum, mut begun) = (Mended::default(), 0);
        while let Some(mended) = copies.next().await {
            sum += mended?;
            begun += 1;
        }
        Ok((sum, begun))
    }

    fn move_on(&mut self, (at, stripes_done): (usize, usize)) {
        self.done.extend(self.page.drain(..at).map(|blob| blob.id));
        self.stripes_done = stripes_done;
    }

    /// Tells the metadata what is done; false when the move is no more.
    pub(super) async fn note(&mut self, ctx: &Context) -> Result<bool, MetaError> {
        self.noted_at = Instant::now();
        let Some(last) = self.done.last().copied() else { return Ok(true) };
        if self.moved.walked {
            ctx.meta.clear_move_tail(self.moved.group, self.moved.id, &self.done).await?;
            self.done.clear();
            return Ok(true);
        }
        self.done.clear();
        self.tell(ctx, Some(last)).await
    }

    async fn tell(&mut self, ctx: &Context, to: Option<BlobId>) -> Result<bool, MetaError> {
        let GroupMove { group, id, epoch, cursor: from, .. } = self.moved;
        let step = MoveStep { group, id, epoch, from, to, bytes: self.bytes };
        match ctx.meta.advance_move(step).await? {
            Some(moved) => {
                (self.moved, self.bytes) = (moved, 0);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

#[cfg(test)]
#[path = "move_walk_tests.rs"]
mod tests;

//! Reading one piece of a stripe from whichever fragments answer, rebuilding what does not: the loop that asks as
//! [`sources`](super::sources) decides, hands it what comes, and tells it when what was asked is late.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Instant};

use bytes::Bytes;
use cairn_fragment::codec::{Codec, CodecError};
use cairn_schema::{MetaError, ids::*, record::*};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rand::Rng;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    plan::Piece,
    sources::{Ask, Sources},
};
use crate::{
    data_path::{DataPath, Finding, Unread},
    error::StoreError,
    placement::Topology,
};

/// Rebuilding this much is done where it stands; more is handed to another thread.
const INLINE_BYTES: usize = 64 * 1024;

/// The verified bytes of a piece, in order.
pub(super) async fn fetch(data: &Arc<DataPath>, piece: &Piece) -> Result<Vec<Bytes>, StoreError> {
    let unknown =
        || MetaError::Corrupt { what: "a manifest", why: format!("its group {} does not exist", piece.group) };
    let mut group = data.placement.group(piece.group).await?.ok_or_else(unknown)?;
    // The members may have changed since the picture was taken: then what is not found is elsewhere.
    for _ in 0..3 {
        let error = match Gather::new(data, piece, &group)?.run().await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        let now = data.placement.refresh_group(piece.group).await?.ok_or_else(unknown)?;
        if now.epoch == group.epoch {
            return Err(error);
        }
        group = now;
    }
    Err(StoreError::Timeout("the group's members keep changing"))
}

struct Gather<'a> {
    data: &'a Arc<DataPath>,
    piece: &'a Piece,
    group: &'a Arc<Group>,
    topology: Arc<Topology>,
    codec: Codec,
    sources: Sources,
    reads: FuturesUnordered<BoxFuture<'a, (Ask, Result<Bytes, Unread>)>>,
    /// Short-lived memory for what is rebuilt.
    memory: Option<OwnedSemaphorePermit>,
}

/// Who is asked first: the nearest, of those the fastest; those not expected to answer last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    dead: bool,
    silent: bool,
    remote: bool,
    slowness: u64,
}

impl<'a> Gather<'a> {
    fn new(data: &'a Arc<DataPath>, piece: &'a Piece, group: &'a Arc<Group>) -> Result<Self, StoreError> {
        let codec = data.codec(piece.scheme)?;
        let (members, width) = (group.members.len(), codec.width());
        if members < width {
            let why = format!("group {} has {members} members, {} needs {width}", group.id, piece.scheme);
            return Err(MetaError::Corrupt { what: "a group", why }.into());
        }
        let (topology, sources) = (data.placement.topology(), Sources::new(piece, codec.needed(), width));
        Ok(Self { data, piece, group, topology, codec, sources, reads: FuturesUnordered::new(), memory: None })
    }

    async fn run(mut self) -> Result<Vec<Bytes>, StoreError> {
        let patience = self.data.reach.latencies.hedge_after(self.sources.longest(), &self.data.limits);
        let mut hedge_at = Instant::now() + patience;
        let disk = |position: u8| self.topology.disk(self.group.members[usize::from(position)]);
        let asks = self.sources.begin(|position| disk(position).is_none_or(|disk| disk.answers()));
        self.ask(asks);
        loop {
            self.ask_window().await?;
            if self.sources.is_complete() {
                return self.finish().await;
            }
            if self.reads.is_empty() {
                let Some((pause, asks)) = self.sources.ask_busy_again() else { return Err(self.unreadable()) };
                tokio::time::sleep(pause).await;
                self.ask(asks);
            }
            tokio::select! {
                Some((ask, answer)) = self.reads.next() => self.take(ask, answer),
                () = tokio::time::sleep_until(hedge_at.into()) => {
                    hedge_at = Instant::now() + patience * 2;
                    self.hedge();
                }
            }
        }
    }

    /// Sees to it that enough fragments have been asked for what must be rebuilt, and that there is memory for it.
    async fn ask_window(&mut self) -> Result<(), StoreError> {
        if self.memory.is_none()
            && let Some(bytes) = self.sources.rebuild_bytes()
        {
            self.memory = Some(self.data.budget.rebuild(bytes).await?);
        }
        let (topology, members, here) = (&self.topology, &self.group.members, self.data.placement.node());
        let asks = self.sources.ask_window(|position| rank(topology, members[usize::from(position)], here));
        self.ask(asks);
        Ok(())
    }

    fn ask(&mut self, asks: Vec<Ask>) {
        for ask in asks {
            let (data, disk, name) =
                (self.data, self.group.members[usize::from(ask.position)], self.name(ask.position));
            self.reads.push(Box::pin(async move {
                let answer = data.reach.get(disk, name, ask.range.clone()).await;
                (ask, answer)
            }));
        }
    }

    fn name(&self, position: u8) -> FragmentName {
        FragmentName { group: self.group.id, blob: self.piece.blob, stripe: self.piece.stripe, position }
    }

    fn take(&mut self, ask: Ask, answer: Result<Bytes, Unread>) {
        if let Err(Unread::Missing(cause)) = answer {
            let (fragment, disk) = (self.name(ask.position), self.group.members[usize::from(ask.position)]);
            self.data.damage.report(Finding { fragment, cause, disk });
        }
        self.sources.take(ask, answer);
    }

    fn hedge(&mut self) {
        if self.sources.can_hedge() && self.has_memory_to_hedge() && self.data.reach.latencies.may_hedge(1) {
            self.data.metrics.hedges.inc();
            self.sources.hedge();
        }
    }

    /// A hedge is a luxury: it takes memory that is free now, and waits for none.
    fn has_memory_to_hedge(&mut self) -> bool {
        if self.memory.is_none()
            && let Some(bytes) = self.sources.hedge_bytes()
        {
            self.memory = self.data.budget.try_rebuild(bytes);
            return self.memory.is_some();
        }
        true
    }

    async fn finish(self) -> Result<Vec<Bytes>, StoreError> {
        if self.sources.any_serve() {
            return self.finish_any().await;
        }
        let mut rebuilt = HashMap::new();
        let lost = self.sources.lost();
        if !lost.is_empty() {
            self.data.metrics.reconstructions.inc();
            let (codec, present, len) = (self.codec.clone(), self.sources.present(), self.sources.window_len());
            let positions = lost.clone();
            let work = move || codec.reconstruct(&present, &positions, len);
            let bytes = off_thread(len * self.codec.needed(), work).await?.map_err(|error| self.undecodable(error))?;
            rebuilt.extend(lost.into_iter().zip(bytes));
        }
        self.sources.in_order(&rebuilt).ok_or_else(|| self.unreadable())
    }

    async fn finish_any(self) -> Result<Vec<Bytes>, StoreError> {
        let present = self.sources.present();
        if matches!(self.piece.scheme, Scheme::Replicated { .. }) {
            return Ok(present.into_iter().map(|(_, bytes)| bytes).take(1).collect());
        }
        let (codec, stripe_len) = (self.codec.clone(), self.piece.stripe_len as usize);
        let work = move || codec.decode_stripe(&present, stripe_len);
        let pieces = off_thread(stripe_len, work).await?.map_err(|error| self.undecodable(error))?;
        Ok(cut(pieces, &self.piece.range))
    }

    fn undecodable(&self, error: CodecError) -> StoreError {
        let what = format!("stripe {} of blob {}: {error}", self.piece.stripe, self.piece.blob);
        MetaError::Corrupt { what: "a stripe", why: what }.into()
    }

    fn unreadable(&self) -> StoreError {
        StoreError::Unreadable {
            blob: self.piece.blob.to_string(),
            stripe: self.piece.stripe,
            readable: self.sources.readable(),
            needed: self.codec.needed(),
        }
    }
}

/// Runs work on `bytes` bytes: here if it is little, else on a blocking thread.
async fn off_thread<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    if bytes <= INLINE_BYTES {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::ShuttingDown)
}

fn rank(topology: &Topology, disk: DiskId, here: &NodeId) -> Rank {
    let disk = topology.disk(disk);
    let us = disk.and_then(|disk| disk.load).map_or(0, |load| load.read_us);
    Rank {
        dead: disk.is_none_or(|disk| disk.known_dead()),
        silent: disk.is_none_or(|disk| !disk.answers()),
        remote: disk.is_none_or(|disk| disk.disk.node != *here),
        // Latencies that differ by less than a fifth are the same; then chance spreads the load.
        slowness: us + rand::rng().random_range(0..=us / 5 + 100),
    }
}

/// The range of the bytes that the pieces make up one after the other.
fn cut(pieces: Vec<Bytes>, range: &Range<u32>) -> Vec<Bytes> {
    let (mut offset, mut cut) = (0usize, Vec::with_capacity(pieces.len()));
    for piece in pieces {
        let from = (range.start as usize).max(offset) - offset;
        let to = (range.end as usize).clamp(offset, offset + piece.len()) - offset;
        if from < to {
            cut.push(piece.slice(from..to));
        }
        offset += piece.len();
    }
    cut
}

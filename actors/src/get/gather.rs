//! Reading one piece of a stripe from whichever fragments answer, rebuilding what does not.
//!
//! Two ways. *Directly*: where the code is systematic and range-local only the data fragments that hold the bytes are asked, and when one
//! fails or is late the same byte range (the *window*) of enough others rebuilds it. *Any*: of copies and of interleaved fragments,
//! any that suffice are asked from the start, the best first. In both, a failure asks another fragment at once, lateness after the hedge delay.

use std::{
    collections::HashMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_fragment::{codec::Codec, geometry::FragmentPiece};
use cairn_schema::{MetaError, ids::*, record::*};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rand::Rng;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    place::{Place, contains, cut},
    plan::Piece,
};
use crate::{
    data_path::{DataPath, Finding, Unread},
    error::StoreError,
    placement::Topology,
};

/// Rebuilding this much is done where it stands; more is handed to another thread.
const INLINE_BYTES: usize = 64 * 1024;

/// How often a busy disk is asked again once nobody else is left to ask.
const BUSY_ROUNDS: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

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

struct Answer {
    position: u8,
    range: Range<u32>,
    result: Result<Bytes, Unread>,
}

struct Gather<'a> {
    data: &'a Arc<DataPath>,
    piece: &'a Piece,
    group: &'a Arc<Group>,
    topology: Arc<Topology>,
    codec: Codec,
    places: Vec<Place>,
    reads: FuturesUnordered<BoxFuture<'a, Answer>>,
    /// The byte range of which enough fragments rebuild what is wanted; None while all is read directly.
    window: Option<Range<u32>>,
    /// Short-lived memory for the window.
    memory: Option<OwnedSemaphorePermit>,
    busy_rounds: u32,
}

impl<'a> Gather<'a> {
    fn new(data: &'a Arc<DataPath>, piece: &'a Piece, group: &'a Arc<Group>) -> Result<Self, StoreError> {
        let codec = data.codec(piece.scheme)?;
        if group.members.len() < codec.width() {
            let why = format!(
                "group {} has {} members, {} needs {}",
                group.id,
                group.members.len(),
                piece.scheme,
                codec.width()
            );
            return Err(MetaError::Corrupt { what: "a group", why }.into());
        }
        let window = match (piece.scheme, &piece.fragments) {
            (Scheme::Replicated { .. }, _) => Some(piece.range.clone()),
            (_, None) => Some(0..piece.fragment_len),
            (_, Some(_)) => None,
        };
        let places = std::iter::repeat_with(Place::default).take(codec.width()).collect();
        let topology = data.placement.topology();
        Ok(Self {
            data,
            piece,
            group,
            topology,
            codec,
            places,
            reads: FuturesUnordered::new(),
            window,
            memory: None,
            busy_rounds: 0,
        })
    }

    /// The fragments read directly; none when any do.
    fn direct(&self) -> &'a [FragmentPiece] {
        match self.piece.scheme {
            Scheme::Replicated { .. } => &[],
            Scheme::Rs { .. } => self.piece.fragments.as_deref().unwrap_or(&[]),
        }
    }

    async fn run(mut self) -> Result<Vec<Bytes>, StoreError> {
        let start = Instant::now();
        let asked = self.direct().iter().map(|fragment| fragment.range.len()).max().unwrap_or(self.window_len());
        let patience = self.data.reach.latencies.hedge_after(asked, &self.data.limits);
        let mut hedge_at = start + patience;
        self.ask_directly();
        loop {
            if self.window.is_some() {
                self.ask_window().await?;
            }
            if self.is_complete() {
                return self.finish().await;
            }
            if self.reads.is_empty() && !self.ask_busy_again().await {
                return Err(self.unreadable());
            }
            tokio::select! {
                Some(answer) = self.reads.next() => self.take(answer),
                () = tokio::time::sleep_until(hedge_at.into()) => {
                    hedge_at = Instant::now() + patience * 2;
                    self.hedge();
                }
            }
            self.widen_window();
        }
    }

    fn window_len(&self) -> usize {
        self.window.as_ref().map_or(0, ExactSizeIterator::len)
    }

    /// Asks the data fragments that hold the bytes. Those on disks that will not answer are late from the start.
    fn ask_directly(&mut self) {
        for fragment in self.direct() {
            let position = usize::from(fragment.position);
            let answers = self.topology.disk(self.group.members[position]).is_none_or(|disk| disk.answers());
            if answers {
                self.ask(fragment.position, fragment.range.clone());
            } else {
                self.places[position].late = true;
            }
        }
        self.widen_window();
    }

    /// Whether a fragment's bytes will have to be rebuilt, as far as is known now.
    fn is_lacking(&self, fragment: &FragmentPiece) -> bool {
        let place = &self.places[usize::from(fragment.position)];
        (place.failed || place.late || place.busy) && !place.covers(&fragment.range)
    }

    /// In the direct way: makes the window span all that is lacking.
    fn widen_window(&mut self) {
        let direct = self.direct();
        for fragment in direct {
            if !self.is_lacking(fragment) {
                continue;
            }
            let wanted = &fragment.range;
            self.window = Some(match self.window.take() {
                Some(window) => window.start.min(wanted.start)..window.end.max(wanted.end),
                // An interleaving code never comes here; every other rebuilds any range.
                None => wanted.clone(),
            });
        }
    }

    /// Sees to it that enough fragments have been asked for the window.
    async fn ask_window(&mut self) -> Result<(), StoreError> {
        let Some(window) = self.window.clone() else { return Ok(()) };
        if self.memory.is_none() && !matches!(self.piece.scheme, Scheme::Replicated { .. }) && !self.direct().is_empty()
        {
            let bytes = window.len() as u64 * (self.codec.needed() as u64 + 1);
            self.memory = Some(self.data.budget.rebuild(bytes).await?);
        }
        let coming = self.places.iter().filter(|place| place.covers(&window) || place.expects(&window)).count();
        let lacking = self.codec.needed().saturating_sub(coming);
        for position in self.candidates(&window).into_iter().take(lacking) {
            self.ask(position, window.clone());
        }
        Ok(())
    }

    /// Positions that can still be asked for the window, the best first: nearest, then fastest; those not expected to answer last.
    fn candidates(&self, window: &Range<u32>) -> Vec<u8> {
        let mut rng = rand::rng();
        let mut open: Vec<(u8, (bool, bool, bool, u64))> = Vec::new();
        for (position, place) in self.places.iter().enumerate() {
            let asked = place.pending.iter().any(|range| contains(range, window));
            if place.failed || place.busy || asked || place.covers(window) {
                continue;
            }
            let disk = self.topology.disk(self.group.members[position]);
            let dead = disk.is_none_or(|disk| disk.known_dead());
            let silent = disk.is_none_or(|disk| !disk.answers());
            let remote = disk.is_none_or(|disk| disk.disk.node != *self.data.placement.node());
            let us = disk.and_then(|disk| disk.load).map_or(0, |load| load.read_us);
            // Latencies that differ by less than a fifth are the same; then chance spreads the load.
            let slowness = us + rng.random_range(0..=us / 5 + 100);
            open.push((position as u8, (dead, silent, remote, slowness)));
        }
        open.sort_by_key(|(_, rank)| *rank);
        open.into_iter().map(|(position, _)| position).collect()
    }

    fn ask(&mut self, position: u8, range: Range<u32>) {
        let (data, disk, name) = (self.data, self.group.members[usize::from(position)], self.name(position));
        self.places[usize::from(position)].pending.push(range.clone());
        self.reads.push(Box::pin(async move {
            let result = data.reach.get(disk, name, range.clone()).await;
            Answer { position, range, result }
        }));
    }

    fn name(&self, position: u8) -> FragmentName {
        FragmentName { group: self.group.id, blob: self.piece.blob, stripe: self.piece.stripe, position }
    }

    fn take(&mut self, answer: Answer) {
        let Answer { position, range, result } = answer;
        let (fragment, disk) = (self.name(position), self.group.members[usize::from(position)]);
        let place = &mut self.places[usize::from(position)];
        place.pending.retain(|pending| *pending != range);
        match result {
            Ok(bytes) => place.have.push((range, bytes)),
            Err(Unread::Busy) => place.busy = true,
            Err(Unread::Unreachable) => place.failed = true,
            Err(Unread::Missing(cause)) => {
                place.failed = true;
                self.data.damage.report(Finding { fragment, cause, disk });
            }
        }
    }

    /// The hedge: what has not answered by now is late, and others are asked besides.
    fn hedge(&mut self) {
        let slow = self.places.iter().any(|place| !place.late && !place.pending.is_empty());
        if !slow || !self.has_memory_to_hedge() || !self.data.reach.latencies.may_hedge() {
            return;
        }
        self.data.metrics.hedges.inc();
        for place in self.places.iter_mut().filter(|place| !place.pending.is_empty()) {
            place.late = true;
        }
    }

    /// A hedge is a luxury: it takes memory that is free now, and waits for none.
    fn has_memory_to_hedge(&mut self) -> bool {
        if self.memory.is_none()
            && let Some(longest) = self.direct().iter().map(|fragment| fragment.range.len()).max()
        {
            self.memory = self.data.budget.try_rebuild(longest as u64 * (self.codec.needed() as u64 + 1));
            return self.memory.is_some();
        }
        true
    }

    /// When nobody else is left: disks that were busy are asked again, a few times. False when there are none.
    async fn ask_busy_again(&mut self) -> bool {
        let busy = self.places.iter().any(|place| place.busy);
        if !busy || self.busy_rounds >= BUSY_ROUNDS {
            return false;
        }
        self.busy_rounds += 1;
        tokio::time::sleep(BUSY_PAUSE * self.busy_rounds).await;
        let direct = self.direct();
        for position in 0..self.places.len() {
            if !std::mem::take(&mut self.places[position].busy) {
                continue;
            }
            let own = direct.iter().find(|fragment| usize::from(fragment.position) == position);
            if let Some(fragment) = own {
                self.ask(position as u8, fragment.range.clone());
            } else if let Some(window) = self.window.clone() {
                self.ask(position as u8, window);
            }
        }
        true
    }

    fn sources(&self, window: &Range<u32>) -> usize {
        self.places.iter().filter(|place| place.covers(window)).count()
    }

    fn is_complete(&self) -> bool {
        let rebuildable = self.window.as_ref().is_some_and(|window| self.sources(window) >= self.codec.needed());
        let in_window = |range: &Range<u32>| self.window.as_ref().is_some_and(|window| contains(window, range));
        let done = |fragment: &FragmentPiece| {
            self.places[usize::from(fragment.position)].covers(&fragment.range)
                || rebuildable && in_window(&fragment.range)
        };
        match self.direct() {
            [] => rebuildable,
            direct => direct.iter().all(done),
        }
    }

    async fn finish(self) -> Result<Vec<Bytes>, StoreError> {
        let window = self.window.clone().unwrap_or(0..0);
        let direct = self.direct();
        let lost: Vec<u8> = {
            let lost = |fragment: &&FragmentPiece| !self.places[usize::from(fragment.position)].covers(&fragment.range);
            direct.iter().filter(lost).map(|fragment| fragment.position).collect()
        };
        let present = || -> Vec<(u8, Bytes)> {
            let have = self.places.iter().enumerate();
            let have = have.filter_map(|(position, place)| Some((position as u8, place.slice(&window)?)));
            have.take(self.codec.needed()).collect()
        };
        if direct.is_empty() {
            let present = present();
            return self.finish_any(present).await;
        }
        let mut rebuilt = HashMap::new();
        if !lost.is_empty() {
            self.data.metrics.reconstructions.inc();
            let (codec, present, positions, len) = (self.codec.clone(), present(), lost.clone(), window.len());
            let work = move || codec.reconstruct(&present, &positions, len);
            let bytes = off_thread(len * self.codec.needed(), work).await?.map_err(|error| self.undecodable(error))?;
            rebuilt.extend(lost.into_iter().zip(bytes));
        }
        let mut pieces = Vec::with_capacity(direct.len());
        for fragment in direct {
            let own = self.places[usize::from(fragment.position)].slice(&fragment.range);
            let from = fragment.range.start.saturating_sub(window.start) as usize;
            let again = || rebuilt.get(&fragment.position).map(|bytes| bytes.slice(from..from + fragment.range.len()));
            pieces.push(own.or_else(again).ok_or_else(|| self.unreadable())?);
        }
        Ok(pieces)
    }

    async fn finish_any(self, present: Vec<(u8, Bytes)>) -> Result<Vec<Bytes>, StoreError> {
        if matches!(self.piece.scheme, Scheme::Replicated { .. }) {
            return Ok(present.into_iter().map(|(_, bytes)| bytes).take(1).collect());
        }
        let (codec, stripe_len) = (self.codec.clone(), self.piece.stripe_len as usize);
        let work = move || codec.decode_stripe(&present, stripe_len);
        let pieces = off_thread(stripe_len, work).await?.map_err(|error| self.undecodable(error))?;
        Ok(cut(pieces, &self.piece.range))
    }

    fn undecodable(&self, error: crate::codec::CodecError) -> StoreError {
        let what = format!("stripe {} of blob {}: {error}", self.piece.stripe, self.piece.blob);
        MetaError::Corrupt { what: "a stripe", why: what }.into()
    }

    fn unreadable(&self) -> StoreError {
        let readable = self.places.iter().filter(|place| !place.failed).count();
        StoreError::Unreadable {
            blob: self.piece.blob.to_string(),
            stripe: self.piece.stripe,
            readable,
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

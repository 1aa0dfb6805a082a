//! A body on its way into stripes: one is filled while those before it are hashed, encoded and sent.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use cairn_fragment::{
    checksum::{BodyDigests, DigestPlan, Digests},
    geometry,
    sealing::Sealer,
};
use cairn_schema::{MetaError, record::*};
use tokio::task::JoinHandle;

use super::{
    body::BodyReader,
    hashing::Hashing,
    pending::PendingBlob,
    race,
    sealing::{StripeSealer, sealed_stripe},
    stripe::{SentStripe, StripeTask, WriteContext},
};
use crate::{
    data_path::{DataPath, Gathering, Requester, Slot, Span, StreamGrant},
    error::StoreError,
};

/// A stripe that comes slowly takes memory in steps of at least so many bytes.
const LEAST_ROOM: usize = 64 << 10;

/// What `verify` saw and what it wants kept.
type Judged = (Digests, Option<StoredChecksum>);

/// What is done with a body.
pub(super) struct How {
    /// How it is cut into stripes.
    pub policy: ClusterPolicy,
    pub plan: DigestPlan,
    /// By whom it is sealed, if it is to be.
    pub sealer: Option<Arc<dyn Sealer>>,
}

/// Streams a body into safe stripes. `verify` is asked as soon as the body has ended, before the last stripes are
/// waited for.
pub(super) async fn write_body(
    data: &Arc<DataPath>,
    how: &How,
    requester: &Requester,
    mut reader: BodyReader,
    verify: impl FnOnce(&Digests) -> Result<Option<StoredChecksum>, StoreError> + Send,
) -> Result<(Option<PendingBlob>, Judged), StoreError> {
    let How { policy: ClusterPolicy { generation, policy }, plan, sealer } = how;
    let mut hashing = Hashing::start(*plan);
    let mut writer = None;
    let mut gathering = data.budget.gathering(requester);
    gather(data, policy, &mut gathering, &mut reader).await?;
    if reader.remaining() != Some(0) {
        let unit = unit_bytes(policy, reader.remaining(), sealer.is_some());
        let grant = data.budget.open(requester, unit).await?;
        gathering.give_back();
        let scheme = scheme_of(data, policy, &grant, &mut reader).await?;
        // A body of unknown length may turn out to have no bytes.
        if reader.remaining() != Some(0) {
            let blob = writer.insert(BlobWriter::new(data, policy, scheme, sealer.as_deref())?);
            blob.take_all(&grant, &mut gathering, &mut reader, &mut hashing).await?;
        }
    }
    reader.finish().await?;
    let BodyDigests { digests, xxh3 } = hashing.finish().await?;
    let checksum = verify(&digests)?;
    let blob = match writer {
        Some(mut writer) => {
            let (length, xxh3) = match writer.sealing.take() {
                Some(sealing) => sealing.finish().await?,
                None => (digests.length, xxh3),
            };
            Some(writer.finish(*generation, length, xxh3).await?)
        }
        None => None,
    };
    Ok((blob, (digests, checksum)))
}

/// Waits until enough has come of a stripe to be worth its memory. May be dropped and called again.
async fn gather(
    data: &DataPath,
    policy: &Policy,
    gathering: &mut Gathering,
    reader: &mut BodyReader,
) -> Result<(), StoreError> {
    // Every stripe has a fragment's bytes at least.
    let enough = data.budget.gathered_bytes().min(policy.fragment_bytes.into());
    let enough = usize::try_from(enough).unwrap_or(usize::MAX);
    while reader.filled() < enough && reader.remaining() != Some(0) && reader.more().await? {
        let come = reader.filled() + reader.pending();
        if come >= enough || reader.remaining() == Some(come as u64) {
            // No need to copy what is taken out of here at once.
            return Ok(());
        }
        gathering.grow(come as u64).await?;
        reader.fill_to(come).await?;
    }
    Ok(())
}

/// Data bytes of a full stripe.
fn stripe_bytes(policy: &Policy, scheme: Scheme) -> u32 {
    let fragments = u32::try_from(geometry::needed_fragments(scheme)).unwrap_or(u32::MAX).max(1);
    // Whole fragments, and far enough from 2^32 that no sum of a stripe's fragments overflows.
    let most = (1 << 30) / fragments;
    policy.fragment_bytes.clamp(1, most) * fragments
}

/// The most memory that a stripe of a body takes, parity and padding included; one that is sealed is there twice.
fn unit_bytes(policy: &Policy, length: Option<u64>, sealed: bool) -> u64 {
    let scheme = match length {
        Some(length) if length < policy.small_below => policy.small_scheme,
        _ => policy.scheme,
    };
    let full = u64::from(stripe_bytes(policy, scheme));
    let plain = length.map_or(full.max(policy.small_below), |length| length.min(full));
    let stripe = if sealed { sealed_length(plain).unwrap_or(plain) } else { plain };
    let twice = if sealed { plain } else { 0 };
    let fragment = u64::from(geometry::fragment_len(scheme, u32::try_from(stripe).unwrap_or(u32::MAX)));
    let coded = match scheme {
        Scheme::Replicated { .. } => stripe,
        // The last data fragment is copied to be padded.
        Scheme::Rs { .. } if geometry::is_range_local(scheme) => stripe + fragment * (scheme.parity() as u64 + 1),
        Scheme::Rs { .. } => stripe + fragment * scheme.width() as u64,
    };
    coded + twice
}

/// Fills a stripe, or up to the body's end. If that takes long, the slot keeps memory for little more than what has
/// come: whenever nothing comes, for no more.
async fn fill(data: &DataPath, slot: &mut Slot, reader: &mut BodyReader, size: usize) -> Result<(), StoreError> {
    let stall = data.limits.stall;
    if let Ok(filled) = tokio::time::timeout(stall, reader.fill_to(size)).await {
        return filled;
    }
    loop {
        slot.shrink(reader.filled() as u64);
        if reader.filled() >= size || reader.is_all_filled() || !reader.more().await? {
            break;
        }
        let room = (2 * reader.filled()).max(LEAST_ROOM).min(size);
        slot.grow(room as u64).await?;
        if let Ok(filled) = tokio::time::timeout(stall, reader.fill_to(room)).await {
            filled?;
        }
    }
    // With its parity.
    slot.grow_whole().await
}

/// Whether the body has nothing more: of one of unknown length only what comes next tells.
async fn is_last(reader: &mut BodyReader) -> Result<bool, StoreError> {
    Ok(match reader.remaining() {
        Some(left) => left == 0,
        None => reader.filled() == 0 && !reader.more().await?,
    })
}

/// The scheme that the body's length decides; if that is not known, its first bytes are filled.
async fn scheme_of(
    data: &DataPath,
    policy: &Policy,
    grant: &StreamGrant,
    reader: &mut BodyReader,
) -> Result<Scheme, StoreError> {
    let length = match reader.remaining() {
        Some(length) => length,
        None => {
            let small = usize::try_from(policy.small_below).unwrap_or(usize::MAX);
            let mut slot = grant.slot().await;
            fill(data, &mut slot, reader, small.max(stripe_bytes(policy, policy.scheme) as usize)).await?;
            reader.filled() as u64
        }
    };
    Ok(if length < policy.small_below { policy.small_scheme } else { policy.scheme })
}

/// The stripes of one blob in flight. Dropping it deletes what was written.
struct BlobWriter {
    context: Option<Arc<WriteContext>>,
    data: Arc<DataPath>,
    policy: Policy,
    /// Bytes of the body in a full stripe, and of a full stripe as it is stored.
    body_bytes: usize,
    stripe_bytes: u32,
    sealing: Option<StripeSealer>,
    next: u32,
    in_flight: VecDeque<StripeTask>,
    /// Safe, with fragments still under way.
    stragglers: VecDeque<SentStripe>,
    written: Vec<Span>,
    /// Fragments of settled stripes that are not durable: stripe and position.
    absent: Vec<(u32, u8)>,
}

impl BlobWriter {
    fn new(
        data: &Arc<DataPath>,
        policy: &Policy,
        scheme: Scheme,
        sealer: Option<&dyn Sealer>,
    ) -> Result<Self, StoreError> {
        let full = stripe_bytes(policy, scheme);
        let (body_bytes, stripe_bytes) = if sealer.is_some() { sealed_stripe(full) } else { (full as usize, full) };
        let context = WriteContext::new(data, scheme)?;
        // A blob's name is drawn for each body that is written, and so no key seals two bodies.
        let sealing = sealer.map(|sealer| StripeSealer::new(sealer.of_blob(context.blob)));
        Ok(Self {
            context: Some(context),
            data: data.clone(),
            policy: *policy,
            body_bytes,
            stripe_bytes,
            sealing,
            next: 0,
            in_flight: VecDeque::new(),
            stragglers: VecDeque::new(),
            written: Vec::new(),
            absent: Vec::new(),
        })
    }

    async fn take_all(
        &mut self,
        grant: &StreamGrant,
        gathering: &mut Gathering,
        reader: &mut BodyReader,
        hashing: &mut Hashing,
    ) -> Result<(), StoreError> {
        while reader.remaining() != Some(0) {
            self.gather_next(grant, gathering, reader).await?;
            let mut slot = self.slot(grant).await?;
            gathering.give_back();
            let size = self.body_bytes;
            fill(&self.data, &mut slot, reader, size).await?;
            let bytes = reader.take_filled(size);
            if bytes.is_empty() {
                break;
            }
            let slot = Arc::new(slot);
            let bytes = slot.hold(bytes);
            match &mut self.sealing {
                None => self.dispatch(bytes.clone()).await?,
                Some(sealing) => {
                    let last = is_last(reader).await?;
                    let stripe = slot.hold(sealing.seal(bytes.clone(), last).await?);
                    drop(slot);
                    sealing.push(&stripe).await;
                    self.dispatch(stripe).await?;
                }
            }
            hashing.push(&bytes).await;
        }
        Ok(())
    }

    /// Gathers the beginning of the next stripe. If that takes long, the stream's memory is for others meanwhile.
    async fn gather_next(
        &self,
        grant: &StreamGrant,
        gathering: &mut Gathering,
        reader: &mut BodyReader,
    ) -> Result<(), StoreError> {
        let gathered = gather(&self.data, &self.policy, gathering, reader);
        match tokio::time::timeout(self.data.limits.stall, gathered).await {
            Ok(gathered) => gathered,
            Err(_) => {
                grant.leave();
                gather(&self.data, &self.policy, gathering, reader).await?;
                if reader.remaining() == Some(0) { Ok(()) } else { grant.come_back().await }
            }
        }
    }

    /// Memory for the next stripe. While waiting for its own earlier stripes, gives up those fragments that keep it
    /// waiting.
    async fn slot(&mut self, grant: &StreamGrant) -> Result<Slot, StoreError> {
        if let Some(slot) = grant.try_slot() {
            return Ok(slot);
        }
        let pause = self.data.limits.straggler_grace.max(Duration::from_millis(1));
        loop {
            if let Ok(slot) = tokio::time::timeout(pause, grant.slot()).await {
                return Ok(slot);
            }
            self.collect_finished().await?;
            self.give_up_stragglers(0);
        }
    }

    /// Starts a stripe, when fewer than the limit are in flight.
    async fn dispatch(&mut self, stripe: Bytes) -> Result<(), StoreError> {
        self.collect_finished().await?;
        while self.in_flight.len() >= self.data.limits.put_stripes.max(1) {
            self.collect_oldest().await?;
        }
        let Some(context) = &self.context else { return Err(StoreError::ShuttingDown) };
        let index = self.next;
        let too_long = || {
            let (actual, limit) = (u64::from(u32::MAX), u64::from(u32::MAX) - 1);
            StoreError::Meta(MetaError::TooLarge { what: "number of stripes", actual, limit })
        };
        self.next = index.checked_add(1).ok_or_else(too_long)?;
        self.data.metrics.put_bytes.inc_by(stripe.len() as u64);
        self.in_flight.push_back(tokio::spawn(race::write(context.clone(), index, stripe)));
        Ok(())
    }

    async fn collect_finished(&mut self) -> Result<(), StoreError> {
        while self.in_flight.front().is_some_and(JoinHandle::is_finished) {
            self.collect_oldest().await?;
        }
        Ok(())
    }

    /// Waits until the oldest stripe in flight is safe.
    async fn collect_oldest(&mut self) -> Result<(), StoreError> {
        let Some(oldest) = self.in_flight.front_mut() else { return Ok(()) };
        let sent = oldest.await.unwrap_or(Err(StoreError::ShuttingDown));
        self.in_flight.pop_front();
        let sent = sent?;
        Span::push(&mut self.written, &sent.group, sent.stripe);
        self.stragglers.push_back(sent);
        self.reap();
        // A disk slower than several stripes take is not waited for: its fragments hold memory.
        self.give_up_stragglers(2 * self.data.limits.put_stripes.max(1));
        Ok(())
    }

    /// Settles stripes of which nothing is under way any more.
    fn reap(&mut self) {
        let Self { stragglers, absent, .. } = self;
        stragglers.retain_mut(|sent| {
            let done = sent.sending.reap();
            if done {
                absent.extend(sent.sending.absent().map(|position| (sent.stripe, position)));
            }
            !done
        });
    }

    /// Keeps the latest `keep` stripes with fragments under way; of the older ones those fragments count as absent.
    fn give_up_stragglers(&mut self, keep: usize) {
        self.reap();
        while self.stragglers.len() > keep {
            let Some(mut sent) = self.stragglers.pop_front() else { return };
            let given_up = sent.sending.give_up(&self.data.reach);
            self.data.metrics.stragglers_given_up.inc_by(given_up as u64);
            self.absent.extend(sent.sending.absent().map(|position| (sent.stripe, position)));
        }
    }

    /// The body has ended: waits until every stripe is safe, and a little for the rest.
    async fn finish(mut self, generation: u64, length: u64, checksum: u64) -> Result<PendingBlob, StoreError> {
        while !self.in_flight.is_empty() {
            self.collect_oldest().await?;
        }
        let grace = self.data.limits.straggler_grace;
        let stragglers = &mut self.stragglers;
        let all = async {
            for sent in stragglers {
                sent.sending.all().await;
            }
        };
        let _ = tokio::time::timeout(grace, all).await;
        self.give_up_stragglers(0);
        let Some(context) = self.context.take() else { return Err(StoreError::ShuttingDown) };
        Ok(PendingBlob {
            stripe_bytes: self.stripe_bytes,
            written: std::mem::take(&mut self.written),
            absent: std::mem::take(&mut self.absent),
            length,
            checksum,
            policy: generation,
            context: Some(context),
        })
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let Some(context) = self.context.take() else { return };
        context.cancelled.store(true, Ordering::Relaxed);
        let sendings = self.stragglers.drain(..).map(|sent| sent.sending).collect();
        let remains = context.remains(self.in_flight.drain(..).collect(), sendings);
        self.data.cleaner.clean(remains);
    }
}

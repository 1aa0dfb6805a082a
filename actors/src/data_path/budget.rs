//! Where memory is bounded (BND-1): every byte of a stripe in flight, its parity included, is granted here first.
//!
//! A stream takes one *base* grant, sized for its largest unit of work, and keeps it while its bytes move: a stream
//! that has begun can go on with its own memory, so it does not fail half-way because others are busy, and two streams
//! never wait for each other. Working ahead (the next stripe while one is being sent) takes an *extra* grant only if
//! one is free at once.
//!
//! Memory is not held for clients that send nothing. What comes of a body before there is enough for a stripe to be
//! worth a grant is *gathered*, and costs what has come; a stripe that takes long to come keeps no more than has come;
//! and the base grant of a client that sends nothing goes back. Whoever sends again has to take its memory again. Nor
//! is it held for clients that do not read, once somebody wants it; see [`super::stalls`].
//!
//! Small units and what is gathered have a pool of their own, so that they do not wait for large ones. In each pool
//! every client has a share; see [`super::pool`]. Rebuilding a lost fragment needs short-lived memory besides; it has a
//! share of its own, whose holders wait for disks but never for clients.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{
    pool::{Grant, Pool},
    requester::Requester,
    stalls::Stalls,
};
use crate::error::StoreError;

/// Grants are counted in grains of this many bytes, so that a 1-byte object does not cost a megabyte's bookkeeping.
const GRAIN: u64 = 1024;
/// Units up to this size are small, if the memory is large enough to tell.
const SMALL_UNIT_BYTES: u64 = 256 << 10;
/// Of the small units' pool, what one unit may take.
const SMALL_UNIT_PART: u32 = 16;
/// What is gathered of a body, or of a stripe, before it takes a unit's memory.
const GATHERED_BYTES: u64 = 128 << 10;
/// A stream under way waits so many times longer for memory that it had before than a new one.
const AGAIN: u32 = 4;

/// The memory that all stripes in flight on this node share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Budget {
    shares: Arc<Shares>,
}

struct Shares {
    large: Pool,
    small: Pool,
    rebuilds: Arc<Semaphore>,
    rebuild_grains: u32,
    wait: Duration,
    stalls: Arc<Stalls>,
}

impl Budget {
    /// `bytes` for everything; a stream waits at most `wait` for its base grant. A client alone may take `percent` of
    /// it. A body of which nothing was asked for `stall` gives back what it holds when somebody waits.
    pub(crate) fn new(bytes: u64, wait: Duration, percent: u8, stall: Duration) -> Self {
        let grains = grains(bytes).max(8);
        // An eighth suffices for rebuilding: it is held for the time of one round of fragment reads.
        let (rebuild_grains, small_grains) = (grains / 8, grains / 8);
        let large_grains = grains - rebuild_grains - small_grains;
        let stalls = Stalls::new(stall);
        Self {
            shares: Arc::new(Shares {
                large: Pool::new(large_grains, percent, stalls.clone()),
                small: Pool::new(small_grains, percent, stalls.clone()),
                rebuilds: Arc::new(Semaphore::new(rebuild_grains as usize)),
                rebuild_grains,
                wait,
                stalls,
            }),
        }
    }

    /// The bodies that give back when somebody waits.
    pub(crate) fn stalls(&self) -> &Arc<Stalls> {
        &self.shares.stalls
    }

    /// The base grant of a stream whose largest unit of work takes `unit_bytes`. A unit larger than its pool gets the
    /// whole pool: such units then run one at a time. Waits a bounded time, then [`StoreError::Busy`].
    pub(crate) async fn open(&self, requester: &Requester, unit_bytes: u64) -> Result<StreamGrant, StoreError> {
        let unit = grains(unit_bytes);
        let small = unit_bytes <= SMALL_UNIT_BYTES && unit <= self.shares.small.capacity() / SMALL_UNIT_PART;
        let pool = if small { &self.shares.small } else { &self.shares.large };
        let unit = unit.min(pool.capacity());
        let base = pool.take(requester, unit, self.shares.wait).await?;
        Ok(StreamGrant {
            home: Arc::new(Home {
                state: Mutex::new(HomeState { kept: Some(base), in_use: false, away: false }),
                freed: Notify::new(),
            }),
            pool: pool.clone(),
            requester: requester.clone(),
            unit,
            wait: self.shares.wait,
        })
    }

    /// Memory for what is gathered of a body; none yet.
    pub(crate) fn gathering(&self, requester: &Requester) -> Gathering {
        Gathering { pool: self.shares.small.clone(), requester: requester.clone(), grant: None, wait: self.shares.wait }
    }

    /// How much of a body is gathered at most.
    pub(crate) fn gathered_bytes(&self) -> u64 {
        GATHERED_BYTES.min(u64::from(self.shares.small.capacity() / SMALL_UNIT_PART) * GRAIN)
    }

    /// Short-lived memory for rebuilding `bytes` worth of other fragments. Hold it only while reading and decoding.
    pub(crate) async fn rebuild(&self, bytes: u64) -> Result<OwnedSemaphorePermit, StoreError> {
        let grains = grains(bytes).min(self.shares.rebuild_grains);
        let acquire = self.shares.rebuilds.clone().acquire_many_owned(grains);
        match tokio::time::timeout(self.shares.wait, acquire).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(StoreError::ShuttingDown),
            Err(_) => Err(StoreError::Busy("no memory to rebuild a fragment came free in time")),
        }
    }

    /// As [`Budget::rebuild`], if it is free now.
    pub(crate) fn try_rebuild(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let grains = grains(bytes).min(self.shares.rebuild_grains);
        self.shares.rebuilds.clone().try_acquire_many_owned(grains).ok()
    }

    /// Bytes granted now.
    pub(crate) fn in_use(&self) -> u64 {
        let free = u64::from(self.shares.large.free()) + u64::from(self.shares.small.free());
        let free = free + self.shares.rebuilds.available_permits() as u64;
        self.capacity().saturating_sub(free * GRAIN)
    }

    /// Bytes that may be granted at once.
    pub(crate) fn capacity(&self) -> u64 {
        let grains = u64::from(self.shares.large.capacity()) + u64::from(self.shares.small.capacity());
        (grains + u64::from(self.shares.rebuild_grains)) * GRAIN
    }
}

fn grains(bytes: u64) -> u32 {
    // Small enough that no sum of what is granted overflows; u32 grains are 4 TiB.
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX >> 1).clamp(1, u32::MAX >> 1)
}

/// Memory that grows with what has come of a body.
pub(crate) struct Gathering {
    pool: Pool,
    requester: Requester,
    grant: Option<Grant>,
    wait: Duration,
}

impl Gathering {
    /// Waits, if it must, until it is memory for so many bytes.
    pub(crate) async fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        match &mut self.grant {
            Some(grant) => grant.grow(grains(bytes), self.wait).await,
            None => {
                self.grant = Some(self.pool.take(&self.requester, grains(bytes), self.wait).await?);
                Ok(())
            }
        }
    }

    /// What was gathered lies in other memory now, or is not there any more.
    pub(crate) fn give_back(&mut self) {
        self.grant = None;
    }
}

/// A stream's right to memory.
pub(crate) struct StreamGrant {
    home: Arc<Home>,
    pool: Pool,
    requester: Requester,
    unit: u32,
    wait: Duration,
}

/// Where the base grant is when no unit of work uses it.
struct Home {
    state: Mutex<HomeState>,
    freed: Notify,
}

struct HomeState {
    kept: Option<Grant>,
    /// A slot has the base grant.
    in_use: bool,
    /// The base grant is not wanted: it goes back to everybody.
    away: bool,
}

impl StreamGrant {
    /// Memory for one unit, if the base grant is free or the budget has room to work ahead.
    pub(crate) fn try_slot(&self) -> Option<Slot> {
        if let Some(slot) = self.base_slot() {
            return Some(slot);
        }
        let extra = self.pool.try_take(&self.requester, self.unit)?;
        Some(self.slot_of(extra, None))
    }

    /// Memory for one unit: waits, if it must, for this stream's own earlier unit to be done with, and for nobody
    /// else's.
    pub(crate) async fn slot(&self) -> Slot {
        loop {
            if let Some(slot) = self.try_slot() {
                return slot;
            }
            self.home.freed.notified().await;
        }
    }

    /// As [`StreamGrant::slot`], but takes memory from the budget as well when it comes free sooner: for units whose
    /// bytes are handed to someone who may keep them.
    pub(crate) async fn slot_or_extra(&self) -> Slot {
        /// Its own unit is waited for as long as it takes.
        const LONG: Duration = Duration::from_secs(24 * 60 * 60);
        if let Some(slot) = self.try_slot() {
            return slot;
        }
        tokio::select! {
            slot = self.slot() => slot,
            Ok(grant) = self.pool.take(&self.requester, self.unit, LONG) => self.slot_of(grant, None),
        }
    }

    /// The client sends nothing: its memory is for others, as soon as no unit uses it.
    pub(crate) fn leave(&self) {
        let mut state = self.home.state.lock();
        state.away = true;
        let kept = state.kept.take();
        drop(state);
        drop(kept);
    }

    /// After [`StreamGrant::leave`]: takes the base grant again, for which it waits longer than a new stream.
    pub(crate) async fn come_back(&self) -> Result<(), StoreError> {
        {
            let mut state = self.home.state.lock();
            if !state.away || state.in_use {
                state.away = false;
                return Ok(());
            }
        }
        let base = self.pool.take(&self.requester, self.unit, self.wait * AGAIN).await?;
        let mut state = self.home.state.lock();
        state.away = false;
        state.kept = Some(base);
        Ok(())
    }

    fn base_slot(&self) -> Option<Slot> {
        let mut state = self.home.state.lock();
        let base = state.kept.take()?;
        state.in_use = true;
        drop(state);
        Some(self.slot_of(base, Some(self.home.clone())))
    }

    fn slot_of(&self, grant: Grant, home: Option<Arc<Home>>) -> Slot {
        let held = Mutex::new(SlotState { grant: Some(grant), home });
        Slot { held, handed_out: AtomicU64::new(0), unit: self.unit, wait: self.wait }
    }
}

/// Memory for one unit of work, returned when dropped: to the stream if it is the base grant, to everybody if extra.
pub(crate) struct Slot {
    held: Mutex<SlotState>,
    /// Bytes in other hands, see [`Slot::hold`].
    handed_out: AtomicU64,
    unit: u32,
    wait: Duration,
}

struct SlotState {
    /// None only while it is dropped.
    grant: Option<Grant>,
    /// Of the base grant.
    home: Option<Arc<Home>>,
}

impl Slot {
    /// Keeps memory for so many bytes only.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        if let Some(grant) = &mut self.held.get_mut().grant {
            grant.shrink(grains(bytes));
        }
    }

    /// Takes memory again until it is enough for so many bytes, or for the whole unit.
    pub(crate) async fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        let grains = grains(bytes).min(self.unit);
        match &mut self.held.get_mut().grant {
            Some(grant) => grant.grow(grains, self.wait * AGAIN).await,
            None => Ok(()),
        }
    }

    /// Takes memory again until it is enough for the unit.
    pub(crate) async fn grow_whole(&mut self) -> Result<(), StoreError> {
        self.grow(u64::from(self.unit) * GRAIN).await
    }

    /// Bytes that keep the grant until their last reference goes.
    pub(crate) fn hold(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.handed_out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Held { bytes, slot: self.clone() })
    }

    /// Nothing is wanted of it any more but those of its bytes that are in other hands: the rest goes back, and the
    /// stream is without its base grant if this was it.
    pub(crate) fn let_go(&self) {
        let mut held = self.held.lock();
        let handed_out = self.handed_out.load(Ordering::Relaxed);
        let home = held.home.take();
        if let Some(grant) = &mut held.grant {
            grant.shrink(grains(handed_out));
        }
        drop(held);
        if let Some(home) = home {
            home.state.lock().in_use = false;
            home.freed.notify_one();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let SlotState { grant, home } = self.held.get_mut();
        let (Some(grant), Some(home)) = (grant.take(), home.take()) else { return };
        let mut state = home.state.lock();
        state.in_use = false;
        // What is less than a unit is of no use to the stream, which is about to fail.
        let (kept, given) =
            if state.away || grant.grains() < self.unit { (None, Some(grant)) } else { (Some(grant), None) };
        state.kept = kept;
        drop(state);
        drop(given);
        home.freed.notify_one();
    }
}

struct Held {
    bytes: Bytes,
    slot: Arc<Slot>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.slot.handed_out.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    fn budget(bytes: u64) -> Budget {
        Budget::new(bytes, SHORT, 75, SHORT)
    }

    /// The node itself, which has no share to keep to.
    fn nobody() -> Requester {
        Requester::default()
    }

    #[tokio::test]
    async fn bnd_1_grants_never_exceed_the_budget_and_a_full_budget_is_busy() {
        let budget = budget(8 << 20);
        let mut held = Vec::new();
        let refused = loop {
            match budget.open(&nobody(), 1 << 20).await {
                Ok(grant) => held.push(grant),
                Err(error) => break error,
            }
            assert!(budget.in_use() <= budget.capacity());
            assert!(held.len() <= 8);
        };
        assert!(matches!(refused, StoreError::Busy(_)), "{refused}");
        assert_eq!(held.len(), 6);
        // Small units have memory of their own.
        let small = budget.open(&nobody(), 64 << 10).await.unwrap();
        held.pop();
        assert!(budget.open(&nobody(), 1 << 20).await.is_ok());
        drop((small, held));
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn a_stream_goes_on_with_its_own_grant_when_the_budget_is_gone() {
        let budget = budget(8 << 20);
        let grant = budget.open(&nobody(), 4 << 20).await.unwrap();
        let other = budget.open(&nobody(), 2 << 20).await.unwrap();
        let slot = grant.try_slot().unwrap();
        assert!(grant.try_slot().is_none(), "no room to work ahead");
        {
            let waiter = grant.slot();
            tokio::pin!(waiter);
            assert!(tokio::time::timeout(SHORT, &mut waiter).await.is_err());
            drop(slot);
            tokio::time::timeout(Duration::from_secs(5), waiter).await.unwrap();
        }
        drop((grant, other));
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn a_unit_larger_than_the_budget_takes_all_of_it() {
        let budget = budget(1 << 20);
        let grant = budget.open(&nobody(), 1 << 30).await.unwrap();
        assert!(budget.open(&nobody(), 100 << 10).await.is_err());
        drop(grant);
        assert!(budget.open(&nobody(), 100 << 10).await.is_ok());
    }

    #[tokio::test]
    async fn a_slot_outlives_its_stream_and_keeps_the_memory_counted() {
        let budget = budget(8 << 20);
        let grant = budget.open(&nobody(), 1 << 20).await.unwrap();
        let slot = grant.slot().await;
        drop(grant);
        assert_eq!(budget.in_use(), 1 << 20);
        drop(slot);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_keeps_what_it_was_given_and_takes_the_rest_again() {
        let budget = budget(8 << 20);
        let grant = budget.open(&nobody(), 4 << 20).await.unwrap();
        let slot = Arc::new(grant.slot().await);
        let given = slot.hold(Bytes::from(vec![1; 1 << 20]));
        let ready = slot.hold(Bytes::from(vec![2; 1 << 20]));
        grant.leave();
        drop(ready);
        slot.let_go();
        drop(slot);
        assert_eq!(budget.in_use(), 1 << 20);
        grant.come_back().await.unwrap();
        assert_eq!(budget.in_use(), 5 << 20);
        // What goes late does not take the base grant with it.
        drop(given);
        assert_eq!(budget.in_use(), 4 << 20);
        assert!(grant.try_slot().is_some());
        drop(grant);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_keeps_what_has_come_and_takes_the_rest_again() {
        let budget = budget(8 << 20);
        let grant = budget.open(&nobody(), 4 << 20).await.unwrap();
        let mut slot = grant.slot().await;
        slot.shrink(100 << 10);
        assert_eq!(budget.in_use(), 100 << 10);
        let other = budget.open(&nobody(), 4 << 20).await.unwrap();
        assert!(matches!(slot.grow_whole().await, Err(StoreError::Busy(_))));
        assert_eq!(budget.in_use(), (4 << 20) + (100 << 10));
        drop(other);
        slot.grow_whole().await.unwrap();
        assert_eq!(budget.in_use(), 4 << 20);
        // Between two stripes nothing is kept: what is in use goes back when it is done with.
        grant.leave();
        assert_eq!(budget.in_use(), 4 << 20);
        drop(slot);
        assert_eq!(budget.in_use(), 0);
        grant.come_back().await.unwrap();
        assert_eq!(budget.in_use(), 4 << 20);
        grant.leave();
        assert_eq!(budget.in_use(), 0);
        grant.come_back().await.unwrap();
        grant.slot().await;
        drop(grant);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn what_is_gathered_costs_what_has_come() {
        let budget = budget(8 << 20);
        let mut gathering = budget.gathering(&nobody());
        assert_eq!(budget.in_use(), 0);
        for bytes in [1000, 60_000, 40_000] {
            gathering.grow(bytes).await.unwrap();
        }
        assert_eq!(budget.in_use(), 59 << 10);
        gathering.give_back();
        assert_eq!(budget.in_use(), 0);
        assert_eq!(budget.gathered_bytes(), 64 << 10);
    }
}

//! Where memory is bounded (BND-1): every byte of a stripe in flight, its parity included, is granted here first.
//!
//! A stream takes one *base* grant, sized for its largest unit of work, before it reads a byte, and keeps it to its end: a stream
//! that has begun can always go on with its own memory, so it never fails half-way because others are busy, and two
//! streams never wait for each other. Working ahead (the next stripe while one is being sent) takes an *extra* grant only
//! if one is free at once. Rebuilding a lost fragment needs short-lived memory besides; it has a share of its own, whose holders
//! wait for disks but never for clients.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::StoreError;

/// Grants are counted in grains of this many bytes, so that a 1-byte object does not cost a megabyte's bookkeeping.
const GRAIN: u64 = 1024;

/// Streams that may wait for a base grant at once; more are refused without waiting.
const MAX_WAITING: usize = 4096;

/// The memory that all stripes in flight on this node share. Cheap to clone.
#[derive(Clone)]
pub struct Budget {
    shares: Arc<Shares>,
}

/// The grains of memory, as permits.
struct Shares {
    streams: Arc<Semaphore>,
    rebuilds: Arc<Semaphore>,
    stream_grains: u32,
    rebuild_grains: u32,
    wait: Duration,
    waiting: AtomicUsize,
}

impl Budget {
    /// `bytes` for everything; a stream waits at most `wait` for its base grant.
    pub fn new(bytes: u64, wait: Duration) -> Self {
        let grains = grains(bytes).max(8);
        // An eighth suffices for rebuilding: it is held for the time of one round of fragment reads.
        let rebuild_grains = grains / 8;
        let stream_grains = grains - rebuild_grains;
        Self {
            shares: Arc::new(Shares {
                streams: Arc::new(Semaphore::new(stream_grains as usize)),
                rebuilds: Arc::new(Semaphore::new(rebuild_grains as usize)),
                stream_grains,
                rebuild_grains,
                wait,
                waiting: AtomicUsize::new(0),
            }),
        }
    }

    /// The base grant of a stream whose largest unit of work takes `unit_bytes`. A unit larger than the whole budget gets the
    /// whole budget: such units then run one at a time. Waits a bounded time, then [`StoreError::Busy`].
    pub async fn open(&self, unit_bytes: u64) -> Result<StreamGrant, StoreError> {
        let unit = grains(unit_bytes).min(self.shares.stream_grains);
        let permit = match self.shares.streams.clone().try_acquire_many_owned(unit) {
            Ok(permit) => permit,
            Err(_) => self.wait_for(unit).await?,
        };
        Ok(StreamGrant {
            base: Arc::new(Base { _permit: permit, turn: Arc::new(Semaphore::new(1)) }),
            budget: self.shares.clone(),
            unit,
        })
    }

    async fn wait_for(&self, unit: u32) -> Result<OwnedSemaphorePermit, StoreError> {
        let _waiting =
            Waiting::enter(&self.shares.waiting).ok_or(StoreError::Busy("too many requests wait for memory"))?;
        match tokio::time::timeout(self.shares.wait, self.shares.streams.clone().acquire_many_owned(unit)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(StoreError::ShuttingDown),
            Err(_) => Err(StoreError::Busy("no memory for another stripe came free in time")),
        }
    }

    /// Short-lived memory for rebuilding `bytes` worth of other fragments. Hold it only while reading and decoding.
    pub async fn rebuild(&self, bytes: u64) -> Result<OwnedSemaphorePermit, StoreError> {
        let grains = grains(bytes).min(self.shares.rebuild_grains);
        let acquire = self.shares.rebuilds.clone().acquire_many_owned(grains);
        match tokio::time::timeout(self.shares.wait, acquire).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(StoreError::ShuttingDown),
            Err(_) => Err(StoreError::Busy("no memory to rebuild a fragment came free in time")),
        }
    }

    /// As [`Budget::rebuild`], if it is free now.
    pub fn try_rebuild(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let grains = grains(bytes).min(self.shares.rebuild_grains);
        self.shares.rebuilds.clone().try_acquire_many_owned(grains).ok()
    }

    /// Bytes granted now.
    pub fn in_use(&self) -> u64 {
        let free = self.shares.streams.available_permits() + self.shares.rebuilds.available_permits();
        let all = self.shares.stream_grains as usize + self.shares.rebuild_grains as usize;
        (all.saturating_sub(free)) as u64 * GRAIN
    }

    /// Bytes that may be granted at once.
    pub fn capacity(&self) -> u64 {
        (u64::from(self.shares.stream_grains) + u64::from(self.shares.rebuild_grains)) * GRAIN
    }
}

fn grains(bytes: u64) -> u32 {
    // A semaphore takes at most usize::MAX >> 3 permits; u32 grains are 4 TiB.
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX >> 1).clamp(1, u32::MAX >> 1)
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream's right to memory.
pub struct StreamGrant {
    base: Arc<Base>,
    budget: Arc<Shares>,
    unit: u32,
}

struct Base {
    _permit: OwnedSemaphorePermit,
    /// The base grant is used by one unit of work at a time.
    turn: Arc<Semaphore>,
}

impl StreamGrant {
    /// Memory for one unit, if the base grant is free or the budget has room to work ahead.
    pub fn try_slot(&self) -> Option<Slot> {
        if let Ok(turn) = self.base.turn.clone().try_acquire_owned() {
            return Some(self.base_slot(turn));
        }
        let permit = self.budget.streams.clone().try_acquire_many_owned(self.unit).ok()?;
        Some(Slot { _turn: None, _extra: Some(permit), _base: self.base.clone() })
    }

    /// Memory for one unit: waits, if it must, for this stream's own earlier unit to be done with, and for nobody else's.
    pub async fn slot(&self) -> Slot {
        if let Some(slot) = self.try_slot() {
            return slot;
        }
        let turn = self.base.turn.clone().acquire_owned().await.expect("the turn semaphore is never closed");
        self.base_slot(turn)
    }

    /// As [`StreamGrant::slot`], but takes memory from the budget as well when it comes free sooner: for units whose bytes are handed
    /// to someone who may keep them.
    pub async fn slot_or_extra(&self) -> Slot {
        if let Some(slot) = self.try_slot() {
            return slot;
        }
        tokio::select! {
            slot = self.slot() => slot,
            Ok(permit) = self.budget.streams.clone().acquire_many_owned(self.unit) => {
                Slot { _turn: None, _extra: Some(permit), _base: self.base.clone() }
            }
        }
    }

    fn base_slot(&self, turn: OwnedSemaphorePermit) -> Slot {
        Slot { _turn: Some(turn), _extra: None, _base: self.base.clone() }
    }
}

/// Memory for one unit of work, returned when dropped: to the stream if it is the base grant, to everybody if extra.
/// Field order matters: the turn goes back before the base may.
pub struct Slot {
    _turn: Option<OwnedSemaphorePermit>,
    _extra: Option<OwnedSemaphorePermit>,
    _base: Arc<Base>,
}

impl Slot {
    /// Bytes that keep the grant until their last reference goes.
    pub fn hold(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _slot: self.clone() })
    }
}

struct Held {
    bytes: Bytes,
    _slot: Arc<Slot>,
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

    #[tokio::test]
    async fn bnd_1_grants_never_exceed_the_budget_and_a_full_budget_is_busy() {
        let budget = Budget::new(8 << 20, SHORT);
        let mut held = Vec::new();
        let refused = loop {
            match budget.open(1 << 20).await {
                Ok(grant) => held.push(grant),
                Err(error) => break error,
            }
            assert!(budget.in_use() <= budget.capacity());
            assert!(held.len() <= 8);
        };
        assert!(matches!(refused, StoreError::Busy(_)), "{refused}");
        assert_eq!(held.len(), 7);
        held.pop();
        assert!(budget.open(1 << 20).await.is_ok());
    }

    #[tokio::test]
    async fn a_stream_goes_on_with_its_own_grant_when_the_budget_is_gone() {
        let budget = Budget::new(8 << 20, SHORT);
        let grant = budget.open(4 << 20).await.unwrap();
        let other = budget.open(3 << 20).await.unwrap();
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
        let budget = Budget::new(1 << 20, SHORT);
        let grant = budget.open(1 << 30).await.unwrap();
        assert!(budget.open(1).await.is_err());
        drop(grant);
        assert!(budget.open(1).await.is_ok());
    }

    #[tokio::test]
    async fn a_slot_outlives_its_stream_and_keeps_the_memory_counted() {
        let budget = Budget::new(8 << 20, SHORT);
        let grant = budget.open(1 << 20).await.unwrap();
        let slot = grant.slot().await;
        drop(grant);
        assert_eq!(budget.in_use(), 1 << 20);
        drop(slot);
        assert_eq!(budget.in_use(), 0);
    }
}

//! What the committer tells readers.

use std::sync::{Arc, atomic::AtomicU64};

use fjall::{Keyspace, Snapshot};
use parking_lot::RwLock;
use tokio::sync::Semaphore;

#[derive(Default)]
pub(super) struct Counters {
    pub commits: AtomicU64,
    pub syncs: AtomicU64,
    pub conflicts: AtomicU64,
}

/// What readers see: everything committed up to `version`, and nothing of the commit being written.
///
/// The snapshot is taken by the committer between two batches. One taken at any other moment could see half a batch: a
/// compaction that finishes meanwhile moves fjall's own visible sequence number past that of the batch in flight.
pub(super) struct Published {
    pub version: u64,
    pub snapshot: Snapshot,
}

/// What the committer and all readers of a store share.
pub(super) struct Shared {
    pub rows: Keyspace,
    pub published: RwLock<Arc<Published>>,
    pub reads: Arc<Semaphore>,
    pub queue: Arc<Semaphore>,
    pub counters: Counters,
}

//! What the committer tells readers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use fjall::{AbstractTree, Keyspace, Snapshot};
use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::kv::embedded::superseded::Superseded;

#[derive(Default)]
pub(super) struct Counters {
    pub commits: AtomicU64,
    pub syncs: AtomicU64,
    pub conflicts: AtomicU64,
    pub early_tables: AtomicU64,
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
    pub superseded: Superseded,
}

impl Shared {
    /// After a scan, which may have been the last that the memtable was worth. Blocks while a batch is written.
    pub(super) fn make_a_table_early(&self) {
        let memtable = self.rows.tree.active_memtable();
        if self.rows.sealed_memtable_count() > 0 || !self.superseded.claim_table(&memtable) {
            return;
        }
        match self.rows.rotate_memtable() {
            Ok(rotated) => drop(self.counters.early_tables.fetch_add(rotated.into(), Ordering::Relaxed)),
            // Nothing was written and nothing is lost: what is in memory stays there, and the next write meets the same
            // error.
            Err(error) => tracing::warn!(%error, "the metadata store cannot make a table of what it has in memory"),
        }
    }
}

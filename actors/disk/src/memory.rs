//! What the indexes of a process's disks may keep in memory.

use std::{fmt, sync::Arc};

use lsm_tree::Cache;

/// Changes that a disk may always gather before it has to write them down: fewer, and it would do little else.
pub const LEAST_CHANGES: u64 = 256 << 10;

/// The memory of indexes. Disks that are given clones of one share its cache of blocks.
#[derive(Clone)]
pub struct IndexMemory {
    cache: Arc<Cache>,
    /// Bytes of one disk's changes at which its writes wait for a checkpoint.
    most_unflushed: u64,
}

impl IndexMemory {
    /// `cache_bytes` for blocks of all disks together, `changes_bytes` for what all `disks` have not written down yet.
    /// Each disk has an equal part of the changes, those included that a checkpoint is writing.
    pub fn shared(cache_bytes: u64, changes_bytes: u64, disks: usize) -> Self {
        let most_unflushed = (changes_bytes / disks.max(1) as u64).max(LEAST_CHANGES);
        Self { cache: Arc::new(Cache::with_capacity_bytes(cache_bytes)), most_unflushed }
    }

    pub(crate) fn blocks(&self) -> Arc<Cache> {
        self.cache.clone()
    }

    /// The bound at which writes wait for a checkpoint,
    pub fn most_unflushed(&self) -> u64 {
        self.most_unflushed
    }

    /// and the changes that call for one.
    pub fn unflushed(&self) -> u64 {
        self.most_unflushed / 4
    }

    /// Bytes of blocks in the cache now.
    pub fn cached(&self) -> u64 {
        self.cache.size()
    }
}

/// For one disk that has a process to itself.
impl Default for IndexMemory {
    fn default() -> Self {
        Self::shared(16 << 20, 64 << 20, 1)
    }
}

impl fmt::Debug for IndexMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexMemory").field("most_unflushed", &self.most_unflushed).finish_non_exhaustive()
    }
}

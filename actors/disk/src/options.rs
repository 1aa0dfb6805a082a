//! What an operator says of a disk.

use std::path::PathBuf;

use cairn_schema::ids::ClusterId;

use crate::memory::IndexMemory;

/// Where a disk is and how much of it is used.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    pub path: PathBuf,
    pub cluster: ClusterId,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Space never filled by writes, so that deletes and tombstones always work.
    pub reserved_bytes: u64,
    /// Caps the disk below its file system's size; None: the file system's size.
    pub capacity_bytes: Option<u64>,
    /// Bytes of writes that may wait at once; more is `Busy`.
    pub max_queued_bytes: u64,
    pub max_queued_reads: usize,
    /// What its index keeps in memory; clones of one share a cache.
    pub index: IndexMemory,
}

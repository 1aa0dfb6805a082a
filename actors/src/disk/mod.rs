//! One engine per disk: append-only segments of self-describing records, group-committed, verified at every read.
#![allow(unused_variables)]

use std::{ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use cairn_schema::ids::{ClusterId, DiskId, FragmentName, GroupId};

/// Bytes covered by one checksum of a fragment.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// A fragment to be stored. The checksums come with it from where the bytes were made: the disk verifies, it does not vouch.
#[derive(Clone, Debug)]
pub struct NewFragment {
    pub name: FragmentName,
    pub payload: Bytes,
    /// xxh3-64 of each `BLOCK_BYTES` block of the payload, the last one shorter.
    pub block_checksums: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    pub name: FragmentName,
    pub length: u32,
    /// When it was written, by this disk's clock, in milliseconds since the Unix epoch.
    pub written_ms: u64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum DiskError {
    #[error("fragment {0} is not on this disk")]
    NotFound(FragmentName),
    #[error("fragment {name} is damaged: {what}")]
    Corrupt { name: FragmentName, what: String },
    #[error("bytes {start}..{end} lie outside fragment {name} of {length} bytes")]
    OutOfRange { name: FragmentName, start: u64, end: u64, length: u64 },
    /// Fragments are immutable: the name is taken by other bytes, and those are whole.
    #[error("fragment {0} is stored with other bytes")]
    Conflict(FragmentName),
    #[error("the fragment's bytes do not match its checksums")]
    BadChecksum,
    #[error("the disk is full: {free} bytes free, {reserved} reserved")]
    Full { free: u64, reserved: u64 },
    #[error("the disk takes no writes: {0}")]
    ReadOnly(String),
    #[error("too many requests wait for this disk")]
    Busy,
    #[error("the disk is gone: {0}")]
    Gone(String),
    #[error("{operation} failed: {why}")]
    Io { operation: &'static str, why: String },
    /// The directory is not a disk of this cluster, or of a format this build does not know.
    #[error("{path}: {why}")]
    Refused { path: String, why: String },
}

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
}

#[derive(Clone, Debug, Default)]
pub struct DiskStatus {
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    pub free_bytes: u64,
    pub fragments: u64,
    pub writable: bool,
    pub failed: Option<String>,
    /// Smoothed latencies in microseconds.
    pub read_us: u64,
    pub write_us: u64,
}

/// An open disk. Cheap to clone. Sends to the disk's supervised actor; bounded by permits that travel with the work.
#[derive(Clone)]
pub struct DiskHandle {
    _inner: Arc<()>,
}

impl DiskHandle {
    pub fn id(&self) -> DiskId {
        todo!()
    }
    /// Returns when the fragment is durable (synced). Writing the same name with the same bytes again is a no-op; with others an error.
    pub async fn put(&self, fragment: NewFragment) -> Result<(), DiskError> {
        todo!()
    }
    /// The bytes of `range`, every block they touch verified.
    pub async fn get(&self, name: FragmentName, range: Range<u32>) -> Result<Bytes, DiskError> {
        todo!()
    }
    pub async fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        todo!()
    }
    /// Durable when it returns. Names that are not there are not an error; returns how many were.
    pub async fn delete(&self, names: Vec<FragmentName>) -> Result<u64, DiskError> {
        todo!()
    }
    /// In name order.
    pub async fn list(
        &self,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
    ) -> Result<Vec<FragmentInfo>, DiskError> {
        todo!()
    }
    /// Re-reads and verifies a whole fragment.
    pub async fn verify(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        todo!()
    }
    pub fn status(&self) -> DiskStatus {
        todo!()
    }
    /// Finishes what is queued, writes a checkpoint, closes.
    pub async fn close(&self) {
        todo!()
    }
}

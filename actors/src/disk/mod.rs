//! One engine per disk: append-only segments of self-describing records, group-committed, verified at every read.
//!
//! ```text
//! DIR/identity          whose disk this is                                   (identity)
//!     lock              held by the process that has it open                  (identity)
//!     index/                where every fragment lies: a tree of sorted tables     (index)
//!     segments/N.seg    the truth: records of fragments and tombstones        (format)
//!
//!  put ─ permit ─ verify ─▶ queue ─▶ writer thread: plan a batch, one vectored write, one fdatasync ─▶ index ─▶ replies
//!  get ─ permit ─▶ index ─▶ blocking thread: pread, verify the blocks touched ─▶ bytes
//! ```
//!
//! Deletes write a tombstone, then give the pages of large fragments back by punching holes. A tombstone names exactly the record it
//! kills and is kept until the segment file of that record is gone, so an index rebuilt from the segments resurrects nothing. What
//! holes cannot give back, the leavings of small records, a compaction does: it moves what is live of a segment to the end of the log
//! (compact). A segment that holds no fragment, and nothing that another segment needs, is removed after the next checkpoint.

pub mod actor;
mod batch;
mod compact;
mod engine;
mod file;
pub mod format;
mod handle;
mod holes;
mod identity;
mod index;
pub mod metrics;
mod queue;
mod reader;
mod recover;
mod scan;
mod segment;
mod segments;
mod state;
pub mod tools;
mod writer;

use std::path::PathBuf;

use bytes::Bytes;
use cairn_schema::ids::{ClusterId, FragmentName};

pub use {
    actor::spawn_disk,
    file::{Faults, SyncPoint},
    format::{block_checksum, block_checksums},
    handle::DiskHandle,
    metrics::DiskMetrics,
    recover::RecoveryReport,
};

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

impl DiskError {
    /// A short word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Corrupt { .. } => "corrupt",
            Self::OutOfRange { .. } => "out_of_range",
            Self::Conflict(_) => "conflict",
            Self::BadChecksum => "bad_checksum",
            Self::Full { .. } => "full",
            Self::ReadOnly(_) => "read_only",
            Self::Busy => "busy",
            Self::Gone(_) => "gone",
            Self::Io { .. } => "io",
            Self::Refused { .. } => "refused",
        }
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

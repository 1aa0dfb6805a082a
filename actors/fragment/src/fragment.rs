//! A fragment, and what a disk says about one.

use bytes::Bytes;
use cairn_schema::ids::FragmentName;

/// A fragment to be stored. The checksums come with it from where the bytes were made: the disk verifies, it does not
/// vouch.
#[derive(Clone, Debug)]
pub struct NewFragment {
    pub name: FragmentName,
    pub payload: Bytes,
    /// xxh3-64 of each `BLOCK_BYTES` block of the payload, the last one shorter.
    pub block_checksums: Vec<u64>,
}

/// What a disk knows of a fragment without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    pub name: FragmentName,
    pub length: u32,
    /// When it was written, by this disk's clock, in milliseconds since the Unix epoch.
    pub written_ms: u64,
}

/// Why a disk did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DiskError {
    #[error("fragment {0} is not on this disk")]
    NotFound(FragmentName),
    #[error("fragment {name} is damaged: {what}")]
    Corrupt { name: FragmentName, what: String },
    /// The disk could not read where it lies. It may be whole, and is as good as damaged.
    #[error("fragment {name} cannot be read: {why}")]
    Unreadable { name: FragmentName, why: String },
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

/// How a disk is: its room in bytes, its speed, and whether it takes writes.
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
    /// Whether the fragment is on the disk and of no use there: it is to be made anew.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Unreadable { .. })
    }

    /// A short word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Corrupt { .. } => "corrupt",
            Self::Unreadable { .. } => "unreadable",
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

//! One engine per disk: append-only segments of self-describing records, group-committed, verified at every read.
//!
//! ```text
//! DIR/identity          whose disk this is                                   (identity)
//!     lock              held by the process that has it open                  (identity)
//!     checkpoint        the index as it was a while ago                       (checkpoint)
//!     segments/N.seg    the truth: records of fragments and tombstones        (format)
//!
//!  put ─ permit ─ verify ─▶ queue ─▶ writer thread: plan a batch, one vectored write, one fdatasync ─▶ index ─▶ replies
//!  get ─ permit ─▶ index ─▶ blocking thread: pread, verify the blocks touched ─▶ bytes
//! ```
//!
//! Deletes write a tombstone, then give the pages of the fragment back by punching holes. A tombstone names exactly the record it
//! kills and is kept until the segment file of that record is gone, so an index rebuilt from the segments resurrects nothing. A
//! segment that holds no fragment and no tombstone that another segment needs is removed.

mod batch;
mod checkpoint;
mod engine;
pub mod file;
pub mod format;
mod identity;
mod index;
pub mod metrics;
mod queue;
mod reader;
mod recover;
mod scan;
mod segment;
mod writer;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use cairn_schema::ids::{ClusterId, DiskId, FragmentName, GroupId};

use engine::{Engine, Extras};
pub use {
    file::{Faults, SyncPoint},
    format::{block_checksum, block_checksums},
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

/// An open disk. Cheap to clone. Calls go straight to the queues of whichever engine has the disk open now, bounded by permits that
/// travel with the work; the disk's supervised actor opens engines, watches them and replaces a failed one.
#[derive(Clone)]
pub struct DiskHandle {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub id: DiskId,
    pub options: DiskOptions,
    pub metrics: Arc<DiskMetrics>,
    pub faults: Option<Arc<Faults>>,
    pub engine: ArcSwapOption<Engine>,
    /// Why there is no engine, when there is none.
    pub absent: ArcSwap<String>,
    /// Set by `close`: nothing opens the disk again through this handle.
    pub closed: AtomicBool,
}

impl DiskHandle {
    /// Opens the disk at `options.path`, or formats it if that directory is empty or missing. Blocks while it reads the index:
    /// on async threads use `spawn_blocking`, or [`actor::spawn_disk`].
    pub fn open(options: DiskOptions) -> Result<Self, DiskError> {
        Self::open_with(options, None)
    }

    /// With faults to inject.
    pub fn open_with(options: DiskOptions, faults: Option<Arc<Faults>>) -> Result<Self, DiskError> {
        let engine = Engine::open(options.clone(), Extras { faults: faults.clone(), metrics: None })?;
        let shared = Shared {
            id: engine.id(),
            options,
            metrics: engine.core().metrics.clone(),
            faults,
            engine: ArcSwapOption::new(Some(Arc::new(engine))),
            absent: ArcSwap::from_pointee(String::new()),
            closed: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn engine(&self) -> Result<Arc<Engine>, DiskError> {
        let engine = self.shared.engine.load_full();
        engine.ok_or_else(|| DiskError::Gone(self.shared.absent.load().as_ref().clone()))
    }

    pub fn id(&self) -> DiskId {
        self.shared.id
    }

    pub fn path(&self) -> &Path {
        &self.shared.options.path
    }

    pub fn metrics(&self) -> &DiskMetrics {
        &self.shared.metrics
    }

    /// What the last opening found; None while the disk is gone.
    pub fn recovery(&self) -> Option<RecoveryReport> {
        self.shared.engine.load().as_ref().map(|engine| engine.report().clone())
    }

    /// Returns when the fragment is durable (synced). Writing the same name with the same bytes again is a no-op; with others an
    /// error, unless the copy that is here is damaged: then it is replaced.
    pub async fn put(&self, fragment: NewFragment) -> Result<(), DiskError> {
        self.engine()?.put(fragment).await
    }

    /// The bytes of `range`, every block they touch verified.
    pub async fn get(&self, name: FragmentName, range: Range<u32>) -> Result<Bytes, DiskError> {
        self.engine()?.get(name, range).await
    }

    pub async fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        self.engine()?.info(name)
    }

    /// Durable when it returns. Names that are not there are not an error; returns how many were.
    pub async fn delete(&self, names: Vec<FragmentName>) -> Result<u64, DiskError> {
        self.engine()?.delete(names).await
    }

    /// In name order, at most 100,000 at once.
    pub async fn list(
        &self,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
    ) -> Result<Vec<FragmentInfo>, DiskError> {
        Ok(self.engine()?.list(group, after, limit))
    }

    /// Re-reads and verifies a whole fragment.
    pub async fn verify(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        self.engine()?.verify(name).await
    }

    pub fn status(&self) -> DiskStatus {
        match self.engine() {
            Ok(engine) => engine.status(),
            Err(error) => DiskStatus { failed: Some(error.to_string()), ..DiskStatus::default() },
        }
    }

    /// Writes the index down, so that the next opening is quick. The disk goes on serving.
    pub async fn checkpoint(&self) -> Result<(), DiskError> {
        let core = self.engine()?.core().clone();
        let done = tokio::task::spawn_blocking(move || core.checkpoint()).await;
        let done = done.map_err(|error| DiskError::Io { operation: "checkpoint", why: error.to_string() })?;
        done.map(|_| ())
    }

    /// Finishes what is queued, writes a checkpoint, closes.
    pub async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        if let Some(engine) = self.shared.engine.load_full() {
            engine.close().await;
        }
        self.shared.absent.store(Arc::new("it is closed".into()));
        self.shared.engine.store(None);
    }
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

//! What an open disk's writer thread, its readers and its callers share.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use cairn_schema::ids::FragmentName;
use parking_lot::{Mutex, RwLock};

use super::{
    DiskError, DiskOptions,
    checkpoint::{self, Head},
    file::Io,
    identity::{Identity, read_identity},
    index::{Entry, Index},
    metrics::{DiskMetrics, Smoothed},
    now_ms,
    queue::Queue,
    reader::Record,
    segment::Files,
};

/// The disk's space, as last worked out.
#[derive(Debug, Default)]
pub struct Space {
    pub capacity: AtomicU64,
    pub used: AtomicU64,
    /// Free, the reserve included.
    pub free: AtomicU64,
    /// Preallocated in the active segment and not yet written.
    pub preallocated: AtomicU64,
}

/// Shared by the writer thread, readers and callers.
pub struct Core {
    pub dir: PathBuf,
    pub identity: Identity,
    pub options: DiskOptions,
    pub io: Io,
    pub files: Files,
    pub index: RwLock<Index>,
    /// Log position and next batch, as of the index; changed under the index's lock.
    pub position: Mutex<(u32, u64, u64)>,
    pub queue: Queue,
    pub space: Space,
    /// Why the disk takes no writes any more.
    pub failed: ArcSwapOption<String>,
    pub can_punch: AtomicBool,
    /// When the batch that is being written began, ms since 1970; 0 between batches.
    pub busy_since: AtomicU64,
    /// A batch has been under way for too long; see [`Core::watch`].
    pub stuck: AtomicBool,
    pub metrics: Arc<DiskMetrics>,
    pub read_latency: Smoothed,
    pub write_latency: Smoothed,
    pub changes: AtomicU64,
    pub checkpointing: Mutex<u64>,
}

impl Core {
    /// Looks at the file system and the index and says anew what is free.
    pub fn refresh_space(&self) {
        let (totals, fragments, segments) = {
            let index = self.index.read();
            (index.totals(), index.len(), index.segments.len())
        };
        let Ok(fs) = rustix::fs::statvfs(&self.dir) else { return };
        let size = fs.f_blocks.saturating_mul(fs.f_frsize);
        let available = fs.f_bavail.saturating_mul(fs.f_frsize);
        let capacity = self.options.capacity_bytes.map_or(size, |cap| cap.min(size));
        let preallocated = self.space.preallocated.load(Ordering::Relaxed);
        let free = available.saturating_add(preallocated).min(capacity.saturating_sub(totals.occupied));
        self.space.capacity.store(capacity, Ordering::Relaxed);
        self.space.used.store(totals.occupied, Ordering::Relaxed);
        self.space.free.store(free, Ordering::Relaxed);
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.capacity.set(gauge(capacity));
        self.metrics.used.set(gauge(totals.occupied));
        self.metrics.free.set(gauge(free.saturating_sub(self.options.reserved_bytes)));
        self.metrics.reserved.set(gauge(self.options.reserved_bytes));
        self.metrics.dead.set(gauge(totals.occupied.saturating_sub(totals.held)));
        self.metrics.fragments.set(gauge(fragments));
        self.metrics.segments.set(gauge(segments as u64));
        self.metrics.writable.set(i64::from(self.writable(0).is_ok()));
    }

    /// Whether a write of `bytes` would be taken now.
    pub fn writable(&self, bytes: u64) -> Result<(), DiskError> {
        if let Some(why) = self.failed.load().as_deref() {
            return Err(DiskError::ReadOnly(why.clone()));
        }
        if self.stuck.load(Ordering::Relaxed) {
            return Err(DiskError::ReadOnly("a write has been stuck for too long".into()));
        }
        let (free, reserved) = (self.space.free.load(Ordering::Relaxed), self.options.reserved_bytes);
        if free < reserved.saturating_add(bytes).max(1) {
            return Err(DiskError::Full { free, reserved });
        }
        Ok(())
    }

    /// Looks whether the disk is still there and its writer still moves. Blocks, on a hung disk for long.
    pub fn watch(&self) {
        match read_identity(&self.dir) {
            Ok(Some(identity)) if identity == self.identity => {}
            Ok(_) => self.fail(format!("the disk is gone: {} is not it any more", self.dir.display())),
            Err(error) => self.fail(format!("the disk is gone: {error}")),
        }
        self.refresh_space();
    }

    /// Notes whether the current batch takes too long. Does not block.
    pub fn watch_writer(&self, limit: Duration) {
        let since = self.busy_since.load(Ordering::Relaxed);
        let stuck = since != 0 && Duration::from_millis(now_ms().saturating_sub(since)) > limit;
        if stuck != self.stuck.swap(stuck, Ordering::Relaxed) {
            tracing::warn!(disk = %self.identity.disk, stuck, "the disk's writer got stuck, or moves again");
        }
    }

    fn fail(&self, why: String) {
        if self.failed.load().is_none() {
            tracing::error!(disk = %self.identity.disk, %why, "the disk takes no more writes");
            self.failed.store(Some(Arc::new(why)));
        }
    }

    /// Runs `with` on the record of `entry`.
    pub fn on_record<T>(
        &self,
        name: FragmentName,
        entry: Entry,
        with: impl FnOnce(&Record<'_>) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let number = entry.place.segment;
        let salt = self.index.read().segments.get(&number).map(|segment| segment.salt);
        let salt = salt.ok_or_else(|| DiskError::Corrupt { name, what: format!("segment {number} is gone") })?;
        let file = self.files.get(number)?;
        with(&Record { io: &self.io, file: &file, path: &self.files.path(number), salt, name, entry })
    }

    /// Runs `with` on the fragment; one that was deleted, moved or replaced meanwhile is looked up again rather than called damaged.
    pub fn read<T>(
        &self,
        name: FragmentName,
        with: impl Fn(&Record<'_>) -> Result<T, DiskError>,
    ) -> Result<(T, Entry), DiskError> {
        const TRIES: usize = 4;
        let mut last = DiskError::NotFound(name);
        for _ in 0..TRIES {
            let entry = self.index.read().get(&name).ok_or(DiskError::NotFound(name))?;
            match self.on_record(name, entry, &with) {
                Ok(value) => return Ok((value, entry)),
                Err(error) if self.index.read().get(&name) == Some(entry) => {
                    if matches!(error, DiskError::Corrupt { .. }) {
                        self.metrics.checksum_failures.inc();
                        tracing::error!(disk = %self.identity.disk, segment = entry.place.segment, %error, "damage met");
                    }
                    return Err(error);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Writes a checkpoint. Blocks; the disk goes on serving meanwhile.
    pub fn checkpoint(&self) -> Result<u64, DiskError> {
        let mut done = self.checkpointing.lock();
        let changes = self.changes.load(Ordering::Acquire);
        if *done == changes && checkpoint::checkpoint_path(&self.dir).exists() {
            return Ok(self.index.read().len());
        }
        let started = Instant::now();
        let (segments, head) = {
            let index = self.index.read();
            let (tail_segment, tail_end, next_batch) = *self.position.lock();
            let segments: Vec<_> =
                index.segments.iter().map(|(number, state)| (*number, state.without_extents())).collect();
            (
                segments,
                Head { disk: Some(self.identity.disk), written_ms: now_ms(), next_batch, tail_segment, tail_end },
            )
        };
        let written = checkpoint::write(
            &self.dir,
            self.identity.disk,
            &head,
            segments.iter().map(|(number, state)| (number, state)),
            |after| self.index.read().after(after).take(checkpoint::RUN).map(|(n, e)| (*n, *e)).collect(),
        )?;
        *done = changes;
        self.metrics.checkpoint_seconds.observe(started.elapsed().as_secs_f64());
        Ok(written)
    }
}

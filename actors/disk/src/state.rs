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
use cairn_fragment::{DiskError, Priority, Turn};
use cairn_schema::ids::FragmentName;
use parking_lot::Mutex;

use super::{
    DiskOptions,
    file::{Io, disk_error, sync_dir},
    identity::{Identity, read_identity},
    index::{Index, segments::Entry, tree::IndexError},
    metrics::{DiskMetrics, Smoothed},
    outstanding::{Operation, Outstanding},
    pace::{Clients, Fill, share},
    queue::Queue,
    read_errors::ReadErrors,
    reader::Record,
    segment::{Files, segments_dir},
    turns::Turns,
};

/// The disk's space, as last worked out.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub capacity: AtomicU64,
    pub used: AtomicU64,
    /// Free, the reserve included.
    pub free: AtomicU64,
    /// Preallocated in the active segment and not yet written.
    pub preallocated: AtomicU64,
}

/// Shared by the writer thread, readers and callers.
pub(crate) struct Core {
    pub dir: PathBuf,
    pub identity: Identity,
    pub options: DiskOptions,
    pub io: Io,
    pub files: Files,
    pub index: Index,
    /// Where the index is kept when the disk itself takes no writes.
    pub aside: Option<tempfile::TempDir>,
    pub queue: Queue,
    pub space: Space,
    /// Why the disk takes no writes any more.
    pub failed: ArcSwapOption<String>,
    pub can_punch: AtomicBool,
    pub outstanding: Outstanding,
    /// Why it is given no writes for now: something takes long; see [`Core::watch_operations`].
    pub stuck: ArcSwapOption<String>,
    /// Why it is taken to hang: something takes so long that nobody should wait for the disk.
    pub hung: ArcSwapOption<String>,
    pub read_errors: Arc<ReadErrors>,
    pub metrics: Arc<DiskMetrics>,
    pub read_latency: Smoothed,
    pub write_latency: Smoothed,
    /// When clients last used the disk: tidying up yields to them.
    pub clients: Clients,
    /// Of repair and scrub.
    pub turns: Turns,
    /// One checkpoint at a time; true once the writer is done with the disk.
    pub checkpointing: Mutex<bool>,
    /// The writer is done: nothing more is tidied up.
    pub closing: AtomicBool,
    /// A checkpoint that the writer asked for is under way.
    pub checkpoint_begun: AtomicBool,
}

impl Core {
    /// Looks at the file system and the index and says anew what is free.
    pub(crate) fn refresh_space(&self) {
        let (totals, segments) = self.index.segments(|segments| (segments.totals(), segments.len()));
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
        self.metrics.dead.set(gauge(totals.dead));
        self.metrics.fragments.set(gauge(totals.fragments));
        self.metrics.segments.set(gauge(segments as u64));
        self.metrics.writable.set(i64::from(self.writable(0).is_ok()));
    }

    /// How urgent it is to tidy up; see [`Fill::pressure`].
    pub(crate) fn pressure(&self) -> f64 {
        let totals = self.index.totals();
        let reserved = self.options.reserved_bytes;
        let fill = Fill {
            capacity: self.space.capacity.load(Ordering::Relaxed).saturating_sub(reserved),
            spendable: self.space.free.load(Ordering::Relaxed).saturating_sub(reserved),
            live: totals.held,
            dead: totals.dead,
        };
        fill.pressure()
    }

    /// An operation of this priority begins or ends.
    pub(crate) fn note_use(&self, priority: Priority) {
        if priority.is_client() {
            self.clients.note(Instant::now());
        }
    }

    /// An operation is done that had a turn.
    pub(crate) fn turn_over(&self, turn: Turn, took: Duration) {
        if !turn.priority().is_client() {
            self.turns.spend(&self.clients, took);
        }
    }

    /// The part of its time that the disk gives to tidying up now.
    pub(crate) fn tidying_share(&self, now: Instant) -> f64 {
        if self.clients.are_there(now) { share(true, self.pressure()) } else { share(false, 0.0) }
    }

    /// Whether a write of `bytes` would be taken now.
    pub(crate) fn writable(&self, bytes: u64) -> Result<(), DiskError> {
        if let Some(why) = self.failed.load().as_deref() {
            return Err(DiskError::ReadOnly(why.clone()));
        }
        if let Some(why) = self.stuck.load().as_deref() {
            return Err(DiskError::ReadOnly(why.clone()));
        }
        let (free, reserved) = (self.space.free.load(Ordering::Relaxed), self.options.reserved_bytes);
        if free < reserved.saturating_add(bytes).max(1) {
            return Err(DiskError::Full { free, reserved });
        }
        Ok(())
    }

    /// Looks whether the disk is still there and its writer still moves. Blocks, on a hung disk for long.
    pub(crate) fn watch(&self) {
        let _look = self.outstanding.begin(Operation::Look);
        match read_identity(&self.dir) {
            Ok(Some(identity)) if identity == self.identity => {}
            Ok(_) => self.fail(format!("the disk is gone: {} is not it any more", self.dir.display())),
            Err(error) => self.fail(format!("the disk is gone: {error}")),
        }
        self.look_for_segments();
        self.refresh_space();
    }

    /// A segment file that somebody has deleted goes on being read, and written to, for as long as it is open, and is
    /// gone with the process: better to know now what is lost with it (RED-1).
    fn look_for_segments(&self) {
        let needed = self.needed_segments();
        let present = match self.files.list_anew() {
            Ok(Some(present)) => present,
            Ok(None) => return,
            Err(error) => return self.fail(format!("the disk is gone: {error}")),
        };
        // One that was emptied meanwhile may have gone in order.
        let gone = needed.into_iter().filter(|number| present.binary_search(number).is_err());
        if let Some(number) = gone.into_iter().find(|number| self.needed_segments().contains(number)) {
            self.fail(format!("segment {number} was deleted by somebody else"));
        }
    }

    fn needed_segments(&self) -> Vec<u32> {
        let written = self.index.position().segment;
        self.index.segments(|segments| {
            let needed = segments.iter().filter(|(number, state)| state.fragments > 0 || *number == written);
            needed.map(|(number, _)| number).collect()
        })
    }

    /// Notes whether an operation takes too long: for the disk to be given writes, or for anybody to wait for it. Does
    /// not block.
    pub(crate) fn watch_operations(&self, stuck_after: Duration, hung_after: Duration) {
        let (now, disk) = (Instant::now(), self.identity.disk);
        let hung = self.outstanding.hangs(now, hung_after);
        let stuck = self.outstanding.hangs(now, stuck_after);
        match (self.stuck.swap(stuck.clone().map(Arc::new)), stuck) {
            (None, Some(why)) => {
                tracing::warn!(%disk, %why, "the disk is slow: it is given no writes until it answers")
            }
            (Some(_), None) => tracing::info!(%disk, "the disk answers again"),
            _ => {}
        }
        if let (None, Some(why)) = (self.hung.swap(hung.clone().map(Arc::new)), hung) {
            tracing::error!(%disk, %why, "the disk hangs");
        }
    }

    /// A fragment could not be read. Too many of them, and the disk as a whole has failed.
    pub(crate) fn unreadable(&self, name: FragmentName, why: &str) {
        self.metrics.unreadable.inc();
        tracing::error!(disk = %self.identity.disk, fragment = %name, %why, "a fragment cannot be read");
        if let Some(verdict) = self.read_errors.failed(name, Instant::now()) {
            self.fail(verdict);
        }
    }

    /// What is to be known of a read that failed though the record was still there.
    pub(crate) fn note_damage(&self, entry: Entry, error: &DiskError) {
        match error {
            DiskError::Corrupt { .. } => {
                // The disk can read, whatever it reads.
                self.read_errors.succeeded();
                self.metrics.checksum_failures.inc();
                tracing::error!(disk = %self.identity.disk, segment = entry.place.segment, %error, "a fragment is damaged");
            }
            DiskError::Unreadable { name, why } => self.unreadable(*name, why),
            _ => {}
        }
    }

    pub(crate) fn fail(&self, why: String) {
        if self.failed.load().is_none() {
            tracing::error!(disk = %self.identity.disk, %why, "the disk takes no more writes");
            self.failed.store(Some(Arc::new(why)));
        }
    }

    /// Runs `with` on the record of `entry`.
    pub(crate) fn on_record<T>(
        &self,
        name: FragmentName,
        entry: Entry,
        with: impl FnOnce(&Record<'_>) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let number = entry.place.segment;
        let salt = self.index.salt(number);
        let salt = salt.ok_or_else(|| DiskError::Corrupt { name, what: format!("segment {number} is gone") })?;
        let file = self.files.get(number)?;
        with(&Record { io: &self.io, file: &file, path: &self.files.path(number), salt, name, entry })
    }

    /// Runs `with` on the fragment; one that was deleted, moved or replaced meanwhile is looked up again rather than
    /// called damaged.
    pub(crate) fn read<T>(
        &self,
        name: FragmentName,
        with: impl Fn(&Record<'_>) -> Result<T, DiskError>,
    ) -> Result<(T, Entry), DiskError> {
        const TRIES: usize = 4;
        let mut last = DiskError::NotFound(name);
        for _ in 0..TRIES {
            let entry = self.lookup(&name)?.ok_or(DiskError::NotFound(name))?;
            match self.on_record(name, entry, &with) {
                Ok(value) => {
                    self.read_errors.succeeded();
                    return Ok((value, entry));
                }
                Err(error) if self.lookup(&name)? == Some(entry) => {
                    self.note_damage(entry, &error);
                    return Err(error);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Where a fragment is. An index that cannot be read fails the disk: opening it again makes the index anew.
    pub(crate) fn lookup(&self, name: &FragmentName) -> Result<Option<Entry>, DiskError> {
        self.index.get(name).map_err(|error| self.index_failed(error))
    }

    pub(crate) fn index_failed(&self, error: IndexError) -> DiskError {
        if self.index.is_damaged() {
            self.fail(format!("its index is damaged ({error}); it is made anew when the disk is opened again"));
        }
        error.into()
    }

    /// Writes a checkpoint, then removes the segment files that nothing needed at that instant. Blocks; the disk goes
    /// on serving meanwhile.
    pub(crate) fn checkpoint(&self) -> Result<u64, DiskError> {
        let closed = self.checkpointing.lock();
        if *closed {
            return Err(DiskError::Gone("it is closed".into()));
        }
        if let Some(why) = self.failed.load().as_deref() {
            // What the index lacks may be just what could not be read, or was not synced.
            return Err(DiskError::ReadOnly(why.clone()));
        }
        let fragments = self.index.totals().fragments;
        if !self.index.has_changed() {
            return Ok(fragments);
        }
        let _tidying = self.io.tidying();
        let _checkpoint = self.outstanding.begin(Operation::Checkpoint);
        let started = Instant::now();
        let empty = self.index.checkpoint().map_err(|error| self.index_failed(error))?;
        self.remove_segments(empty);
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.index_bytes.set(gauge(self.index.disk_bytes()));
        self.metrics.index_memory.set(gauge(self.index.pinned_bytes()));
        self.metrics.checkpoint_seconds.observe(started.elapsed().as_secs_f64());
        Ok(fragments)
    }

    /// Has a checkpoint written by a thread of its own, unless one is under way.
    pub(crate) fn begin_checkpoint(self: &Arc<Self>) {
        if self.checkpoint_begun.swap(true, Ordering::AcqRel) {
            return;
        }
        let core = self.clone();
        let begun = std::thread::Builder::new().name("disk-checkpoint".into()).spawn(move || {
            if let Err(error) = core.checkpoint() {
                tracing::warn!(disk = %core.identity.disk, %error, "no checkpoint written; it is tried again");
            }
            core.checkpoint_begun.store(false, Ordering::Release);
        });
        if begun.is_err() {
            // Out of threads: the disk's actor writes one before long.
            self.checkpoint_begun.store(false, Ordering::Release);
        }
    }

    /// After a checkpoint that knows them to be empty: before it, an index that is behind would miss what they held.
    /// One that goes may have been all that another one was kept for.
    fn remove_segments(&self, mut empty: Vec<u32>) {
        loop {
            let removable = self.index.segments(|segments| segments.removable());
            let (now, later): (Vec<u32>, Vec<u32>) = empty.into_iter().partition(|number| removable.contains(number));
            if now.is_empty() {
                return;
            }
            empty = later;
            for number in now {
                self.index.change_segments(|segments| segments.leave(number));
                match self.remove_segment(number) {
                    Ok(()) => drop(self.index.forget_segment(number)),
                    // It stays in the index as long as it is there; the next checkpoint tries again.
                    Err(error) => {
                        self.index.change_segments(|segments| segments.stay(number));
                        tracing::warn!(disk = %self.identity.disk, %error, "an empty segment was not removed")
                    }
                }
            }
        }
    }

    fn remove_segment(&self, number: u32) -> Result<(), DiskError> {
        let path = self.files.path(number);
        self.files.forget(number);
        match std::fs::remove_file(&path) {
            // An earlier try removed it and could not make that durable.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(|error| disk_error("remove segment", &path, error))?,
        }
        sync_dir(&segments_dir(&self.dir))
    }

    /// Lets go of the index, once a checkpoint under way has ended.
    pub(crate) fn close_index(&self) {
        self.closing.store(true, Ordering::Release);
        *self.checkpointing.lock() = true;
        self.index.close();
    }
}

//! An open disk: what its writer thread and its readers share, how it is opened, and what is asked of it.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use cairn_schema::ids::{DiskId, FragmentName, GroupId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot, watch};

use super::{
    BLOCK_BYTES, DiskError, DiskOptions, DiskStatus, FragmentInfo, NewFragment,
    checkpoint::{self, Head},
    file::{Faults, Io, disk_error, sync_dir},
    format::{MAX_FRAGMENT_BYTES, block_checksum, block_count, fragment_units},
    identity::{Identity, lock, read_identity, refused, write_identity},
    index::{Entry, Index},
    metrics::{DiskMetrics, Smoothed},
    now_ms,
    queue::{Delete, Job, Put, Queue},
    reader::Record,
    recover::{RecoveryReport, recover},
    segment::{Files, segments_dir},
    writer::Writer,
};

/// How long a write may wait for room in the queue: a few seconds ride out a checkpoint or a slow sync, more would hide a sick disk.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// Reads have deadlines and alternatives (other fragments): they give up sooner.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// Reads that run at once on one disk; the others wait their turn. Also bounds the threads a hung disk can hold.
const READS_AT_ONCE: usize = 16;
/// Delete jobs that may wait.
const QUEUED_DELETES: usize = 256;
/// Names in one delete job: their tombstones fit into the room segments keep for them.
pub const DELETE_NAMES: usize = 512;
/// Payloads up to this are verified where they arrive (a few microseconds); larger ones on a blocking thread.
const INLINE_VERIFY: usize = BLOCK_BYTES;
const LIST_LIMIT: usize = 100_000;

/// What an engine is given besides its options.
#[derive(Clone, Default)]
pub struct Extras {
    /// For tests.
    pub faults: Option<Arc<Faults>>,
    /// Carried over from the engine's predecessor, so that counters go on.
    pub metrics: Option<Arc<DiskMetrics>>,
}

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
    checkpointing: Mutex<u64>,
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
    fn read<T>(
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

/// An open disk. Dropping it without [`Engine::close`] is safe: the next opening replays the log's tail.
pub struct Engine {
    core: Arc<Core>,
    report: RecoveryReport,
    write_room: Arc<Semaphore>,
    delete_room: Arc<Semaphore>,
    read_room: Arc<Semaphore>,
    read_turns: Arc<Semaphore>,
    /// True when the writer thread has ended.
    ended: watch::Receiver<bool>,
}

/// Permits of the write queue are of this many bytes.
const ROOM_UNIT: u64 = 1024;

impl Engine {
    /// Opens the disk at `options.path`, or formats it if the directory is empty or missing. Blocks.
    pub fn open(options: DiskOptions, extras: Extras) -> Result<Self, DiskError> {
        let dir = options.path.clone();
        std::fs::create_dir_all(&dir).map_err(|error| disk_error("create directory", &dir, error))?;
        let lock = lock(&dir)?;
        let identity = identify(&options)?;
        let segments = segments_dir(&dir);
        if !segments.exists() {
            std::fs::create_dir_all(&segments).map_err(|error| disk_error("create directory", &segments, error))?;
            sync_dir(&dir)?;
        }
        let io = Io { faults: extras.faults.clone() };
        let files = Files::new(&dir);
        let recovered = recover(&io, &dir, &identity, &files)?;
        log_report(&identity, &recovered.report);
        let metrics = match extras.metrics {
            Some(metrics) => metrics,
            None => Arc::new(DiskMetrics::new(identity.disk).map_err(|error| refused(&dir, error.to_string()))?),
        };
        let core = Arc::new(Core {
            dir,
            identity,
            io,
            files,
            index: RwLock::new(recovered.index),
            position: Mutex::new((recovered.last_segment, 0, recovered.next_batch)),
            queue: Queue::default(),
            space: Space::default(),
            failed: ArcSwapOption::empty(),
            can_punch: AtomicBool::new(true),
            busy_since: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            metrics,
            read_latency: Smoothed::default(),
            write_latency: Smoothed::default(),
            changes: AtomicU64::new(1),
            checkpointing: Mutex::new(0),
            options,
        });
        let (ending, ended) = watch::channel(false);
        let writer = Writer::prepare(core.clone(), lock, recovered.leftovers)?;
        core.refresh_space();
        std::thread::Builder::new()
            .name(format!("disk-{}", &identity.disk.to_string()[..8]))
            .spawn(move || {
                writer.run();
                ending.send_replace(true);
            })
            .map_err(|error| DiskError::Io { operation: "start the writer thread", why: error.to_string() })?;
        let room = core.options.max_queued_bytes.div_ceil(ROOM_UNIT).clamp(1, u64::from(u32::MAX >> 1)) as usize;
        Ok(Self {
            write_room: Arc::new(Semaphore::new(room)),
            delete_room: Arc::new(Semaphore::new(QUEUED_DELETES)),
            read_room: Arc::new(Semaphore::new(core.options.max_queued_reads.clamp(1, Semaphore::MAX_PERMITS))),
            read_turns: Arc::new(Semaphore::new(READS_AT_ONCE)),
            core,
            report: recovered.report,
            ended,
        })
    }

    pub fn id(&self) -> DiskId {
        self.core.identity.disk
    }

    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What opening it found.
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    pub async fn put(&self, fragment: NewFragment) -> Result<(), DiskError> {
        let core = &self.core;
        let length = fragment.payload.len();
        if length > MAX_FRAGMENT_BYTES {
            return Err(DiskError::Io { operation: "put", why: format!("a fragment of {length} bytes is too large") });
        }
        if fragment.block_checksums.len() != block_count(length as u32) {
            return Err(DiskError::BadChecksum);
        }
        core.writable(u64::from(fragment_units(length as u32)) * 64)?;
        let queued = Instant::now();
        // A fragment larger than the whole queue takes all of it.
        let room = (length as u64).div_ceil(ROOM_UNIT) + 1;
        let most = core.options.max_queued_bytes.div_ceil(ROOM_UNIT).clamp(1, u64::from(u32::MAX >> 1));
        let acquire = self.write_room.clone().acquire_many_owned(room.min(most) as u32);
        let permit = patience(WRITE_PATIENCE, acquire).await?;
        let fragment = verified(fragment).await?;
        let (reply, answer) = oneshot::channel();
        core.queue.push(Job::Put(Put { fragment, reply, permit })).map_err(|_| closed())?;
        let result = answer.await.unwrap_or_else(|_| Err(closed()));
        self.note("put", &result);
        if result.is_ok() {
            let took = queued.elapsed();
            core.write_latency.add(took);
            core.metrics.write_seconds.observe(took.as_secs_f64());
        }
        result
    }

    pub async fn get(&self, name: FragmentName, range: Range<u32>) -> Result<Bytes, DiskError> {
        let result = self
            .reading(move |core| {
                let found = core.read(name, |record| {
                    let length = record.entry.length;
                    if range.start > range.end || range.end > length {
                        let (start, end) = (range.start.into(), range.end.into());
                        return Err(DiskError::OutOfRange { name, start, end, length: length.into() });
                    }
                    record.range(range.clone())
                })?;
                Ok(found.0)
            })
            .await;
        self.note("get", &result);
        if let Ok(bytes) = &result {
            self.core.metrics.read_bytes.inc_by(bytes.len() as u64);
        }
        result
    }

    pub fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        let entry = self.core.index.read().get(&name).ok_or(DiskError::NotFound(name))?;
        Ok(FragmentInfo { name, length: entry.length, written_ms: entry.written_ms })
    }

    pub async fn verify(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        let result = self
            .reading(move |core| {
                let (_, entry) = core.read(name, |record| record.verify())?;
                Ok(FragmentInfo { name, length: entry.length, written_ms: entry.written_ms })
            })
            .await;
        self.note("verify", &result);
        result
    }

    /// Durable when it returns. Done in pieces of [`DELETE_NAMES`]: after an error some may be gone.
    pub async fn delete(&self, names: Vec<FragmentName>) -> Result<u64, DiskError> {
        let mut deleted = 0;
        for names in names.chunks(DELETE_NAMES) {
            let permit = patience(WRITE_PATIENCE, self.delete_room.clone().acquire_owned()).await?;
            let (reply, answer) = oneshot::channel();
            let job = Job::Delete(Delete { names: names.to_vec(), reply, permit });
            self.core.queue.push(job).map_err(|_| closed())?;
            let result = answer.await.unwrap_or_else(|_| Err(closed()));
            self.note("delete", &result);
            deleted += result?;
        }
        Ok(deleted)
    }

    pub fn list(&self, group: Option<GroupId>, after: Option<FragmentName>, limit: usize) -> Vec<FragmentInfo> {
        self.core.index.read().list(group, after, limit.min(LIST_LIMIT))
    }

    pub fn status(&self) -> DiskStatus {
        let core = &self.core;
        let failed = core.failed.load_full().map(|why| why.as_ref().clone());
        DiskStatus {
            capacity_bytes: core.space.capacity.load(Ordering::Relaxed),
            used_bytes: core.space.used.load(Ordering::Relaxed),
            free_bytes: core.space.free.load(Ordering::Relaxed).saturating_sub(core.options.reserved_bytes),
            fragments: core.index.read().len(),
            writable: core.writable(0).is_ok(),
            failed,
            read_us: core.read_latency.get(),
            write_us: core.write_latency.get(),
        }
    }

    /// Finishes what is queued, writes a checkpoint and lets go of the disk.
    pub async fn close(&self) {
        self.core.queue.close();
        let mut ended = self.ended.clone();
        // An error means that the thread is gone: as good as ended.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// [`Engine::close`] for threads that may block.
    pub fn close_blocking(&self) {
        futures::executor::block_on(self.close());
    }

    /// Runs `work` on a blocking thread when it is its turn.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let started = Instant::now();
        let room = patience(READ_PATIENCE, self.read_room.clone().acquire_owned()).await?;
        let turn = patience(READ_PATIENCE, self.read_turns.clone().acquire_owned()).await?;
        let core = self.core.clone();
        let done = tokio::task::spawn_blocking(move || {
            // The permits stay with the work, even if the caller goes away.
            let _held = (room, turn);
            let result = work(&core);
            if result.is_ok() {
                core.read_latency.add(started.elapsed());
                core.metrics.read_seconds.observe(started.elapsed().as_secs_f64());
            }
            result
        });
        done.await.unwrap_or_else(|error| Err(DiskError::Io { operation: "read", why: error.to_string() }))
    }

    fn note<T>(&self, kind: &str, result: &Result<T, DiskError>) {
        let metrics = &self.core.metrics;
        metrics.operations.with_label_values(&[kind]).inc();
        if let Err(error) = result {
            metrics.errors.with_label_values(&[kind, error.kind()]).inc();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The writer finishes what is queued on its own and lets go of the disk.
        self.core.queue.close();
    }
}

fn closed() -> DiskError {
    DiskError::Gone("it is closed".into())
}

async fn patience<T, E>(limit: Duration, acquire: impl Future<Output = Result<T, E>>) -> Result<T, DiskError> {
    match tokio::time::timeout(limit, acquire).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(closed()),
        Err(_) => Err(DiskError::Busy),
    }
}

fn matches_checksums(fragment: &NewFragment) -> bool {
    fragment
        .payload
        .chunks(BLOCK_BYTES)
        .zip(&fragment.block_checksums)
        .all(|(block, sum)| block_checksum(block) == *sum)
}

/// The fragment back, if its bytes match its checksums; large ones are hashed off the async threads.
async fn verified(fragment: NewFragment) -> Result<NewFragment, DiskError> {
    if fragment.payload.len() <= INLINE_VERIFY {
        return if matches_checksums(&fragment) { Ok(fragment) } else { Err(DiskError::BadChecksum) };
    }
    let checked = tokio::task::spawn_blocking(move || matches_checksums(&fragment).then_some(fragment)).await;
    match checked {
        Ok(fragment) => fragment.ok_or(DiskError::BadChecksum),
        Err(error) => Err(DiskError::Io { operation: "verify", why: error.to_string() }),
    }
}

/// The identity of the disk at `options.path`, made if the directory is empty.
fn identify(options: &DiskOptions) -> Result<Identity, DiskError> {
    let dir = &options.path;
    if let Some(identity) = read_identity(dir)? {
        if identity.cluster != options.cluster {
            let why = format!("this disk belongs to cluster {}, not to {}", identity.cluster, options.cluster);
            return Err(refused(dir, why));
        }
        return Ok(identity);
    }
    let entries = std::fs::read_dir(dir).map_err(|error| disk_error("list directory", dir, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| disk_error("list directory", dir, error))?;
        let name = entry.file_name();
        // What a formatting that was cut short leaves behind, and what mkfs puts into every file system.
        if name != "lock" && name != "identity.new" && name != "lost+found" {
            let why = format!("not a disk: no identity file, and not empty ({} is there)", name.display());
            return Err(refused(dir, why));
        }
    }
    let identity = Identity { cluster: options.cluster, disk: DiskId::random(), created_ms: now_ms() };
    write_identity(dir, &identity)?;
    Ok(identity)
}

fn log_report(identity: &Identity, report: &RecoveryReport) {
    let disk = identity.disk;
    if let Some(why) = &report.checkpoint_unusable
        && report.segments > 0
    {
        tracing::warn!(%disk, %why, segments = report.segments, "index rebuilt from the segments: the checkpoint is of no use");
    }
    if !report.damaged.is_empty() || !report.unreadable_segments.is_empty() || report.lost_with_segments > 0 {
        tracing::error!(%disk, damaged = ?report.damaged, unreadable = ?report.unreadable_segments,
            lost = report.lost_with_segments, "damage met while opening; repair will find what is missing");
    }
    if report.torn_tail || !report.torn.is_empty() {
        tracing::info!(%disk, torn = report.torn.len(), "the last batch was cut short and is dropped: it was never acknowledged");
    }
    tracing::info!(%disk, fragments = report.fragments, replayed = report.records_replayed, "disk opened");
}

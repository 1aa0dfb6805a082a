//! An open disk: how it is opened, what is asked of it, and how much may wait.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use cairn_fragment::{
    BLOCK_BYTES, BlobRange, DiskError, DiskStatus, FragmentInfo, NameDigest, NewFragment, Priority, Turn, block_count,
    verify_blocks,
};
use cairn_schema::ids::{DiskId, FragmentName, GroupId};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};

use super::{
    DiskOptions,
    file::{Faults, Io, disk_error, sync_dir},
    format::{MAX_FRAGMENT_BYTES, fragment_units},
    identity::{identify, lock, refused},
    log::Log,
    metrics::{DiskMetrics, Smoothed},
    outstanding::{Operation, Outstanding},
    pace::Clients,
    queue::{Delete, Job, Put, Queue},
    read_errors::ReadErrors,
    recover::{IndexAt, RecoveryReport, log_report, recover},
    segment::{Files, segments_dir},
    state::{Core, Space},
    threads::Threads,
    turns::{BackgroundShare, Turns},
    writer::Writer,
};

/// How long a write may wait for room in the queue: a few seconds ride out a checkpoint or a slow sync, more would hide
/// a sick disk.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// Reads have deadlines and alternatives (other fragments): they give up sooner.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// Reads that run at once on one disk, each on a thread; the others wait their turn.
const READS_AT_ONCE: usize = 16;
/// Between two reads that only see whether the disk can.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Delete jobs that may wait.
const QUEUED_DELETES: usize = 256;
/// Names in one delete job: their tombstones fit into the room segments keep for them.
pub(crate) const DELETE_NAMES: usize = 512;
/// Payloads up to this are verified where they arrive (a few microseconds); larger ones on a blocking thread.
const INLINE_VERIFY: usize = BLOCK_BYTES;
const LIST_LIMIT: usize = 100_000;

/// What an engine is given besides its options.
#[derive(Clone, Default)]
pub(crate) struct Extras {
    /// For tests.
    pub faults: Option<Arc<Faults>>,
    /// Carried over from the engine's predecessor, so that counters go on.
    pub metrics: Option<Arc<DiskMetrics>>,
    /// Carried over as well: opening a disk again makes nothing of it readable.
    pub read_errors: Arc<ReadErrors>,
    pub background_share: BackgroundShare,
    /// An operator's word: what cannot be read of the log is given up.
    pub give_up_unreadable: bool,
}

/// An open disk. Dropping it without [`Engine::close`] is safe: the next opening replays the log's tail.
pub(crate) struct Engine {
    core: Arc<Core>,
    report: RecoveryReport,
    write_room: Arc<Semaphore>,
    delete_room: Arc<Semaphore>,
    read_room: Arc<Semaphore>,
    read_turns: Arc<Semaphore>,
    readers: Threads,
    /// When a fragment was last read to see whether the disk can, and which.
    probed: Mutex<(Instant, Option<FragmentName>)>,
    /// True when the writer thread has ended.
    ended: watch::Receiver<bool>,
}

/// Permits of the write queue are of this many bytes.
const ROOM_UNIT: u64 = 1024;

impl Engine {
    /// Opens the disk at `options.path`, or formats it if the directory is empty or missing. Blocks.
    pub(crate) fn open(options: DiskOptions, extras: Extras) -> Result<Self, DiskError> {
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
        let aside = lock.is_read_only().then(tempfile::tempdir).transpose();
        let aside = aside.map_err(|error| disk_error("make a temporary directory for the index of", &dir, error))?;
        let at = aside.as_ref().map_or(IndexAt::Disk, |aside| IndexAt::Aside(aside.path()));
        let recovered = recover(&io, &dir, &identity, &files, at, &options.index)?;
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
            index: recovered.index,
            aside,
            queue: Queue::default(),
            space: Space::default(),
            failed: ArcSwapOption::empty(),
            can_punch: AtomicBool::new(true),
            outstanding: Outstanding::default(),
            stuck: ArcSwapOption::empty(),
            hung: ArcSwapOption::empty(),
            read_errors: extras.read_errors,
            metrics,
            read_latency: Smoothed::default(),
            write_latency: Smoothed::default(),
            clients: Clients::new(Instant::now()),
            turns: Turns::new(extras.background_share, Instant::now()),
            checkpointing: Mutex::new(false),
            checkpoint_begun: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            options,
        });
        if let Some(segment) = recovered.report.partly_unreadable.first()
            && !extras.give_up_unreadable
        {
            // Its index is without what could not be read, and what could not be read may be all that it was
            // acknowledged for: failed, it never writes that index down. It may be read when it is opened next.
            core.fail(format!(
                "part of segment {segment}, which an opening must read, cannot be read (`cairn disk rebuild-index` gives \
                 it up)"
            ));
        }
        let (ending, ended) = watch::channel(false);
        let log = Log::resume(core.clone(), recovered.last_segment, recovered.leftovers)?;
        let writer = Writer::new(core.clone(), lock, log);
        if recovered.report.index_unusable.is_some()
            && recovered.report.segments > 0
            && core.failed.load().is_none()
            && let Err(error) = core.checkpoint()
        {
            tracing::warn!(disk = %identity.disk, %error, "the index that was made anew is not yet durable");
        }
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
            probed: Mutex::new((Instant::now(), None)),
            readers: Threads::new(format!("read-{}", &core.identity.disk.to_string()[..8]), READS_AT_ONCE),
            core,
            report: recovered.report,
            ended,
        })
    }

    pub(crate) fn id(&self) -> DiskId {
        self.core.identity.disk
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What opening it found.
    pub(crate) fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Waits until work of this priority may use the disk.
    pub(crate) async fn turn(&self, priority: Priority) -> Turn {
        match priority {
            Priority::Client => Turn::client(),
            Priority::Background => self.core.turns.next(&self.core.clients).await,
        }
    }

    pub(crate) async fn put(&self, fragment: NewFragment, turn: Turn) -> Result<(), DiskError> {
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
        let priority = turn.priority();
        core.note_use(priority);
        // A fragment larger than the whole queue takes all of it.
        let room = (length as u64).div_ceil(ROOM_UNIT) + 1;
        let most = core.options.max_queued_bytes.div_ceil(ROOM_UNIT).clamp(1, u64::from(u32::MAX >> 1));
        let acquire = self.write_room.clone().acquire_many_owned(room.min(most) as u32);
        let permit = patience(WRITE_PATIENCE, acquire).await?;
        let fragment = verified(fragment).await?;
        let (reply, answer) = oneshot::channel();
        core.queue.push(Job::Put(Put { fragment, reply, permit })).map_err(|_| closed())?;
        let result = answer.await.unwrap_or_else(|_| Err(closed()));
        core.note_use(priority);
        core.turn_over(turn, queued.elapsed());
        self.note("put", &result);
        if result.is_ok() {
            let took = queued.elapsed();
            core.write_latency.add(took);
            core.metrics.write_seconds.observe(took.as_secs_f64());
        }
        result
    }

    pub(crate) async fn get(&self, name: FragmentName, range: Range<u32>, turn: Turn) -> Result<Bytes, DiskError> {
        let priority = turn.priority();
        self.core.note_use(priority);
        let result = self
            .reading_data(turn, move |core| {
                let (bytes, _) = core.read(name, |record| {
                    let length = record.entry.length;
                    if range.start > range.end || range.end > length {
                        let (start, end) = (range.start.into(), range.end.into());
                        return Err(DiskError::OutOfRange { name, start, end, length: length.into() });
                    }
                    record.range(range.clone())
                })?;
                Ok(bytes)
            })
            .await;
        self.core.note_use(priority);
        self.note("get", &result);
        if let Ok(bytes) = &result {
            self.core.metrics.read_bytes.inc_by(bytes.len() as u64);
        }
        result
    }

    pub(crate) async fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        let entry = self.reading(move |core| core.lookup(&name)?.ok_or(DiskError::NotFound(name))).await?;
        Ok(entry.info(name))
    }

    pub(crate) async fn verify(&self, name: FragmentName, turn: Turn) -> Result<FragmentInfo, DiskError> {
        let result = self
            .reading_data(turn, move |core| {
                let (_, entry) = core.read(name, |record| record.verify())?;
                Ok(entry.info(name))
            })
            .await;
        self.note("verify", &result);
        result
    }

    /// Durable when it returns. Done in pieces of [`DELETE_NAMES`]: after an error some may be gone.
    pub(crate) async fn delete(&self, names: Vec<FragmentName>) -> Result<u64, DiskError> {
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

    pub(crate) async fn list(
        &self,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
    ) -> Result<Vec<FragmentInfo>, DiskError> {
        let list = move |core: &Core| {
            let entries =
                core.index.list(group, after, limit.min(LIST_LIMIT)).map_err(|error| core.index_failed(error))?;
            Ok(entries.into_iter().map(|(name, entry)| entry.info(name)).collect())
        };
        self.reading(list).await
    }

    /// The digests of the parts of a range, as the index has them now.
    pub(crate) async fn digests(
        &self,
        group: GroupId,
        position: u8,
        range: BlobRange,
    ) -> Result<Vec<NameDigest>, DiskError> {
        let digests = move |core: &Core| {
            core.index.digests(group, position, range).map(Vec::from).map_err(|error| core.index_failed(error))
        };
        self.reading(digests).await
    }

    pub(crate) fn status(&self) -> DiskStatus {
        let core = &self.core;
        let failed = core.failed.load_full().or_else(|| core.hung.load_full());
        DiskStatus {
            capacity_bytes: core.space.capacity.load(Ordering::Relaxed),
            used_bytes: core.space.used.load(Ordering::Relaxed),
            free_bytes: core.space.free.load(Ordering::Relaxed).saturating_sub(core.options.reserved_bytes),
            fragments: core.index.totals().fragments,
            writable: core.writable(0).is_ok(),
            failed: failed.map(|why| why.as_ref().clone()),
            read_us: core.read_latency.get(),
            write_us: core.write_latency.get(),
        }
    }

    /// After an opening: tries some of the fragments again that the disk could not read, and others. It stays failed
    /// unless one is read, or those are gone. Blocks.
    pub(crate) fn look_at_suspects(&self) {
        const TRIED: usize = 16;
        let core = &self.core;
        let suspects = core.read_errors.suspects(TRIED);
        let listed = core.index.list(None, None, TRIED).unwrap_or_default();
        let others = core.read_errors.untried(listed.into_iter().map(|(name, _)| name).collect());
        for name in suspects.into_iter().chain(others) {
            match core.read(name, |record| record.verify()) {
                // That ends the row of those that are not.
                Ok(_) => break,
                Err(DiskError::NotFound(_)) => core.read_errors.forget(name),
                Err(_) => {}
            }
        }
        if let Some(name) = core.read_errors.suspects(1).first() {
            core.fail(format!("it still cannot read: fragment {name}, for one"));
        }
        if let Some(why) = core.read_errors.verdict(Instant::now()) {
            core.fail(why);
        }
    }

    /// Reads a fragment now and then, the next one each time: a disk that nobody asks for anything must not be found
    /// useless only when it is needed. While no read has succeeded for a while, tries others as well: one that is read
    /// clears the disk, and if none can be, it has failed, however few were asked for.
    pub(crate) async fn watch_reads(&self) {
        /// More than what is enough in a row.
        const TRIED: usize = 32;
        let core = &self.core;
        if core.failed.load().is_some() {
            return;
        }
        if !core.read_errors.in_doubt(Instant::now()) {
            return self.probe().await;
        }
        let Ok(listed) = self.list(None, None, TRIED).await else { return };
        let all = listed.len() < TRIED;
        for name in core.read_errors.untried(listed.iter().map(|info| info.name).collect()) {
            match self.verify(name, Turn::client()).await {
                Err(DiskError::Unreadable { .. }) => {}
                // It was read, though it may be damaged; or something else than the disk is at fault.
                _ => return,
            }
        }
        if all && core.read_errors.in_doubt(Instant::now()) {
            core.fail("none of its fragments can be read".to_owned());
        }
    }

    async fn probe(&self) {
        let after = {
            let mut probed = self.probed.lock();
            if probed.0.elapsed() < PROBE_EVERY {
                return;
            }
            probed.0 = Instant::now();
            probed.1
        };
        let next = self.list(None, after, 1).await.ok().and_then(|listed| listed.first().map(|info| info.name));
        // After the last, the first is next.
        self.probed.lock().1 = next;
        if let Some(name) = next {
            // What comes of it is noted where it is read.
            let _ = self.verify(name, Turn::client()).await;
        }
    }

    /// Finishes what is queued, writes a checkpoint and lets go of the disk.
    pub(crate) async fn close(&self) {
        self.core.queue.close();
        let mut ended = self.ended.clone();
        // An error means that the thread is gone: as good as ended.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// [`Engine::close`] for threads that may block.
    pub(crate) fn close_blocking(&self) {
        futures::executor::block_on(self.close());
    }

    /// As [`Engine::reading`], and what it took counts as the disk's latency: hedging and placement go by that.
    async fn reading_data<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&Core) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let started = Instant::now();
        let work = move |core: &Core| {
            let begun = Instant::now();
            let done = work(core);
            core.turn_over(turn, begun.elapsed());
            done
        };
        let result = self.reading(work).await;
        if result.is_ok() {
            self.core.read_latency.add(started.elapsed());
            self.core.metrics.read_seconds.observe(started.elapsed().as_secs_f64());
        }
        result
    }

    /// Runs `work` on a thread of the disk when it is its turn.
    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let room = patience(READ_PATIENCE, self.read_room.clone().acquire_owned()).await?;
        let turn = patience(READ_PATIENCE, self.read_turns.clone().acquire_owned()).await?;
        let core = self.core.clone();
        let (told, done) = oneshot::channel();
        let failed = |why: String| DiskError::Io { operation: "read", why };
        let begun = self.readers.run(move || {
            // The permits stay with the work, even if the caller goes away.
            let _held = (room, turn, core.outstanding.begin(Operation::Read));
            let _ = told.send(work(&core));
        });
        begun.map_err(|error| failed(format!("no thread for it: {error}")))?;
        done.await.unwrap_or_else(|_| Err(failed("it ended without a result".into())))
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
    verify_blocks(&fragment.payload, &fragment.block_checksums).is_ok()
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

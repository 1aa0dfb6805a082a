//! The way to a disk that everyone else uses, whichever engine has the disk open.

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use bytes::Bytes;
use cairn_fragment::{
    BlobRange, DiskError, DiskStatus, FragmentInfo, LocalDisk, NameDigest, NewFragment, Priority, Turn,
};
use cairn_schema::ids::{DiskId, FragmentName, GroupId};

use super::{
    DiskOptions,
    engine::{Engine, Extras},
    file::Faults,
    identity::read_identity,
    metrics::DiskMetrics,
    read_errors::ReadErrors,
    recover::RecoveryReport,
    turns::BackgroundShare,
};

/// An open disk. Cheap to clone. Calls go straight to the queues of whichever engine has the disk open now, bounded by
/// permits that travel with the work. Who owns the disk watches it with [`DiskHandle::look`] and
/// [`DiskHandle::watch_operations`], and replaces an engine that has failed with [`DiskHandle::reopen`].
#[derive(Clone)]
pub struct DiskHandle {
    mounted: Arc<Mounted>,
}

/// What all clones of a handle share: the disk's engine, for as long as there is one.
struct Mounted {
    id: DiskId,
    options: DiskOptions,
    metrics: Arc<DiskMetrics>,
    faults: Option<Arc<Faults>>,
    read_errors: Arc<ReadErrors>,
    background_share: BackgroundShare,
    engine: ArcSwapOption<Engine>,
    /// Why there is no engine, when there is none.
    absent: ArcSwap<String>,
    /// Set by `close`: nothing opens the disk again through this handle.
    closed: AtomicBool,
}

impl DiskHandle {
    /// Opens the disk at `options.path`, or formats it if that directory is empty or missing. Blocks while it reads the
    /// index: on async threads use `spawn_blocking`.
    pub fn open(options: DiskOptions) -> Result<Self, DiskError> {
        Self::open_with(options, None)
    }

    /// With faults to inject.
    pub fn open_with(options: DiskOptions, faults: Option<Arc<Faults>>) -> Result<Self, DiskError> {
        let read_errors = Arc::<ReadErrors>::default();
        let background_share = BackgroundShare::default();
        let extras = Extras {
            faults: faults.clone(),
            read_errors: read_errors.clone(),
            background_share: background_share.clone(),
            ..Extras::default()
        };
        let engine = Engine::open(options.clone(), extras)?;
        let mounted = Mounted {
            id: engine.id(),
            options,
            metrics: engine.core().metrics.clone(),
            faults,
            read_errors,
            background_share,
            engine: ArcSwapOption::new(Some(Arc::new(engine))),
            absent: ArcSwap::from_pointee(String::new()),
            closed: AtomicBool::new(false),
        };
        Ok(Self { mounted: Arc::new(mounted) })
    }

    fn engine(&self) -> Result<Arc<Engine>, DiskError> {
        let engine = self.mounted.engine.load_full();
        engine.ok_or_else(|| DiskError::Gone(self.mounted.absent.load().as_ref().clone()))
    }

    pub fn id(&self) -> DiskId {
        self.mounted.id
    }

    pub fn path(&self) -> &Path {
        &self.mounted.options.path
    }

    pub fn metrics(&self) -> &DiskMetrics {
        &self.mounted.metrics
    }

    /// What the last opening found; None while the disk is gone.
    pub fn recovery(&self) -> Option<RecoveryReport> {
        self.mounted.engine.load().as_ref().map(|engine| engine.report().clone())
    }

    /// Returns when the fragment is durable (synced). Writing the same name with the same bytes again is a no-op; with
    /// others an error, unless the copy that is here is damaged: then it is replaced.
    pub async fn put(&self, fragment: NewFragment) -> Result<(), DiskError> {
        self.engine()?.put(fragment, Turn::client()).await
    }

    /// The bytes of `range`, every block they touch verified.
    pub async fn get(&self, name: FragmentName, range: Range<u32>) -> Result<Bytes, DiskError> {
        self.engine()?.get(name, range, Turn::client()).await
    }

    pub async fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        self.engine()?.info(name).await
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
        self.engine()?.list(group, after, limit).await
    }

    /// Re-reads and verifies a whole fragment.
    pub async fn verify(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        self.engine()?.verify(name, Turn::client()).await
    }

    /// The part of the disk's time, up to 1, that goes to repair and scrub while clients use it; at once.
    pub fn set_background_share(&self, part: f64) {
        self.mounted.background_share.set(part);
    }

    pub fn background_share(&self) -> f64 {
        self.mounted.background_share.get()
    }

    /// Whether a client has put or read a fragment in the last moments, and how urgent it is to tidy up all the same.
    pub fn use_now(&self) -> (bool, f64) {
        match self.engine() {
            Ok(engine) => (engine.core().clients.are_there(Instant::now()), engine.core().pressure()),
            Err(_) => (false, 0.0),
        }
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

    /// Whether the disk takes no writes any more, so that only opening it anew helps.
    pub fn has_failed(&self) -> bool {
        self.mounted.engine.load().as_ref().is_none_or(|engine| engine.core().failed.load().is_some())
    }

    /// Makes the disk read-only while an operation takes longer than `stuck_after`, and calls it failed while one takes
    /// longer than `hung_after`. Does not block.
    pub fn watch_operations(&self, stuck_after: Duration, hung_after: Duration) {
        if let Some(engine) = &*self.mounted.engine.load() {
            engine.core().watch_operations(stuck_after, hung_after);
        }
    }

    /// Reads a fragment now and then, and several when no read of the disk has succeeded for a while, to tell a disk
    /// that has failed from one with some bad places. Call it every second or so.
    pub async fn watch_reads(&self) {
        if let Some(engine) = self.mounted.engine.load_full() {
            engine.watch_reads().await;
        }
    }

    /// Looks whether the disk is still there, and how much room it has. Blocks, on a hung disk for long.
    pub fn look(&self) {
        if let Some(engine) = &*self.mounted.engine.load() {
            engine.core().watch();
        }
    }

    /// Opens the disk anew. The engine that has failed goes on serving reads until it is replaced. Blocks.
    pub fn reopen(&self) -> Result<(), DiskError> {
        let mounted = &self.mounted;
        if let Some(failed) = mounted.engine.load_full() {
            // Lets go of the lock, once its writer has answered those who wait.
            failed.close_blocking();
        }
        // Opening an empty folder would make a new disk in it: below the mount point of a disk that is away, for
        // instance.
        let path = &mounted.options.path;
        match read_identity(path)? {
            Some(identity) if identity.disk == mounted.id => {}
            Some(other) => {
                let why = format!("disk {} is at {} now, not {}", other.disk, path.display(), mounted.id);
                return Err(DiskError::Gone(why));
            }
            None => return Err(DiskError::Gone(format!("there is no disk at {}", path.display()))),
        }
        let extras = Extras {
            faults: mounted.faults.clone(),
            metrics: Some(mounted.metrics.clone()),
            read_errors: mounted.read_errors.clone(),
            background_share: mounted.background_share.clone(),
            ..Extras::default()
        };
        let engine = Arc::new(Engine::open(mounted.options.clone(), extras)?);
        if !engine.report().partly_unreadable.is_empty() {
            // The engine that has failed knows more of the disk: it goes on serving reads.
            engine.close_blocking();
            let why = "a part of its log that must be read cannot be read".to_owned();
            return Err(DiskError::Io { operation: "open again", why });
        }
        engine.look_at_suspects();
        mounted.engine.store(Some(engine.clone()));
        // After it is there for all to see: a handle that is closed meanwhile either finds it, or is noticed here.
        if self.is_closed() {
            engine.close_blocking();
            mounted.engine.store(None);
        }
        Ok(())
    }

    /// Whether [`DiskHandle::close`] was called: nothing opens the disk again through this handle.
    pub fn is_closed(&self) -> bool {
        self.mounted.closed.load(Ordering::SeqCst)
    }

    /// Finishes what is queued, writes a checkpoint, closes.
    pub async fn close(&self) {
        self.mounted.closed.store(true, Ordering::SeqCst);
        if let Some(engine) = self.mounted.engine.load_full() {
            engine.close().await;
        }
        self.mounted.absent.store(Arc::new("it is closed".into()));
        self.mounted.engine.store(None);
    }
}

#[async_trait]
impl LocalDisk for DiskHandle {
    async fn turn(&self, priority: Priority) -> Turn {
        match self.engine() {
            Ok(engine) => engine.turn(priority).await,
            // The call that follows says what is wrong.
            Err(_) => Turn::client(),
        }
    }
    async fn put(&self, fragment: NewFragment, turn: Turn) -> Result<(), DiskError> {
        self.engine()?.put(fragment, turn).await
    }
    async fn get(&self, name: FragmentName, range: Range<u32>, turn: Turn) -> Result<Bytes, DiskError> {
        self.engine()?.get(name, range, turn).await
    }
    async fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        DiskHandle::info(self, name).await
    }
    async fn delete(&self, names: Vec<FragmentName>) -> Result<u64, DiskError> {
        DiskHandle::delete(self, names).await
    }
    async fn list(
        &self,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
    ) -> Result<Vec<FragmentInfo>, DiskError> {
        DiskHandle::list(self, group, after, limit).await
    }
    async fn digests(&self, group: GroupId, position: u8, range: BlobRange) -> Result<Vec<NameDigest>, DiskError> {
        self.engine()?.digests(group, position, range).await
    }
    async fn verify(&self, name: FragmentName, turn: Turn) -> Result<FragmentInfo, DiskError> {
        self.engine()?.verify(name, turn).await
    }
    fn status(&self) -> DiskStatus {
        DiskHandle::status(self)
    }
}

//! The way to a disk that everyone else uses, whichever engine has the disk open.

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use cairn_schema::ids::{DiskId, FragmentName, GroupId};

use super::{
    DiskOptions,
    engine::{Engine, Extras},
    file::Faults,
    metrics::DiskMetrics,
    recover::RecoveryReport,
};
use crate::fragment::{DiskError, DiskStatus, FragmentInfo, NewFragment};

/// An open disk. Cheap to clone. Calls go straight to the queues of whichever engine has the disk open now, bounded by permits that
/// travel with the work; the disk's supervised actor opens engines, watches them and replaces a failed one.
#[derive(Clone)]
pub struct DiskHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
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
    /// on async threads use `spawn_blocking`, or [`super::spawn_disk`].
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
        self.shared.closed.store(true, Ordering::SeqCst);
        if let Some(engine) = self.shared.engine.load_full() {
            engine.close().await;
        }
        self.shared.absent.store(Arc::new("it is closed".into()));
        self.shared.engine.store(None);
    }
}

//! The store of one machine: an LSM tree (fjall) with a synced journal.
//!
//! One thread commits. It takes every commit that waits, decides conflicts and adds between them, writes what may go
//! ahead to the journal as one batch with one sync, makes it visible, and answers them all; meanwhile the next commits
//! gather. Nothing can be read before it is durable, so no reader sees what a power cut would take back (DUR-2, CON-1).
//! When a sync fails, nobody knows what the disk has of the batch: whoever waits for it is told so, and no more commits
//! are taken until the store is opened again, which goes by what is on the disk then and not by what is left in memory.

mod committer;
mod directory;
mod journal;
mod mark;
mod shared;

pub use directory::{OpenError, glance};
pub use journal::JournalError;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable, Snapshot};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::kv::{
    CommitVersion, KvError, RangePage,
    embedded::{
        committer::{Committer, Pending, Waiting},
        directory::DirectoryLock,
        shared::{Counters, Published, Shared},
    },
    occ::{CommitRequest, Engine, KeyRange, OccKv, View},
};

/// Reads on blocking threads at once; the others wait.
const CONCURRENT_READS: usize = 32;
/// Commits that wait for the committer.
const QUEUED_COMMITS: usize = 4096;
/// Bytes of the commits that wait or are being written.
const QUEUED_BYTES: usize = 128 << 20;
/// A page of a range ends after this many bytes.
const PAGE_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    /// For blocks read from disk.
    pub cache_bytes: u64,
    /// Written rows kept in memory before they go to a table.
    pub memtable_bytes: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { cache_bytes: 128 << 20, memtable_bytes: 32 << 20 }
    }
}

/// Work done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedStats {
    /// Commits made durable.
    pub commits: u64,
    /// Syncs of the journal they shared.
    pub syncs: u64,
    /// Commits refused for a conflict.
    pub conflicts: u64,
}

/// An open store. Cheap to clone; closed when the last clone and the last transaction are gone.
#[derive(Clone)]
pub struct EmbeddedEngine {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    /// Why the committer takes no more commits, once it does not.
    failure: watch::Receiver<Option<String>>,
}

struct Handle {
    commits: Mutex<Option<mpsc::Sender<Pending>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Without a sender the committer ends after what it was given.
        self.commits.lock().take();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the metadata committer panicked");
        }
    }
}

/// fjall's handles of an open store.
struct Files {
    db: Database,
    rows: Keyspace,
    /// What the store says about itself.
    about: Keyspace,
}

impl Files {
    fn open(path: &Path, options: EmbeddedOptions) -> fjall::Result<Self> {
        let db = Database::builder(path).cache_size(options.cache_bytes).open()?;
        let create = || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes);
        let rows = db.keyspace("rows", create)?;
        let about = db.keyspace("about", KeyspaceCreateOptions::default)?;
        Ok(Self { db, rows, about })
    }
}

/// Opens or creates the store in a directory; nobody commits to it yet.
fn recover(path: &Path, options: EmbeddedOptions) -> Result<(Committer, Arc<Shared>), OpenError> {
    let lock = DirectoryLock::take(path)?;
    let failed = |error: fjall::Error| OpenError::Store { path: path.to_owned(), why: error.to_string() };
    if let Some(aside) = lock.to_make()? {
        Files::open(&aside, options).map_err(failed)?;
        lock.put_in_place(&aside)?;
    }
    if let Some(mended) = journal::mend(&lock.store_path(), lock.mark())? {
        let (journal, at) = (mended.path.display(), mended.at);
        tracing::warn!(%journal, at, "cut off a batch that was being written when the metadata store was last stopped");
    }
    let Files { db, rows, about } = Files::open(&lock.store_path(), options).map_err(failed)?;
    let version = committer::stored_version(&about, lock.mark())
        .map_err(|why| OpenError::Store { path: path.to_owned(), why })?;
    let published = RwLock::new(Arc::new(Published { version, snapshot: db.snapshot() }));
    let shared = Arc::new(Shared {
        rows,
        published,
        reads: Arc::new(Semaphore::new(CONCURRENT_READS)),
        queue: Arc::new(Semaphore::new(QUEUED_BYTES)),
        counters: Counters::default(),
    });
    Ok((Committer::new(db, about, Arc::clone(&shared), version, lock), shared))
}

/// Opens or creates the store in a directory. Blocks while it recovers.
pub fn open(path: &Path, options: EmbeddedOptions) -> Result<OccKv<EmbeddedEngine>, OpenError> {
    let (committer, shared) = recover(path, options)?;
    let failure = committer.failure();
    let (sender, receiver) = mpsc::channel(QUEUED_COMMITS);
    let thread = std::thread::Builder::new()
        .name("meta-commit".into())
        .spawn(move || committer.run(receiver))
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let handle = Handle { commits: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) };
    Ok(OccKv(EmbeddedEngine { shared, handle: Arc::new(handle), failure }))
}

impl OccKv<EmbeddedEngine> {
    pub fn stats(&self) -> EmbeddedStats {
        let counters = &self.0.shared.counters;
        EmbeddedStats {
            commits: counters.commits.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            conflicts: counters.conflicts.load(Ordering::Relaxed),
        }
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    type View = EmbeddedView;

    async fn view(&self) -> Result<EmbeddedView, KvError> {
        let published = Arc::clone(&self.shared.published.read());
        Ok(EmbeddedView { shared: Arc::clone(&self.shared), published })
    }

    async fn commit(&self, request: CommitRequest) -> Result<CommitVersion, KvError> {
        let closed = || KvError::Unavailable("the metadata store is closing".into());
        let bytes = u32::try_from(request.bytes().min(QUEUED_BYTES)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.shared.queue).acquire_many_owned(bytes).await.map_err(|_| closed())?;
        let sender = self.handle.commits.lock().clone().ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        let pending = Pending { request, waiting: Waiting { answer, _permit: permit } };
        // The store is open, and yet nobody listens: the committer has panicked.
        let failed =
            |_| KvError::Storage("the metadata committer failed: restart this process, and see its log".into());
        sender.send(pending).await.map_err(failed)?;
        drop(sender);
        answered.await.unwrap_or_else(|_| Err(KvError::CommitUnknown("the metadata committer failed".into())))
    }

    async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        let failed = failure.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        // As long as this engine is open, the committer ends only by a panic.
        failed.unwrap_or_else(|| "the metadata committer panicked".to_owned())
    }
}

pub struct EmbeddedView {
    shared: Arc<Shared>,
    published: Arc<Published>,
}

impl EmbeddedView {
    /// Runs a read where it may block on the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Keyspace, &Snapshot) -> Result<T, fjall::Error> + Send + 'static,
    ) -> Result<T, KvError> {
        let gone = |what: &str| KvError::Storage(format!("metadata read {what}"));
        let turn = Arc::clone(&self.shared.reads).acquire_owned().await.map_err(|_| gone("refused"))?;
        let (shared, published) = (Arc::clone(&self.shared), Arc::clone(&self.published));
        let on_its_thread = move || {
            // Released when the read has ended, not when nobody waits for it any more.
            let _turn = turn;
            read(&shared.rows, &published.snapshot)
        };
        tokio::task::spawn_blocking(on_its_thread)
            .await
            .map_err(|error| gone(&error.to_string()))?
            .map_err(|error| KvError::Storage(error.to_string()))
    }
}

#[async_trait]
impl View for EmbeddedView {
    fn version(&self) -> Option<u64> {
        Some(self.published.version)
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, KvError> {
        let keys = keys.to_vec();
        self.blocking(move |rows, snapshot| {
            keys.iter().map(|key| Ok(snapshot.get(rows, key)?.map(|value| Bytes::copy_from_slice(&value)))).collect()
        })
        .await
    }

    async fn range(&self, range: KeyRange, limit: usize, reverse: bool) -> Result<RangePage, KvError> {
        if range.begin >= range.end {
            return Ok(RangePage::default());
        }
        self.blocking(move |rows, snapshot| {
            let mut stored = snapshot.range(rows, &range.begin[..]..&range.end[..]);
            let mut page = RangePage::default();
            let mut bytes = 0;
            while let Some(row) = if reverse { stored.next_back() } else { stored.next() } {
                let (key, value) = row.into_inner()?;
                bytes += key.len() + value.len();
                page.rows.push((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)));
                if page.rows.len() >= limit || bytes >= PAGE_BYTES {
                    page.more = true;
                    break;
                }
            }
            Ok(page)
        })
        .await
    }
}

#[cfg(test)]
mod tests;

//! The tree on the disk that holds the index: sorted tables written by flushes and merged by compaction, every block
//! checksummed (the `lsm-tree` crate). It has no log of its own: the segments are the log, and a flush is a checkpoint.

use std::{
    fs::File,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use lsm_tree::{
    AbstractTree, AnyTree, CompressionType, Config, DescriptorTable, Guard, SequenceNumberCounter,
    compaction::Leveled,
    config::{CompressionPolicy, PinningPolicy},
};
use parking_lot::Mutex;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::rows::RowError;
use crate::memory::IndexMemory;

/// Open table files.
const OPEN_TABLES: usize = 64;
const TABLE_BYTES: u64 = 64 << 20;
/// Merges done after one flush at most: one that is due and left undone is done after the next.
const MERGES: usize = 8;
/// Snapshots are not used: readers see the newest rows.
const NEWEST: u64 = u64::MAX >> 1;

/// Why the index could not be read or written. It can be made again from the segments.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IndexError {
    #[error("there is none")]
    Missing,
    #[error("it was found damaged before")]
    Marked,
    #[error("it is of another disk, {0}")]
    OtherDisk(String),
    #[error("{0}")]
    Row(#[from] RowError),
    #[error("it cannot be read or written: {0}")]
    Tree(String),
    /// Nothing is lost: what was not written stays in memory and is tried again.
    #[error("there is no space for it")]
    Full,
    #[error("it does not fit the segments: {0}")]
    Segments(String),
}

impl From<lsm_tree::Error> for IndexError {
    fn from(error: lsm_tree::Error) -> Self {
        match error {
            lsm_tree::Error::Io(error)
                if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) =>
            {
                Self::Full
            }
            error => Self::Tree(error.to_string()),
        }
    }
}

/// A pair of key and value.
pub(crate) type Row = (lsm_tree::UserKey, lsm_tree::UserValue);

/// The sorted tables of an index.
pub(crate) struct Tree {
    path: PathBuf,
    /// Its files: a directory in `path` with a name that is never used again. A tree that was let go of and whose last
    /// reader is only now done removes tables by name, which must not be those of the one made after it.
    home: PathBuf,
    tree: AnyTree,
    numbers: SequenceNumberCounter,
    /// Bytes of changes that wait for a flush, at least.
    sealed: AtomicU64,
    /// One flush or merge at a time.
    writing: Mutex<()>,
    /// Damage was met; written down so that the next opening makes the index anew.
    damaged: AtomicBool,
    /// Let go of: what happens now on the disk is somebody else's.
    closed: AtomicBool,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("path", &self.path).finish_non_exhaustive()
    }
}

fn marker(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

/// Removes the index at `path`, so that the next opening makes it anew.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    // The marker goes last: half an index must not be taken for a whole one.
    for removed in [std::fs::remove_dir_all(path), std::fs::remove_file(marker(path))] {
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The one directory in `path`.
fn home_in(path: &Path) -> Result<PathBuf, IndexError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(IndexError::Missing),
        Err(error) => return Err(IndexError::Tree(error.to_string())),
    };
    let mut tree = None;
    for entry in entries {
        let entry = entry.map_err(|error| IndexError::Tree(error.to_string()))?;
        if tree.replace(entry.path()).is_some() {
            return Err(IndexError::Tree("its directory holds more than one".into()));
        }
    }
    tree.ok_or(IndexError::Missing)
}

/// The crate keeps the checksum of its list of tables beside that list's number but does not look at it.
fn check_manifest(path: &Path) -> Result<(), IndexError> {
    let io = |error: std::io::Error| IndexError::Tree(error.to_string());
    let mut current = Vec::new();
    match File::open(path.join("current")) {
        Ok(file) => file.take(64).read_to_end(&mut current).map_err(io)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(IndexError::Missing),
        Err(error) => return Err(io(error)),
    };
    let garbled = || IndexError::Tree("its pointer to the newest version is garbled".into());
    let (number, rest) = current.split_first_chunk::<8>().ok_or_else(garbled)?;
    let (sum, kind) = rest.split_first_chunk::<16>().ok_or_else(garbled)?;
    if kind != [0] {
        return Err(garbled());
    }
    let version = std::fs::read(path.join(format!("v{}", u64::from_le_bytes(*number)))).map_err(io)?;
    if xxh3_128(&version) != u128::from_le_bytes(*sum) {
        return Err(IndexError::Tree("its list of tables is damaged".into()));
    }
    Ok(())
}

impl Tree {
    /// Opens the index that is at `path`.
    pub(crate) fn open(path: &Path, memory: &IndexMemory) -> Result<Self, IndexError> {
        if marker(path).exists() {
            return Err(IndexError::Marked);
        }
        let home = home_in(path)?;
        check_manifest(&home)?;
        let tree = Self::open_or_create(path, home, memory)?;
        tree.check_tables()?;
        Ok(tree)
    }

    /// Reads every table and compares it with its checksum: better to know now than at some read. A table is read at
    /// the speed of the disk, and one for a million fragments has some 50 MB.
    fn check_tables(&self) -> Result<(), IndexError> {
        let mut buffer = vec![0; 1 << 20];
        for table in self.tree.current_version().iter_tables() {
            let path = self.home.join("tables").join(table.id().to_string());
            let io = |error: std::io::Error| IndexError::Tree(format!("{}: {error}", path.display()));
            let mut file = File::open(&path).map_err(io)?;
            let mut hash = Xxh3::new();
            loop {
                match file.read(&mut buffer).map_err(io)? {
                    0 => break,
                    read => hash.update(&buffer[..read]),
                }
            }
            if hash.digest128() != table.checksum().into_u128() {
                return Err(IndexError::Tree(format!("{} is damaged", path.display())));
            }
        }
        Ok(())
    }

    /// An empty index at `path`, whatever was there.
    pub(crate) fn create(path: &Path, memory: &IndexMemory) -> Result<Self, IndexError> {
        let made = remove(path).and_then(|()| std::fs::create_dir_all(path));
        made.map_err(|error| IndexError::Tree(error.to_string()))?;
        Self::open_or_create(path, path.join(format!("{:016x}", rand::random::<u64>())), memory)
    }

    fn open_or_create(path: &Path, home: PathBuf, memory: &IndexMemory) -> Result<Self, IndexError> {
        let numbers = SequenceNumberCounter::default();
        let config = Config::new(&home, numbers.clone(), SequenceNumberCounter::default())
            .use_cache(memory.blocks())
            .use_descriptor_table(Some(Arc::new(DescriptorTable::new(OPEN_TABLES))))
            // Every put asks whether its name is there, and nearly always it is not: filters in memory answer that
            // without the disk.
            .filter_block_partitioning_policy(PinningPolicy::all(false))
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .index_block_partitioning_policy(PinningPolicy::all(true))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None));
        // Files that some byte was changed in can make the crate panic: nobody but this disk may notice.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let tree = opened.map_err(|_| IndexError::Tree("its files make no sense".into()))??;
        numbers.fetch_max(tree.get_highest_seqno().map_or(0, |highest| highest + 1));
        Ok(Self {
            path: path.to_owned(),
            home,
            tree,
            numbers,
            sealed: AtomicU64::new(0),
            writing: Mutex::default(),
            damaged: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    /// Runs `work`; any failure marks the index as one to be made anew, but for a disk that was only full.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        let result = outcome.unwrap_or_else(|_| Err(IndexError::Tree("its files make no sense".into())));
        if let Err(error) = &result
            && !matches!(error, IndexError::Full)
        {
            self.mark_damaged(error);
        }
        result
    }

    fn mark_damaged(&self, error: &IndexError) {
        if self.closed.load(Ordering::Acquire) || self.damaged.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(index = %self.path.display(), %error, "the index is damaged; it will be made anew from the segments");
        if !self.path.exists() {
            return; // it is the disk that is gone: what is in its place must not be marked
        }
        if let Err(error) = File::create(marker(&self.path)).and_then(|file| file.sync_all()) {
            tracing::error!(%error, "that the index is damaged could not be written down");
        }
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    /// From now on the files are somebody else's: nothing is written to them any more.
    pub(crate) fn close(&self) {
        let _idle = self.writing.lock();
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<lsm_tree::UserValue>, IndexError> {
        self.guarded(|| Ok(self.tree.get(key, NEWEST)?))
    }

    /// The rows from `from` (excluded if `after`) to before `to`, in order, until `sink` says that it has enough.
    pub(crate) fn range(
        &self,
        from: &[u8],
        after: bool,
        to: &[u8],
        mut sink: impl FnMut(Row) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        use std::ops::Bound;
        if from >= to {
            return Ok(());
        }
        let begin = if after { Bound::Excluded(from) } else { Bound::Included(from) };
        self.guarded(|| {
            for row in self.tree.range::<&[u8], _>((begin, Bound::Excluded(to)), NEWEST, None) {
                if !sink(row.into_inner()?)? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// A number for the changes that follow: later changes win.
    pub(crate) fn next(&self) -> u64 {
        self.numbers.next()
    }

    pub(crate) fn insert(&self, number: u64, key: &[u8], value: &[u8]) {
        self.tree.insert(key, value, number);
    }

    pub(crate) fn remove(&self, number: u64, key: &[u8]) {
        self.tree.remove(key, number);
    }

    /// Bytes of changes that are only in memory.
    pub(crate) fn unflushed(&self) -> u64 {
        self.tree.active_memtable().size() + self.sealed.load(Ordering::Relaxed)
    }

    /// What has been changed so far is what the next [`Tree::flush`] makes durable, all of it or nothing.
    pub(crate) fn rotate(&self) {
        self.sealed.fetch_add(self.tree.active_memtable().size(), Ordering::Relaxed);
        self.tree.rotate_memtable();
    }

    /// Makes everything up to the last [`Tree::rotate`] durable. Blocks.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        let _one = self.writing.lock();
        self.open_still()?;
        self.guarded(|| {
            let sealed = self.sealed.load(Ordering::Relaxed);
            let lock = self.tree.get_flush_lock();
            self.tree.flush(&lock, self.numbers.get())?;
            self.sealed.fetch_sub(sealed, Ordering::Relaxed);
            Ok(())
        })
    }

    fn open_still(&self) -> Result<(), IndexError> {
        if self.closed.load(Ordering::Acquire) { Err(IndexError::Tree("it is closed".into())) } else { Ok(()) }
    }

    /// Merges tables as far as they need it. Blocks. Not where there may be too little space for it: the crate leaves
    /// what it has written of a table when a merge fails.
    pub(crate) fn merge(&self) -> Result<(), IndexError> {
        let _one = self.writing.lock();
        self.open_still()?;
        let fs = rustix::fs::statvfs(&self.path).map_err(|error| IndexError::Tree(error.to_string()))?;
        if fs.f_bavail.saturating_mul(fs.f_frsize) < self.disk_bytes() + TABLE_BYTES {
            return Err(IndexError::Full);
        }
        self.guarded(|| {
            let merge = Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES));
            for _ in 0..MERGES {
                let before = self.tree.current_version().id();
                self.tree.compact(merge.clone(), self.numbers.get())?;
                if self.tree.current_version().id() == before {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Bytes its tables take.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.tree.disk_space()
    }

    /// Bytes of filters and block indexes that stay in memory; the cache comes on top.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        (self.tree.pinned_filter_size() + self.tree.pinned_block_index_size()) as u64
    }
}

/// Copies the index at `from` to `to`, to be opened there without a change to the disk.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if marker(from).exists() {
        return Err(std::io::Error::other("it was found damaged before"));
    }
    copy_tree(from, to)
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

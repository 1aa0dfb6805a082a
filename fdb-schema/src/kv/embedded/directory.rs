//! The directory: a lock, a marker that names its format, and the store itself.
//!
//! ```text
//! <directory>/LOCK      held while the store is open
//! <directory>/FORMAT    "cairn metadata 2 <the store's mark: 32 hex digits>\n"
//! <directory>/store/    fjall's files
//! <directory>/store.new a store being made; renamed when it is whole, because fjall does not open one that was made
//!                       by half
//! ```

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::kv::embedded::{journal::JournalError, mark::Mark};

/// 1 had no mark.
const FORMAT: u32 = 2;
const FORMAT_PREFIX: &str = "cairn metadata ";
const STORE: &str = "store";
/// [`glance`] holds the lock for a moment, which must not make a start fail.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("metadata directory {0} is in use by another process")]
    Locked(PathBuf),
    #[error("metadata directory {path} is of format {found}; this program knows up to {FORMAT}")]
    NewerFormat { path: PathBuf, found: u32 },
    #[error(
        "metadata directory {path} is of format {found}, and this program reads only {FORMAT}: let the program that wrote it run `cairn \
         admin metadata export`, and import the file into a new directory with this one"
    )]
    OlderFormat { path: PathBuf, found: u32 },
    #[error("{path} is not a metadata directory: {why}")]
    NotOurs { path: PathBuf, why: &'static str },
    #[error("metadata directory {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("metadata store in {path} cannot be opened: {why}")]
    Store { path: PathBuf, why: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A directory that no other process has open.
pub(super) struct DirectoryLock {
    path: PathBuf,
    mark: Mark,
    _file: File,
}

impl DirectoryLock {
    /// Creates the directory if needed, locks it and checks its format.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(io)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join("LOCK"));
        let file = file.map_err(io)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path.to_owned())),
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        Ok(Self { path: path.to_owned(), mark: format(path)?, _file: file })
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn store_path(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// Where to make a store, if there is none: what an earlier try left is taken away.
    pub(super) fn to_make(&self) -> Result<Option<PathBuf>, OpenError> {
        let io = |source| OpenError::Io { path: self.path.clone(), source };
        if self.store_path().try_exists().map_err(io)? {
            return Ok(None);
        }
        let aside = self.path.join("store.new");
        match std::fs::remove_dir_all(&aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        Ok(Some(aside))
    }

    /// Puts a store that was made in its place, durably.
    pub(super) fn put_in_place(&self, made: &Path) -> Result<(), OpenError> {
        let durable = || {
            sync_tree(made)?;
            std::fs::rename(made, self.store_path())?;
            File::open(&self.path)?.sync_all()
        };
        durable().map_err(|source| OpenError::Io { path: self.path.clone(), source })
    }
}

/// Looks at what [`DirectoryLock::take`] would find, without changing anything: whether a process has it open. A
/// directory that is missing or has no store yet is fine.
pub fn glance(path: &Path) -> Result<bool, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    read_format(path)?;
    let file = match File::open(path.join("LOCK")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Reads the FORMAT file, or writes one where there is no store yet.
fn format(path: &Path) -> Result<Mark, OpenError> {
    match read_format(path)? {
        Some(mark) => Ok(mark),
        None => write_format(path).map_err(|source| OpenError::Io { path: path.to_owned(), source }),
    }
}

/// None where there is no store yet.
fn read_format(path: &Path) -> Result<Option<Mark>, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let not_ours = |why| Err(OpenError::NotOurs { path: path.to_owned(), why });
    let text = match std::fs::read_to_string(path.join("FORMAT")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if path.join(STORE).try_exists().map_err(io)? {
                return not_ours("it has a store but no FORMAT file");
            }
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return not_ours("its FORMAT file is garbled"),
        Err(error) => return Err(io(error)),
    };
    let mut words = text.trim_end().strip_prefix(FORMAT_PREFIX).unwrap_or_default().splitn(2, ' ');
    match words.next().and_then(|number| number.parse::<u32>().ok()) {
        None | Some(0) => not_ours("its FORMAT file is garbled"),
        Some(FORMAT) => match words.next().and_then(Mark::from_hex) {
            Some(mark) => Ok(Some(mark)),
            None => not_ours("its FORMAT file is garbled"),
        },
        Some(found) if found < FORMAT => Err(OpenError::OlderFormat { path: path.to_owned(), found }),
        Some(found) => Err(OpenError::NewerFormat { path: path.to_owned(), found }),
    }
}

/// The file appears whole or not at all: it is written aside, synced and renamed, and the directory is synced.
fn write_format(path: &Path) -> io::Result<Mark> {
    let (aside, mark) = (path.join("FORMAT.new"), Mark::random());
    let mut file = File::create(&aside)?;
    writeln!(file, "{FORMAT_PREFIX}{FORMAT} {}", mark.to_hex())?;
    file.sync_all()?;
    std::fs::rename(&aside, path.join("FORMAT"))?;
    File::open(path)?.sync_all()?;
    Ok(mark)
}

/// Syncs every file and directory of a tree: fjall syncs its files, but not each directory that it makes.
fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(path)?.sync_all()
}

//! The directory: a lock, a marker that names its format, and the store itself.
//!
//! ```text
//! <directory>/LOCK      held while the store is open
//! <directory>/FORMAT    "cairn metadata 1\n"
//! <directory>/store/    fjall's files
//! <directory>/store.new a store being made; renamed when it is whole, because fjall does not open one that was made by half
//! ```

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::kv::embedded::journal::JournalError;

const FORMAT: u32 = 1;
const FORMAT_PREFIX: &str = "cairn metadata ";

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("metadata directory {0} is in use by another process")]
    Locked(PathBuf),
    #[error("metadata directory {path} is of format {found}; this program knows up to {FORMAT}")]
    NewerFormat { path: PathBuf, found: u32 },
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
pub struct DirectoryLock {
    path: PathBuf,
    _file: File,
}

impl DirectoryLock {
    /// Creates the directory if needed, locks it and checks its format.
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(io)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join("LOCK"));
        let file = file.map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::Locked(path.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
        let lock = Self { path: path.to_owned(), _file: file };
        lock.check_format()?;
        Ok(lock)
    }

    pub fn store_path(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where to make a store, if there is none: what an earlier try left is taken away.
    pub fn to_make(&self) -> Result<Option<PathBuf>, OpenError> {
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
    pub fn put_in_place(&self, made: &Path) -> Result<(), OpenError> {
        let durable = || {
            sync_tree(made)?;
            std::fs::rename(made, self.store_path())?;
            File::open(&self.path)?.sync_all()
        };
        durable().map_err(|source| OpenError::Io { path: self.path.clone(), source })
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { path: self.path.clone(), source };
        let not_ours = |why| Err(OpenError::NotOurs { path: self.path.clone(), why });
        let marker = match std::fs::read_to_string(self.path.join("FORMAT")) {
            Ok(marker) => marker,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.store_path().try_exists().map_err(io)? {
                    return not_ours("it has a store but no FORMAT file");
                }
                return self.write_format().map_err(io);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return not_ours("its FORMAT file is garbled"),
            Err(error) => return Err(io(error)),
        };
        let Some(found) = marker.trim_end().strip_prefix(FORMAT_PREFIX).and_then(|n| n.parse::<u32>().ok()) else {
            return not_ours("its FORMAT file is garbled");
        };
        match found {
            0 => not_ours("its FORMAT file is garbled"),
            FORMAT => Ok(()),
            _ => Err(OpenError::NewerFormat { path: self.path.clone(), found }),
        }
    }

    /// Whole or not at all: written aside, synced, renamed, the directory synced.
    fn write_format(&self) -> io::Result<()> {
        let aside = self.path.join("FORMAT.new");
        let mut file = File::create(&aside)?;
        writeln!(file, "{FORMAT_PREFIX}{FORMAT}")?;
        file.sync_all()?;
        std::fs::rename(&aside, self.path.join("FORMAT"))?;
        File::open(&self.path)?.sync_all()
    }
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

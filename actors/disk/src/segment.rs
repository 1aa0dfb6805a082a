//! Segment files: their names, making a new one, and the bounded set of open ones.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use cairn_fragment::DiskError;
use cairn_schema::{clock::now_ms, ids::DiskId};
use parking_lot::Mutex;

use super::{
    file::{Io, disk_error, preallocate, sync_dir},
    format::{COPY_AT, SEGMENT_HEADER_BYTES, SegmentHeader},
};

/// File handles kept open for one disk.
const OPEN_FILES: usize = 128;

pub(crate) fn segments_dir(dir: &Path) -> PathBuf {
    dir.join("segments")
}

pub(crate) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    segments_dir(dir).join(format!("{number:010}.seg"))
}

/// The numbers of the segments that are there, ascending. Other files are left alone.
pub(crate) fn list_segments(dir: &Path) -> Result<Vec<u32>, DiskError> {
    let path = segments_dir(dir);
    let fail = |error| disk_error("list segments", &path, error);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(fail)? {
        let file_name = entry.map_err(fail)?.file_name();
        let number =
            file_name.to_str().and_then(|name| name.strip_suffix(".seg")).and_then(|digits| digits.parse().ok());
        match number {
            Some(number) => numbers.push(number),
            None => tracing::warn!(file = %path.join(file_name).display(), "this file is no segment and is left alone"),
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The segment that is appended to.
#[derive(Debug)]
pub(crate) struct Active {
    pub number: u32,
    pub file: Arc<File>,
    pub path: PathBuf,
    pub salt: u64,
    /// Where the next record goes.
    pub end: u64,
    /// Bytes preallocated.
    pub capacity: u64,
}

/// Makes a segment of `capacity` bytes, durable by name and header when it returns. A half-made file is removed again.
pub(crate) fn create(io: &Io, dir: &Path, disk: DiskId, number: u32, capacity: u64) -> Result<Active, DiskError> {
    let path = segment_path(dir, number);
    let made = fill(io, disk, number, capacity, &path);
    match made {
        Ok(active) => {
            sync_dir(&segments_dir(dir))?;
            Ok(active)
        }
        Err(error) => {
            // Best effort: an opening knows an empty file for what it is.
            let _ = std::fs::remove_file(&path);
            Err(error)
        }
    }
}

fn fill(io: &Io, disk: DiskId, number: u32, capacity: u64, path: &Path) -> Result<Active, DiskError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| disk_error("create segment", path, error))?;
    preallocate(&file, path, 0..capacity)?;
    let header = SegmentHeader { number, disk, salt: rand::random(), created_ms: now_ms() };
    io.write_all_at(&file, path, &[&header.encode()], 0)?;
    io.write_all_at(&file, path, &[&header.encode()], COPY_AT)?;
    file.sync_all().map_err(|error| disk_error("sync new segment", path, error))?;
    let end = SEGMENT_HEADER_BYTES;
    Ok(Active { number, file: Arc::new(file), path: path.to_owned(), salt: header.salt, end, capacity })
}

/// A clock that counts uses, and each open file with when it was last used.
/// Coarser than the times of any file system.
const TICK: Duration = Duration::from_secs(3);

type Open = (u64, HashMap<u32, (u64, Arc<File>)>);

/// Open segment files, the least recently used closed when there are too many.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    open: Mutex<Open>,
    /// When the directory had last changed when it was last listed.
    listed: Mutex<Option<SystemTime>>,
}

impl Files {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: Mutex::default(), listed: Mutex::default() }
    }

    pub(crate) fn path(&self, number: u32) -> PathBuf {
        segment_path(&self.dir, number)
    }

    /// The segments that there are, if any came or went since this was last asked; None otherwise.
    pub(crate) fn list_anew(&self) -> Result<Option<Vec<u32>>, DiskError> {
        let path = segments_dir(&self.dir);
        let changed = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
        let changed = changed.map_err(|error| disk_error("look at the segments", &path, error))?;
        // Two changes within one tick of the clock look like one.
        let settled = changed.elapsed().is_ok_and(|age| age > TICK);
        if self.listed.lock().replace(changed) == Some(changed) && settled {
            return Ok(None);
        }
        list_segments(&self.dir).map(Some)
    }

    pub(crate) fn get(&self, number: u32) -> Result<Arc<File>, DiskError> {
        {
            let mut open = self.open.lock();
            open.0 += 1;
            let now = open.0;
            if let Some((used, file)) = open.1.get_mut(&number) {
                *used = now;
                return Ok(file.clone());
            }
        }
        let path = self.path(number);
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .or_else(|_| File::open(&path)) // a read-only mount still serves reads
            .map_err(|error| disk_error("open segment", &path, error))?;
        let file = Arc::new(file);
        self.insert(number, file.clone());
        Ok(file)
    }

    pub(crate) fn insert(&self, number: u32, file: Arc<File>) {
        let mut open = self.open.lock();
        open.0 += 1;
        let now = open.0;
        if open.1.len() >= OPEN_FILES {
            let oldest = open.1.iter().min_by_key(|(_, (used, _))| *used).map(|(number, _)| *number);
            if let Some(oldest) = oldest {
                open.1.remove(&oldest);
            }
        }
        open.1.insert(number, (now, file));
    }

    pub(crate) fn forget(&self, number: u32) {
        self.open.lock().1.remove(&number);
    }
}

//! File operations with the offset given, typed errors, and a seam where tests inject what disks do on bad days.

use std::{
    fs::File,
    io::IoSlice,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use cairn_fragment::DiskError;

use parking_lot::{RwLock, RwLockReadGuard};
use rustix::{
    fs::{Advice, FallocateFlags},
    io::{Errno, retry_on_intr},
};

/// How many of the next operations of a kind fail with EIO, and what is told about syncs. All zero and silent in
/// production.
#[derive(Default)]
pub struct Faults {
    pub writes: AtomicU32,
    pub syncs: AtomicU32,
    pub reads: AtomicU32,
    /// Cutting off what a failed batch left.
    pub cuts: AtomicU32,
    /// Called before every read of a segment, with its path; it may take its time.
    pub on_read: Option<ReadHook>,
    /// Called around every sync of a batch.
    pub on_sync: Option<SyncHook>,
    /// Whoever holds this to write sees no checkpoint, no segment removed and no hole punched meanwhile: a copy of the
    /// disk is then an image that a crash could have left.
    pub tidying: Arc<RwLock<()>>,
    /// The same for live data that a compaction moves; not to be taken in `on_sync`, which may be told of just that.
    pub moving: Arc<RwLock<()>>,
}

pub(crate) type ReadHook = Box<dyn Fn(&Path) + Send + Sync>;
pub(crate) type SyncHook = Box<dyn Fn(&SyncPoint<'_>) + Send + Sync>;

/// A batch about to be synced, or just synced.
pub struct SyncPoint<'a> {
    pub path: &'a Path,
    /// The bytes of the batch in that file.
    pub bytes: std::ops::Range<u64>,
    pub synced: bool,
}

fn injected(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
}

/// Turns an operating system error into what it means for the disk.
pub(crate) fn disk_error(operation: &'static str, path: &Path, error: impl Into<std::io::Error>) -> DiskError {
    let error = error.into();
    let why = format!("{}: {error}", path.display());
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ROFS) => DiskError::ReadOnly(why),
        Some(Errno::NOSPC | Errno::DQUOT) => DiskError::Full { free: 0, reserved: 0 },
        Some(Errno::NODEV | Errno::NXIO | Errno::STALE) => DiskError::Gone(why),
        _ => DiskError::Io { operation, why },
    }
}

/// A read that the system refused.
#[derive(Debug)]
pub(crate) struct ReadError {
    path: PathBuf,
    errno: Errno,
}

impl ReadError {
    fn new(path: &Path, errno: Errno) -> Self {
        Self { path: path.to_owned(), errno }
    }

    /// Whether it tells that these bytes are lost, and not that there was no memory for them, for instance. EIO is a
    /// bad sector; ENODATA and EREMOTEIO are what some drivers make of one, EUCLEAN and EILSEQ what file systems say of
    /// checksums that do not match.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self.errno, Errno::IO | Errno::NODATA | Errno::REMOTEIO | Errno::UCLEAN | Errno::ILSEQ)
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), std::io::Error::from(self.errno))
    }
}

impl From<ReadError> for DiskError {
    fn from(error: ReadError) -> Self {
        disk_error("read", &error.path, error.errno)
    }
}

/// The operations of one disk.
#[derive(Clone, Default)]
pub(crate) struct Io {
    pub faults: Option<Arc<Faults>>,
}

impl Io {
    /// Held while the disk tidies up.
    pub(crate) fn tidying(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.faults.as_ref().map(|faults| faults.tidying.read())
    }

    /// Held while live data is moved.
    pub(crate) fn moving(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.faults.as_ref().map(|faults| faults.moving.read())
    }

    fn fails(&self, of: impl Fn(&Faults) -> &AtomicU32) -> bool {
        self.faults.as_ref().is_some_and(|faults| injected(of(faults)))
    }

    /// Writes all slices one after another at `offset`, straight from where they lie.
    pub(crate) fn write_all_at(
        &self,
        file: &File,
        path: &Path,
        slices: &[&[u8]],
        offset: u64,
    ) -> Result<(), DiskError> {
        const AT_ONCE: usize = 512; // below IOV_MAX
        if self.fails(|f| &f.writes) {
            return Err(disk_error("write", path, Errno::IO));
        }
        let mut at = offset;
        let (mut first, mut skip) = (0, 0);
        while first < slices.len() {
            if skip >= slices[first].len() {
                skip -= slices[first].len();
                first += 1;
                continue;
            }
            let upto = slices.len().min(first + AT_ONCE);
            let mut vector: Vec<IoSlice<'_>> = Vec::with_capacity(upto - first);
            vector.push(IoSlice::new(&slices[first][skip..]));
            vector.extend(slices[first + 1..upto].iter().map(|slice| IoSlice::new(slice)));
            let written = retry_on_intr(|| rustix::io::pwritev(file, &vector, at))
                .map_err(|errno| disk_error("write", path, errno))?;
            if written == 0 {
                return Err(DiskError::Io { operation: "write", why: format!("{}: nothing written", path.display()) });
            }
            at += written as u64;
            skip += written;
        }
        Ok(())
    }

    /// Up to `length` bytes from `offset`; fewer only at the end of the file.
    pub(crate) fn read_at(&self, file: &File, path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::with_capacity(length);
        self.read_onto(&mut bytes, file, path, offset, length)?;
        Ok(bytes)
    }

    /// As [`Io::read_at`], behind what `bytes` holds already.
    pub(crate) fn read_onto(
        &self,
        bytes: &mut Vec<u8>,
        file: &File,
        path: &Path,
        offset: u64,
        length: usize,
    ) -> Result<(), ReadError> {
        if let Some(hook) = self.faults.as_ref().and_then(|faults| faults.on_read.as_ref()) {
            hook(path);
        }
        if self.fails(|f| &f.reads) {
            return Err(ReadError::new(path, Errno::IO));
        }
        bytes.reserve_exact(length);
        let begin = bytes.len();
        while bytes.len() < begin + length {
            let at = offset + (bytes.len() - begin) as u64;
            let missing = begin + length - bytes.len();
            // There may be more room than was asked for: only `length` bytes are wanted.
            let spare = &mut bytes.spare_capacity_mut()[..missing];
            let got = retry_on_intr(|| rustix::io::pread(file, &mut *spare, at).map(|(filled, _)| filled.len()))
                .map_err(|errno| ReadError::new(path, errno))?;
            if got == 0 {
                break;
            }
            // SAFETY: pread has just initialised the `got` bytes that follow the current length.
            unsafe { bytes.set_len(bytes.len() + got) };
        }
        Ok(())
    }

    /// Has the kernel begin to read what is about to be asked for in pieces.
    pub(crate) fn will_need(&self, file: &File, offset: u64, length: usize) {
        // Advice: whether it is taken shows only in the time.
        let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(length as u64), Advice::WillNeed);
    }

    /// Makes a file end at `end`, durably.
    pub(crate) fn cut_off(&self, file: &File, path: &Path, end: u64) -> Result<(), DiskError> {
        let fail = |error: std::io::Error| disk_error("cut off a failed batch", path, error);
        if self.fails(|f| &f.cuts) {
            return Err(fail(Errno::IO.into()));
        }
        file.set_len(end).and_then(|()| file.sync_all()).map_err(fail)
    }

    /// Makes the bytes of a batch durable.
    pub(crate) fn sync_data(&self, file: &File, path: &Path, bytes: std::ops::Range<u64>) -> Result<(), DiskError> {
        let hook = self.faults.as_ref().and_then(|faults| faults.on_sync.as_ref());
        if let Some(hook) = hook {
            hook(&SyncPoint { path, bytes: bytes.clone(), synced: false });
        }
        if self.fails(|f| &f.syncs) {
            return Err(disk_error("fdatasync", path, Errno::IO));
        }
        // Never retried: after a failed sync the kernel may have dropped the pages and would answer yes.
        rustix::fs::fdatasync(file).map_err(|errno| disk_error("fdatasync", path, errno))?;
        if let Some(hook) = hook {
            hook(&SyncPoint { path, bytes, synced: true });
        }
        Ok(())
    }
}

/// Makes names created, renamed or removed in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    let file = File::open(dir).map_err(|error| disk_error("open directory", dir, error))?;
    file.sync_all().map_err(|error| disk_error("sync directory", dir, error))
}

/// Gives the space of a range back; the file keeps its length and reads as zeros there. False if the file system
/// cannot.
pub(crate) fn punch_hole(file: &File, path: &Path, offset: u64, length: u64) -> Result<bool, DiskError> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| rustix::fs::fallocate(file, mode, offset, length)) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(errno) => Err(disk_error("punch hole", path, errno)),
    }
}

/// Reserves the bytes of `range`, up to which the file is extended with zeros; without file system support it only
/// extends. What is before the range stays as it is: holes there would be filled.
pub(crate) fn preallocate(file: &File, path: &Path, range: std::ops::Range<u64>) -> Result<(), DiskError> {
    let length = range.end.saturating_sub(range.start);
    match retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), range.start, length)) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            file.set_len(range.end).map_err(|error| disk_error("extend segment", path, error))
        }
        Err(errno) => Err(disk_error("preallocate segment", path, errno)),
    }
}

/// The next offset at or after `from` that holds data rather than a hole; None when only a hole follows.
pub(crate) fn next_data(file: &File, from: u64) -> Option<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from)) {
        Ok(offset) => Some(offset.max(from)),
        Err(Errno::NXIO) => None,
        Err(_) => Some(from),
    }
}

/// Replaces `path` whole or not at all: written aside, synced, renamed, directory synced.
pub(crate) fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut std::io::BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), DiskError> {
    let aside: PathBuf = path.with_extension("new");
    let file = File::create(&aside).map_err(|error| disk_error("create", &aside, error))?;
    let mut buffered = std::io::BufWriter::with_capacity(1 << 20, file);
    write(&mut buffered).map_err(|error| disk_error("write", &aside, error))?;
    let file = buffered.into_inner().map_err(|error| disk_error("write", &aside, error.into_error()))?;
    file.sync_all().map_err(|error| disk_error("sync", &aside, error))?;
    std::fs::rename(&aside, path).map_err(|error| disk_error("rename", path, error))?;
    match path.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slices_of_all_sizes_arrive_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let parts: Vec<Vec<u8>> = (0..1500usize).map(|i| vec![i as u8; i % 7]).collect();
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let io = Io::default();
        io.write_all_at(&file, &path, &slices, 10).unwrap();
        let bytes = parts.concat();
        assert_eq!(io.read_at(&file, &path, 10, bytes.len()).unwrap(), bytes);
        assert_eq!(io.read_at(&file, &path, 10, bytes.len() + 50).unwrap().len(), bytes.len());
        assert_eq!(io.read_at(&file, &path, 11, bytes.len()).unwrap().len(), bytes.len() - 1);
    }
}

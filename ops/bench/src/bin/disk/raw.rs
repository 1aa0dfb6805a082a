//! The other side of each ratio: the same bytes with the fewest system calls that do it.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use cairn_bench::files_below;
use rustix::fs::{FallocateFlags, fallocate, fdatasync};

use crate::setup::{Clock, Failure, Pool, Took};

/// A new file of `bytes`, space reserved, and its size durable: what appending to it costs is only the data.
pub(crate) fn preallocated(path: &Path, bytes: u64) -> Result<File, Failure> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Appends `count` payloads, `batch` of them by one write and one fdatasync.
pub(crate) fn append(path: &Path, pool: &Pool, count: usize, batch: usize) -> Result<Took, Failure> {
    let length = pool.payload(0).len();
    let file = preallocated(path, (count * length) as u64)?;
    let clock = Clock::start();
    let mut at = 0;
    while at < count {
        let now = batch.min(count - at);
        let slices: Vec<IoSlice<'_>> = (at..at + now).map(|n| IoSlice::new(pool.payload(n as u64))).collect();
        write_all(&file, slices, (at * length) as u64)?;
        fdatasync(&file)?;
        at += now;
    }
    let took = clock.stop();
    drop(file);
    std::fs::remove_file(path)?;
    Ok(took)
}

fn write_all(file: &File, mut slices: Vec<IoSlice<'_>>, mut at: u64) -> Result<(), Failure> {
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let written = rustix::io::pwritev(file, rest, at)?;
        at += written as u64;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// `count` payloads by `threads` threads, each write followed by its own fdatasync of the one file.
pub(crate) fn sync_each(path: &Path, pool: &Pool, count: usize, threads: usize) -> Result<Took, Failure> {
    let length = pool.payload(0).len();
    let file = preallocated(path, (count * length) as u64)?;
    let clock = Clock::start();
    let each = count / threads;
    let write = |thread: usize| -> Result<(), std::io::Error> {
        for n in thread * each..(thread + 1) * each {
            file.write_all_at(pool.payload(n as u64), (n * length) as u64)?;
            fdatasync(&file)?;
        }
        Ok(())
    };
    let done: Result<Vec<()>, std::io::Error> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || write(thread))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a thread died"))))
            .collect()
    });
    done?;
    let took = clock.stop();
    drop(file);
    std::fs::remove_file(path)?;
    Ok(took)
}

/// Bytes of a file.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub path: PathBuf,
    pub offset: u64,
    pub length: usize,
}

/// Reads all extents with `threads` threads, each into a buffer of its own that it uses again and again.
pub(crate) fn read(extents: &[Extent], threads: usize) -> Result<Took, Failure> {
    let mut paths: Vec<&PathBuf> = extents.iter().map(|extent| &extent.path).collect();
    paths.sort();
    paths.dedup();
    let files: Vec<(&PathBuf, File)> =
        paths.into_iter().map(|path| Ok((path, File::open(path)?))).collect::<Result<_, std::io::Error>>()?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let clock = Clock::start();
    let work = || -> Result<(), std::io::Error> {
        let mut buffer = Vec::new();
        loop {
            let Some(extent) = extents.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) else {
                return Ok(());
            };
            let at = files
                .binary_search_by(|(path, _)| path.cmp(&&extent.path))
                .map_err(|_| std::io::Error::other("no file"))?;
            buffer.resize(extent.length, 0);
            let mut done = 0;
            while done < extent.length {
                let into = &mut [IoSliceMut::new(&mut buffer[done..])];
                let got = rustix::io::preadv(&files[at].1, into, extent.offset + done as u64)?;
                if got == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                done += got;
            }
            std::hint::black_box(&buffer);
        }
    };
    let done: Result<Vec<()>, std::io::Error> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a thread died"))))
            .collect()
    });
    done?;
    Ok(clock.stop())
}

/// What all files below `dir` take from the file system.
pub(crate) fn allocated(dir: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for path in files_below(dir)? {
        // A file may go between the listing and the look: compaction goes on meanwhile.
        if let Ok(metadata) = std::fs::metadata(path) {
            sum += metadata.blocks() * 512;
        }
    }
    Ok(sum)
}

//! The other side of the ratio: k fragments read and one written, by plain files in the same folders.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use cairn_bench::{Failure, forget_cached};
use rustix::fs::fdatasync;

use crate::clients::random_body;

/// How many do it at once; the fastest counts.
const THREADS: [usize; 3] = [1, 4, 16];

/// Files of so many fragments, one on each of k disks, to be read; what is made of them is written to others.
pub(crate) struct Raw {
    sources: Vec<PathBuf>,
    /// Where the threads write, each a file of its own.
    folders: Vec<PathBuf>,
    fragments: usize,
    fragment_bytes: usize,
}

/// Bytes written in a second, by the number of threads.
pub(crate) type Rates = Vec<(usize, f64)>;

impl Raw {
    pub(crate) fn lay_out(
        disks: &[PathBuf],
        data: usize,
        fragments: usize,
        fragment_bytes: usize,
    ) -> Result<Self, Failure> {
        let mut folders = Vec::new();
        for disk in disks {
            // Beside the disk's own folder, which takes no files of others.
            let folder = disk.with_extension("raw");
            std::fs::create_dir_all(&folder)?;
            folders.push(folder);
        }
        let body = random_body(2, fragment_bytes);
        let mut sources = Vec::new();
        for folder in folders.iter().cycle().take(data) {
            let path = folder.join(format!("source{}", sources.len()));
            let file = File::create(&path)?;
            for number in 0..fragments {
                file.write_all_at(&body, (number * fragment_bytes) as u64)?;
            }
            file.sync_all()?;
            sources.push(path);
        }
        Ok(Self { sources, folders, fragments, fragment_bytes })
    }

    /// Each with nothing of the sources in the page cache.
    pub(crate) fn measure(&self) -> Result<Rates, Failure> {
        THREADS.iter().map(|threads| Ok((*threads, self.rate(*threads)?))).collect()
    }

    fn rate(&self, threads: usize) -> Result<f64, Failure> {
        self.folders.iter().try_for_each(|folder| forget_cached(folder))?;
        let next = AtomicUsize::new(0);
        let begun = Instant::now();
        let done: Result<Vec<()>, std::io::Error> = std::thread::scope(|scope| {
            let run = |thread| {
                scope.spawn({
                    let next = &next;
                    move || self.work(thread, next)
                })
            };
            let running: Vec<_> = (0..threads).map(run).collect();
            let ended = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a thread died")))
            };
            running.into_iter().map(ended).collect()
        });
        done?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok((self.fragments * self.fragment_bytes) as f64 / seconds)
    }

    /// Fragment by fragment: k reads one after the other, then a write and its sync.
    fn work(&self, thread: usize, next: &AtomicUsize) -> Result<(), std::io::Error> {
        let sources = self.sources.iter().map(File::open).collect::<Result<Vec<_>, _>>()?;
        let path: &Path = &self.folders[(self.sources.len() + thread) % self.folders.len()];
        let path = path.join(format!("made{thread}"));
        let made = File::create(&path)?;
        let mut buffer = vec![0; self.fragment_bytes];
        for place in 0u64.. {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.fragments {
                break;
            }
            for source in &sources {
                source.read_exact_at(&mut buffer, (number * self.fragment_bytes) as u64)?;
            }
            made.write_all_at(&buffer, place * self.fragment_bytes as u64)?;
            fdatasync(&made)?;
        }
        std::fs::remove_file(path)
    }
}

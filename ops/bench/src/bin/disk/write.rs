//! Writing, and nothing is deleted, so that no giving back of space is measured with it: large fragments against one
//! append a batch, small ones against one sync each.

use std::{cell::Cell, sync::Arc};

use cairn_actors::disk::DiskHandle;

use crate::{
    raw,
    setup::{Clock, Failure, MIB, Pool, Setting, fresh, in_turns, options, print_ratio, put_all},
};

const SEGMENT_BYTES: u64 = 1 << 30;
/// Clients that put large fragments at once: several stripes are under way on a busy node.
const LARGE_WRITERS: usize = 32;
const SMALL_WRITERS: usize = 64;
const SMALL_BYTES: usize = 4096;

fn per_batch(disk: &DiskHandle, before: (f64, u64)) -> f64 {
    let (bytes, batches) = batches(disk);
    (bytes - before.0) / (batches - before.1).max(1) as f64
}

fn batches(disk: &DiskHandle) -> (f64, u64) {
    let histogram = &disk.metrics().batch_bytes;
    (histogram.get_sample_sum(), histogram.get_sample_count())
}

pub(crate) fn large(setting: &Setting) -> Result<(), Failure> {
    let dir = setting.dir.join("write");
    let disk = DiskHandle::open(options(&dir, SEGMENT_BYTES))?;
    let pool = Arc::new(Pool::new(MIB));
    let count = setting.mib;
    // The raw side syncs as many bytes at once as the engine did.
    let batch = Cell::new(LARGE_WRITERS / 2);
    let ours = || {
        let numbers = fresh(count);
        let numbers = u64::from(numbers.start)..u64::from(numbers.end);
        let before = batches(&disk);
        let clock = Clock::start();
        let make = pool.clone();
        setting.runtime.block_on(put_all(&disk, LARGE_WRITERS, numbers, move |n| make.fragment(n)))?;
        let took = clock.stop();
        batch.set(((per_batch(&disk, before) / MIB as f64).round() as usize).max(1));
        Ok(took)
    };
    let raw_file = setting.dir.join("raw");
    let times = in_turns(setting.rounds, ours, || raw::append(&raw_file, &pool, count, batch.get()))?;
    let what = format!("write 1 MiB, {} MiB a sync", batch.get());
    print_ratio(&what, count as f64, "MiB/s", &times, 0.85);
    setting.runtime.block_on(disk.close());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

pub(crate) fn small(setting: &Setting) -> Result<(), Failure> {
    let dir = setting.dir.join("small");
    let disk = DiskHandle::open(options(&dir, SEGMENT_BYTES))?;
    let pool = Arc::new(Pool::new(SMALL_BYTES));
    let raw_file = setting.dir.join("raw");
    let probe = raw::sync_each(&raw_file, &pool, 64, 1)?.wall.as_secs_f64() / 64.0;
    // About a third of a second of the raw side.
    let raw_count = ((0.3 / probe) as usize).clamp(64, 2048) / 64 * 64;
    let count = raw_count * 16;
    for (threads, goal) in [(1, 8.0), (SMALL_WRITERS, 8.0)] {
        let ours = || {
            let numbers = fresh(count);
            let numbers = u64::from(numbers.start)..u64::from(numbers.end);
            let clock = Clock::start();
            let make = pool.clone();
            setting.runtime.block_on(put_all(&disk, SMALL_WRITERS, numbers, move |n| make.fragment(n)))?;
            let took = clock.stop();
            Ok(took)
        };
        // Scaled to as many writes as ours.
        let raw = || Ok(raw::sync_each(&raw_file, &pool, raw_count, threads)?.times(count as f64 / raw_count as f64));
        let times = in_turns(setting.rounds, ours, raw)?;
        let what = format!("write 4 KiB, 64 writers; raw: {threads} thread(s)");
        print_ratio(&what, count as f64, "/s", &times, goal);
    }
    setting.runtime.block_on(disk.close());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

//! Reading against pread of the very same bytes of the segment files, as many at once.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cairn_actors::{
    disk::{
        DiskHandle,
        format::{
            RECORD_HEADER_LEN, RecordBody, RecordHeader, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_LEN, SegmentHeader, UNIT,
            payload_at,
        },
    },
    fragment::BLOCK_BYTES,
};
use cairn_bench::{files_below, forget_cached};
use cairn_schema::ids::FragmentName;
use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};

use crate::{
    raw::{self, Extent},
    setup::{Clock, Failure, MIB, Pool, Setting, Took, fresh, in_turns, options, print_ratio, put_all},
};

const SEGMENT_BYTES: u64 = 1 << 30;
const AT_ONCE: usize = 8;

struct Target {
    name: FragmentName,
    /// Of the fragment.
    range: std::ops::Range<u32>,
    extent: Extent,
}

/// All fragments of a disk by reading its segments from first record to last, as their documented layout allows.
fn walk(dir: &Path) -> Result<Vec<Target>, Failure> {
    let mut found = Vec::new();
    let segments = files_below(dir)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "seg"));
    for path in segments {
        let file = File::open(&path)?;
        let mut header = [0; SEGMENT_HEADER_LEN];
        file.read_exact_at(&mut header, 0)?;
        let salt = SegmentHeader::decode(&header)?.salt;
        let mut at = SEGMENT_HEADER_BYTES;
        loop {
            let mut head = vec![0; RECORD_HEADER_LEN];
            if file.read_at(&mut head, at)? < RECORD_HEADER_LEN {
                break;
            }
            let Some(table) = RecordHeader::table_bytes(&head) else { break };
            head.resize(RECORD_HEADER_LEN + table, 0);
            file.read_exact_at(&mut head, at)?;
            let record = RecordHeader::decode(&head, salt, (at / UNIT) as u32)?;
            if let RecordBody::Fragment { length } = record.body {
                let extent = Extent { path: path.clone(), offset: at + payload_at(length), length: length as usize };
                found.push(Target { name: record.name, range: 0..length, extent });
            }
            at += u64::from(record.units()) * UNIT;
        }
    }
    Ok(found)
}

/// One block out of the midst of each fragment.
fn blocks_of(whole: &[Target]) -> Vec<Target> {
    let part = |(n, target): (usize, &Target)| {
        let blocks = target.extent.length / BLOCK_BYTES;
        let start = (n * 7 % blocks * BLOCK_BYTES) as u32;
        let range = start..start + BLOCK_BYTES as u32;
        let extent =
            Extent { offset: target.extent.offset + u64::from(start), length: BLOCK_BYTES, ..target.extent.clone() };
        Target { name: target.name, range, extent }
    };
    whole.iter().enumerate().map(part).collect()
}

async fn get_all(disk: &DiskHandle, targets: &Arc<Vec<Target>>) -> Result<Took, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let clock = Clock::start();
    let readers = (0..AT_ONCE).map(|_| {
        let (disk, targets, next) = (disk.clone(), targets.clone(), next.clone());
        tokio::spawn(async move {
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                std::hint::black_box(disk.get(target.name, target.range.clone()).await?);
            }
            Ok(())
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await?.map_err(|error: cairn_actors::fragment::DiskError| error)?;
    }
    Ok(clock.stop())
}

pub(crate) fn all(setting: &Setting) -> Result<(), Failure> {
    let dir = setting.dir.join("read");
    let disk = DiskHandle::open(options(&dir, SEGMENT_BYTES))?;
    let pool = Arc::new(Pool::new(MIB));
    let numbers = fresh(setting.mib);
    let make = pool.clone();
    let numbers = u64::from(numbers.start)..u64::from(numbers.end);
    setting.runtime.block_on(put_all(&disk, 16, numbers, move |n| make.fragment(n)))?;
    let mut whole = walk(&dir)?;
    if whole.len() != setting.mib {
        return Err(format!("{} fragments found in the segments, {} written", whole.len(), setting.mib).into());
    }
    whole.shuffle(&mut SmallRng::seed_from_u64(1));
    let blocks = blocks_of(&whole);
    for (size, targets) in [("1 MiB", whole), ("64 KiB of 1 MiB", blocks)] {
        let amount = targets.iter().map(|target| target.extent.length).sum::<usize>() as f64 / MIB as f64;
        let extents: Vec<Extent> = targets.iter().map(|target| target.extent.clone()).collect();
        let targets = Arc::new(targets);
        for cold in [true, false] {
            // A warm round of blocks would be over too soon to be measured.
            let times = if cold { 1 } else { (2.0 * setting.mib as f64 / amount) as u32 };
            let repeat = |one: &mut dyn FnMut() -> Result<Took, Failure>| -> Result<Took, Failure> {
                let mut sum = Took::default();
                for _ in 0..times {
                    if cold {
                        forget_cached(&dir)?;
                    }
                    sum += one()?;
                }
                Ok(sum)
            };
            let ours = || repeat(&mut || setting.runtime.block_on(get_all(&disk, &targets)));
            let raw = || repeat(&mut || raw::read(&extents, AT_ONCE));
            let measured = in_turns(setting.rounds, ours, raw)?;
            let what = format!("read {size}, {}", if cold { "cold" } else { "warm" });
            print_ratio(&what, amount * f64::from(times), "MiB/s", &measured, 0.9);
        }
    }
    setting.runtime.block_on(disk.close());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

//! Compaction: what is live survives it, what was deleted stays gone, and space follows the live data.
// The locks that hold a compaction back are held on purpose while the disk's other threads go on.
#![allow(clippy::unwrap_used, clippy::await_holding_lock)]

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use cairn_disk::{DiskHandle, DiskOptions, Faults, SyncPoint, tools};
use cairn_fragment::DiskError;

use common::{CLUSTER, Dice, copy_dir, find, flip, fragment, name, options, payload, until, whole};

fn small(path: &std::path::Path) -> DiskOptions {
    DiskOptions { segment_bytes: 256 << 10, reserved_bytes: 1 << 20, ..options(path) }
}

/// Bytes of a fragment's record: its head, checksums and padding with it.
fn record(length: usize) -> u64 {
    (64 + 8 * length.div_ceil(64 << 10) + length).next_multiple_of(64) as u64
}

fn length(n: u32) -> usize {
    if n.is_multiple_of(17) { 90_000 } else { n as usize * 37 % 6000 }
}

/// Opens a copy of a disk with and without its index and checks that exactly `live` is there, whole.
async fn check(dir: &std::path::Path, live: &BTreeMap<u32, u32>, names: u32, what: &str) {
    for rebuild in [false, true] {
        if rebuild {
            std::fs::remove_dir_all(dir.join("index")).unwrap();
        }
        let disk = DiskHandle::open(small(dir)).unwrap();
        let report = disk.recovery().unwrap();
        assert!(report.damaged.is_empty() && report.lost_with_segments == 0, "{what}: {report:?}");
        for n in 0..names {
            match (whole(&disk, n).await, live.contains_key(&n)) {
                (Ok(bytes), true) => assert_eq!(bytes, payload(n, length(n)), "{what}: {n}"),
                (Err(DiskError::NotFound(_)), false) => {}
                (found, _) => panic!("{what}, rebuilt {rebuild}: {n}: {found:?}, live {}", live.contains_key(&n)),
            }
        }
        disk.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn churn_of_small_fragments_leaves_no_more_than_a_twentieth_dead() {
    const NAMES: u32 = 2000;
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskHandle::open(small(dir.path())).unwrap();
    let mut dice = Dice::seeded("churn");
    let mut live = BTreeMap::new();
    let written = AtomicU32::new(0);
    for round in 0..40 {
        let doomed: Vec<u32> = live.keys().copied().filter(|_| dice.roll(3) == 0).collect();
        live.retain(|n, _| !doomed.contains(n));
        disk.delete(doomed.into_iter().map(name).collect()).await.unwrap();
        let fresh: Vec<u32> = (0..400).map(|_| dice.roll(u64::from(NAMES)) as u32).collect();
        let puts = fresh.iter().map(|n| disk.put(fragment(*n, length(*n))));
        futures::future::try_join_all(puts).await.unwrap();
        written.fetch_add(400, Ordering::Relaxed);
        live.extend(fresh.into_iter().map(|n| (n, round)));
    }
    let held: u64 = live.keys().map(|n| record(length(*n))).sum();
    // The segment that is written to, and one that may be under way, are not counted against it.
    until(&disk, "tidied up", |status| status.used_bytes <= held + held / 20 + 2 * (256 << 10)).await;
    assert!(disk.metrics().moved_bytes.get() > 0, "nothing was compacted");
    disk.close().await;
    let report = tools::verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.fragments_verified == live.len() as u64, "{report:?}");
    let on_disk: u64 = common::segment_files(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(
        on_disk < held * 2,
        "{on_disk} bytes of segments for {held} after {} puts",
        written.load(Ordering::Relaxed)
    );
    check(dir.path(), &live, NAMES, "after churn").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dur_2_a_power_cut_during_compaction_loses_and_resurrects_nothing() {
    const NAMES: u32 = 600;
    let dir = tempfile::tempdir().unwrap();
    let images = Arc::new(Mutex::new(Vec::<tempfile::TempDir>::new()));
    let taking = Arc::new(AtomicU32::new(0));
    let faults = {
        let (images, taking, dir) = (images.clone(), taking.clone(), dir.path().to_owned());
        let tidying = Arc::<parking_lot::RwLock<()>>::default();
        let still = tidying.clone();
        let hook = move |point: &SyncPoint<'_>| {
            let mut images = images.lock().unwrap();
            if taking.load(Ordering::Acquire) == 0 || images.len() >= 24 {
                return;
            }
            let _still = still.write();
            let image = tempfile::tempdir().unwrap();
            copy_dir(&dir, image.path());
            if !point.synced {
                // Nothing of the batch arrived, or only its first half.
                let path = image.path().join(point.path.strip_prefix(&dir).unwrap());
                let keep = if images.len() % 4 == 0 { 0 } else { (point.bytes.end - point.bytes.start) / 2 };
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_len(point.bytes.start + keep).unwrap();
            }
            images.push(image);
        };
        Arc::new(Faults { on_sync: Some(Box::new(hook)), tidying, ..Faults::default() })
    };
    let disk = DiskHandle::open_with(small(dir.path()), Some(faults.clone())).unwrap();
    let mut live: BTreeMap<u32, u32> = (0..NAMES).map(|n| (n, 0)).collect();
    for n in 0..NAMES {
        disk.put(fragment(n, length(n))).await.unwrap();
    }
    disk.checkpoint().await.unwrap();
    let mut dice = Dice::seeded("cuts in compactions");
    let doomed: Vec<u32> = (0..NAMES).filter(|_| dice.roll(2) == 0).collect();
    live.retain(|n, _| !doomed.contains(n));
    {
        let _still = faults.moving.write();
        disk.delete(doomed.into_iter().map(name).collect()).await.unwrap();
        taking.store(1, Ordering::Release);
    }
    let held: u64 = live.keys().map(|n| record(length(*n))).sum();
    until(&disk, "tidied up", |status| status.used_bytes <= held + held / 20 + 2 * (256 << 10)).await;
    taking.store(0, Ordering::Release);
    disk.close().await;
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() >= 4, "only {} images", images.len());
    for (i, image) in images.iter().enumerate() {
        check(image.path(), &live, NAMES, &format!("image {i}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn int_1_compaction_neither_moves_damage_nor_loses_what_lies_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::<Faults>::default();
    let disk = DiskHandle::open_with(small(dir.path()), Some(faults.clone())).unwrap();
    for n in 1..200 {
        disk.put(fragment(n, 3000)).await.unwrap();
    }
    let still = faults.moving.write();
    let (path, at) = find(dir.path(), &payload(7, 3000)).unwrap();
    flip(&path, at + 1500, 4);
    disk.delete((1..200).filter(|n| n % 4 != 3).map(name).collect()).await.unwrap();
    drop(still);
    // All but the damaged segment and the newest can be emptied.
    let held = 50 * record(3000);
    until(&disk, "tidied up", |status| status.used_bytes <= held + 4 * (256 << 10)).await;
    until(&disk, "damage met", |_| disk.metrics().checksum_failures.get() > 0).await;
    for n in (3..200).step_by(4) {
        match whole(&disk, n).await {
            Ok(bytes) => assert_eq!(bytes, payload(n, 3000)),
            Err(DiskError::Corrupt { .. }) => assert_eq!(n, 7),
            Err(error) => panic!("{n}: {error}"),
        }
    }
    // Repair writes it again; then the segment can go.
    disk.put(fragment(7, 3000)).await.unwrap();
    assert_eq!(whole(&disk, 7).await.unwrap(), payload(7, 3000));
    disk.close().await;
    let report = tools::verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.fragments_verified == 50, "{report:?}");
    assert_eq!(tools::inspect(dir.path()).unwrap().cluster, CLUSTER.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_file_that_ends_early_does_not_hold_up_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskHandle::open(small(dir.path())).unwrap();
    for n in 0..400 {
        disk.put(fragment(n, 3000)).await.unwrap();
    }
    disk.close().await;
    let (path, at) = find(dir.path(), &payload(30, 3000)).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(at as u64).unwrap();
    let disk = DiskHandle::open(small(dir.path())).unwrap();
    // Of the short one nearly all is dead, in runs too short for holes: it is the first to be emptied.
    let keep = |n: u32| if n < 30 { n.is_multiple_of(10) } else { n > 70 && n.is_multiple_of(4) };
    const LOST: u32 = 35;
    disk.delete((0..400).filter(|n| !keep(*n) && *n != LOST).map(name).collect()).await.unwrap();
    // More than the three that are kept of it.
    until(&disk, "tidied up", |_| disk.metrics().moved_bytes.get() > 10 * record(3000)).await;
    for n in (0..400).filter(|n| keep(*n)) {
        assert_eq!(whole(&disk, n).await.unwrap(), payload(n, 3000), "{n}");
    }
    assert!(matches!(whole(&disk, LOST).await, Err(DiskError::Corrupt { .. })));
    disk.close().await;
}

/// What a client does that never pauses: puts batches and deletes what it put some time ago, until `enough` says so.
/// Returns how many fragments it put. A full disk is tried again: the put of a fragment that is there already changes
/// nothing.
async fn without_pause(disk: &DiskHandle, live: u32, enough: impl Fn(u32) -> bool) -> u32 {
    const BATCH: u32 = 50;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let mut n = 0;
    while !enough(n) {
        assert!(std::time::Instant::now() < deadline, "after {n} fragments: {:?}", disk.status());
        let puts = (n..n + BATCH).map(|n| disk.put(fragment(n, 3000)));
        match futures::future::try_join_all(puts).await {
            Ok(_) => {}
            Err(DiskError::Full { .. } | DiskError::Busy) => {
                tokio::task::yield_now().await;
                continue;
            }
            Err(error) => panic!("{n}: {error}"),
        }
        n += BATCH;
        // Each fifth lives longer than its neighbours: no segment empties by itself.
        let batch_before = |end: u32| (end.saturating_sub(BATCH)..end).filter(|n| n.is_multiple_of(5));
        let young = (n.saturating_sub(live + BATCH)..n.saturating_sub(live)).filter(|n| !n.is_multiple_of(5));
        let doomed = young.chain(batch_before(n.saturating_sub(4 * live)));
        disk.delete(doomed.map(name).collect()).await.unwrap();
    }
    n
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_in_use_without_a_pause_is_tidied_up_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskHandle::open(small(dir.path())).unwrap();
    let moved = || disk.metrics().moved_bytes.get();
    let written = without_pause(&disk, 600, |_| moved() > 1 << 20).await;
    assert!(disk.use_now().0, "a client was there all the time");
    for n in (written - 600..written).step_by(50) {
        assert_eq!(whole(&disk, n).await.unwrap(), payload(n, 3000), "{n}");
    }
    disk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_takes_many_times_its_size_from_clients_that_never_pause() {
    let dir = tempfile::tempdir().unwrap();
    let tight = DiskOptions { capacity_bytes: Some(8 << 20), ..small(dir.path()) };
    let disk = DiskHandle::open(tight).unwrap();
    // 36 MB, of which 2 MB are live.
    let written = without_pause(&disk, 600, |n| n >= 12_000).await;
    assert!(disk.metrics().moved_bytes.get() > 0, "nothing was compacted");
    assert!(disk.status().used_bytes <= 8 << 20);
    for n in (written - 600..written).step_by(50) {
        assert_eq!(whole(&disk, n).await.unwrap(), payload(n, 3000), "{n}");
    }
    disk.close().await;
}

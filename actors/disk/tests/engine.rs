//! The fragment store through its handle: what it keeps, refuses and survives.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cairn_disk::{DiskHandle, DiskOptions, Faults, SyncPoint};
use cairn_fragment::{BLOCK_BYTES, DiskError, NewFragment};
use cairn_schema::ids::ClusterId;
use common::{copy_dir, fragment, name, options, payload, until, whole};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_got_and_survives_every_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let lengths = [0, 1, 55, 56, 57, 64, 4096, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 300_000];
    let mut disk = DiskHandle::open(options(dir.path())).unwrap();
    for (n, length) in lengths.iter().enumerate() {
        disk.put(fragment(n as u32, *length)).await.unwrap();
    }
    let id = disk.id();
    for ending in ["close", "drop", "rebuild", "none"] {
        for (n, length) in lengths.iter().enumerate() {
            assert_eq!(whole(&disk, n as u32).await.unwrap(), payload(n as u32, *length), "before {ending}");
            disk.verify(name(n as u32)).await.unwrap();
        }
        let all = payload(10, 300_000);
        for range in [0..1, 65_535..65_537, 65_536..131_072, 100_000..299_999, 299_999..300_000, 70_000..70_000] {
            let got = disk.get(name(10), range.clone()).await.unwrap();
            assert_eq!(got, all.slice(range.start as usize..range.end as usize), "{range:?}");
        }
        assert!(matches!(disk.get(name(10), 0..300_001).await, Err(DiskError::OutOfRange { .. })));
        assert!(matches!(disk.get(name(99), 0..1).await, Err(DiskError::NotFound(_))));
        assert_eq!(disk.list(None, None, 100).await.unwrap().len(), lengths.len());
        assert_eq!(disk.id(), id);
        if ending == "close" {
            disk.close().await;
            assert!(matches!(disk.get(name(10), 0..1).await, Err(DiskError::Gone(_))));
        }
        drop(disk);
        if ending == "rebuild" {
            DiskHandle::open(options(dir.path())).unwrap().close().await;
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        disk = DiskHandle::open(options(dir.path())).unwrap();
        let report = disk.recovery().unwrap();
        assert_eq!(report.index_unusable.is_some(), ending == "rebuild", "{report:?}");
        assert!(report.damaged.is_empty() && !report.torn_tail && report.torn.is_empty(), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_is_nothing_other_bytes_are_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskHandle::open(options(dir.path())).unwrap();
    disk.put(fragment(1, 5000)).await.unwrap();
    let used = disk.status().used_bytes;
    disk.put(fragment(1, 5000)).await.unwrap();
    assert_eq!(disk.status().used_bytes, used);
    let other = NewFragment { name: name(1), ..fragment(2, 5000) };
    assert!(matches!(disk.put(other).await, Err(DiskError::Conflict(_))));
    let mut lying = fragment(3, 200_000);
    lying.block_checksums[1] ^= 1;
    assert!(matches!(disk.put(lying).await, Err(DiskError::BadChecksum)));
    let mut short = fragment(3, 200_000);
    short.block_checksums.pop();
    assert!(matches!(disk.put(short).await, Err(DiskError::BadChecksum)));
    assert!(matches!(disk.info(name(3)).await, Err(DiskError::NotFound(_))));
    // Many at once, the same and different ones.
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let disk = disk.clone();
            tokio::spawn(async move { disk.put(fragment(10 + i % 8, 10_000)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(disk.status().fragments, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_is_gone_after_every_way_of_reopening_and_space_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::<Faults>::default();
    let disk = DiskHandle::open_with(options(dir.path()), Some(faults.clone())).unwrap();
    for n in 0..200 {
        disk.put(fragment(n, 30_000)).await.unwrap();
    }
    let full = disk.status().used_bytes;
    let doomed: Vec<_> = (0..200).filter(|n| n % 10 != 0).map(name).collect();
    assert_eq!(disk.delete(doomed.clone()).await.unwrap(), 180);
    assert_eq!(disk.delete(doomed).await.unwrap(), 0);
    until(&disk, "free again", |status| status.used_bytes < full / 4).await;
    for way in ["crash", "close", "rebuild"] {
        if way == "close" {
            disk.close().await;
        }
        let copy = tempfile::tempdir().unwrap();
        {
            let _still = (faults.moving.write(), faults.tidying.write());
            copy_dir(dir.path(), copy.path());
        }
        if way == "rebuild" {
            std::fs::remove_dir_all(copy.path().join("index")).unwrap();
        }
        let reopened = DiskHandle::open(options(copy.path())).unwrap();
        assert_eq!(reopened.status().fragments, 20, "{way}");
        for n in 0..200 {
            assert_eq!(whole(&reopened, n).await.is_ok(), n % 10 == 0, "{way} {n}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opening_and_a_foreign_cluster_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskHandle::open(options(dir.path())).unwrap();
    assert!(matches!(DiskHandle::open(options(dir.path())), Err(DiskError::Refused { .. })));
    disk.close().await;
    let foreign = DiskOptions { cluster: ClusterId([1; 16]), ..options(dir.path()) };
    let refused = DiskHandle::open(foreign).err().unwrap();
    assert!(refused.to_string().contains("belongs to cluster 0909"), "{refused}");
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("photo.jpg"), b"x").unwrap();
    assert!(matches!(DiskHandle::open(options(other.path())), Err(DiskError::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_syncs_fail_their_batch_and_the_disk_goes_on_in_a_fresh_segment() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let disk = DiskHandle::open_with(options(dir.path()), Some(faults.clone())).unwrap();
    disk.put(fragment(1, 5000)).await.unwrap();
    faults.syncs.store(1, Ordering::Relaxed);
    assert!(matches!(disk.put(fragment(2, 5000)).await, Err(DiskError::Io { operation: "fdatasync", .. })));
    assert!(matches!(disk.info(name(2)).await, Err(DiskError::NotFound(_))));
    faults.writes.store(1, Ordering::Relaxed);
    assert!(matches!(disk.put(fragment(2, 5000)).await, Err(DiskError::Io { operation: "write", .. })));
    disk.put(fragment(2, 5000)).await.unwrap();
    assert!(disk.status().writable);
    faults.reads.store(1, Ordering::Relaxed);
    assert!(matches!(whole(&disk, 1).await, Err(DiskError::Unreadable { .. })));
    assert_eq!(whole(&disk, 1).await.unwrap(), payload(1, 5000));
    faults.syncs.store(3, Ordering::Relaxed);
    for n in 3..6 {
        assert!(disk.put(fragment(n, 5000)).await.is_err());
    }
    assert!(disk.status().failed.is_some());
    assert!(matches!(disk.put(fragment(7, 5000)).await, Err(DiskError::ReadOnly(_))));
    assert_eq!(whole(&disk, 2).await.unwrap(), payload(2, 5000));
    drop(disk);
    let disk = DiskHandle::open(options(dir.path())).unwrap();
    assert_eq!(disk.status().fragments, 2);
    disk.put(fragment(7, 5000)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_still_deletes_and_reads() {
    let dir = tempfile::tempdir().unwrap();
    let small = DiskOptions { capacity_bytes: Some(4 << 20), ..options(dir.path()) };
    let disk = DiskHandle::open(small).unwrap();
    let mut stored = 0;
    let full = loop {
        match disk.put(fragment(stored, 100_000)).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, DiskError::Full { .. }), "{full}");
    assert!(stored >= 20, "{stored}");
    for n in 0..stored {
        assert_eq!(whole(&disk, n).await.unwrap(), payload(n, 100_000));
    }
    assert_eq!(disk.delete((0..stored / 2).map(name).collect()).await.unwrap(), u64::from(stored / 2));
    // Space comes back in the background.
    until(&disk, "free again", |status| status.free_bytes > u64::from(stored / 3) * 101_000).await;
    for n in 1000..1000 + stored / 3 {
        disk.put(fragment(n, 100_000)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = syncs.clone();
    let faults = Faults {
        on_sync: Some(Box::new(move |point| {
            counted.fetch_add(u64::from(point.synced), Ordering::Relaxed);
        })),
        ..Faults::default()
    };
    let disk = DiskHandle::open_with(options(dir.path()), Some(Arc::new(faults))).unwrap();
    let tasks: Vec<_> = (0..512)
        .map(|n| {
            let disk = disk.clone();
            tokio::spawn(async move { disk.put(fragment(n, 4096)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let syncs = syncs.load(Ordering::Relaxed);
    assert!(syncs <= 256, "{syncs} syncs for 512 writes");
}

/// What is left of it would be taken for true by a replay, after whatever had been acknowledged since.
#[tokio::test(flavor = "multi_thread")]
async fn dur_2_a_failed_batch_that_cannot_be_cut_off_is_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::<Faults>::default();
    let disk = DiskHandle::open_with(options(dir.path()), Some(faults.clone())).unwrap();
    disk.put(fragment(1, 5000)).await.unwrap();
    faults.syncs.store(1, Ordering::Relaxed);
    faults.cuts.store(1, Ordering::Relaxed);
    assert!(matches!(disk.delete(vec![name(1)]).await, Err(DiskError::Io { operation: "fdatasync", .. })));
    assert!(matches!(disk.put(fragment(1, 5000)).await, Err(DiskError::ReadOnly(_))));
    assert!(disk.status().failed.unwrap().contains("cut off"));
    assert_eq!(whole(&disk, 1).await.unwrap(), payload(1, 5000));
    disk.close().await;
    let disk = DiskHandle::open(options(dir.path())).unwrap();
    disk.put(fragment(1, 5000)).await.unwrap();
    disk.close().await;
    for rebuild in [false, true] {
        if rebuild {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let disk = DiskHandle::open(options(dir.path())).unwrap();
        assert_eq!(whole(&disk, 1).await.unwrap(), payload(1, 5000), "rebuilt {rebuild}");
        disk.close().await;
    }
}

fn of_small_segments(dir: &Path) -> DiskOptions {
    DiskOptions { segment_bytes: 256 << 10, ..options(dir) }
}

/// A delete that fails, and a put of the same fragment that was gathered with it but does not fit behind it. `cuts`
/// that fail.
async fn put_behind_a_failed_delete(dir: &Path, cuts: u32) -> (DiskHandle, Result<(), DiskError>) {
    let (held, release) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(2)));
    let hook = {
        let (held, release) = (held.clone(), release.clone());
        move |point: &SyncPoint<'_>| {
            if point.synced && held.swap(false, Ordering::AcqRel) {
                release.wait();
            }
        }
    };
    let faults = Arc::new(Faults { on_sync: Some(Box::new(hook)), ..Faults::default() });
    let disk = DiskHandle::open_with(of_small_segments(dir), Some(faults.clone())).unwrap();
    // Small enough to be hashed where they are queued, and so many that another one fits no more.
    disk.put(fragment(1, 60_000)).await.unwrap();
    disk.put(fragment(3, 60_000)).await.unwrap();
    held.store(true, Ordering::Release);
    let first = tokio::spawn({
        let disk = disk.clone();
        async move { disk.put(fragment(2, 10_000)).await }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while held.load(Ordering::Acquire) {
        assert!(Instant::now() < deadline, "no sync");
        tokio::task::yield_now().await;
    }
    // Both wait while the writer syncs; polled in this order, so queued in this order.
    let mut delete = Box::pin(disk.delete(vec![name(1)]));
    let mut put = Box::pin(disk.put(fragment(1, 60_000)));
    assert!(futures::poll!(&mut delete).is_pending() && futures::poll!(&mut put).is_pending());
    faults.syncs.store(1, Ordering::Relaxed);
    faults.cuts.store(cuts, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || release.wait()).await.unwrap();
    first.await.unwrap().unwrap();
    assert!(matches!(delete.await, Err(DiskError::Io { operation: "fdatasync", .. })));
    let put = put.await;
    (disk, put)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_behind_a_delete_that_failed_finds_the_fragment_still_there() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, put) = put_behind_a_failed_delete(dir.path(), 0).await;
    put.unwrap();
    assert_eq!(disk.status().fragments, 3);
    assert_eq!(whole(&disk, 1).await.unwrap(), payload(1, 60_000));
    disk.close().await;
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let disk = DiskHandle::open(of_small_segments(dir.path())).unwrap();
    assert_eq!(disk.status().fragments, 3);
    assert_eq!(whole(&disk, 1).await.unwrap(), payload(1, 60_000));
}

/// The tombstone may have survived: nothing behind it may be acknowledged, not even what is here already.
#[tokio::test(flavor = "multi_thread")]
async fn dur_2_nothing_gathered_with_a_batch_that_cannot_be_cut_off_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, put) = put_behind_a_failed_delete(dir.path(), 1).await;
    assert!(matches!(&put, Err(DiskError::ReadOnly(_))), "{put:?}");
    assert!(disk.status().failed.is_some());
    disk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_that_was_given_back_before_the_index_was_made_anew_is_not_counted_again() {
    let dir = tempfile::tempdir().unwrap();
    let large = DiskOptions { segment_bytes: 16 << 20, ..options(dir.path()) };
    let disk = DiskHandle::open(large.clone()).unwrap();
    for n in 0..40 {
        disk.put(fragment(n, 200_000)).await.unwrap();
    }
    disk.delete((0..40).filter(|n| n % 4 > 0).map(name).collect()).await.unwrap();
    until(&disk, "given back", |status| status.used_bytes < 4 << 20).await;
    disk.close().await;
    // Nor is what had been given back taken again.
    for _ in 0..2 {
        DiskHandle::open(large.clone()).unwrap().close().await;
        let blocks =
            common::segment_files(dir.path()).iter().map(|path| path.metadata().unwrap().blocks()).sum::<u64>();
        assert!(blocks * 512 < 4 << 20, "{blocks} blocks");
    }
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let disk = DiskHandle::open(large).unwrap();
    // Its hole is made after those that are made once more.
    disk.put(fragment(100, 500_000)).await.unwrap();
    disk.delete(vec![name(100)]).await.unwrap();
    until(&disk, "given back", |status| status.used_bytes < 10 * 200_000 + (400 << 10)).await;
    assert!(disk.status().used_bytes >= 10 * 200_000, "{:?}", disk.status());
}

/// Killed before its index knew of what it had acknowledged, and then it cannot read where that stands.
#[tokio::test(flavor = "multi_thread")]
async fn dur_2_a_disk_whose_log_cannot_be_read_is_opened_as_failed_and_forgets_nothing() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = DiskHandle::open(options(dir.path())).unwrap();
    for n in 0..20 {
        disk.put(fragment(n, 5000)).await.unwrap();
    }
    copy_dir(dir.path(), image.path());
    disk.close().await;
    let faults = Arc::new(Faults::default());
    faults.reads.store(u32::MAX, Ordering::Relaxed);
    let disk = DiskHandle::open_with(options(image.path()), Some(faults.clone())).unwrap();
    let why = disk.status().failed.unwrap();
    assert!(why.contains("cannot be read"), "{why}");
    assert!(matches!(disk.put(fragment(30, 5000)).await, Err(DiskError::ReadOnly(_))));
    assert!(disk.delete(vec![name(1)]).await.is_err());
    assert!(disk.checkpoint().await.is_err(), "an index without what could not be read was written down");
    let again = disk.clone();
    assert!(tokio::task::spawn_blocking(move || again.reopen()).await.unwrap().is_err());
    faults.reads.store(0, Ordering::Relaxed);
    let again = disk.clone();
    tokio::task::spawn_blocking(move || again.reopen()).await.unwrap().unwrap();
    assert_eq!(disk.status().failed, None);
    for n in 0..20 {
        assert_eq!(whole(&disk, n).await.unwrap(), payload(n, 5000));
    }
    disk.close().await;
}

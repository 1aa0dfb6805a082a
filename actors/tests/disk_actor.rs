//! A disk under supervision: a failed one comes back by itself, a vanished one when it returns.
#![allow(clippy::unwrap_used)]

#[path = "../disk/tests/common/mod.rs"]
mod disk_common;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use cairn_actors::{
    disk::{DiskHandle, Faults, tools},
    fragment::DiskError,
    runtime::disk_actor::{Watch, spawn_disk, supervise_disk},
    supervisor::{ChildState, Supervisor},
};
use disk_common::{fragment, options, payload, until, whole};

fn quick() -> Watch {
    Watch {
        tick: Duration::from_millis(20),
        checkpoint_every: Duration::from_millis(50),
        first_retry: Duration::from_millis(20),
        longest_retry: Duration::from_millis(100),
        stuck_after: Duration::from_secs(30),
        hung_after: Duration::from_secs(60),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_disk_is_opened_again_behind_the_same_handle() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::start("test").await.unwrap();
    let faults = Arc::new(Faults::default());
    let disk = DiskHandle::open_with(options(dir.path()), Some(faults.clone())).unwrap();
    supervise_disk(&supervisor, &disk, quick()).await.unwrap();
    disk.put(fragment(1, 100_000)).await.unwrap();
    faults.syncs.store(3, Ordering::Relaxed);
    for n in 2..5 {
        assert!(matches!(disk.put(fragment(n, 1000)).await, Err(DiskError::Io { .. } | DiskError::ReadOnly(_))));
    }
    until(&disk, "writable again", |status| status.writable && status.failed.is_none()).await;
    disk.put(fragment(2, 1000)).await.unwrap();
    assert_eq!(whole(&disk, 1).await.unwrap(), payload(1, 100_000));
    assert_eq!(disk.status().fragments, 2);

    // Gone and returned.
    let elsewhere = dir.path().with_extension("away");
    std::fs::rename(dir.path(), &elsewhere).unwrap();
    until(&disk, "failed", |status| status.failed.is_some()).await;
    assert!(disk.put(fragment(7, 10)).await.is_err());
    // No retry may begin a new disk in the empty place.
    std::fs::create_dir(dir.path()).unwrap();
    tokio::time::sleep(quick().longest_retry * 3).await;
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a new disk was made where one had been");
    std::fs::remove_dir(dir.path()).unwrap();
    std::fs::rename(&elsewhere, dir.path()).unwrap();
    until(&disk, "back", |status| status.writable && status.failed.is_none()).await;
    disk.put(fragment(7, 10)).await.unwrap();
    assert_eq!(whole(&disk, 2).await.unwrap(), payload(2, 1000));

    let written = std::fs::read_dir(dir.path().join("index")).unwrap().next().unwrap().unwrap().path().join("current");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !written.exists() {
        assert!(Instant::now() < deadline, "no checkpoint");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    disk.close().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while supervisor.status().iter().any(|child| child.state == ChildState::Running) {
        assert!(Instant::now() < deadline, "the actor of a closed disk goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(tools::verify(dir.path()).unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_can_read_nothing_stays_failed_until_it_reads_again() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::start("test").await.unwrap();
    let faults = Arc::new(Faults::default());
    let disk = DiskHandle::open_with(options(dir.path()), Some(faults.clone())).unwrap();
    supervise_disk(&supervisor, &disk, quick()).await.unwrap();
    for n in 0..20 {
        disk.put(fragment(n, 5000)).await.unwrap();
    }
    faults.reads.store(u32::MAX, Ordering::Relaxed);
    for n in 0..20 {
        assert!(matches!(whole(&disk, n).await, Err(DiskError::Unreadable { .. })), "{n}");
    }
    let why = disk.status().failed.unwrap();
    assert!(why.contains("could not be read"), "{why}");
    // Opened again and again, and each time found to read nothing.
    let reads = faults.reads.load(Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(60);
    while faults.reads.load(Ordering::Relaxed) > reads - 20 {
        assert!(Instant::now() < deadline, "it is not opened again");
        assert!(disk.status().failed.is_some() && !disk.status().writable);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    faults.reads.store(0, Ordering::Relaxed);
    until(&disk, "reads again", |status| status.writable && status.failed.is_none()).await;
    for n in 0..20 {
        assert_eq!(whole(&disk, n).await.unwrap(), payload(n, 5000));
    }
    disk.close().await;
    supervisor.stop(Duration::from_secs(5)).await;
}

/// Only one of its fragments is asked for: the others tell whether that one lies badly or the disk has failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_in_doubt_is_tried_before_it_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::start("test").await.unwrap();
    let faults = Arc::new(Faults::default());
    let disk = DiskHandle::open_with(options(dir.path()), Some(faults.clone())).unwrap();
    supervise_disk(&supervisor, &disk, quick()).await.unwrap();
    for n in 0..5 {
        disk.put(fragment(n, 5000)).await.unwrap();
    }
    faults.reads.store(1, Ordering::Relaxed);
    assert!(matches!(whole(&disk, 1).await, Err(DiskError::Unreadable { .. })));
    let read = disk.metrics().operations.with_label_values(&["verify"]).get();
    let deadline = Instant::now() + Duration::from_secs(60);
    while disk.metrics().operations.with_label_values(&["verify"]).get() == read {
        assert!(Instant::now() < deadline, "no other fragment is tried");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(disk.status().failed, None, "the others are read");

    faults.reads.store(u32::MAX, Ordering::Relaxed);
    assert!(matches!(whole(&disk, 1).await, Err(DiskError::Unreadable { .. })));
    until(&disk, "failed", |status| status.failed.is_some()).await;
    let why = disk.status().failed.unwrap();
    assert!(why.contains("none of its fragments"), "{why}");
    faults.reads.store(0, Ordering::Relaxed);
    until(&disk, "reads again", |status| status.writable && status.failed.is_none()).await;
    disk.close().await;
    supervisor.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spawned_disks_work_and_tools_are_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::start("test").await.unwrap();
    let disk = spawn_disk(&supervisor, options(dir.path())).await.unwrap();
    disk.put(fragment(1, 100_000)).await.unwrap();
    assert!(matches!(tools::inspect(dir.path()), Err(DiskError::Refused { .. })));
    assert!(matches!(tools::rebuild_index(dir.path()), Err(DiskError::Refused { .. })));
    disk.close().await;
    let report = tools::inspect(dir.path()).unwrap();
    assert_eq!((report.fragments, report.payload_bytes, report.segments.len()), (1, 100_000, 1));
    assert_eq!(report.disk, disk.id().to_string());
    let report = tools::rebuild_index(dir.path()).unwrap();
    assert_eq!(report.fragments, 1);
    assert!(report.recovery.index_unusable.is_some());
    let report = tools::verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.recovery.index_unusable.is_none(), "{report:?}");
    assert_eq!((report.fragments_verified, report.bytes_verified), (1, 100_000));
    assert!(tools::inspect(&dir.path().join("segments")).is_err());
    supervisor.stop(Duration::from_secs(1)).await;
}

//! The states that a disk reaches in practice: full, read-only, slow, stuck, gone, returned. In each: what it refuses,
//! by which error, what it still does, what placement learns of it, and that what was acknowledged is there afterwards
//! (DUR-2).
#![allow(clippy::unwrap_used)]

#[path = "../disk/tests/common/mod.rs"]
mod disk_common;
#[path = "../disk/tests/mount/mod.rs"]
mod disk_mount;

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cairn_actors::{
    disk::{DiskHandle, DiskOptions, Faults, tools},
    fragment::{DiskError, DiskStatus},
    placement::{DiskLoad, DiskView, Liveness, topology::Unfit},
    runtime::disk_actor::{Watch, supervise_disk},
    supervisor::Supervisor,
};
use cairn_schema::record::{Disk, DiskState};
use disk_common::{fragment, name, options, payload, until, whole};
use disk_mount::{Kind, LoopFs, skipped};

fn quick() -> Watch {
    Watch {
        tick: Duration::from_millis(10),
        checkpoint_every: Duration::from_millis(50),
        first_retry: Duration::from_millis(20),
        longest_retry: Duration::from_millis(60),
        stuck_after: Duration::from_secs(30),
        hung_after: Duration::from_secs(60),
    }
}

/// Segments that nothing needs are removed after a checkpoint, which a supervised disk writes now and then.
async fn until_checkpoints_bring(disk: &DiskHandle, what: &str, holds: impl Fn(&DiskStatus) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds(&disk.status()) {
        assert!(Instant::now() < deadline, "never {what}: {:?}", disk.status());
        disk.checkpoint().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What placement makes of the disk's status: whether new stripes may use it.
fn placement_says(disk: &DiskHandle) -> Result<(), Unfit> {
    let status = disk.status();
    let record = Disk {
        id: disk.id(),
        node: "n1".parse().unwrap(),
        rack: "r1".into(),
        zone: "z1".into(),
        capacity_bytes: status.capacity_bytes,
        state: DiskState::Up,
        since_ms: 0,
    };
    let load = DiskLoad {
        free_bytes: status.free_bytes,
        used_bytes: status.used_bytes,
        writable: status.writable && status.failed.is_none(),
        read_us: status.read_us,
        write_us: status.write_us,
    };
    let view = DiskView {
        disk: record,
        liveness: Liveness::Alive,
        load: Some(load),
        shunned_reads: 0,
        shunned_writes: 0,
        maintained: false,
        sending: Arc::default(),
    };
    view.fit()
}

async fn all_there(disk: &DiskHandle, numbers: std::ops::Range<u32>, length: usize) {
    for n in numbers {
        assert_eq!(whole(disk, n).await.unwrap_or_else(|error| panic!("{n}: {error}")), payload(n, length), "{n}");
    }
}

/// Many at once fill the disk until it refuses them; returns what it took.
async fn fill(disk: &DiskHandle, length: usize) -> Vec<u32> {
    const WRITERS: u32 = 16;
    let writer = |first: u32| {
        let disk = disk.clone();
        tokio::spawn(async move {
            let mut stored = Vec::new();
            for n in (first..).step_by(WRITERS as usize) {
                match disk.put(fragment(n, length)).await {
                    Ok(()) => stored.push(n),
                    Err(DiskError::Full { .. }) => break,
                    Err(error) => panic!("{n}: {error}"),
                }
            }
            stored
        })
    };
    let mut stored = Vec::new();
    for writer in (0..WRITERS).map(writer).collect::<Vec<_>>() {
        stored.extend(writer.await.unwrap());
    }
    stored.sort_unstable();
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_refuses_writes_early_and_always_deletes() {
    const LENGTH: usize = 20_000;
    let Some(fs) = LoopFs::new(Kind::Ext4, 48, "a full file system") else { return };
    let dir = fs.path().join("disk");
    let reserved = 4 << 20;
    let disk = DiskHandle::open(DiskOptions { reserved_bytes: reserved, ..options(&dir) }).unwrap();
    assert_eq!(placement_says(&disk), Ok(()));
    let stored = fill(&disk, LENGTH).await;
    assert!(stored.len() > 1000, "full after {}", stored.len());
    let refused = Instant::now();
    let error = disk.put(fragment(90_000, LENGTH)).await.unwrap_err();
    assert!(matches!(error, DiskError::Full { reserved: kept, .. } if kept == reserved), "{error}");
    assert!(refused.elapsed() < Duration::from_secs(2), "refused late");
    assert!(placement_says(&disk).is_err(), "{:?}", disk.status());
    // Early: the reserve is still there.
    let left = rustix::fs::statvfs(fs.path()).unwrap();
    assert!(left.f_bavail * left.f_frsize >= reserved / 2, "only {} bytes left", left.f_bavail * left.f_frsize);

    for n in &stored {
        assert_eq!(whole(&disk, *n).await.unwrap(), payload(*n, LENGTH), "{n}");
    }
    let doomed: Vec<u32> = stored.iter().copied().filter(|n| n % 4 != 0).collect();
    for some in doomed.chunks(7) {
        assert_eq!(disk.delete(some.iter().map(|n| name(*n)).collect()).await.unwrap(), some.len() as u64);
    }
    // Space comes back, by holes and by compaction, and with it the writes.
    until_checkpoints_bring(&disk, "room again", |status| status.writable && status.free_bytes > 8 << 20).await;
    assert_eq!(placement_says(&disk), Ok(()));
    disk.put(fragment(90_000, LENGTH)).await.unwrap();
    disk.close().await;
    let disk = DiskHandle::open(options(&dir)).unwrap();
    for n in stored {
        assert_eq!(whole(&disk, n).await.is_ok(), n % 4 == 0, "{n}");
    }
    disk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_of_any_number_fit_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    // Tombstones of so many do not fit into what segments keep for them: the reserve is for that.
    let small = DiskOptions { capacity_bytes: Some(6 << 20), reserved_bytes: 3 << 20, ..options(dir.path()) };
    let disk = DiskHandle::open(small.clone()).unwrap();
    let stored = fill(&disk, 60).await;
    assert!(stored.len() > 5000, "{}", stored.len());
    let names: Vec<_> = stored.iter().map(|n| name(*n)).collect();
    assert_eq!(disk.delete(names).await.unwrap(), stored.len() as u64);
    assert_eq!(disk.status().fragments, 0);
    disk.close().await;
    let disk = DiskHandle::open(small).unwrap();
    assert_eq!(disk.status().fragments, 0);
    until_checkpoints_bring(&disk, "room again", |status| status.free_bytes > 2 << 20).await;
    disk.put(fragment(1, 100_000)).await.unwrap();
    disk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_goes_read_only_under_load_still_serves_reads() {
    const TEST: &str = "a file system that goes read-only";
    const LENGTH: usize = 30_000;
    let Some(mut fs) = LoopFs::new(Kind::Ext4, 200, TEST) else { return };
    let dir = fs.path().join("disk");
    let supervisor = Supervisor::start("test").await.unwrap();
    let disk = DiskHandle::open(options(&dir)).unwrap();
    supervise_disk(&supervisor, &disk, quick()).await.unwrap();
    for n in 0..50 {
        disk.put(fragment(n, LENGTH)).await.unwrap();
    }
    let load: Vec<_> = (0..4u32)
        .map(|client| {
            let disk = disk.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    if let Err(error) = disk.put(fragment(1000 * (client + 1) + n, LENGTH)).await {
                        return error;
                    }
                }
                unreachable!()
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let read_only = fs.meet_error();
    if !read_only {
        return skipped(TEST, "this kernel's ext4 has no trigger_fs_error");
    }
    for client in load {
        let error = tokio::time::timeout(Duration::from_secs(20), client).await.expect("a write hangs").unwrap();
        assert!(matches!(error, DiskError::ReadOnly(_) | DiskError::Io { .. } | DiskError::Gone(_)), "{error}");
    }
    until(&disk, "failed", |status| status.failed.is_some() && !status.writable).await;
    assert_eq!(placement_says(&disk), Err(Unfit::ReadOnly));
    let error = disk.put(fragment(900, LENGTH)).await.unwrap_err();
    assert!(matches!(error, DiskError::ReadOnly(_) | DiskError::Gone(_)), "{error}");
    let error = disk.delete(vec![name(1)]).await.unwrap_err();
    assert!(matches!(error, DiskError::ReadOnly(_) | DiskError::Gone(_)), "{error}");
    // Also while the actor tries to open it again, and by a node that starts now.
    for _ in 0..5 {
        all_there(&disk, 0..50, LENGTH).await;
    }
    disk.close().await;
    let fresh = DiskHandle::open(options(&dir)).expect("a read-only disk is better than none");
    assert!(!fresh.status().writable && fresh.status().failed.is_some(), "{:?}", fresh.status());
    assert!(matches!(fresh.put(fragment(900, LENGTH)).await, Err(DiskError::ReadOnly(_))));
    all_there(&fresh, 0..50, LENGTH).await;
    fresh.close().await;
    drop((fresh, disk));
    supervisor.stop(Duration::from_secs(5)).await;

    fs.unmount();
    fs.mend();
    fs.mount();
    assert!(tools::verify(&dir).unwrap().is_clean());
    let disk = DiskHandle::open(options(&dir)).unwrap();
    assert_eq!(placement_says(&disk), Ok(()));
    all_there(&disk, 0..50, LENGTH).await;
    disk.put(fragment(900, LENGTH)).await.unwrap();
    disk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_vanishes_comes_back_when_it_is_mounted_again() {
    let Some(mut fs) = LoopFs::new(Kind::Xfs, 400, "a disk that vanishes") else { return };
    let dir = fs.path();
    let supervisor = Supervisor::start("test").await.unwrap();
    let disk = DiskHandle::open(options(&dir)).unwrap();
    supervise_disk(&supervisor, &disk, quick()).await.unwrap();
    for n in 0..30 {
        disk.put(fragment(n, 50_000)).await.unwrap();
    }
    fs.detach();
    until(&disk, "failed", |status| status.failed.is_some()).await;
    assert_eq!(placement_says(&disk), Err(Unfit::ReadOnly));
    let error = disk.put(fragment(100, 1000)).await.unwrap_err();
    assert!(matches!(error, DiskError::ReadOnly(_) | DiskError::Gone(_) | DiskError::Io { .. }), "{error}");
    // Several attempts to open it fail, and none makes a new disk where it was.
    tokio::time::sleep(quick().longest_retry * 4).await;
    for what in ["identity", "segments"] {
        assert!(!dir.join(what).exists(), "a new disk was made below the mount point: there is {what}");
    }
    assert!(disk.status().failed.is_some());
    fs.mount();
    until(&disk, "back", |status| status.writable && status.failed.is_none()).await;
    assert_eq!(placement_says(&disk), Ok(()));
    all_there(&disk, 0..30, 50_000).await;
    disk.put(fragment(100, 1000)).await.unwrap();
    disk.close().await;
    supervisor.stop(Duration::from_secs(5)).await;
    drop(disk);
    assert!(tools::verify(&dir).unwrap().is_clean());
}

/// Holds up syncs while it is closed.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut closed = self.closed.lock().unwrap();
        while *closed {
            closed = self.opened.wait(closed).unwrap();
        }
    }

    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_whose_sync_hangs_refuses_writes_until_it_moves_again() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let hung = gate.clone();
    let faults = Faults { on_sync: Some(Box::new(move |_| hung.pass())), ..Faults::default() };
    let disk = DiskHandle::open_with(options(dir.path()), Some(Arc::new(faults))).unwrap();
    disk.put(fragment(1, 5000)).await.unwrap();
    let supervisor = Supervisor::start("test").await.unwrap();
    let limit = Duration::from_millis(200);
    let impatient = Watch { stuck_after: limit, hung_after: limit * 10, ..quick() };
    supervise_disk(&supervisor, &disk, impatient).await.unwrap();
    // A machine under load may be that slow without a gate.
    until(&disk, "writable", |status| status.writable).await;
    gate.set(true);
    let acknowledged = Arc::new(AtomicBool::new(false));
    let stuck = {
        let (disk, acknowledged) = (disk.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let result = disk.put(fragment(2, 5000)).await;
            acknowledged.store(true, Ordering::SeqCst);
            result
        })
    };
    until(&disk, "stuck", |status| !status.writable).await;
    assert_eq!(placement_says(&disk), Err(Unfit::ReadOnly));
    let asked = Instant::now();
    assert!(matches!(disk.put(fragment(3, 5000)).await, Err(DiskError::ReadOnly(_))));
    assert!(asked.elapsed() < Duration::from_secs(1), "refused late");
    until(&disk, "failed", |status| status.failed.is_some()).await;
    let why = disk.status().failed.unwrap();
    assert!(why.contains("a write has not returned"), "{why}");
    assert_eq!(whole(&disk, 1).await.unwrap(), payload(1, 5000));
    // Not synced, so neither acknowledged nor to be seen (DUR-2).
    assert!(!acknowledged.load(Ordering::SeqCst));
    assert!(matches!(disk.info(name(2)).await, Err(DiskError::NotFound(_))));
    gate.set(false);
    stuck.await.unwrap().unwrap();
    until(&disk, "moving again", |status| status.writable && status.failed.is_none()).await;
    assert_eq!(placement_says(&disk), Ok(()));
    disk.put(fragment(3, 5000)).await.unwrap();
    all_there(&disk, 1..4, 5000).await;
    disk.close().await;
    supervisor.stop(Duration::from_secs(5)).await;
}

/// More reads than the process has threads to share hang: the disk counts as failed while they do, its neighbour does
/// not notice, nor does other work.
#[test]
fn bnd_1_a_disk_whose_reads_hang_fails_and_costs_its_neighbours_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let gate = Arc::new(Gate::default());
        let hung = gate.clone();
        let faults = Faults { on_read: Some(Box::new(move |_| hung.pass())), ..Faults::default() };
        let disk = DiskHandle::open_with(options(dir.path()), Some(Arc::new(faults))).unwrap();
        let neighbour = DiskHandle::open(options(other.path())).unwrap();
        for n in 0..20 {
            disk.put(fragment(n, 5000)).await.unwrap();
            neighbour.put(fragment(n, 100_000)).await.unwrap();
        }
        let supervisor = Supervisor::start("test").await.unwrap();
        let limit = Duration::from_millis(300);
        let impatient = Watch { stuck_after: limit, hung_after: limit * 2, ..quick() };
        supervise_disk(&supervisor, &disk, impatient).await.unwrap();
        gate.set(true);
        let reads: Vec<_> = (0..20)
            .map(|n| {
                let disk = disk.clone();
                tokio::spawn(async move { whole(&disk, n).await })
            })
            .collect();
        until(&disk, "failed", |status| status.failed.is_some()).await;
        let why = disk.status().failed.unwrap();
        assert!(why.contains("a read has not returned"), "{why}");
        assert!(matches!(disk.put(fragment(50, 5000)).await, Err(DiskError::ReadOnly(_))));
        for n in 0..20 {
            assert_eq!(whole(&neighbour, n).await.unwrap(), payload(n, 100_000));
            neighbour.put(fragment(100 + n, 100_000)).await.unwrap();
        }
        assert_eq!(tokio::task::spawn_blocking(|| 7).await.unwrap(), 7);
        gate.set(false);
        for (n, read) in (0..).zip(reads) {
            // Those that waited for their turn were told to come again.
            match read.await.unwrap() {
                Ok(bytes) => assert_eq!(bytes, payload(n, 5000)),
                Err(error) => assert!(matches!(error, DiskError::Busy), "{error}"),
            }
        }
        until(&disk, "answering again", |status| status.writable && status.failed.is_none()).await;
        all_there(&disk, 0..20, 5000).await;
        disk.close().await;
        neighbour.close().await;
        supervisor.stop(Duration::from_secs(5)).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Arc::new(AtomicBool::new(false));
    let asked = slow.clone();
    let on_sync = move |_: &cairn_actors::disk::SyncPoint<'_>| {
        if asked.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let faults = Faults { on_sync: Some(Box::new(on_sync)), ..Faults::default() };
    let disk = DiskHandle::open_with(options(dir.path()), Some(Arc::new(faults))).unwrap();
    for n in 0..20 {
        disk.put(fragment(n, 1000)).await.unwrap();
    }
    let before = disk.status().write_us;
    slow.store(true, Ordering::Relaxed);
    for n in 20..25 {
        disk.put(fragment(n, 1000)).await.unwrap();
    }
    // Each sync took 200 ms, and each moves the figure by an eighth: after five it is about half of that.
    let after = disk.status().write_us;
    assert!(after > 80_000 && after > before, "{before} us, then {after} us");
    let metrics = disk.metrics();
    assert_eq!(metrics.write_seconds.get_sample_count(), 25);
    assert!(metrics.write_seconds.get_sample_sum() > 1.0);
    assert!(disk.status().writable, "slow is not broken");
    slow.store(false, Ordering::Relaxed);
    for n in 25..75 {
        disk.put(fragment(n, 1000)).await.unwrap();
    }
    assert!(disk.status().write_us < after / 2, "it never recovers: {} us", disk.status().write_us);
    disk.close().await;
}

/// A new opening asks for the space of a whole segment, of which there is less; ext4 keeps what it had allocated when
/// it finds that out.
#[tokio::test(flavor = "multi_thread")]
async fn opening_a_nearly_full_disk_leaves_the_reserve_to_deletes() {
    let Some(fs) = LoopFs::new(Kind::Ext4, 64, "opening a nearly full disk") else { return };
    let dir = fs.path().join("disk");
    let reserved = 4 << 20;
    let options = DiskOptions { reserved_bytes: reserved, ..options(&dir) };
    let disk = DiskHandle::open(options.clone()).unwrap();
    let stored = fill(&disk, 100_000).await;
    disk.delete(stored[..20].iter().map(|n| name(*n)).collect()).await.unwrap();
    disk.close().await;
    let large = DiskOptions { segment_bytes: 1 << 30, ..options };
    for _ in 0..2 {
        let disk = DiskHandle::open(large.clone()).unwrap();
        let left = rustix::fs::statvfs(fs.path()).unwrap();
        assert!(left.f_bavail * left.f_frsize >= reserved / 2, "{} bytes left", left.f_bavail * left.f_frsize);
        assert_eq!(whole(&disk, stored[30]).await.unwrap(), payload(stored[30], 100_000));
        disk.close().await;
    }
    let disk = DiskHandle::open(large).unwrap();
    assert_eq!(disk.delete(stored[20..].iter().map(|n| name(*n)).collect()).await.unwrap() as usize, stored.len() - 20);
    until(&disk, "writable", |status| status.writable && status.free_bytes > 30 << 20).await;
    disk.put(fragment(90_000, 100_000)).await.unwrap();
    disk.close().await;
}

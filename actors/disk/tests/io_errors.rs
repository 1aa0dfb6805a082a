//! I/O errors that the kernel itself gives: `strace` makes system calls of a process that has a disk open fail, one
//! kind at a time. What it had acknowledged stays (DUR-2), what failed is never called durable, and an unreadable
//! fragment is not called a damaged one (INT-1).
#![allow(clippy::unwrap_used)]

mod child;
mod common;
mod mount;

use std::path::Path;

use cairn_disk::{DiskHandle, tools};
use cairn_fragment::DiskError;

use child::{DiskProcess, Injection};
use common::{copy_dir, find, name, options, payload, whole};
use mount::{Kind, LoopFs};

// strace counts `when=` for each thread and each system call on its own: those that must fail once are named alone.
const WRITE: &str = "pwritev";
const SYNC: &str = "fdatasync";
const SYNCS: &str = "fdatasync,fsync";
const READS: &str = "pread64,preadv,preadv2";

/// Not a test: what the tests start as another process.
#[test]
fn child() {
    child::serve_if_child();
}

fn kind(answer: &str) -> &str {
    answer.split(' ').next().unwrap()
}

/// A new process, from what is on the disk: all of `there` whole and none of `absent`, by the index and by the segments
/// alone.
async fn check(dir: &Path, there: &[(u32, usize)], absent: &[u32]) {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir, copy.path());
    tools::rebuild_index(copy.path()).unwrap();
    for dir in [copy.path(), dir] {
        assert!(tools::verify(dir).unwrap().is_clean());
        let disk = DiskHandle::open(options(dir)).unwrap();
        for (n, length) in there {
            assert_eq!(whole(&disk, *n).await.unwrap(), payload(*n, *length), "{n}");
        }
        for n in absent {
            assert!(matches!(disk.info(name(*n)).await, Err(DiskError::NotFound(_))), "{n}");
        }
        assert_eq!(disk.status().fragments, there.len() as u64);
        disk.close().await;
    }
}

/// The segment file of a fragment's bytes.
fn segment_of(dir: &Path, n: u32, length: usize) -> std::path::PathBuf {
    find(dir, &payload(n, length)).unwrap_or_else(|| panic!("{n} is nowhere")).0
}

#[tokio::test(flavor = "multi_thread")]
async fn dur_2_a_failed_write_is_not_acknowledged_and_its_segment_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = DiskProcess::start(dir.path());
    assert_eq!(disk.ask("put 1 70000"), "ok");
    let Some(injection) = Injection::into(&disk, &format!("{WRITE}:error=EIO:when=1")) else { return };
    assert_eq!(kind(&disk.ask("put 2 70000")), "io");
    assert_eq!(kind(&disk.ask("get 2")), "not_found");
    assert_eq!(disk.ask("put 3 70000"), "ok");
    assert_eq!(disk.ask("put 2 70000"), "ok");
    assert_eq!(disk.ask("status"), "ok writable=true failed=false");
    assert_eq!(injection.end(), 1);
    disk.close();
    assert_ne!(segment_of(dir.path(), 1, 70_000), segment_of(dir.path(), 3, 70_000));
    check(dir.path(), &[(1, 70_000), (2, 70_000), (3, 70_000)], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_turns_out_full_is_a_full_disk_not_a_broken_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = DiskProcess::start(dir.path());
    assert_eq!(disk.ask("put 1 70000"), "ok");
    let Some(injection) = Injection::into(&disk, &format!("{WRITE}:error=ENOSPC:when=1..4")) else { return };
    for _ in 0..4 {
        assert_eq!(kind(&disk.ask("put 2 70000")), "full");
    }
    assert_eq!(disk.ask("status"), "ok writable=true failed=false");
    assert_eq!(disk.ask("get 1"), "ok");
    assert_eq!(disk.ask("put 2 70000"), "ok");
    assert!(injection.end() >= 4);
    disk.close();
    check(dir.path(), &[(1, 70_000), (2, 70_000)], &[]).await;
}

/// Where the failed batch lies nothing is ever appended again, and what it may have left there does not count.
#[tokio::test(flavor = "multi_thread")]
async fn dur_2_after_a_failed_sync_the_segment_is_sealed_and_never_trusted_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut disk = DiskProcess::start(dir);
    assert!(disk.put_many(0..20, 30_000).iter().all(|(_, answer)| answer == "ok"));
    let Some(injection) = Injection::into(&disk, &format!("{SYNC}:error=EIO:when=1")) else { return };
    let first = disk.put_many(20..30, 30_000);
    let failed: Vec<u32> = first.iter().filter(|(_, answer)| answer == "io").map(|(n, _)| *n).collect();
    assert!(!failed.is_empty() && first.iter().all(|(_, answer)| answer == "io" || answer == "ok"), "{first:?}");
    for n in &failed {
        assert_eq!(kind(&disk.ask(&format!("get {n}"))), "not_found");
    }
    assert!(disk.put_many(30..50, 30_000).iter().all(|(_, answer)| answer == "ok"));
    assert_eq!(disk.ask("delete 1"), "ok 1");
    assert_eq!(injection.end(), 1);
    // All of the first twenty fit into the one segment that the failed batch was appended to.
    let failed_in = segment_of(dir, 19, 30_000);
    for n in 30..50 {
        assert_ne!(segment_of(dir, n, 30_000), failed_in, "{n} was appended where a sync had failed");
    }
    drop(disk); // killed
    let acknowledged = (0..50).filter(|n| *n != 1 && !failed.contains(n)).map(|n| (n, 30_000));
    // What failed was cut off before anything else was written.
    let absent: Vec<u32> = failed.iter().copied().chain([1]).collect();
    check(dir, &acknowledged.collect::<Vec<_>>(), &absent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dur_2_a_failed_sync_and_then_a_power_cut() {
    let Some(mut fs) = LoopFs::new(Kind::Xfs, 400, "a failed sync and then a power cut") else { return };
    let dir = fs.path().join("disk");
    let mut disk = DiskProcess::start(&dir);
    assert!(disk.put_many(0..20, 30_000).iter().all(|(_, answer)| answer == "ok"));
    let Some(injection) = Injection::into(&disk, &format!("{SYNC}:error=EIO:when=1")) else { return };
    assert_eq!(kind(&disk.ask("put 20 30000")), "io");
    assert!(disk.put_many(30..50, 30_000).iter().all(|(_, answer)| answer == "ok"));
    assert_eq!(injection.end(), 1);
    fs.cut_power();
    drop(disk);
    fs.unmount();
    fs.mount();
    let there: Vec<_> = (0..20).chain(30..50).map(|n| (n, 30_000)).collect();
    check(&dir, &there, &[20]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dur_2_a_disk_whose_syncs_keep_failing_is_given_up_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = DiskProcess::start(dir.path());
    assert!(disk.put_many(0..10, 5000).iter().all(|(_, answer)| answer == "ok"));
    let Some(injection) = Injection::into(&disk, &format!("{SYNCS}:error=EIO")) else { return };
    let mut answers = Vec::new();
    while answers.last().is_none_or(|answer| answer != "read_only") {
        assert!(answers.len() < 10, "{answers:?}");
        answers.push(kind(&disk.ask("put 10 5000")).to_owned());
    }
    assert!(answers.iter().all(|answer| answer == "io" || answer == "read_only"), "{answers:?}");
    assert_eq!(disk.ask("status"), "ok writable=false failed=true");
    assert_eq!(kind(&disk.ask("delete 1")), "read_only");
    for n in 0..10 {
        assert_eq!(disk.ask(&format!("get {n}")), "ok");
    }
    assert_eq!(kind(&disk.ask("get 10")), "not_found");
    // The batch's and the one that was to cut it off: after that nothing may be written, so the disk is given up.
    assert!(injection.end() >= 2);
    // The disk recovers, but this opening of it does not: nobody knows what became of the pages.
    assert_eq!(kind(&disk.ask("put 10 5000")), "read_only");
    disk.close();
    let mut disk = DiskProcess::start(dir.path());
    assert_eq!(kind(&disk.ask("get 10")), "not_found");
    assert_eq!(disk.ask("put 11 5000"), "ok");
    disk.close();
    let there: Vec<_> = (0..10).chain([11]).map(|n| (n, 5000)).collect();
    check(dir.path(), &there, &[10]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn int_1_a_fragment_that_cannot_be_read_is_told_from_one_that_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = DiskProcess::start(dir.path());
    assert!(disk.put_many(0..10, 200_000).iter().all(|(_, answer)| answer == "ok"));
    let Some(injection) = Injection::into(&disk, &format!("{READS}:error=EIO")) else { return };
    for n in 0..5 {
        assert_eq!(kind(&disk.ask(&format!("get {n}"))), "unreadable");
        assert_eq!(kind(&disk.ask(&format!("verify {n}"))), "unreadable");
    }
    assert_eq!(disk.ask("damage"), "ok 0");
    assert_eq!(disk.ask("put 10 5000"), "ok");
    assert_eq!(disk.ask("status"), "ok writable=true failed=false");
    assert!(injection.end() >= 10);
    for n in 0..11 {
        assert_eq!(disk.ask(&format!("get {n}")), "ok");
    }
    disk.close();
    let there: Vec<_> = (0..10).map(|n| (n, 200_000)).chain([(10, 5000)]).collect();
    check(dir.path(), &there, &[]).await;
}

/// It is given up long before every fragment on it has been asked for, and goes on to answer what it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_can_read_nothing_has_failed_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = DiskProcess::start(dir.path());
    assert!(disk.put_many(0..40, 5000).iter().all(|(_, answer)| answer == "ok"));
    let Some(injection) = Injection::into(&disk, &format!("{READS}:error=EIO")) else { return };
    // The same one over and over is one bad sector.
    for _ in 0..40 {
        assert_eq!(kind(&disk.ask("get 0")), "unreadable");
    }
    assert_eq!(disk.ask("status"), "ok writable=true failed=false");
    for n in 0..40 {
        assert_eq!(kind(&disk.ask(&format!("get {n}"))), "unreadable");
    }
    assert_eq!(disk.ask("status"), "ok writable=false failed=true");
    injection.end();
    for n in 0..40 {
        assert_eq!(disk.ask(&format!("get {n}")), "ok");
    }
    disk.close();
    check(dir.path(), &(0..40).map(|n| (n, 5000)).collect::<Vec<_>>(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fragment_that_cannot_be_read_can_be_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = DiskProcess::start(dir.path());
    assert!(disk.put_many(0..3, 200_000).iter().all(|(_, answer)| answer == "ok"));
    let before = segment_of(dir.path(), 1, 200_000);
    let Some(injection) = Injection::into(&disk, &format!("{READS}:error=EIO:when=1")) else { return };
    // It finds the copy that is here unreadable: what it answers ok for must be readable.
    assert_eq!(disk.ask("put 1 200000"), "ok");
    assert_eq!(injection.end(), 1);
    assert_eq!(disk.ask("get 1"), "ok");
    disk.close();
    assert!(before.exists());
    let there: Vec<_> = (0..3).map(|n| (n, 200_000)).collect();
    check(dir.path(), &there, &[]).await;
}

/// Smoothed read and write latency in microseconds.
fn latencies(disk: &mut DiskProcess) -> (u64, u64) {
    let answer = disk.ask("latencies");
    let mut words = answer.strip_prefix("ok ").unwrap().split(' ').map(|word| word.parse().unwrap());
    (words.next().unwrap(), words.next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_device_shows_in_the_latencies_that_placement_and_readers_go_by() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = DiskProcess::start(dir.path());
    assert!(disk.put_many(0..10, 5000).iter().all(|(_, answer)| answer == "ok"));
    let Some(injection) = Injection::into(&disk, &format!("{SYNC},{READS}:delay_enter=100000")) else { return };
    for n in 10..14 {
        assert_eq!(disk.ask(&format!("put {n} 5000")), "ok");
        assert_eq!(disk.ask(&format!("get {n}")), "ok");
    }
    let (read_us, write_us) = latencies(&mut disk);
    // Four samples each of at least 100 ms, each of which moves the figure by an eighth; lookups between are quick.
    assert!(read_us > 15_000 && write_us > 30_000, "read {read_us} us, write {write_us} us");
    assert_eq!(disk.ask("status"), "ok writable=true failed=false");
    injection.end();
    for n in 0..14 {
        assert_eq!(disk.ask(&format!("get {n}")), "ok");
    }
    assert!(latencies(&mut disk).0 < read_us, "it never recovers");
    disk.close();
}

//! INT-1 and DUR-2 of one disk: no damaged byte is served, no acknowledged one is lost, wherever a bit flips or a crash
//! cuts.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use cairn_disk::{DiskHandle, DiskOptions, Faults, SyncPoint, tools};
use cairn_fragment::DiskError;

use common::{Dice, copy_dir, find, flip, fragment, name, options, payload, segment_files, whole};

const COUNT: u32 = 40;

fn length(n: u32) -> usize {
    [20, 100, 3000, 4096, 65_536, 70_000, 150_000][n as usize % 7] + n as usize
}

/// A closed disk with fragments, holes and tombstones in several segments.
async fn filled(dir: &Path) -> Vec<u32> {
    let disk = DiskHandle::open(DiskOptions { segment_bytes: 256 << 10, ..options(dir) }).unwrap();
    for n in 0..COUNT {
        disk.put(fragment(n, length(n))).await.unwrap();
    }
    disk.delete((0..COUNT).filter(|n| n % 3 == 0).map(name).collect()).await.unwrap();
    disk.close().await;
    (0..COUNT).filter(|n| n % 3 != 0).collect()
}

/// The file and bytes of each fragment's record.
fn records(dir: &Path, live: &[u32]) -> BTreeMap<u32, (PathBuf, std::ops::Range<usize>)> {
    let of = |n: u32| {
        let (path, at) = find(dir, &payload(n, length(n))).unwrap();
        let start = at - 64 - 8 * length(n).div_ceil(65_536);
        assert_eq!(start % 64, 0);
        (n, (path, start..(at + length(n)).next_multiple_of(64)))
    };
    live.iter().map(|n| of(*n)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn int_1_every_flipped_byte_is_noticed_never_served_and_spares_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let live = filled(dir.path()).await;
    let records = records(dir.path(), &live);
    let mut dice = Dice::seeded("flips");
    for round in 0..90u32 {
        let image = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), image.path());
        if round % 2 == 1 {
            std::fs::remove_dir_all(image.path().join("index")).unwrap();
        }
        // A byte of a known record, its head as often as its payload; or any byte of any file.
        let mut victim = None;
        let (path, at) = if round % 3 < 2 {
            let n = live[dice.roll(live.len() as u64) as usize];
            let (path, range) = &records[&n];
            let size = if round % 3 == 0 { 80 } else { range.len() as u64 };
            victim = Some(n);
            (path.clone(), range.start + dice.roll(size) as usize)
        } else {
            let mut files = segment_files(dir.path());
            files.push(dir.path().join("identity"));
            let path = files.swap_remove(dice.roll(files.len() as u64) as usize);
            let size = std::fs::metadata(&path).unwrap().len();
            (path, dice.roll(size) as usize)
        };
        let inside = path.strip_prefix(dir.path()).unwrap();
        flip(&image.path().join(inside), at, 1 << dice.roll(8));
        let what = format!("round {round}: {} byte {at}, fragment {victim:?}", inside.display());

        let report = tools::verify(image.path()).unwrap();
        let disk = DiskHandle::open(options(image.path())).unwrap();
        let mut bad = BTreeSet::new();
        for n in &live {
            match whole(&disk, *n).await {
                Ok(bytes) => assert_eq!(bytes, payload(*n, length(*n)), "{what}: wrong bytes of {n}"),
                Err(DiskError::Corrupt { .. } | DiskError::NotFound(_)) => drop(bad.insert(*n)),
                Err(error) => panic!("{what}: {n}: {error}"),
            }
            if disk.verify(name(*n)).await.is_err() {
                bad.insert(*n);
            }
        }
        assert!(bad.len() <= 1, "{what}: {bad:?} unreadable");
        if let Some(victim) = victim {
            assert!(bad.contains(&victim), "{what}: not noticed");
            let torn = report.recovery.torn.contains(&name(victim).to_string()) || report.recovery.torn_tail;
            assert!(!report.is_clean() || torn, "{what}: not reported: {report:?}");
        }
        // What is damaged can be written again, also after yet another opening.
        for n in bad {
            disk.put(fragment(n, length(n))).await.unwrap();
        }
        disk.close().await;
        std::fs::remove_dir_all(image.path().join("index")).unwrap();
        let disk = DiskHandle::open(options(image.path())).unwrap();
        for n in &live {
            assert_eq!(whole(&disk, *n).await.unwrap(), payload(*n, length(*n)), "{what}: {n} after repair");
        }
        for n in (0..COUNT).filter(|n| n % 3 == 0) {
            // A damaged tombstone may bring a name back, never its bytes: they were given back.
            if let Ok(bytes) = whole(&disk, n).await {
                assert_eq!(bytes, payload(n, length(n)), "{what}: {n} resurrected");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_cut_anywhere_loses_only_what_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let live = filled(dir.path()).await;
    let records = records(dir.path(), &live);
    let mut dice = Dice::seeded("cuts");
    for round in 0..40 {
        let image = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), image.path());
        if round % 2 == 1 {
            std::fs::remove_dir_all(image.path().join("index")).unwrap();
        }
        let files = segment_files(image.path());
        let path = &files[dice.roll(files.len() as u64) as usize];
        let cut = 8192 + dice.roll(std::fs::metadata(path).unwrap().len() - 8192);
        std::fs::File::options().write(true).open(path).unwrap().set_len(cut).unwrap();
        let disk = DiskHandle::open(options(image.path())).unwrap();
        for n in &live {
            let (file, range) = &records[n];
            let hit = file.file_name() == path.file_name() && range.end as u64 > cut;
            match whole(&disk, *n).await {
                Ok(bytes) => assert_eq!(bytes, payload(*n, length(*n)), "{n}"),
                Err(error) => assert!(hit, "{n} was not cut: {error}"),
            }
        }
        disk.put(fragment(500, 100_000)).await.unwrap();
        assert_eq!(whole(&disk, 500).await.unwrap(), payload(500, 100_000));
    }
}

/// What clients were told, in order.
#[derive(Default)]
struct Told {
    stored: BTreeSet<u32>,
    /// A delete was begun: from then on the fragment may be there or not, until it is told deleted.
    deleting: BTreeSet<u32>,
    deleted: BTreeSet<u32>,
}

struct Image {
    dir: tempfile::TempDir,
    stored: BTreeSet<u32>,
    deleting: BTreeSet<u32>,
    deleted: BTreeSet<u32>,
}

/// Takes what is on the disk as a power cut at this sync would leave it: of the batch that was not synced, any part may
/// be missing.
fn take_image(dir: &Path, told: &Mutex<Told>, point: &SyncPoint<'_>, dice: &mut Dice) -> Image {
    use std::os::unix::fs::FileExt;
    let (stored, deleting, deleted) = {
        let told = told.lock().unwrap();
        (told.stored.clone(), told.deleting.clone(), told.deleted.clone())
    };
    let image = tempfile::tempdir().unwrap();
    copy_dir(dir, image.path());
    if !point.synced {
        let path = image.path().join(point.path.strip_prefix(dir).unwrap());
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let size = point.bytes.end - point.bytes.start;
        for _ in 0..=dice.roll(3) {
            // Disks lose sectors, not bytes; what was there before was zero.
            let from = (point.bytes.start + dice.roll(size)) / 512 * 512;
            let to = (from + 512 * (1 + dice.roll(20))).min(point.bytes.end.next_multiple_of(512));
            let from = from.max(point.bytes.start);
            file.write_all_at(&vec![0; to.saturating_sub(from) as usize], from).unwrap();
        }
        if dice.roll(4) == 0 {
            file.set_len(point.bytes.start + dice.roll(size)).unwrap();
        }
    }
    Image { dir: image, stored, deleting, deleted }
}

#[tokio::test(flavor = "multi_thread")]
async fn dur_2_a_power_cut_at_any_sync_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    let images = Arc::new(Mutex::new(Vec::new()));
    let seed = Dice::seeded("power cuts").0;
    let faults = {
        let (told, images, dir) = (told.clone(), images.clone(), dir.path().to_owned());
        let dice = Mutex::new(Dice(seed));
        let tidying = Arc::<parking_lot::RwLock<()>>::default();
        let still = tidying.clone();
        let hook = move |point: &SyncPoint<'_>| {
            let _still = still.write();
            let mut dice = dice.lock().unwrap();
            let mut images = images.lock().unwrap();
            if images.len() < 60 && dice.roll(2) == 0 {
                images.push(take_image(&dir, &told, point, &mut dice));
            }
        };
        Arc::new(Faults { on_sync: Some(Box::new(hook)), tidying, ..Faults::default() })
    };
    let small = DiskOptions { segment_bytes: 256 << 10, ..options(dir.path()) };
    let disk = DiskHandle::open_with(small, Some(faults)).unwrap();
    let tasks: Vec<_> = (0..6u32)
        .map(|client| {
            let (disk, told) = (disk.clone(), told.clone());
            tokio::spawn(async move {
                let mut dice = Dice(seed ^ u64::from(client));
                for i in 0..25 {
                    let n = client * 100 + i;
                    disk.put(fragment(n, length(n))).await.unwrap();
                    told.lock().unwrap().stored.insert(n);
                    if dice.roll(3) == 0 {
                        let n = client * 100 + dice.roll(u64::from(i) + 1) as u32;
                        told.lock().unwrap().deleting.insert(n);
                        disk.delete(vec![name(n)]).await.unwrap();
                        told.lock().unwrap().deleted.insert(n);
                    }
                    if i == 12 && client == 0 {
                        disk.checkpoint().await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 20, "only {} images", images.len());
    for (i, image) in images.into_iter().enumerate() {
        for rebuild in [false, true] {
            if rebuild && std::fs::remove_dir_all(image.dir.path().join("index")).is_err() {
                continue;
            }
            let disk = DiskHandle::open(options(image.dir.path())).unwrap();
            for n in image.stored.difference(&image.deleting) {
                let bytes = whole(&disk, *n).await.unwrap_or_else(|error| panic!("image {i}: {n} lost: {error}"));
                assert_eq!(bytes, payload(*n, length(*n)), "image {i}: {n}");
            }
            for n in &image.deleted {
                assert!(matches!(disk.info(name(*n)).await, Err(DiskError::NotFound(_))), "image {i}: {n} resurrected");
            }
            // Whatever else is there is whole: a batch that was cut short shows only what arrived.
            for info in disk.list(None, None, 10_000).await.unwrap() {
                disk.verify(info.name).await.unwrap_or_else(|error| panic!("image {i}: {error}"));
            }
            disk.put(fragment(900, 5000)).await.unwrap();
            disk.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_names_every_fragment_once_tells_its_bytes_and_which_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let live = filled(dir.path()).await;
    let records = records(dir.path(), &live);
    let list = |digests: bool| {
        let mut listing = tools::Listing::open(dir.path(), digests).unwrap();
        assert_eq!(listing.fragments(), live.len() as u64);
        let first = listing.page().unwrap();
        assert!(listing.page().unwrap().is_empty(), "a page after the last");
        first
    };
    let named: BTreeMap<_, u32> = live.iter().map(|n| (name(*n), *n)).collect();
    let plain = list(false);
    let read = list(true);
    assert_eq!(plain.iter().map(|one| one.name).collect::<Vec<_>>(), named.keys().copied().collect::<Vec<_>>());
    for (plain, read) in plain.iter().zip(&read) {
        let bytes = payload(named[&read.name], length(named[&read.name]));
        assert_eq!((plain.bytes as usize, read.bytes as usize), (bytes.len(), bytes.len()));
        assert_eq!(plain.digest, None);
        assert_eq!(read.digest, Some(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes))));
        assert_eq!(read.damage, None);
    }
    let victim = live[3];
    let (path, range) = &records[&victim];
    assert_eq!(range.start as u64, read.iter().find(|one| one.name == name(victim)).unwrap().offset);
    flip(path, range.start + 80, 1);
    let damaged: Vec<_> = list(true).into_iter().filter(|one| one.damage.is_some()).collect();
    assert_eq!(damaged.iter().map(|one| (one.name, one.digest.clone())).collect::<Vec<_>>(), [(name(victim), None)]);
}

/// Its file stays open, so that what it holds could be read, and more written to it, until the process ends.
#[tokio::test(flavor = "multi_thread")]
async fn red_1_a_segment_that_somebody_deletes_fails_the_disk_and_is_missing_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskHandle::open(DiskOptions { segment_bytes: 256 << 10, ..options(dir.path()) }).unwrap();
    let mut stored: BTreeSet<u32> = (0..COUNT).collect();
    for n in &stored {
        disk.put(fragment(*n, length(*n))).await.unwrap();
    }
    disk.look();
    assert!(!disk.has_failed(), "segments that come are no trouble");
    // One that is full, and the one that is being written.
    for which in [0, usize::MAX] {
        let files = segment_files(dir.path());
        let file = &files[which.min(files.len() - 1)];
        let lost: BTreeSet<u32> = stored
            .iter()
            .copied()
            .filter(|n| find(dir.path(), &payload(*n, length(*n))).is_some_and(|(path, _)| path == *file))
            .collect();
        assert!(!lost.is_empty());
        std::fs::remove_file(file).unwrap();
        disk.look();
        assert!(disk.has_failed(), "{}", file.display());
        disk.reopen().unwrap();
        for n in &stored {
            match whole(&disk, *n).await {
                Ok(bytes) => assert!(bytes == payload(*n, length(*n)) && !lost.contains(n), "{n}"),
                Err(error) => assert!(matches!(error, DiskError::NotFound(_)) && lost.contains(n), "{n}: {error}"),
            }
        }
        for n in &lost {
            disk.put(fragment(*n, length(*n))).await.unwrap();
            stored.insert(*n);
        }
        disk.look();
        assert!(!disk.has_failed());
    }
    disk.close().await;
}

//! What a power cut may leave of the batch that was being synced: any of its sectors, in any order, or a shorter file.
//! Made from the journal of a store that was stopped before its last commit and after it, so the bytes of that commit
//! are known.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use cairn_schema::kv::{Kv, RangeQuery, SharedKv};
use rand::{Rng, rngs::StdRng};

use crate::{close, open, seeded};

const SECTOR: u64 = 512;
const IMAGES: usize = 60;
/// Commits before the last one.
const COMMITS: u32 = 20;
/// Rows of each.
const ROWS: u32 = 120;

async fn commit(kv: &dyn Kv, number: u32) {
    let mut tx = kv.begin().await.unwrap();
    for row in 0..ROWS {
        // Some values are long enough to be compressed.
        let value = vec![0x40 + row as u8; if row % 40 == 0 { 9000 } else { 200 }];
        tx.set(Bytes::from(format!("{number:04}/{row:04}")), value.into());
    }
    tx.commit().await.unwrap();
}

/// Commits that are there; each must be whole.
async fn commits(kv: &SharedKv, context: &str) -> Vec<u32> {
    let mut rows = Vec::new();
    let mut snapshot = kv.long_snapshot().await.unwrap().unwrap();
    let all = RangeQuery::new(Bytes::from_static(b"0"), Bytes::from_static(b":"), usize::MAX);
    for (key, _) in snapshot.range(all.snapshot()).await.unwrap().rows {
        let key = std::str::from_utf8(&key).unwrap().to_owned();
        rows.push(key.split_once('/').unwrap().0.parse::<u32>().unwrap());
    }
    let commits = rows.chunks(ROWS as usize);
    for commit in commits.clone() {
        assert_eq!(commit, vec![commit[0]; ROWS as usize], "{context}: half a commit");
    }
    commits.map(|commit| commit[0]).collect()
}

/// A journal and how many of its bytes are written: what follows is zeros.
fn journal(store: &Path) -> (PathBuf, u64) {
    let files = std::fs::read_dir(store.join("store")).unwrap().map(|entry| entry.unwrap().path());
    let mut journals: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "jnl")).collect();
    assert_eq!(journals.len(), 1);
    let path = journals.remove(0);
    let bytes = std::fs::read(&path).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    (path, written)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, target) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A store whose last commit is in the journal's bytes `last`.
struct Original {
    directory: tempfile::TempDir,
    /// Where each commit ends in the journal.
    ends: Vec<u64>,
    bytes: Vec<u8>,
}

impl Original {
    async fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("original");
        let mut ends = Vec::new();
        let kv = open_large(&path);
        for number in 0..=COMMITS {
            commit(&*kv, number).await;
            ends.push(journal(&path).1);
        }
        let (file, written) = journal(&path);
        let mut bytes = std::fs::read(file).unwrap();
        bytes.truncate(written as usize);
        close(kv).await;
        Self { directory, ends, bytes }
    }

    fn last(&self) -> Range<u64> {
        self.ends[COMMITS as usize - 1]..self.ends[COMMITS as usize]
    }

    /// The store with another journal.
    fn image(&self, name: &str, journal_bytes: &[u8], length: u64) -> PathBuf {
        let path = self.directory.path().join(name);
        copy(&self.directory.path().join("original"), &path);
        let mut file = File::create(journal(&path).0).unwrap();
        file.write_all(journal_bytes).unwrap();
        file.set_len(length).unwrap();
        path
    }
}

/// Nothing is written to tables: all commits are in the journal.
fn open_large(path: &Path) -> SharedKv {
    use cairn_schema::kv::embedded::{self, EmbeddedOptions};
    std::sync::Arc::new(embedded::open(path, EmbeddedOptions::default()).unwrap())
}

/// Some of the last batch's sectors, and a length that the file may have.
fn torn(original: &Original, rng: &mut StdRng) -> (Vec<u8>, u64) {
    let last = original.last();
    let mut bytes = original.bytes.clone();
    let end = bytes.len() as u64;
    match rng.random_range(0..4) {
        // Cut off anywhere.
        0 => {
            let length = rng.random_range(last.start..end);
            bytes.truncate(length as usize);
            (bytes, length)
        }
        // Written up to somewhere, in a file that is longer.
        1 => {
            bytes.truncate(rng.random_range(last.start..end) as usize);
            (bytes, end + rng.random_range(0..1 << 20))
        }
        // Any sectors missing; in most images only one, so that all else of the batch is right.
        kind => {
            let sectors: Vec<u64> = (last.start / SECTOR..=(end - 1) / SECTOR).collect();
            let lost = if kind == 2 { 1 } else { rng.random_range(1..=sectors.len()) };
            for _ in 0..lost {
                let sector = sectors[rng.random_range(0..sectors.len())];
                let range = (sector * SECTOR).max(last.start)..((sector + 1) * SECTOR).min(end);
                bytes[range.start as usize..range.end as usize].fill(0);
            }
            let longer = if rng.random() { 1 << 20 } else { 0 };
            (bytes, end + longer)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dur_2_a_batch_that_was_being_synced_is_there_wholly_or_not_at_all() {
    let (seed, mut rng) = seeded();
    let original = Original::make().await;
    let before: Vec<u32> = (0..COMMITS).collect();
    for number in 0..IMAGES {
        let context = format!("seed {seed}, image {number}");
        let (bytes, length) = torn(&original, &mut rng);
        let path = original.image("image", &bytes, length);
        let kv = open(&path).unwrap_or_else(|error| panic!("{context}: {error}"));
        let kept = commits(&kv, &context).await;
        let all = bytes == original.bytes;
        assert_eq!(kept.len(), before.len() + usize::from(all), "{context}: {kept:?}");
        assert_eq!(kept[..before.len()], before, "{context}");
        // What follows is written after what is left.
        commit(&*kv, COMMITS).await;
        close(kv).await;
        let kv = open(&path).unwrap_or_else(|error| panic!("{context}, again: {error}"));
        assert_eq!(commits(&kv, &context).await.len(), before.len() + 1, "{context}");
        close(kv).await;
        std::fs::remove_dir_all(path).unwrap();
    }
}

/// A write that failed in the middle of a batch, as on a full disk, after which fjall sealed the journal and began
/// another.
#[tokio::test(flavor = "multi_thread")]
async fn dur_2_a_batch_that_could_not_be_written_is_cut_off_a_sealed_journal() {
    let (seed, mut rng) = seeded();
    let original = Original::make().await;
    let last = original.last();
    let cuts: Vec<u64> = (0..4).map(|_| rng.random_range(last.start + 1..last.end - 4)).chain([100]).collect();
    for cut in cuts {
        let context = format!("seed {seed}, cut at {cut}");
        let path = original.image("sealed", &original.bytes[..cut as usize], 64 << 20);
        let sealed = journal(&path).0;
        let number: u64 = sealed.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let next = File::create(sealed.with_file_name(format!("{}.jnl", number + 1))).unwrap();
        next.set_len(64 << 20).unwrap();
        let intact = original.ends.iter().filter(|end| **end <= cut).count();
        for more in 0..2 {
            let kv = open(&path).unwrap_or_else(|error| panic!("{context}, {more}: {error}"));
            assert_eq!(commits(&kv, &context).await.len(), intact + more, "{context}");
            commit(&*kv, (intact + more) as u32).await;
            close(kv).await;
        }
        std::fs::remove_dir_all(path).unwrap();
    }
}

/// INT-1: a batch that was acknowledged, because others follow it, is never dropped in silence.
#[tokio::test(flavor = "multi_thread")]
async fn damage_before_other_commits_is_an_error_and_changes_nothing() {
    let (seed, mut rng) = seeded();
    let original = Original::make().await;
    for number in 0..IMAGES / 3 {
        let context = format!("seed {seed}, image {number}");
        let mut bytes = original.bytes.clone();
        let at = rng.random_range(0..original.last().start);
        bytes[at as usize] ^= rng.random_range(1..=255u8);
        let path = original.image("damaged", &bytes, bytes.len() as u64);
        let error = match open(&path) {
            Ok(_) => panic!("{context}: byte {at} of {} was changed, and the store opened", bytes.len()),
            Err(error) => error,
        };
        assert!(error.contains("damaged"), "{context}: {error}");
        let mut left = Vec::new();
        File::open(journal(&path).0).unwrap().read_to_end(&mut left).unwrap();
        assert!(left == bytes, "{context}: the journal was changed");
        // Put right again, it opens.
        let mut file = File::options().write(true).open(journal(&path).0).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&original.bytes[at as usize..=at as usize]).unwrap();
        drop(file);
        let kv = open(&path).expect(&context);
        assert_eq!(commits(&kv, &context).await.len(), COMMITS as usize + 1, "{context}");
        close(kv).await;
        std::fs::remove_dir_all(path).unwrap();
    }
}

//! The fragment store against a map: the same random operations on both must look the same, whatever happens in
//! between.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cairn_disk::{DiskHandle, DiskOptions, Faults};
use cairn_fragment::{BlobRange, DiskError, LocalDisk, NameDigest, PARTS};
use cairn_schema::ids::GroupId;
use common::{Dice, copy_dir, find, flip, fragment, name, options, payload, whole};

struct Run {
    dice: Dice,
    dir: tempfile::TempDir,
    disk: Option<DiskHandle>,
    faults: Arc<Faults>,
    /// Number and length of what must be there.
    model: BTreeMap<u32, usize>,
    damaged: BTreeSet<u32>,
    log: Vec<String>,
}

const NAMES: u64 = 60;

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("what was done:\n{}", self.log.join("\n"));
        }
    }
}

fn small(path: &std::path::Path) -> DiskOptions {
    DiskOptions { segment_bytes: 512 << 10, capacity_bytes: Some(6 << 20), ..options(path) }
}

impl Run {
    fn open(&mut self) {
        self.faults = Arc::default();
        self.disk = Some(DiskHandle::open_with(small(self.dir.path()), Some(self.faults.clone())).unwrap());
    }

    fn disk(&self) -> &DiskHandle {
        self.disk.as_ref().unwrap()
    }

    fn n(&mut self) -> u32 {
        self.dice.roll(NAMES) as u32
    }

    async fn step(&mut self) {
        let n = self.n();
        match self.dice.roll(100) {
            0..40 => self.put(n).await,
            40..60 => self.delete().await,
            60..80 => self.get(n).await,
            80..85 => self.list().await,
            85..89 => self.close(false).await,
            89..93 => self.crash(),
            93..95 => self.close(true).await,
            95..97 => self.disk().checkpoint().await.unwrap(),
            _ => self.corrupt(n).await,
        }
    }

    async fn put(&mut self, n: u32) {
        let length = match self.dice.roll(4) {
            0 => self.dice.roll(200),
            1 => self.dice.roll(5000),
            2 => self.dice.roll(70_000),
            _ => self.dice.roll(300_000),
        } as usize;
        let length = self.model.get(&n).copied().unwrap_or(length);
        let result = self.disk().put(fragment(n, length)).await;
        self.log.push(format!("put {n} {length}: {result:?}"));
        match result {
            Ok(()) => {
                self.model.insert(n, length);
                self.damaged.remove(&n);
            }
            Err(DiskError::Full { .. }) => assert!(self.disk().status().free_bytes < 1 << 20, "full too early"),
            Err(error) => panic!("put {n}: {error}"),
        }
    }

    async fn delete(&mut self) {
        let doomed: BTreeSet<u32> = (0..=self.dice.roll(6)).map(|_| self.n()).collect();
        self.log.push(format!("delete {doomed:?}"));
        let there = doomed.iter().filter(|n| self.model.remove(n).is_some()).count();
        let deleted = self.disk().delete(doomed.iter().map(|n| name(*n)).collect()).await.unwrap();
        assert_eq!(deleted, there as u64);
        self.damaged.retain(|n| !doomed.contains(n));
    }

    async fn get(&mut self, n: u32) {
        let Some(length) = self.model.get(&n).copied() else {
            assert!(matches!(whole(self.disk(), n).await, Err(DiskError::NotFound(_))), "{n}");
            return;
        };
        let start = self.dice.roll(length as u64 + 1) as usize;
        let end = start + self.dice.roll((length - start) as u64 + 1) as usize;
        match self.disk().get(name(n), start as u32..end as u32).await {
            Ok(bytes) => assert_eq!(bytes, payload(n, length).slice(start..end), "{n} {start}..{end}"),
            Err(DiskError::Corrupt { .. }) => assert!(self.damaged.contains(&n), "{n} is not damaged"),
            Err(error) => panic!("get {n}: {error}"),
        }
    }

    async fn list(&mut self) {
        let all = self.disk().list(None, None, 1000).await.unwrap();
        let mut wanted: Vec<_> = self.model.iter().map(|(n, length)| (name(*n), *length as u32)).collect();
        wanted.sort();
        assert_eq!(all.iter().map(|info| (info.name, info.length)).collect::<Vec<_>>(), wanted);
        let group = GroupId(self.dice.roll(4) as u32);
        let mut paged = Vec::new();
        loop {
            let page = self.disk().list(Some(group), paged.last().map(|(name, _)| *name), 3).await.unwrap();
            if page.is_empty() {
                break;
            }
            paged.extend(page.iter().map(|info| (info.name, info.length)));
        }
        wanted.retain(|(name, _)| name.group == group);
        assert_eq!(paged, wanted);
        self.digests(group).await;
    }

    /// Of all blobs they are kept with every change; of a part the names are looked through.
    async fn digests(&mut self, group: GroupId) {
        let part = BlobRange::ALL.part(self.dice.roll(PARTS as u64) as usize).unwrap();
        for (position, range) in (0..6).flat_map(|position| [(position, BlobRange::ALL), (position, part)]) {
            let mut wanted = vec![NameDigest::default(); PARTS];
            let names =
                self.model.keys().map(|n| name(*n)).filter(|name| (name.group, name.position) == (group, position));
            for name in names.filter(|name| range.contains(name.blob)) {
                wanted[range.part_of(name.blob)].add(name.blob, name.stripe);
            }
            assert_eq!(
                self.disk().digests(group, position, range).await.unwrap(),
                wanted,
                "{group:?} {position} {range:?}"
            );
        }
    }

    async fn close(&mut self, lose_index: bool) {
        self.log.push(format!("close, lose index: {lose_index}"));
        self.disk().close().await;
        self.disk = None;
        if lose_index {
            std::fs::remove_dir_all(self.dir.path().join("index")).unwrap();
        }
        self.open();
        self.forget_torn();
    }

    /// What is on the disk at this instant is all that a new process gets.
    fn crash(&mut self) {
        self.log.push("crash".into());
        let image = tempfile::tempdir().unwrap();
        {
            let _still = (self.faults.moving.write(), self.faults.tidying.write());
            copy_dir(self.dir.path(), image.path());
        }
        self.dir = image;
        self.open();
        self.forget_torn();
    }

    /// A fragment of the very last batch that we damaged looks as if a crash had cut it short.
    fn forget_torn(&mut self) {
        let report = self.disk().recovery().unwrap();
        assert!(report.damaged.is_empty() && report.unreadable_segments.is_empty(), "{report:?}");
        for torn in report.torn {
            let n = self.damaged.iter().copied().find(|n| name(*n).to_string() == torn);
            let n = n.unwrap_or_else(|| panic!("{torn} was whole, now it is torn"));
            self.damaged.remove(&n);
            self.model.remove(&n);
        }
    }

    async fn corrupt(&mut self, n: u32) {
        let Some(length) = self.model.get(&n).copied().filter(|length| *length >= 16) else { return };
        if self.damaged.contains(&n) {
            return;
        }
        let (path, at) = find(self.dir.path(), &payload(n, length)).unwrap();
        let byte = self.dice.roll(length as u64) as usize;
        self.log.push(format!("corrupt {n} byte {byte}"));
        flip(&path, at + byte, 1 << self.dice.roll(8));
        match whole(self.disk(), n).await {
            Err(DiskError::Corrupt { .. }) => {
                self.damaged.insert(n);
                assert!(matches!(self.disk().verify(name(n)).await, Err(DiskError::Corrupt { .. })));
            }
            // It was just being moved: what was hit is the copy that does not count any more.
            Ok(bytes) => {
                assert_eq!(bytes, payload(n, length));
                let now = find(self.dir.path(), &bytes);
                assert_ne!(now, Some((path, at)), "not noticed");
            }
            Err(error) => panic!("{n}: {error}"),
        }
    }
}

async fn run(dice: Dice, steps: u32) {
    let mut run = Run {
        dice,
        dir: tempfile::tempdir().unwrap(),
        disk: None,
        faults: Arc::default(),
        model: BTreeMap::new(),
        damaged: BTreeSet::new(),
        log: Vec::new(),
    };
    run.open();
    for _ in 0..steps {
        run.step().await;
    }
    run.close(true).await;
    run.list().await;
    for n in 0..NAMES as u32 {
        run.get(n).await;
    }
    // Space follows the live data, however much was written.
    let live: u64 = run.model.values().map(|length| *length as u64 + 9000).sum();
    let used = run.disk().status().used_bytes;
    assert!(used <= live + (3 << 20), "{used} bytes used for {live}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_operations_look_the_same_as_on_a_map() {
    let mut dice = Dice::seeded("model");
    for round in 0..8 {
        let seed = dice.roll(u64::MAX);
        println!("round {round}");
        run(Dice(seed), 200).await;
    }
}

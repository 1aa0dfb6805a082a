//! What the tests of the fragment store share.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_disk::{DiskHandle, DiskOptions, IndexMemory};
use cairn_fragment::{DiskError, DiskStatus, NewFragment, block_checksums};
use cairn_schema::ids::{BlobId, ClusterId, FragmentName, GroupId};

pub(crate) const CLUSTER: ClusterId = ClusterId([9; 16]);

pub(crate) fn options(path: &Path) -> DiskOptions {
    DiskOptions {
        path: path.to_owned(),
        cluster: CLUSTER,
        segment_bytes: 1 << 20,
        reserved_bytes: 1 << 20,
        capacity_bytes: None,
        max_queued_bytes: 8 << 20,
        max_queued_reads: 64,
        index: IndexMemory::default(),
    }
}

pub(crate) fn name(n: u32) -> FragmentName {
    FragmentName { group: GroupId(n % 4), blob: BlobId([n as u8; 16]), stripe: n, position: (n % 6) as u8 }
}

pub(crate) fn payload(seed: u32, length: usize) -> Bytes {
    let mut state = u64::from(seed) * 2654435761 + 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect::<Vec<u8>>().into()
}

pub(crate) fn fragment(n: u32, length: usize) -> NewFragment {
    let payload = payload(n, length);
    NewFragment { name: name(n), block_checksums: block_checksums(&payload), payload }
}

pub(crate) async fn whole(disk: &DiskHandle, n: u32) -> Result<Bytes, DiskError> {
    let info = disk.info(name(n)).await?;
    disk.get(name(n), 0..info.length).await
}

/// A copy of a disk. Of one that is open, only what nothing changes meanwhile is an image that a crash could have left.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = from.join(&name);
        if path.is_dir() {
            copy_dir(&path, &to.join(&name));
            continue;
        }
        match std::fs::copy(&path, to.join(&name)) {
            Ok(_) => {}
            // Removed between the listing and the copy.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("copy {}: {error}", path.display()),
        }
    }
}

/// Waits until the disk's status is as wanted; it tidies up on its own.
pub(crate) async fn until(disk: &DiskHandle, what: &str, wanted: impl Fn(&DiskStatus) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !wanted(&disk.status()) {
        assert!(Instant::now() < deadline, "never {what}: {:?}", disk.status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A small repeatable generator: the seed that is printed brings a failure back.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn seeded(what: &str) -> Self {
        let seed = std::env::var("CAIRN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
        println!("{what}: CAIRN_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mixed = self.0 ^ (self.0 >> 29);
        (mixed.wrapping_mul(0x9e3779b97f4a7c15) >> 17) % below.max(1)
    }
}

pub(crate) fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Where the last copy of these bytes (at least 16) lies on the disk.
pub(crate) fn find(dir: &Path, bytes: &[u8]) -> Option<(PathBuf, usize)> {
    segment_files(dir).into_iter().rev().find_map(|path| {
        let content = std::fs::read(&path).unwrap();
        let at =
            content.windows(bytes.len()).step_by(8).rposition(|window| window[..16] == bytes[..16] && window == bytes);
        at.map(|at| (path, at * 8))
    })
}

pub(crate) fn flip(path: &Path, at: usize, mask: u8) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at as u64).unwrap();
}

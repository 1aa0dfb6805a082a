//! Who a disk is: its identity file, and the lock that keeps a second process away.
//!
//! ```text
//! identity, twice: at byte 0 and at byte 4096
//!  0  magic "CAIRNDSK"
//!  8  version = 1, 7 zero bytes
//! 16  cluster id, 16 bytes
//! 32  disk id, 16 bytes
//! 48  created, ms since 1970, u64
//! 56  xxh3-64 of bytes 0..56
//! ```

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cairn_fragment::DiskError;
use cairn_schema::{
    clock::now_ms,
    ids::{ClusterId, DiskId},
};
use rustix::{fs::FlockOperation, io::Errno};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    DiskOptions,
    file::{disk_error, replace_file},
    format::{COPY_AT, FormatError},
};

const MAGIC: &[u8; 8] = b"CAIRNDSK";
const VERSION: u8 = 1;
const LEN: usize = 64;
const WHAT: &str = "disk identity";
/// How long an engine that was just dropped may take to let go of its lock.
const LOCK_PATIENCE: Duration = Duration::from_millis(1500);

/// Which disk a folder is, and of which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub cluster: ClusterId,
    pub disk: DiskId,
    pub created_ms: u64,
}

impl Identity {
    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8] = VERSION;
        out[16..32].copy_from_slice(&self.cluster.0);
        out[32..48].copy_from_slice(&self.disk.0);
        out[48..56].copy_from_slice(&self.created_ms.to_le_bytes());
        let sum = xxh3_64(&out[..56]);
        out[56..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() < LEN {
            return Err(FormatError::Malformed { what: WHAT, why: "too short" });
        }
        if &bytes[..8] != MAGIC {
            return Err(FormatError::Magic(WHAT));
        }
        // Before the checksum: a newer layout may keep it elsewhere.
        if bytes[8] != VERSION {
            return Err(FormatError::Version { what: WHAT, version: bytes[8] });
        }
        let (mut cluster, mut disk, mut created, mut sum) = ([0; 16], [0; 16], [0; 8], [0; 8]);
        cluster.copy_from_slice(&bytes[16..32]);
        disk.copy_from_slice(&bytes[32..48]);
        created.copy_from_slice(&bytes[48..56]);
        sum.copy_from_slice(&bytes[56..LEN]);
        if xxh3_64(&bytes[..56]) != u64::from_le_bytes(sum) {
            return Err(FormatError::Checksum(WHAT));
        }
        Ok(Self { cluster: ClusterId(cluster), disk: DiskId(disk), created_ms: u64::from_le_bytes(created) })
    }
}

pub(crate) fn refused(path: &Path, why: impl Into<String>) -> DiskError {
    DiskError::Refused { path: path.display().to_string(), why: why.into() }
}

pub(crate) fn identity_path(dir: &Path) -> PathBuf {
    dir.join("identity")
}

/// The identity of the disk at `dir`; None if there is no identity file. One damaged copy is survived.
pub(crate) fn read_identity(dir: &Path) -> Result<Option<Identity>, DiskError> {
    let path = identity_path(dir);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk_error("read identity", &path, error)),
    };
    let copy = bytes.get(COPY_AT as usize..).unwrap_or_default();
    match (Identity::decode(&bytes), Identity::decode(copy)) {
        (Ok(identity), _) => Ok(Some(identity)),
        (Err(why), Ok(identity)) => {
            tracing::warn!(path = %path.display(), %why, "the first copy of the disk's identity is bad, its second is used");
            Ok(Some(identity))
        }
        (Err(why), Err(_)) => Err(refused(&path, why.to_string())),
    }
}

pub(crate) fn write_identity(dir: &Path, identity: &Identity) -> Result<(), DiskError> {
    let mut bytes = vec![0; COPY_AT as usize + LEN];
    bytes[..LEN].copy_from_slice(&identity.encode());
    bytes[COPY_AT as usize..].copy_from_slice(&identity.encode());
    replace_file(&identity_path(dir), |out| std::io::Write::write_all(out, &bytes))
}

/// The identity of the disk at `options.path`, made if the directory is empty.
pub(crate) fn identify(options: &DiskOptions) -> Result<Identity, DiskError> {
    let dir = &options.path;
    if let Some(identity) = read_identity(dir)? {
        if identity.cluster != options.cluster {
            let why = format!("this disk belongs to cluster {}, not to {}", identity.cluster, options.cluster);
            return Err(refused(dir, why));
        }
        return Ok(identity);
    }
    must_be_empty(dir)?;
    let identity = Identity { cluster: options.cluster, disk: DiskId::random(), created_ms: now_ms() };
    write_identity(dir, &identity)?;
    Ok(identity)
}

/// Refuses a folder without an identity in which there is anything: it is somebody else's, or a disk that lost its
/// identity.
pub(crate) fn must_be_empty(dir: &Path) -> Result<(), DiskError> {
    let entries = std::fs::read_dir(dir).map_err(|error| disk_error("list directory", dir, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| disk_error("list directory", dir, error))?;
        let name = entry.file_name();
        // What a formatting that was cut short leaves behind, and what mkfs puts into every file system.
        if name != "lock" && name != "identity.new" && name != "lost+found" {
            let why = format!("not a disk: no identity file, and not empty ({} is there)", name.display());
            return Err(refused(dir, why));
        }
    }
    Ok(())
}

/// Held for as long as an engine has the disk; released by the kernel when the process dies.
#[derive(Debug)]
pub(crate) struct DiskLock {
    file: File,
}

impl DiskLock {
    /// Whether the file system takes no writes. Found out by trying: one that made itself read-only after an error does
    /// not say so in its flags.
    pub(crate) fn is_read_only(&self) -> bool {
        let touched = self.file.set_modified(std::time::SystemTime::now());
        matches!(touched, Err(error) if error.raw_os_error() == Some(Errno::ROFS.raw_os_error()))
    }
}

/// Whether a process has the disk open. Takes its lock for a moment, for which a node that starts meanwhile waits.
pub(crate) fn is_locked(dir: &Path) -> Result<bool, DiskError> {
    let path = dir.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(disk_error("open lock", &path, error)),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(disk_error("lock", &path, errno)),
    }
}

/// Takes the disk, or says who has it.
pub(crate) fn lock(dir: &Path) -> Result<DiskLock, DiskError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .or_else(|_| File::open(&path)) // a read-only mount still serves reads
        .map_err(|error| disk_error("open lock", &path, error))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(DiskLock { file }),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(Errno::WOULDBLOCK) => return Err(refused(dir, "another process has this disk open")),
            Err(errno) => return Err(disk_error("lock", &path, errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_of_version_1_are_pinned_and_every_flip_is_noticed() {
        let identity = Identity { cluster: ClusterId([1; 16]), disk: DiskId([2; 16]), created_ms: 1_700_000_000_000 };
        let good = identity.encode();
        assert_eq!(hex::encode(good), GOLDEN);
        assert_eq!(Identity::decode(&good), Ok(identity));
        for bit in 0..LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&bad).is_err(), "bit {bit}");
        }
    }

    const GOLDEN: &str = "434149524e44534b010000000000000001010101010101010101010101010101020202020202020202020202020202020068e5cf8b0100008eb950960d1db8e3";

    #[test]
    fn one_damaged_copy_is_survived_two_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity { cluster: ClusterId([1; 16]), disk: DiskId([2; 16]), created_ms: 3 };
        write_identity(dir.path(), &identity).unwrap();
        let path = identity_path(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_identity(dir.path()).unwrap(), Some(identity));
        bytes[COPY_AT as usize + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(read_identity(dir.path()), Err(DiskError::Refused { .. })));
    }
}

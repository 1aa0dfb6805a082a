//! What an operator does with a disk that no node has open: look at it, verify all of it, make its index anew.

use std::path::Path;

use cairn_fragment::DiskError;
use cairn_schema::ids::{ClusterId, DiskId, FragmentName};
use serde::Serialize;

use super::{
    DiskOptions,
    engine::{Engine, Extras},
    file::{Io, disk_error},
    identity::{DiskLock, Identity, identity_path, is_locked, lock, must_be_empty, read_identity, refused},
    index::{Index, index_path, segments::Entry, tree},
    memory::IndexMemory,
    reader::Record,
    recover::{IndexAt, Recovered, RecoveryReport, recover},
    segment::Files,
};

/// What a node would find at a disk's path, told without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The disk, and the cluster that it belongs to; None for a folder that is empty or missing, of which a node would
    /// make a disk.
    pub identity: Option<(ClusterId, DiskId)>,
    /// A process has it open.
    pub in_use: bool,
}

/// Looks at the disk at `dir` without changing anything, also while a node has it open.
///
/// # Errors
/// Refused for what no node would take: a folder of other files, an identity of an unknown format or damaged twice.
/// Others when it cannot be read.
pub fn glance(dir: &Path) -> Result<Glance, DiskError> {
    let identity = read_identity(dir)?.map(|identity| (identity.cluster, identity.disk));
    if identity.is_none() && dir.exists() {
        must_be_empty(dir)?;
    }
    Ok(Glance { identity, in_use: is_locked(dir)? })
}

/// One segment file, sizes in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    pub number: u32,
    /// Length of the file.
    pub length: u64,
    /// What it takes from the file system.
    pub allocated: u64,
    /// Up to where records lie.
    pub end: u64,
    /// Taken by fragments and by tombstones that are still needed.
    pub held: u64,
    pub sealed: bool,
    pub damaged_regions: usize,
}

/// What `cairn disk inspect` shows.
#[derive(Clone, Debug, Serialize)]
pub struct InspectReport {
    pub cluster: String,
    pub disk: String,
    pub created_ms: u64,
    pub fragments: u64,
    /// Payload bytes of all fragments.
    pub payload_bytes: u64,
    pub held_bytes: u64,
    pub occupied_bytes: u64,
    pub segments: Vec<SegmentReport>,
    pub recovery: RecoveryReport,
}

/// A fragment whose bytes are not what was written.
#[derive(Clone, Debug, Serialize)]
pub struct DamagedFragment {
    pub name: String,
    pub segment: u32,
    /// Byte of the segment file at which its record begins.
    pub offset: u64,
    pub what: String,
}

/// What `cairn disk verify` shows.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    pub disk: String,
    pub fragments_verified: u64,
    pub bytes_verified: u64,
    pub damaged: Vec<DamagedFragment>,
    pub recovery: RecoveryReport,
}

impl VerifyReport {
    pub fn is_clean(&self) -> bool {
        let recovery = &self.recovery;
        self.damaged.is_empty()
            && recovery.damaged.is_empty()
            && recovery.unreadable_segments.is_empty()
            && recovery.partly_unreadable.is_empty()
            && recovery.lost_with_segments == 0
    }
}

/// A fragment as `cairn disk list` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ListedFragment {
    #[serde(flatten)]
    pub name: FragmentName,
    /// Of its payload.
    pub bytes: u32,
    pub segment: u32,
    /// Byte of the segment file at which its record begins.
    pub offset: u64,
    /// xxh3-128 of its bytes, with seed 0, in hexadecimal digits; None if it was not read, or if it is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why its bytes are not what was written; None if they are, or if they were not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// What `cairn disk rebuild-index` shows.
#[derive(Clone, Debug, Serialize)]
pub struct RebuildReport {
    pub disk: String,
    pub fragments: u64,
    pub recovery: RecoveryReport,
}

/// Fragments looked up at once.
const PAGE_FRAGMENTS: usize = 4096;

fn identity_of(dir: &Path) -> Result<Identity, DiskError> {
    read_identity(dir)?.ok_or_else(|| refused(&identity_path(dir), "not a disk: there is no identity file"))
}

/// A disk that is looked at: its index is a copy elsewhere, brought up to date there.
struct Looked {
    identity: Identity,
    files: Files,
    recovered: Recovered,
    _aside: tempfile::TempDir,
}

fn load(dir: &Path) -> Result<Looked, DiskError> {
    let identity = identity_of(dir)?;
    let files = Files::new(dir);
    let aside = tempfile::tempdir()
        .map_err(|error| disk_error("make a directory for a copy of the index", &std::env::temp_dir(), error))?;
    let recovered =
        recover(&Io::default(), dir, &identity, &files, IndexAt::Aside(aside.path()), &IndexMemory::default())?;
    Ok(Looked { identity, files, recovered, _aside: aside })
}

fn segment_reports(index: &Index, files: &Files) -> Result<Vec<SegmentReport>, DiskError> {
    use std::os::unix::fs::MetadataExt;
    let report = |(number, state): (u32, &super::index::segments::SegmentState)| {
        let path = files.path(number);
        let metadata = std::fs::metadata(&path).map_err(|error| disk_error("stat segment", &path, error))?;
        Ok(SegmentReport {
            number,
            length: metadata.len(),
            allocated: metadata.blocks() * 512,
            end: state.end,
            held: state.held(),
            sealed: state.sealed,
            damaged_regions: state.damaged.len(),
        })
    };
    index.segments(|segments| segments.iter().map(report).collect())
}

/// What is on the disk at `dir`, by its checkpoint and the tail of its log. Changes nothing. Refused while a process
/// has it open.
pub fn inspect(dir: &Path) -> Result<InspectReport, DiskError> {
    identity_of(dir)?;
    let _lock = lock(dir)?;
    let Looked { identity, files, recovered, _aside } = load(dir)?;
    let totals = recovered.index.totals();
    Ok(InspectReport {
        cluster: identity.cluster.to_string(),
        disk: identity.disk.to_string(),
        created_ms: identity.created_ms,
        fragments: totals.fragments,
        payload_bytes: totals.payload,
        held_bytes: totals.held,
        occupied_bytes: totals.occupied,
        segments: segment_reports(&recovered.index, &files)?,
        recovery: recovered.report,
    })
}

/// Reads and verifies every fragment. Changes nothing. Refused while a process has the disk open.
pub fn verify(dir: &Path) -> Result<VerifyReport, DiskError> {
    identity_of(dir)?;
    let _lock = lock(dir)?;
    let Looked { identity, files, recovered, _aside } = load(dir)?;
    let mut report = VerifyReport {
        disk: identity.disk.to_string(),
        fragments_verified: 0,
        bytes_verified: 0,
        damaged: Vec::new(),
        recovery: recovered.report,
    };
    let mut after = None;
    loop {
        let page = recovered.index.list(None, after, PAGE_FRAGMENTS)?;
        let Some((last, _)) = page.last() else { return Ok(report) };
        after = Some(*last);
        for (name, entry) in page {
            match verify_one(&recovered.index, &files, name, entry) {
                Ok(()) => {
                    report.fragments_verified += 1;
                    report.bytes_verified += u64::from(entry.length);
                }
                Err(error) => report.damaged.push(DamagedFragment {
                    name: name.to_string(),
                    segment: entry.place.segment,
                    offset: entry.place.offset(),
                    what: error.to_string(),
                }),
            }
        }
    }
}

fn verify_one(index: &Index, files: &Files, name: FragmentName, entry: Entry) -> Result<(), DiskError> {
    with_record(index, files, name, entry, |record| record.verify().map(|_| ()))
}

fn with_record<T>(
    index: &Index,
    files: &Files,
    name: FragmentName,
    entry: Entry,
    read: impl FnOnce(&Record<'_>) -> Result<T, DiskError>,
) -> Result<T, DiskError> {
    let number = entry.place.segment;
    let salt = index.salt(number);
    let salt = salt.ok_or_else(|| DiskError::Corrupt { name, what: format!("segment {number} is gone") })?;
    let (file, path) = (files.get(number)?, files.path(number));
    read(&Record { io: &Io::default(), file: &file, path: &path, salt, name, entry })
}

/// Throws the index away and makes it anew from the segments. Refused while a process has the disk open.
pub fn rebuild_index(dir: &Path) -> Result<RebuildReport, DiskError> {
    let identity = identity_of(dir)?;
    {
        let _lock = lock(dir)?;
        tree::remove(&index_path(dir)).map_err(|error| disk_error("remove the index", &index_path(dir), error))?;
    }
    let options = DiskOptions {
        path: dir.to_owned(),
        cluster: identity.cluster,
        // Nothing is put: the sizes only matter to tombstones owed for records that must not count.
        segment_bytes: 1 << 20,
        reserved_bytes: 0,
        capacity_bytes: None,
        max_queued_bytes: 1 << 20,
        max_queued_reads: 1,
        index: IndexMemory::default(),
    };
    let engine = Engine::open(options, Extras { give_up_unreadable: true, ..Extras::default() })?;
    let (fragments, recovery) = (engine.core().index.totals().fragments, engine.report().clone());
    engine.close_blocking();
    Ok(RebuildReport { disk: identity.disk.to_string(), fragments, recovery })
}

/// Every fragment of a disk that no process has open, in order of name and a page at a time. Changes nothing.
pub struct Listing {
    looked: Looked,
    after: Option<FragmentName>,
    digests: bool,
    _lock: DiskLock,
}

impl Listing {
    /// With `digests` every fragment is read and verified.
    ///
    /// # Errors
    /// Refused while a process has the disk open, and for what is no disk.
    pub fn open(dir: &Path, digests: bool) -> Result<Self, DiskError> {
        identity_of(dir)?;
        let lock = lock(dir)?;
        Ok(Self { looked: load(dir)?, after: None, digests, _lock: lock })
    }

    pub fn cluster(&self) -> ClusterId {
        self.looked.identity.cluster
    }

    pub fn disk(&self) -> DiskId {
        self.looked.identity.disk
    }

    /// How many there are on the whole disk.
    pub fn fragments(&self) -> u64 {
        self.looked.recovered.index.totals().fragments
    }

    /// The next ones; none after the last.
    pub fn page(&mut self) -> Result<Vec<ListedFragment>, DiskError> {
        let page = self.looked.recovered.index.list(None, self.after, PAGE_FRAGMENTS)?;
        self.after = page.last().map(|(name, _)| *name).or(self.after);
        Ok(page.into_iter().map(|(name, entry)| self.listed(name, entry)).collect())
    }

    fn listed(&self, name: FragmentName, entry: Entry) -> ListedFragment {
        let read = self.digests.then(|| digest(&self.looked.recovered.index, &self.looked.files, name, entry));
        let (digest, damage) = match read {
            None => (None, None),
            Some(Ok(digest)) => (Some(digest), None),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        let (segment, offset) = (entry.place.segment, entry.place.offset());
        ListedFragment { name, bytes: entry.length, segment, offset, digest, damage }
    }
}

fn digest(index: &Index, files: &Files, name: FragmentName, entry: Entry) -> Result<String, DiskError> {
    let bytes = with_record(index, files, name, entry, |record| record.range(0..entry.length))?;
    Ok(hex::encode(xxhash_rust::xxh3::xxh3_128(&bytes).to_be_bytes()))
}

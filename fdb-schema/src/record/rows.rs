//! Rows that only the verbs see: how domain records are laid out in the store.

use serde::{Deserialize, Serialize, de::IgnoredAny};

pub use crate::record::part_runs::PartRun;
use crate::{
    codec::Stored,
    error::MetaError,
    ids::{BlobId, ClusterId, UploadId, VersionId},
    record::*,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRow {
    pub id: ClusterId,
    pub created_ms: u64,
}

/// The first row of a bucket document whose bytes are in rows of their own. Its format version is 2: see
/// [`crate::record::document`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentHead {
    pub length: u64,
    /// Rows that follow.
    pub chunks: u16,
    /// xxh3-64 of all bytes, with seed 0.
    pub checksum: u64,
}

/// The current version of a key, with all that a listing tells of it. It exists while the key has any version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRow {
    /// The row of the newest version: its place in the order of versions, which is also its id unless that is `NULL`.
    pub row: VersionId,
    pub id: VersionId,
    pub kind: VersionKind,
    pub etag: Etag,
    pub size: u64,
    pub modified_ms: u64,
    pub owner: String,
    pub storage_class: String,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// The row of the null version, if there is one.
    pub null_row: Option<VersionId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    pub version: Version,
    pub parts: PartList,
}

/// The parts of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartList {
    /// Few: in the version's row. None for 0 bytes and for delete markers.
    Inline(Vec<PartRow>),
    /// Many: the part rows of the upload they came from, which stay where they were written, so that Complete moves
    /// none of them and CopyObject shares them.
    Listed {
        list: UploadId,
        #[serde(with = "crate::record::part_runs")]
        runs: Vec<PartRun>,
    },
}

/// A part, of an upload under way or of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    pub number: u16,
    pub length: u64,
    #[serde(with = "crate::bytes16")]
    pub md5: [u8; 16],
    pub checksum: Option<StoredChecksum>,
    pub modified_ms: u64,
    /// Where in its blob the part starts; 0 for [`BlobRef::Slices`].
    pub blob_offset: u64,
    /// None for a part of 0 bytes.
    pub blob: Option<BlobRef>,
}

impl PartRow {
    /// The blob of each of its slices: one reference each, even if two are of one blob.
    pub fn references(&self) -> Vec<BlobId> {
        match &self.blob {
            None => Vec::new(),
            Some(BlobRef::Inline(blob)) => vec![blob.id],
            Some(BlobRef::Row(id)) => vec![*id],
            Some(BlobRef::Slices(slices)) => slices.iter().map(|slice| slice.blob).collect(),
        }
    }
}

/// What Complete and ListParts must know of a part: there are up to 10,000 of them and no use for their blobs, but for
/// how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFacts {
    pub number: u16,
    pub length: u64,
    pub md5: [u8; 16],
    pub checksum: Option<StoredChecksum>,
    pub modified_ms: u64,
    /// As [`PartRow::references`] tells them.
    pub references: usize,
}

/// [`PartRow`] with the blob passed over.
#[derive(Deserialize)]
struct PartRowWithoutBlob {
    number: u16,
    length: u64,
    #[serde(with = "crate::bytes16")]
    md5: [u8; 16],
    checksum: Option<StoredChecksum>,
    modified_ms: u64,
    _blob_offset: u64,
    blob: Option<BlobRefCounted>,
}

/// [`BlobRef`] with all passed over but how many references it is.
#[derive(Deserialize)]
enum BlobRefCounted {
    Inline(IgnoredAny),
    Row(IgnoredAny),
    Slices(Vec<IgnoredAny>),
}

impl BlobRefCounted {
    fn references(&self) -> usize {
        match self {
            Self::Inline(IgnoredAny) | Self::Row(IgnoredAny) => 1,
            Self::Slices(slices) => slices.len(),
        }
    }
}

impl PartFacts {
    pub fn read(key: &[u8], bytes: &[u8]) -> Result<Self, MetaError> {
        if let Some((&PartRow::VERSION, body)) = bytes.split_first()
            && let Ok(row) = rmp_serde::from_slice::<PartRowWithoutBlob>(body)
        {
            let PartRowWithoutBlob { number, length, md5, checksum, modified_ms, blob, .. } = row;
            let references = blob.map_or(0, |blob| blob.references());
            return Ok(Self { number, length, md5, checksum, modified_ms, references });
        }
        // Of another version, or damaged: let the whole row's reading tell.
        Ok(PartRow::read(key, bytes)?.into())
    }
}

impl From<PartRow> for PartFacts {
    fn from(row: PartRow) -> Self {
        let references = row.references().len();
        let PartRow { number, length, md5, checksum, modified_ms, .. } = row;
        Self { number, length, md5, checksum, modified_ms, references }
    }
}

impl From<PartFacts> for UploadedPart {
    fn from(facts: PartFacts) -> Self {
        let PartFacts { number, length, md5, checksum, modified_ms, .. } = facts;
        Self { number, length, md5, checksum, modified_ms }
    }
}

/// A part's blob: with the part if it is short, so that a read needs no second exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobRef {
    Inline(Blob),
    Row(BlobId),
    /// Of a part that was copied from more than one blob.
    Slices(Vec<SliceName>),
}

impl BlobRef {
    /// Blobs with more runs than this are not copied into part rows.
    const INLINE_RUNS: usize = 8;

    pub fn new(blob: &Blob) -> Self {
        if blob.runs.len() <= Self::INLINE_RUNS { Self::Inline(blob.clone()) } else { Self::Row(blob.id) }
    }
}

/// A blob in one of its groups. The row of a blob that was committed before this was noted is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBlobRow {
    /// The group's epoch that it was committed under.
    pub epoch: u64,
    /// How many of its stripes are in the group.
    pub stripes: u64,
}

impl GroupBlobRow {
    /// None for an empty row.
    pub fn noted(key: &[u8], value: &[u8]) -> Result<Option<Self>, MetaError> {
        if value.is_empty() { Ok(None) } else { Self::read(key, value).map(Some) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    pub cause: MissingCause,
    pub since_ms: u64,
}

/// What waits in the reclaim queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReclaimRow {
    Blob,
    /// All parts of an upload or of a multipart version: turned into blobs a page at a time, so that a delete or an
    /// abort costs the same whatever the number of parts.
    List,
}

/// What an attempt that was committed came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptRow {
    Committed {
        version: Box<Version>,
        versioned: bool,
    },
    Deleted {
        version: Option<VersionId>,
        delete_marker: bool,
    },
    Part(PartRow),
    Group(Group),
    Disk(Disk),
    /// The tags of this version were replaced.
    Tagged(VersionId),
    /// The retention or the legal hold of this version was replaced.
    Locked(VersionId),
    /// Verbs that answer nothing.
    Done,
}

/// An upload that was completed: answers a repeated Complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedRow {
    pub bucket: String,
    pub key: String,
    pub completed_ms: u64,
    pub version: Version,
    pub versioned: bool,
}

//! Everything that can go wrong in the metadata.

use crate::{
    ids::{GroupId, UploadId, VersionId},
    text::Shown,
};

/// Why a metadata verb did not do what was asked. Unless it says otherwise, nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    #[error("bucket {} does not exist", Shown(.0))]
    NoSuchBucket(String),
    #[error("bucket {} exists already", Shown(.0))]
    BucketExists(String),
    #[error("bucket {} is owned by another user", Shown(.0))]
    BucketOwnedByOther(String),
    #[error("bucket {} is not empty", Shown(.0))]
    BucketNotEmpty(String),
    #[error("key {} does not exist", Shown(.0))]
    NoSuchKey(String),
    #[error("version {version} of key {} does not exist", Shown(key))]
    NoSuchVersion { key: String, version: String },
    /// The key has versions, but the newest is a delete marker.
    #[error("key {} is deleted: its current version {marker} is a delete marker", Shown(key))]
    KeyDeleted { key: String, marker: VersionId },
    /// A delete marker was named as if it were an object.
    #[error("version {version} of key {} is a delete marker", Shown(key))]
    IsDeleteMarker { key: String, version: VersionId, modified_ms: u64 },
    /// A retention or a legal hold forbids what was asked.
    #[error("version {version} of key {} is locked", Shown(key))]
    Locked { key: String, version: VersionId },
    #[error("versions in bucket {} cannot be locked: it has no object lock", Shown(.0))]
    NoObjectLock(String),
    #[error("bucket {} can have object lock only while versioning is enabled", Shown(.0))]
    VersioningNotEnabled(String),
    #[error("versioning of bucket {} cannot be suspended: it has object lock", Shown(.0))]
    VersioningLocked(String),
    #[error("bucket {} holds {used} {what} and may hold {limit}: {more} more do not fit", Shown(bucket))]
    QuotaExceeded { bucket: String, what: &'static str, used: u64, more: u64, limit: u64 },
    #[error("upload {0} does not exist")]
    NoSuchUpload(UploadId),
    #[error("precondition {0} did not hold")]
    PreconditionFailed(&'static str),
    #[error("part {number} was not uploaded, or its ETag or checksum differs")]
    InvalidPart { number: u16 },
    #[error("parts are not in ascending order at part {number}")]
    InvalidPartOrder { number: u16 },
    #[error("part {number} has {length} bytes: all but the last need at least {min}")]
    PartTooSmall { number: u16, length: u64, min: u64 },
    #[error("the range asked for lies outside the object's {size} bytes")]
    InvalidRange { size: u64 },
    #[error("the key has {bytes} bytes, and may have {limit}")]
    KeyTooLong { bytes: u64, limit: u64 },
    #[error("the object would have {bytes} bytes, and may have {limit}")]
    ObjectTooLarge { bytes: u64, limit: u64 },
    #[error("{what} is over its limit: {actual} > {limit}")]
    TooLarge { what: &'static str, actual: u64, limit: u64 },
    /// An object made of copies of very many pieces of others; see [`crate::verbs::MAX_REFERENCES`].
    #[error(
        "the parts were copied from {actual} or more pieces of other objects, and an object may have {limit}: upload some of them instead"
    )]
    TooManyPieces { actual: u64, limit: u64 },
    #[error("invalid {what}: {why}")]
    Invalid { what: &'static str, why: String },
    /// A user, user group, policy or access key.
    #[error("{what} {} does not exist", Shown(name))]
    NoSuchEntry { what: &'static str, name: String },
    #[error("{what} {} exists already", Shown(name))]
    EntryExists { what: &'static str, name: String },
    #[error("{what} {} is still used by {by}", Shown(name))]
    InUse { what: &'static str, name: String, by: String },
    #[error("group {0} changed while it was written to; write the stripes again")]
    GroupChanged(GroupId),
    #[error("the record changed since it was read: {0}")]
    Stale(&'static str),
    #[error("too many concurrent changes to the same rows; try again")]
    Contention,
    #[error("the metadata store did not answer in time: {0}")]
    Timeout(String),
    #[error("the metadata store cannot be reached: {0}")]
    Unavailable(String),
    /// The commit may or may not have happened: the caller must not undo what a successful commit would reference.
    #[error("it is not known whether the change was committed: {0}")]
    CommitUnknown(String),
    #[error("{what} is damaged or of an unknown format: {why}")]
    Corrupt { what: &'static str, why: String },
    #[error("metadata storage failed: {0}")]
    Storage(String),
}

pub type Result<T, E = MetaError> = std::result::Result<T, E>;

/// The error for a store that holds a part of an export.
pub(crate) fn unfinished_import() -> MetaError {
    MetaError::Corrupt { what: "metadata store", why: "an import was not finished; run it again".to_owned() }
}

//! What an audit comes to.

use crate::{
    error::{MetaError, Result},
    ids::{BlobId, GroupId, UploadId},
    text::Shown,
};

/// Problems that are kept; the others are only counted.
const KEPT: usize = 100;

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Versions that are objects, and their bytes.
    pub objects: u64,
    pub bytes: u64,
    /// Delete markers, too.
    pub versions: u64,
    pub blobs: u64,
    /// How many there are in all.
    pub problems: u64,
    /// The first of them.
    pub first_problems: Vec<Problem>,
}

/// Something that contradicts something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("an import was not finished: rows are missing")]
    Importing,
    #[error("{0}")]
    Unreadable(MetaError),
    #[error("bucket {} does not exist and has rows", Shown(.0))]
    NoBucket(String),
    #[error(
        "bucket {} has {objects} objects of {bytes} bytes, and its counters say {counted_objects} of {counted_bytes}",
        Shown(bucket)
    )]
    Usage { bucket: String, objects: i64, bytes: i64, counted_objects: i64, counted_bytes: i64 },
    #[error("key {} of bucket {} has a head that does not tell of its newest version", Shown(key), Shown(bucket))]
    Head { bucket: String, key: String },
    #[error("{heads} keys have a head and {keys} have versions")]
    Heads { heads: u64, keys: u64 },
    #[error("blob {blob} has {references} references, {extra} counted beyond the first, {queued} rows in the reclaim queue{}",
        if *.exists { "" } else { ", and no row" })]
    Blob { blob: BlobId, exists: bool, references: i64, extra: i64, queued: i64 },
    #[error(
        "part list {list} of {parts} parts has {owners} owners, {extra} counted beyond the first, {queued} rows in the reclaim queue"
    )]
    List { list: UploadId, parts: i64, owners: i64, extra: i64, queued: i64 },
    #[error("the rows of groups' blobs do not agree with the blobs")]
    GroupBlobs,
    #[error("group {group} holds {stripes} stripes, and its counter says {counted}")]
    GroupStripes { group: GroupId, stripes: i64, counted: i64 },
    #[error("users and groups do not agree with the rows that tell who has which policy and who is in which group")]
    AccessLinks,
    #[error("users do not agree with the access keys")]
    AccessKeys,
    #[error("{} is a policy or group of {}, and does not exist", Shown(to), Shown(from))]
    AccessTarget { from: String, to: String },
    #[error("completed uploads do not agree with when to forget them")]
    Completed,
    #[error("group {0} has a number that is yet to be given")]
    NextGroup(GroupId),
    #[error("the ledger has a row of blob {0}, which does not exist")]
    LedgerBlob(BlobId),
    #[error(
        "position {position} of group {group} is to get {missing} fragments, and the row of its repair says {counted}"
    )]
    GroupRepair { group: GroupId, position: u8, missing: i64, counted: i64 },
    #[error("{} has {events} events that wait or are dead, and its counter says {counted}", Shown(of))]
    Events { of: String, events: i64, counted: i64 },
    #[error("the ledger has {rows} fragments, and its counters say {counted}")]
    Ledger { rows: i64, counted: i64 },
}

impl Audit {
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems += 1;
        if self.first_problems.len() < KEPT {
            self.first_problems.push(problem);
        }
    }

    /// What was read, or a problem in its place.
    pub(super) fn readable<T>(&mut self, read: Result<T>) -> Option<T> {
        read.map_err(|error| self.report(Problem::Unreadable(error))).ok()
    }
}

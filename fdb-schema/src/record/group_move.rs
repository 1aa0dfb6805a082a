//! Groups some of whose members are being moved to other disks.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{AttemptId, BlobId, DiskId, GroupId},
    record::{Blob, Disk, DiskState, JobId, Moved},
};

/// A group of which fragments are copied to the disks that are to be members. Until all are there the members stay who
/// they were: nothing is read from the new disks, and nothing is missing.
///
/// A walk copies what there was when the move began, in order of the blobs' ids. What is committed since is noted blob
/// by blob in the move's *tail*, and copied after that. The members change in a transaction that finds the tail empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMove {
    pub group: GroupId,
    /// Drawn anew for each: another move of the same group, to other disks, may have the same epoch and cursor.
    pub id: AttemptId,
    pub job: JobId,
    /// The group's, when the move began: one whose members change meanwhile is not moved.
    pub epoch: u64,
    pub since_ms: u64,
    /// Whether the group took writes, and is to take them again.
    pub was_open: bool,
    /// In order of position, and never none.
    pub positions: Vec<PositionMove>,
    /// The last blob that the walk has seen to.
    pub cursor: Option<BlobId>,
    /// Whether the walk has come to the end.
    pub walked: bool,
    /// Bytes that were copied, as far as the walk has told.
    pub bytes: u64,
}

impl GroupMove {
    pub(crate) fn moved(&self) -> Moved {
        Moved { positions: self.positions.len() as u64, bytes: self.bytes }
    }
}

/// A position that is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PositionMove {
    pub position: u8,
    pub from: DiskId,
    pub to: DiskId,
    /// Since when the new disk was up when the move began: one that was away since may lack what was copied.
    pub up_since_ms: u64,
}

impl PositionMove {
    /// Whether the new disk has been up ever since.
    pub fn is_up_still(&self, disk: &Disk) -> bool {
        disk.state == DiskState::Up && disk.since_ms == self.up_since_ms
    }
}

/// A step of a move's walk: everything after `from` as far as `to` is on the new disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveStep {
    pub group: GroupId,
    /// Of the move.
    pub id: AttemptId,
    pub epoch: u64,
    /// The cursor before.
    pub from: Option<BlobId>,
    /// The cursor now; None: there was nothing up to the end.
    pub to: Option<BlobId>,
    /// Bytes that were copied for it.
    pub bytes: u64,
}

/// A blob that was committed in a group while it was moved; None if it is gone again.
pub type TailBlob = (BlobId, Option<Blob>);

/// What came of the attempt to make the new disks the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveEnd {
    /// They are.
    Done,
    /// Something was committed that they lack.
    Tail,
    /// The move is no more, or cannot come to anything: it was ended, and nothing has changed.
    Gone,
}

//! Keys of jobs and of what they move.

use bytes::Bytes;

use super::{Key, Space, group_blob_id};
use crate::{ids::*, record::JobId};

pub fn job(id: JobId) -> Bytes {
    Key::of(Space::Job).raw(&id.0.to_be_bytes()).done()
}

pub fn group_move(id: GroupId) -> Bytes {
    Key::of(Space::GroupMove).raw(&id.0.to_be_bytes()).done()
}

/// The tail of a group's move.
pub fn move_tail(group: GroupId) -> Bytes {
    Key::of(Space::MoveTail).raw(&group.0.to_be_bytes()).done()
}

pub fn move_tail_blob(group: GroupId, blob: BlobId) -> Bytes {
    Key::of(Space::MoveTail).raw(&group.0.to_be_bytes()).raw(&blob.0).done()
}

/// The blob of a key of a move's tail.
pub fn move_tail_id(key: &[u8]) -> Option<BlobId> {
    group_blob_id(key)
}

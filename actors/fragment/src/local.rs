//! A disk as its own node calls it.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_schema::ids::{FragmentName, GroupId};

use crate::{
    fragment::{DiskError, DiskStatus, FragmentInfo, NewFragment},
    name_digest::{BlobRange, NameDigest},
    turn::{Priority, Turn},
};

/// A disk of this node: the engine's handle, or its twin in memory for tests.
#[async_trait]
pub trait LocalDisk: Send + Sync + 'static {
    /// Waits until work of this priority may use the disk; as long as it takes, so its caller bounds the time.
    async fn turn(&self, priority: Priority) -> Turn;
    async fn put(&self, fragment: NewFragment, turn: Turn) -> Result<(), DiskError>;
    async fn get(&self, name: FragmentName, range: Range<u32>, turn: Turn) -> Result<Bytes, DiskError>;
    async fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError>;
    async fn delete(&self, names: Vec<FragmentName>) -> Result<u64, DiskError>;
    async fn list(
        &self,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
    ) -> Result<Vec<FragmentInfo>, DiskError>;
    /// Of each part of a range, the digest of the fragments in one position of a group.
    async fn digests(&self, group: GroupId, position: u8, range: BlobRange) -> Result<Vec<NameDigest>, DiskError>;
    async fn verify(&self, name: FragmentName, turn: Turn) -> Result<FragmentInfo, DiskError>;
    fn status(&self) -> DiskStatus;
}

//! Fragments, disks and nodes anywhere in the cluster, as the rest of the crate asks for them.

use std::{net::SocketAddr, ops::Range, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_schema::ids::{DiskId, FragmentName, GroupId, NodeId};

use crate::{
    fragment::{DiskError, DiskStatus, FragmentInfo, NewFragment},
    name_digest::{BlobRange, NameDigest, PARTS},
    turn::Terms,
};

/// Names of one call where digests are made of lists.
const LISTED_AT_ONCE: usize = 1024;

/// Why a call of a fragment did not do what it was for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("disk {0} is on no node known here")]
    UnknownDisk(DiskId),
    #[error("node {0} cannot be reached: {1}")]
    Unreachable(NodeId, String),
    #[error("node {0} did not answer before the deadline")]
    Deadline(NodeId),
    #[error("disk {0} did not answer before the deadline")]
    Overdue(DiskId),
    #[error("node {0} broke the protocol: {1}")]
    Protocol(NodeId, String),
    /// What arrived is not what was sent or stored.
    #[error("node {0} sent bytes that do not match their checksum")]
    BadChecksum(NodeId),
    #[error("too many requests wait for node {0}")]
    Busy(NodeId),
}

/// Fragments anywhere in the cluster. Every call ends by its deadline; see [`super::Bounded`] for those who rely on it.
#[async_trait]
pub trait Fragments: Send + Sync + 'static {
    /// Returns when the fragment is durable on that disk.
    async fn put(&self, disk: DiskId, fragment: NewFragment, terms: Terms) -> Result<(), TransportError>;
    /// Verified bytes of exactly `range`.
    async fn get(
        &self,
        disk: DiskId,
        name: FragmentName,
        range: Range<u32>,
        terms: Terms,
    ) -> Result<Bytes, TransportError>;
    async fn info(&self, disk: DiskId, name: FragmentName, terms: Terms) -> Result<FragmentInfo, TransportError>;
    async fn delete(&self, disk: DiskId, names: Vec<FragmentName>, terms: Terms) -> Result<u64, TransportError>;
    async fn list(
        &self,
        disk: DiskId,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
        terms: Terms,
    ) -> Result<Vec<FragmentInfo>, TransportError>;
    /// Of each of the [`PARTS`] of a range, the digest of the fragments that the disk has in one position of a group.
    /// For who knows no better way, by their names.
    async fn digests(
        &self,
        disk: DiskId,
        group: GroupId,
        position: u8,
        range: BlobRange,
        terms: Terms,
    ) -> Result<Vec<NameDigest>, TransportError> {
        let mut parts = vec![NameDigest::default(); PARTS];
        let mut after = None;
        loop {
            let listed = self.list(disk, Some(group), after, LISTED_AT_ONCE, terms).await?;
            let Some(last) = listed.last() else { return Ok(parts) };
            after = Some(last.name);
            let names = listed.iter().map(|info| info.name);
            for name in names.filter(|name| name.position == position && range.contains(name.blob)) {
                parts[range.part_of(name.blob)].add(name.blob, name.stripe);
            }
        }
    }
    async fn verify(&self, disk: DiskId, name: FragmentName, terms: Terms) -> Result<FragmentInfo, TransportError>;
    async fn disk_status(&self, disk: DiskId, terms: Terms) -> Result<DiskStatus, TransportError>;
}

/// Whether nodes answer. Every call ends by its deadline.
#[async_trait]
pub trait Probes: Send + Sync + 'static {
    /// Whether the node answers at all.
    async fn probe(&self, node: &NodeId, deadline: Instant) -> Result<(), TransportError>;
    /// Asks `through` whether `target` answers it: the second opinion before a disk is called down.
    async fn probe_through(&self, through: &NodeId, target: &NodeId, deadline: Instant)
    -> Result<bool, TransportError>;
}

/// Where the cluster's disks and nodes are. Whoever sends a call asks at that moment, so that it knows every disk that
/// the one who chose it knew.
pub trait Directory: Send + Sync + 'static {
    fn node_of(&self, disk: DiskId) -> Option<NodeId>;
    /// Where the node's QUIC endpoint listens.
    fn address_of(&self, node: &NodeId) -> Option<SocketAddr>;
}

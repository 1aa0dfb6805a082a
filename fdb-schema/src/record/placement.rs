//! Nodes, disks and placement groups.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{DiskId, GroupId, NodeId},
    record::Scheme,
};

/// A level of the hierarchy at which things fail together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureDomain {
    Disk,
    Node,
    Rack,
    Zone,
}

impl fmt::Display for FailureDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Node => "node",
            Self::Rack => "rack",
            Self::Zone => "zone",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    pub rack: String,
    pub zone: String,
    /// Where its QUIC endpoint listens for other nodes.
    pub address: SocketAddr,
}

/// What the metadata store has decided about a disk. Gossip only suspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskState {
    Up,
    /// Takes no new groups, and no new stripes while others can; its fragments are moving away.
    Draining,
    /// Its node does not answer, or it is broken; may return.
    Down,
    /// Down for longer than `down_to_lost`: its groups repair without it.
    Lost,
    /// Drained and taken out.
    Removed,
}

impl DiskState {
    pub const ALL: [Self; 5] = [Self::Up, Self::Draining, Self::Down, Self::Lost, Self::Removed];

    /// What is on it can be read, and what belongs there can be written.
    pub fn serves(self) -> bool {
        matches!(self, Self::Up | Self::Draining)
    }

    /// As the status, metrics and logs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Lost => "lost",
            Self::Removed => "removed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub id: DiskId,
    pub node: NodeId,
    pub rack: String,
    pub zone: String,
    pub capacity_bytes: u64,
    pub state: DiskState,
    /// When it entered `state`, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl Disk {
    /// The name of the domain it fails with at `level`; qualified, so that rack "a" of one zone is not rack "a" of
    /// another.
    pub fn domain(&self, level: FailureDomain) -> String {
        match level {
            FailureDomain::Disk => self.id.to_string(),
            FailureDomain::Node => self.node.to_string(),
            FailureDomain::Rack => format!("{}/{}", self.zone, self.rack),
            FailureDomain::Zone => self.zone.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupState {
    /// Takes writes.
    Open,
    /// Readable, takes no new stripes.
    Sealed,
}

/// An ordered set of disks that hold the fragments of the stripes placed in it: position i of a stripe is on
/// `members[i]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub id: GroupId,
    pub scheme: Scheme,
    pub members: Vec<DiskId>,
    /// Grows by one with every change of `members`.
    pub epoch: u64,
    pub state: GroupState,
}

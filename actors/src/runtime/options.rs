//! What a node is started with, and how that can fail.

use std::net::SocketAddr;

use cairn_disk::DiskOptions;
use cairn_fragment::DiskError;
use cairn_net::tls::Identity;
use cairn_schema::{Meta, MetaError, ids::NodeId};

use crate::{
    policy::{Policy, Rates, Timings},
    supervisor::SupervisorError,
};

/// What a node is started with.
#[derive(Clone)]
pub struct NodeOptions {
    pub id: NodeId,
    pub rack: String,
    pub zone: String,
    pub meta: Meta,
    pub disks: Vec<DiskOptions>,
    /// QUIC; port 0 picks a free one.
    pub listen: SocketAddr,
    /// UDP for gossip; port 0 picks a free one.
    pub gossip_listen: SocketAddr,
    /// host:port of some nodes' gossip; may be empty for the first node.
    pub gossip_seeds: Vec<String>,
    pub identity: Identity,
    pub policy: Policy,
    pub timings: Timings,
    pub rates: Rates,
    pub memory: NodeMemory,
    /// See [`crate::store::StoreLimits::client_memory_percent`].
    pub client_memory_percent: u8,
    pub metrics: prometheus::Registry,
}

/// Bytes that a node may hold at once (BND-1), for each purpose. What its disks' indexes keep is in their own options.
#[derive(Clone, Copy, Debug)]
pub struct NodeMemory {
    /// Stripes of requests in flight; what is over waits, then is refused as Busy.
    pub stripes: u64,
    /// Fragments that other nodes send here to be kept, and those on their way to them.
    pub served: u64,
    /// Fragments that repair reads and makes.
    pub background: u64,
}

/// Why a node did not start, or cannot say how it is.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("open disk: {0}")]
    Disk(#[from] DiskError),
    #[error("metadata: {0}")]
    Meta(#[from] MetaError),
    #[error("listen on {0}: {1}")]
    Listen(SocketAddr, String),
    #[error("certificates: {0}")]
    Identity(String),
    #[error("gossip: {0}")]
    Gossip(String),
    #[error("metrics: {0}")]
    Metrics(String),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

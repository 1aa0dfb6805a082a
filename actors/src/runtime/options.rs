//! What a node is started with, and how that can fail.

use std::{net::SocketAddr, sync::Arc};

use cairn_disk::DiskOptions;
use cairn_fragment::DiskError;
use cairn_net::tls::Identity;
use cairn_schema::{Meta, MetaError, ids::NodeId};

use crate::{
    background::Deliver,
    placement::stopping::UnknownName,
    policy::{NodeMemory, Policy, Rates, Timings},
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
    /// The cluster's at its birth. After that the metadata keep it, and what is told here otherwise is only reported.
    pub policy: Policy,
    pub timings: Timings,
    pub rates: Rates,
    pub memory: NodeMemory,
    /// See [`crate::store::StoreLimits::client_memory_percent`].
    pub client_memory_percent: u8,
    pub metrics: prometheus::Registry,
    /// Whom events can be told to.
    pub deliver: Option<Arc<dyn Deliver>>,
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
    /// Nothing is so called.
    #[error(transparent)]
    UnknownName(#[from] UnknownName),
    /// The cluster's policy would be more than this node has memory for.
    #[error("{0}: raise limits.memory of every node first, and restart them one after another")]
    PolicyTooLarge(String),
    /// What an operator asked for makes no sense here, or cannot be done.
    #[error("{0}")]
    JobRefused(String),
}

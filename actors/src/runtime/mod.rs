//! One node's engine: disks, transport, gossip, supervised actors and the store over them, started and stopped in order.

mod boot;
mod status;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cairn_schema::{Meta, ids::*, record::*};
use serde::Serialize;

use crate::{disk::DiskOptions, store::Store, supervisor::ChildStatus};
use boot::Running;

/// A node's identity for mutual TLS, PEM. The certificate's DNS name is the node id; peers are those signed by `ca`.
#[derive(Clone)]
pub struct Identity {
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
}

/// The same on every node of a cluster.
#[derive(Clone, Debug)]
pub struct Policy {
    /// For objects of at least `small_below` bytes.
    pub scheme: Scheme,
    /// For smaller ones.
    pub small_scheme: Scheme,
    pub small_below: u64,
    /// No domain of this level holds more than m fragments of a stripe (PLC-1).
    pub failure_domain: FailureDomain,
    /// Fragments beyond k that must be durable before a stripe counts as safe.
    pub write_margin: u8,
    /// Data bytes per fragment of a full stripe: the stripe has k times as many.
    pub fragment_bytes: u32,
}

#[derive(Clone, Debug)]
pub struct Timings {
    pub gossip_interval: Duration,
    /// A suspected node is probed directly and through another; then its disks are marked down.
    pub probe_timeout: Duration,
    /// Disks down for longer are lost, and their groups repair without them.
    pub down_to_lost: Duration,
    /// One fragment operation on a peer.
    pub fragment_deadline: Duration,
    /// How long an unreferenced blob, or a fragment without a blob row, is kept.
    pub reclaim_grace: Duration,
    pub scrub_interval: Duration,
}

impl Timings {
    /// How long one body may take from its first byte to its commit. Fragments without a blob row are orphans once they are as old as
    /// `reclaim_grace`, so a write must be committed well before its first fragment is (GC-1).
    pub fn write_limit(&self) -> Duration {
        self.reclaim_grace / 2
    }
}

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
    /// Bytes that all stripes in flight may take together; what is over waits, then is refused as Busy.
    pub memory_bytes: u64,
    pub metrics: prometheus::Registry,
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("open disk: {0}")]
    Disk(#[from] crate::disk::DiskError),
    #[error("metadata: {0}")]
    Meta(#[from] cairn_schema::MetaError),
    #[error("listen on {0}: {1}")]
    Listen(SocketAddr, String),
    #[error("certificates: {0}")]
    Identity(String),
    #[error("gossip: {0}")]
    Gossip(String),
    #[error("metrics: {0}")]
    Metrics(String),
    #[error(transparent)]
    Supervisor(#[from] crate::supervisor::SupervisorError),
}

/// What `cairn status` shows: the cluster as this node sees it.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterStatus {
    pub cluster: String,
    pub seen_by: NodeId,
    pub scheme: String,
    pub small_scheme: String,
    pub failure_domain: FailureDomain,
    pub nodes: Vec<NodeStatus>,
    pub groups: Vec<GroupStatus>,
    /// Fragments in the ledger.
    pub missing_fragments: u64,
    pub ledger_by_cause: Vec<(MissingCause, u64)>,
    pub actors: Vec<ActorStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    pub id: NodeId,
    pub rack: String,
    pub zone: String,
    pub address: SocketAddr,
    /// "alive", "suspect" or "dead", by gossip here.
    pub gossip: String,
    pub disks: Vec<DiskLine>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DiskLine {
    pub id: String,
    pub state: DiskState,
    pub capacity_bytes: u64,
    /// None when the disk's node did not answer.
    pub used_bytes: Option<u64>,
    pub fragments: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct GroupStatus {
    pub id: GroupId,
    pub scheme: String,
    pub state: GroupState,
    pub epoch: u64,
    /// Members whose disk is up, of how many.
    pub up: usize,
    pub width: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct ActorStatus {
    pub name: String,
    pub state: String,
    pub restarts: u64,
    pub last_failure: Option<String>,
}

/// A running node. Cheap to clone. It runs until [`NodeRuntime::stop`]: dropping it abandons its work half-way.
#[derive(Clone)]
pub struct NodeRuntime {
    running: Arc<Running>,
}

impl NodeRuntime {
    /// Numbered start-up: disks, transport, registration, gossip, placement, background actors. When a step fails, those before it
    /// are undone.
    pub async fn start(options: NodeOptions) -> Result<Self, RuntimeError> {
        let running = Box::pin(boot::start(options)).await?;
        Ok(Self { running: Arc::new(running) })
    }

    pub fn store(&self) -> Store {
        self.running.store.clone()
    }

    /// Where QUIC and gossip really listen.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        self.running.addresses
    }

    /// The cluster as this node sees it now. Disks that do not answer at once are shown without their contents.
    pub async fn status(&self) -> Result<ClusterStatus, RuntimeError> {
        status::gather(&self.running).await
    }

    /// In the order of their start.
    pub fn actors(&self) -> Vec<ChildStatus> {
        self.running.actors()
    }

    /// Reverse of the start-up; waits up to `grace` for work in flight. A second call waits for the first.
    pub async fn stop(&self, grace: Duration) {
        self.running.stop(grace).await;
    }
}

//! One node's engine: disks, transport, gossip, supervised actors and the store over them, started and stopped in order.

mod boot;
pub mod disk_actor;
mod status;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cairn_disk::DiskOptions;
use cairn_schema::{Meta, ids::*, record::*};
use serde::Serialize;

pub use crate::{
    policy::{Policy, Timings},
    tls::Identity,
};

use crate::{store::Store, supervisor::ChildStatus};
use boot::Running;

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
    Disk(#[from] cairn_fragment::DiskError),
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
    /// By scheme, how many failure domains the stripes could lose. None if the metadata store is older than the counters of stripes.
    pub tolerance: Option<Vec<ToleranceStatus>>,
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
    /// How calls from here to the node ended last; None for this node itself, and for one that was not called yet.
    pub reach: Option<ReachStatus>,
    pub disks: Vec<DiskLine>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ReachStatus {
    /// Why it cannot be reached, if the last call ended without an answer.
    pub cut_off: Option<String>,
    /// Seconds since it last answered a call; None if it never did.
    pub answered_seconds_ago: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ToleranceStatus {
    pub scheme: String,
    /// Domains that a stripe written now could lose, if every disk that is not lost took part.
    pub possible: usize,
    /// How many stripes could lose 0, 1, 2, … domains, whichever these are, and be read.
    pub stripes: Vec<u64>,
    /// Stripes that could lose fewer domains than is possible.
    pub thin: u64,
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

    /// The actor that the node cannot go on without and that was given up, if there is one: its own restarts did not help.
    pub fn failure(&self) -> Option<ChildStatus> {
        self.running.failure()
    }

    /// Waits until there is a [`NodeRuntime::failure`].
    pub async fn failed(&self) -> ChildStatus {
        self.running.failed().await
    }

    /// Reverse of the start-up; waits up to `grace` for work in flight. A second call waits for the first.
    pub async fn stop(&self, grace: Duration) {
        self.running.stop(grace).await;
    }
}

//! What all background work shares.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_fragment::{Bounded, Priority};
use cairn_schema::{Meta, MetaError, ids::*, record::*};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Courtesy, HealingMetrics, Inconsistent};
use crate::{
    placement::Placement,
    policy::{Policy, Timings},
};

/// Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub node: NodeId,
    pub meta: Meta,
    /// Called in the background.
    pub fragments: Bounded,
    /// The node's picture of the cluster, which the store and the transport work with too.
    pub placement: Arc<Placement>,
    pub timings: Arc<Timings>,
    pub memory: BackgroundMemory,
    pub courtesy: Courtesy,
    pub inconsistent: Inconsistent,
    pub metrics: HealingMetrics,
}

/// The bytes that background work of one node may hold at once (BND-1).
#[derive(Clone)]
pub struct BackgroundMemory {
    grains: Arc<Semaphore>,
    all: u32,
}

/// Grants are counted in this many bytes.
const GRAIN: u64 = 1024;

impl BackgroundMemory {
    pub fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX >> 1).clamp(1, u32::MAX >> 1);
        Self { grains: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until `bytes` are free; what needs more than all gets all, and so runs alone. None when the process ends.
    pub async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let grains = u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX).min(self.all);
        self.grains.clone().acquire_many_owned(grains).await.ok()
    }
}

impl Context {
    /// How data is cut and spread, by the picture now.
    pub fn policy(&self) -> Policy {
        self.placement.policy()
    }

    /// By when one fragment operation that starts now must have ended.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timings.fragment_deadline
    }

    /// The cluster's fragments for a stripe that may lose so many more. Of the one that may lose none, and of the one
    /// that cannot be read until disks come back, the repair goes before clients' requests, not behind them: a client
    /// can wait a little, and the stripe is what would be lost next.
    pub(super) fn fragments_for(&self, margin: i32) -> Bounded {
        let priority = if margin > 0 { Priority::Background } else { Priority::Client };
        self.fragments.with_priority(priority)
    }

    /// Takes or renews; None when another node holds it.
    pub async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, MetaError> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.meta.lease(name, self.node.as_str(), ttl_ms).await
    }

    pub async fn release(&self, lease: Lease) {
        if let Err(error) = self.meta.release(&lease).await {
            tracing::debug!(lease = %lease.name, %error, "a lease was not released; it runs out by itself");
        }
    }
}

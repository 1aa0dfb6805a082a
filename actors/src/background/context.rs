//! What all background work shares.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::{Meta, MetaError, ids::*, record::*};

use super::HealingMetrics;
use crate::{
    runtime::{Policy, Timings},
    transport::Fragments,
};

/// Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub node: NodeId,
    pub meta: Meta,
    pub fragments: Arc<dyn Fragments>,
    pub policy: Arc<Policy>,
    pub timings: Arc<Timings>,
    pub metrics: HealingMetrics,
}

impl Context {
    /// By when one fragment operation that starts now must have ended.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timings.fragment_deadline
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

/// Nodes, disks and groups as of one revision, read again only when that moves on.
#[derive(Default)]
pub struct Rows {
    revision: Option<u64>,
    pub nodes: HashMap<NodeId, Node>,
    pub disks: HashMap<DiskId, Disk>,
    pub groups: HashMap<GroupId, Group>,
}

impl Rows {
    /// True when something changed.
    pub async fn refresh(&mut self, meta: &Meta) -> Result<bool, MetaError> {
        let revision = meta.placement_revision().await?;
        if self.revision == Some(revision) {
            return Ok(false);
        }
        let (nodes, disks, groups) = futures::try_join!(meta.nodes(), meta.disks(), meta.groups())?;
        self.nodes = nodes.into_iter().map(|node| (node.id.clone(), node)).collect();
        self.disks = disks.into_iter().map(|disk| (disk.id, disk)).collect();
        self.groups = groups.into_iter().map(|group| (group.id, group)).collect();
        // Read before the rows: at worst they are read once more.
        self.revision = Some(revision);
        Ok(true)
    }

    pub fn state(&self, disk: DiskId) -> Option<DiskState> {
        self.disks.get(&disk).map(|disk| disk.state)
    }

    /// The groups that a disk is a member of, and where, in order.
    pub fn positions_of(&self, disk: DiskId) -> Vec<(GroupId, u8)> {
        let position = |group: &Group| group.members.iter().position(|member| *member == disk);
        let mut found: Vec<_> =
            self.groups.values().filter_map(|group| Some((group.id, u8::try_from(position(group)?).ok()?))).collect();
        found.sort_unstable();
        found
    }
}

//! Nodes that somebody works on: how an operator says so, and what is shown of it.

use std::time::Duration;

use cairn_schema::{MetaError, ids::*, record::*};
use serde::Serialize;

use super::{boot::Running, options::RuntimeError};

/// A node that somebody works on.
#[derive(Clone, Debug, Serialize)]
pub struct MaintenanceStatus {
    pub node: NodeId,
    /// By the clock of whoever said so, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    pub for_seconds: u64,
    /// As this node counts; 0: it is over.
    pub left_seconds: u64,
}

impl MaintenanceStatus {
    pub(super) fn of(running: &Running) -> Vec<Self> {
        let of = |(window, left): (MaintenanceWindow, Duration)| Self {
            node: window.node,
            started_ms: window.started_ms,
            for_seconds: window.for_ms / 1000,
            left_seconds: left.as_secs(),
        };
        running.placement.windows().into_iter().map(of).collect()
    }
}

impl Running {
    /// Says that a node is under maintenance from now on.
    pub(super) async fn start_maintenance(&self, node: NodeId, length: Duration) -> Result<(), RuntimeError> {
        let for_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let now_ms = cairn_schema::clock::now_ms();
        self.change_maintenance(|kept| kept.started(node.clone(), for_ms, now_ms)).await?;
        tracing::warn!(by = %self.node, %node, ?length, "a node is under maintenance from now on");
        Ok(())
    }

    /// Says that a node is under maintenance no more; false if it was not.
    pub(super) async fn end_maintenance(&self, node: &NodeId) -> Result<bool, RuntimeError> {
        let was = self.change_maintenance(|kept| kept.without(|window| window.node == *node)).await?;
        if was {
            tracing::warn!(by = %self.node, %node, "a node is under maintenance no more");
        }
        Ok(was)
    }

    /// False if there was nothing to change. Others may change it at the same time, each for a node of its own.
    async fn change_maintenance(
        &self,
        change: impl Fn(&ClusterMaintenance) -> ClusterMaintenance,
    ) -> Result<bool, RuntimeError> {
        const TRIES: usize = 8;
        let mut tries = 0;
        loop {
            tries += 1;
            let kept = self.meta.maintenance().await?;
            let wanted = change(&kept);
            match self.meta.set_maintenance(kept.serial, wanted.windows).await {
                Err(MetaError::Stale(_)) if tries < TRIES => {}
                Err(error) => return Err(error.into()),
                Ok(now) => {
                    self.look_again().await;
                    return Ok(now != kept);
                }
            }
        }
    }
}

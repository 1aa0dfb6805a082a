//! Keeps this node's picture of the cluster current, and enough groups formed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cairn_schema::ids::NodeId;
use tokio::sync::watch;

use super::{Context, Step, StepError, Worker};
use crate::{
    membership::{Verdict, Verdicts},
    placement::{Liveness, Placement},
    transport::Router,
};

/// How often disks are asked how full and how slow they are.
const LOADS_EVERY: Duration = Duration::from_secs(5);
/// How often the number of groups is looked at when nothing has changed.
const GROUPS_EVERY: Duration = Duration::from_secs(15);
/// A change of the cluster is often the first of several (nodes that start together): groups are formed once it is quiet, or
/// at once by a write that finds none.
const QUIET: Duration = Duration::from_secs(2);

pub struct PlacementKeeper {
    ctx: Context,
    placement: Arc<Placement>,
    router: Router,
    verdicts: watch::Receiver<Arc<Verdicts>>,
    loads_due: Instant,
    groups_due: Instant,
}

impl PlacementKeeper {
    pub fn new(
        ctx: Context,
        placement: Arc<Placement>,
        router: Router,
        verdicts: watch::Receiver<Arc<Verdicts>>,
    ) -> Self {
        let now = Instant::now();
        Self { ctx, placement, router, verdicts, loads_due: now, groups_due: now + QUIET }
    }

    fn liveness(&self) -> Vec<(NodeId, Liveness)> {
        let to_liveness = |verdict: &Verdict| match verdict {
            Verdict::Alive => Liveness::Alive,
            Verdict::Suspect => Liveness::Suspect,
            Verdict::Dead => Liveness::Dead,
        };
        self.verdicts.borrow().iter().map(|(node, verdict)| (node.clone(), to_liveness(verdict))).collect()
    }
}

/// Tells the router where nodes and disks are, as the placement knows them.
pub fn route(placement: &Placement, router: &Router) {
    let topology = placement.topology();
    let disks = topology.disks.values().map(|view| (view.disk.id, view.disk.node.clone())).collect();
    let nodes = topology.nodes.values().map(|node| (node.id.clone(), node.address)).collect();
    router.set_topology(disks, nodes);
}

#[async_trait]
impl Worker for PlacementKeeper {
    async fn step(&mut self) -> Result<Step, StepError> {
        // Even when the metadata is away.
        self.placement.set_liveness(self.liveness());
        let now = Instant::now();
        if self.placement.refresh().await? {
            route(&self.placement, &self.router);
            self.groups_due = self.groups_due.min(now + QUIET);
        }
        if now >= self.loads_due {
            self.placement.poll_loads(&*self.ctx.fragments, self.ctx.timings.probe_timeout).await;
            self.loads_due = now + LOADS_EVERY;
        }
        if now >= self.groups_due {
            self.groups_due = now + GROUPS_EVERY;
            let made = self.placement.ensure_groups().await?;
            if made > 0 {
                tracing::info!(made, "formed placement groups");
            }
        }
        Ok(Step::Idle)
    }
}

//! Keeps gossip running and publishes what it says.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, watch};

use super::{Gossip, GossipOptions, View};
use crate::{
    placement::Placement,
    supervisor::{Step, StepError, Worker},
};

/// The running gossip, outside the worker so that it survives the worker's restart and can be stopped by the node.
pub type GossipSlot = Arc<Mutex<Option<Gossip>>>;

/// Keeps gossip running, and tells what it says.
pub struct GossipWorker {
    slot: GossipSlot,
    /// With the port that the node really has.
    options: GossipOptions,
    /// Tells who the nodes are: names that only gossip knows are nobody's.
    placement: Arc<Placement>,
    views: Arc<watch::Sender<Arc<View>>>,
}

impl GossipWorker {
    pub fn new(
        slot: GossipSlot,
        options: GossipOptions,
        placement: Arc<Placement>,
        views: Arc<watch::Sender<Arc<View>>>,
    ) -> Self {
        Self { slot, options, placement, views }
    }
}

#[async_trait]
impl Worker for GossipWorker {
    async fn step(&mut self) -> Result<Step, StepError> {
        let mut slot = self.slot.lock().await;
        if slot.is_none() {
            *slot = Some(Gossip::start(self.options.clone()).await?);
        }
        let rows = self.placement.topology().rows.clone();
        let view = match &*slot {
            Some(gossip) => gossip.view_of(rows.nodes.len(), |node| rows.nodes.contains_key(node)).await,
            None => return Ok(Step::Idle),
        };
        match view {
            Ok(view) => self.views.send_if_modified(|old| {
                let changed = **old != view;
                if changed {
                    *old = Arc::new(view);
                }
                changed
            }),
            // A broken socket, or forged names: the next step begins anew.
            Err(error) => {
                if let Some(gossip) = slot.take() {
                    gossip.stop().await;
                }
                return Err(error.into());
            }
        };
        Ok(Step::Idle)
    }
}

//! One node's engine: disks, transport, gossip, supervised actors and the store over them, started and stopped in
//! order.

mod boot;
pub mod disk_actor;
mod failure;
mod options;
mod status;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

pub use failure::NodeFailure;
pub use options::{NodeMemory, NodeOptions, RuntimeError};
pub use status::{ActorStatus, ClusterStatus, DiskLine, GroupStatus, NodeStatus, ReachStatus, ToleranceStatus};

pub use crate::{
    policy::{Policy, Rates, Timings},
    tls::Identity,
};

use crate::{store::Store, supervisor::ChildStatus};
use boot::Running;

/// A running node. Its futures are boxed, as [`Store`]'s. Cheap to clone.
///
/// It runs until [`NodeRuntime::stop`]: dropping it abandons its work half-way.
#[derive(Clone)]
pub struct NodeRuntime {
    running: Arc<Running>,
}

impl NodeRuntime {
    /// Numbered start-up: disks, transport, registration, gossip, placement, background actors. When a step fails,
    /// those before it are undone.
    pub fn start(options: NodeOptions) -> BoxFuture<'static, Result<Self, RuntimeError>> {
        Box::pin(async move {
            let running = boot::start(options).await?;
            Ok(Self { running: Arc::new(running) })
        })
    }

    pub fn store(&self) -> Store {
        self.running.store.clone()
    }

    /// Where QUIC and gossip really listen.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        self.running.addresses
    }

    /// The cluster as this node sees it now. Disks that do not answer at once are shown without their contents.
    pub fn status(&self) -> BoxFuture<'_, Result<ClusterStatus, RuntimeError>> {
        Box::pin(status::gather(&self.running))
    }

    /// In the order of their start.
    pub fn actors(&self) -> Vec<ChildStatus> {
        self.running.actors()
    }

    /// What the node cannot go on without and has lost, if there is anything.
    pub fn failure(&self) -> Option<NodeFailure> {
        self.running.failed().now_or_never()
    }

    /// Waits until there is a [`NodeRuntime::failure`].
    pub async fn failed(&self) -> NodeFailure {
        self.running.failed().await
    }

    /// Reverse of the start-up; waits up to `grace` for work in flight. A second call waits for the first.
    pub fn stop(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.running.stop(grace))
    }
}

//! One node's engine: disks, transport, gossip, supervised actors and the store over them, started and stopped in
//! order.

mod boot;
pub mod disk_actor;
mod failure;
mod health;
mod jobs;
mod maintenance;
mod options;
mod rates;
mod status;
mod stop;
mod survey;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cairn_schema::{
    MetaError,
    ids::NodeId,
    record::{ClusterPolicy, ClusterRates, JobId, JobState, JobTarget, RateOverrides},
};
use futures::{FutureExt, future::BoxFuture};

pub use failure::NodeFailure;
pub use health::{HealthState, HealthStatus, MissingLeft, RepairStatus, ScrubStatus, SpaceStatus, StripesLeft};
pub use jobs::{DrainingDisk, JobAsk, JobStatus, JobsStatus, PlanStatus, PlanTolerance};
pub use maintenance::MaintenanceStatus;
pub use options::{NodeOptions, RuntimeError};
pub use status::{
    ActorStatus, ClusterStatus, DiskLine, GroupStatus, NodeStatus, PolicyStatus, RatesStatus, ReachStatus,
    ToleranceStatus,
};
pub use stop::StopAnswer;

pub use crate::{
    placement::{
        PolicyView,
        stopping::{Answer, Named, SchemeWrites, UnknownName, Writes},
    },
    policy::{NodeMemory, Policy, Rates, RatesView, Timings},
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

    /// Whether disks, nodes, racks or zones may be stopped now: whether every stripe can be read without them, and
    /// whether writes go on. Nodes under maintenance count as stopped already.
    ///
    /// # Errors
    /// UnknownName if there is nothing so called.
    pub fn safe_to_stop(&self, kind: Named, names: Vec<String>) -> BoxFuture<'_, Result<StopAnswer, RuntimeError>> {
        Box::pin(stop::answer(&self.running, kind, names))
    }

    /// Nodes under maintenance, as this node knows.
    pub fn maintenance(&self) -> Vec<MaintenanceStatus> {
        MaintenanceStatus::of(&self.running)
    }

    /// Says that a node is under maintenance from now on, for so long: its disks are not given up, and writes go
    /// elsewhere. This node goes by it when this returns, the others within a second or two.
    ///
    /// # Errors
    /// Those of [`cairn_schema::Meta::set_maintenance`].
    pub fn start_maintenance(&self, node: NodeId, length: Duration) -> BoxFuture<'_, Result<(), RuntimeError>> {
        Box::pin(self.running.start_maintenance(node, length))
    }

    /// Says that a node is under maintenance no more; false if it was not.
    pub fn end_maintenance(&self, node: NodeId) -> BoxFuture<'_, Result<bool, RuntimeError>> {
        Box::pin(async move { self.running.end_maintenance(&node).await })
    }

    /// What the scrubs of this node's disks know.
    pub fn scrub_ages(&self) -> ScrubStatus {
        ScrubStatus::of(&self.running.metrics, 0)
    }

    pub fn id(&self) -> &NodeId {
        &self.running.node
    }

    /// How data is kept in the cluster, as the metadata say now.
    pub fn kept_policy(&self) -> BoxFuture<'_, Result<ClusterPolicy, RuntimeError>> {
        Box::pin(async move {
            let kept = self.running.meta.policy().await?;
            Ok(kept.ok_or(MetaError::Stale("policy"))?)
        })
    }

    /// Whether this node has the memory to write by a policy.
    pub fn can_hold(&self, policy: &Policy) -> Result<(), RuntimeError> {
        self.running.can_hold(policy)
    }

    /// Reads what has changed in the cluster now, instead of within a second or two.
    pub fn look_again(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.running.look_again())
    }

    /// How data is kept in the cluster, and where this node was told otherwise.
    pub fn policy(&self) -> Arc<PolicyView> {
        self.running.placement.topology().policy.clone()
    }

    /// Changes the cluster's policy if its generation still is `expected`. This node goes by it when this returns, the
    /// others within a second or two.
    ///
    /// # Errors
    /// PolicyTooLarge if this node could not write by it; those of [`cairn_schema::Meta::set_policy`].
    pub fn set_policy(&self, expected: u64, policy: Policy) -> BoxFuture<'_, Result<ClusterPolicy, RuntimeError>> {
        Box::pin(self.running.set_policy(expected, policy))
    }

    /// Which rates the cluster has for all nodes, as the metadata say now.
    pub fn kept_rates(&self) -> BoxFuture<'_, Result<ClusterRates, RuntimeError>> {
        Box::pin(async move { Ok(self.running.meta.rates().await?) })
    }

    /// The rates that this node goes by.
    pub fn rates(&self) -> RatesView {
        self.running.rates.view()
    }

    /// Changes the rates that hold on all nodes instead of their own, if their generation still is `expected`. This
    /// node goes by them when this returns, the others within a second or two.
    ///
    /// # Errors
    /// Those of [`cairn_schema::Meta::set_rates`].
    pub fn set_rates(&self, expected: u64, rates: RateOverrides) -> BoxFuture<'_, Result<ClusterRates, RuntimeError>> {
        Box::pin(self.running.set_rates(expected, rates))
    }

    /// Operators' jobs, and the disks that are to be empty.
    pub fn jobs(&self) -> BoxFuture<'_, Result<JobsStatus, RuntimeError>> {
        Box::pin(self.running.jobs())
    }

    /// What a job would do, and what stands against it. Nothing changes.
    ///
    /// # Errors
    /// JobRefused for one that makes no sense, or that is about disks that there are not.
    pub fn plan_job(&self, ask: JobAsk) -> BoxFuture<'_, Result<PlanStatus, RuntimeError>> {
        Box::pin(async move { self.running.plan_job(&ask).await })
    }

    /// Begins a job if nothing stands against it.
    ///
    /// # Errors
    /// JobRefused with all that does; those of [`cairn_schema::Meta::start_job`].
    pub fn start_job(&self, ask: JobAsk) -> BoxFuture<'_, Result<JobStatus, RuntimeError>> {
        Box::pin(self.running.start_job(ask))
    }

    /// Pauses, resumes or cancels a job.
    ///
    /// # Errors
    /// Those of [`cairn_schema::Meta::set_job_state`].
    pub fn set_job_state(&self, id: JobId, state: JobState) -> BoxFuture<'_, Result<JobStatus, RuntimeError>> {
        Box::pin(self.running.set_job_state(id, state))
    }

    /// Takes disks out that are drained; their ids.
    ///
    /// # Errors
    /// Those of [`cairn_schema::Meta::remove_disks`], which name what is left.
    pub fn remove_disks(&self, targets: Vec<JobTarget>) -> BoxFuture<'_, Result<Vec<String>, RuntimeError>> {
        Box::pin(async move { self.running.remove_disks(&targets).await })
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

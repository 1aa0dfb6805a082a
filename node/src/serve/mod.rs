//! The serving part of a process: some nodes' engines, one S3 gateway over the first, one admin API. Started in a
//! numbered order, stopped in the reverse one.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use cairn_actors::{
    disk::IndexMemory,
    runtime::{NodeOptions, NodeRuntime},
};
use cairn_gateway::{AccessDesk, AuditLog, Gateway, GatewayError, GatewayOptions, KeyDesk};
use cairn_schema::ids::NodeId;
use futures::{
    FutureExt,
    future::{join_all, select_all, try_join_all},
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    admin::{AdminServer, ProcessMetrics, Subject, register_index_cache, register_memory},
    config::Shares,
    failure::Failure,
    heap::Keeper,
    process::Stop,
    ready_file::{Ready, ReadyNode},
    renewal::Files,
};

/// Requests under way may take as long to finish; then their connections are closed.
const GATEWAY_GRACE: Duration = Duration::from_secs(20);
/// What an engine has in flight: fragments on their way, the step of a background actor.
const ENGINE_GRACE: Duration = Duration::from_secs(10);
/// Disks, transport and registration of one node.
const ENGINE_START_DEADLINE: Duration = Duration::from_secs(120);
/// A new cluster forms its first groups in this time; after it, the process serves S3 all the same and says so.
const FIRST_WRITE_DEADLINE: Duration = Duration::from_secs(20);
const FIRST_WRITE_PAUSE: Duration = Duration::from_millis(100);

/// Writes that wait for one disk; more is answered Busy.
pub(crate) const MAX_QUEUED_BYTES: u64 = 32 << 20;
/// Reads that wait for one disk.
pub(crate) const MAX_QUEUED_READS: usize = 1024;

/// What to start.
pub(crate) struct Plan {
    /// At least one; those without gossip seeds are given the first one's address.
    pub nodes: Vec<NodeOptions>,
    pub gateway: GatewayOptions,
    /// Where changes are told of that operators make.
    pub audit: Option<AuditLog>,
    /// Where the gateway's certificates were read, in their order, and may be renewed.
    pub certificates: Vec<Files>,
    pub admin: SocketAddr,
    /// Bytes that stand before every key of the metadata.
    pub prefix_bytes: usize,
    /// How the process divides its memory, and what all disks' indexes share of it.
    pub memory: (Shares, IndexMemory),
    /// The process's; nodes and gateway register theirs with it.
    pub metrics: prometheus::Registry,
    pub max_fds: Option<u64>,
}

/// What has been started, in this order.
#[derive(Default)]
pub(crate) struct Serving {
    heap: Option<Keeper>,
    admin: Option<AdminServer>,
    nodes: Vec<(NodeId, NodeRuntime)>,
    gateway: Option<Gateway>,
    renewals: Vec<AbortOnDropHandle<()>>,
    audit: Option<AuditLog>,
}

impl Serving {
    /// Starts everything, or stops what had been started and says why. `Interrupted` if `stop` comes first.
    pub(crate) async fn start(plan: Plan, stop: &Stop) -> Result<(Self, Ready), Failure> {
        let mut serving = Self::default();
        let mut interrupted = stop.clone();
        let started = tokio::select! {
            started = Box::pin(serving.start_all(plan, stop)) => started,
            () = crate::process::stopped(&mut interrupted) => Err(Failure::Interrupted),
        };
        match started {
            Ok(ready) => Ok((serving, ready)),
            Err(failure) => {
                serving.stop().await;
                Err(failure)
            }
        }
    }

    async fn start_all(&mut self, plan: Plan, stop: &Stop) -> Result<Ready, Failure> {
        let begun = Instant::now();
        // Bound again when writes hold, which may take a while: an address that cannot be had is told now.
        let s3 = plan.gateway.listen;
        drop(TcpListener::bind(s3).await.map_err(|error| GatewayError::Listen(s3, error))?);
        let (shares, index) = plan.memory;
        register_memory(&plan.metrics, shares.bound, &shares.parts())?;
        register_index_cache(&plan.metrics, &index)?;
        self.heap = Some(Keeper::start(shares.bound).map_err(Failure::Runtime)?);
        // 1. The admin API: an operator can see from the first moment that the process lives and is starting.
        ProcessMetrics::register(&plan.metrics, plan.max_fds)?;
        let admin = self.admin.insert(AdminServer::start(plan.admin, plan.metrics, stop.clone()).await?);
        if let Some(audit) = &plan.audit {
            admin.audit(audit.clone());
            self.audit = Some(audit.clone());
        }
        tracing::info!(address = %admin.local_addr(), "1. admin API listens");

        // 2. The engines. The first alone, because the others find the cluster through its gossip address.
        let mut options = plan.nodes.into_iter();
        if let Some(first) = options.next() {
            self.nodes.push(start_node(first).await?);
        }
        let seed = self.nodes.first().map(|(_, node)| node.addresses().1.to_string());
        let others = options.map(|mut options| {
            if options.gossip_seeds.is_empty() {
                options.gossip_seeds.extend(seed.clone());
            }
            start_node(options)
        });
        self.nodes.extend(try_join_all(others).await?);
        tracing::info!(nodes = self.nodes.len(), "2. engines run");

        // 3. Proof that a write can be made durable: until then a client would only be refused. Others may still be
        //    starting, so the lack
        // of it is no failure.
        let nodes: Vec<_> = self.nodes.iter().map(|(_, node)| node.clone()).collect();
        if let Some(first) = nodes.first() {
            let meta = first.store().meta().clone();
            let access = AccessDesk::new(meta.clone(), plan.gateway.secrets.clone());
            let keys = KeyDesk::new(meta, plan.gateway.keyring.clone());
            let targets = plan.gateway.targets.clone();
            admin.serve(Subject::Nodes(nodes, plan.prefix_bytes, access, keys, targets));
        }
        match first_write(admin).await {
            Ok(()) => tracing::info!(after = ?begun.elapsed(), "3. a write was made durable"),
            Err(reason) => tracing::warn!(
                reason,
                waited = ?FIRST_WRITE_DEADLINE,
                "3. no write can be made durable yet: S3 is served all the same, and /readyz says no until one can"
            ),
        }

        // 4. The gateway over the first node's store.
        if let Some((_, first)) = self.nodes.first() {
            let gateway = Gateway::start(first.store(), plan.gateway).await?;
            tracing::info!(address = %gateway.local_addr(), "4. S3 gateway listens");
            let files = plan.certificates.into_iter().zip(gateway.certificates());
            self.renewals = files.map(|(files, certificate)| files.follow(certificate)).collect();
            self.gateway = Some(gateway);
        }
        admin.open();
        Ok(self.addresses(plan.admin))
    }

    fn addresses(&self, admin: SocketAddr) -> Ready {
        let nodes = self.nodes.iter().map(|(id, node)| {
            let (quic, gossip) = node.addresses();
            ReadyNode { id: id.to_string(), quic, gossip }
        });
        let admin = self.admin.as_ref().map_or(admin, AdminServer::local_addr);
        Ready::of_nodes(self.gateway.as_ref().map(Gateway::local_addr), admin, nodes.collect())
    }

    /// Waits until a part of it cannot go on, and says which and why. Its process should end: whoever supervises it
    /// starts it again.
    pub(crate) async fn failed(&self) -> Failure {
        tokio::select! {
            failure = self.node_failed() => failure,
            () = forever_unless(self.gateway.as_ref().map(Gateway::ended)) => Failure::Deaf("S3 gateway"),
            () = forever_unless(self.admin.as_ref().map(AdminServer::ended)) => Failure::Deaf("admin API"),
        }
    }

    async fn node_failed(&self) -> Failure {
        if self.nodes.is_empty() {
            return std::future::pending().await;
        }
        let failures = self.nodes.iter().map(|(id, node)| async move { (id, node.failed().await) }.boxed());
        let ((node, failure), ..) = select_all(failures).await;
        Failure::NodeFailed(node.clone(), failure)
    }

    /// The reverse of the start, every step with its own bound.
    pub(crate) async fn stop(self) {
        let begun = Instant::now();
        drop(self.renewals);
        if let Some(gateway) = self.gateway {
            gateway.stop(GATEWAY_GRACE).await;
            tracing::info!("S3 gateway stopped");
        }
        // Together: one after the other, the last would be busy declaring the first ones dead.
        join_all(self.nodes.iter().map(|(id, node)| stop_node(id, node))).await;
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
        if let Some(audit) = self.audit {
            let _ = tokio::task::spawn_blocking(move || audit.close()).await;
        }
        drop(self.heap);
        tracing::info!(after = ?begun.elapsed(), "stopped");
    }
}

/// Waits for the end of what there is; what there is not does not end.
async fn forever_unless(end: Option<impl Future<Output = ()>>) {
    match end {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}

async fn start_node(options: NodeOptions) -> Result<(NodeId, NodeRuntime), Failure> {
    let id = options.id.clone();
    match tokio::time::timeout(ENGINE_START_DEADLINE, Box::pin(NodeRuntime::start(options))).await {
        Ok(Ok(node)) => Ok((id, node)),
        Ok(Err(error)) => Err(Failure::Node(id, error)),
        Err(_) => Err(Failure::Slow(id, ENGINE_START_DEADLINE)),
    }
}

/// The engine bounds itself by its grace; twice that means that it hangs.
async fn stop_node(id: &NodeId, node: &NodeRuntime) {
    if tokio::time::timeout(ENGINE_GRACE * 2, node.stop(ENGINE_GRACE)).await.is_err() {
        tracing::error!(node = %id, "the engine did not stop in time");
    }
}

async fn first_write(admin: &AdminServer) -> Result<(), String> {
    let deadline = Instant::now() + FIRST_WRITE_DEADLINE;
    loop {
        match admin.able().await {
            Ok(()) => return Ok(()),
            Err(reason) if Instant::now() >= deadline => return Err(reason),
            Err(_) => tokio::time::sleep(FIRST_WRITE_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests;

//! `cairn dev`: a whole cluster in one process. Its nodes talk over real QUIC and real gossip on loopback; only the
//! metadata store and the gateway are shared.

mod banner;

use std::{net::SocketAddr, path::Path, time::Duration};

use cairn_actors::{
    disk::{DiskOptions, IndexMemory},
    runtime::{NodeMemory, NodeOptions, Policy, Rates, Timings},
    store::StoreLimits,
};
use cairn_gateway::GatewayOptions;
use cairn_schema::{ids::NodeId, verbs::ClusterInfo};
use prometheus::Registry;

use crate::{
    certs,
    cli::{DevArgs, DomainArg},
    config::{Sharers, Shares},
    data_dir::DataDir,
    failure::Failure,
    files,
    keys::{self, RootKeys},
    layout::{DevNode, Layout, Wanted},
    metadata,
    process::{Stop, stopped},
    serve::{MAX_QUEUED_BYTES, MAX_QUEUED_READS, Plan, Serving},
};

/// Ten disks on one file system need small segments, or an empty cluster would look full.
const SEGMENT_BYTES: u64 = 64 << 20;
const RESERVED_BYTES: u64 = 128 << 20;
/// A disk with room for fewer could not compact what is deleted.
const LEAST_SEGMENTS: u64 = 4;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Runs until `stop`.
pub(crate) async fn run(args: &DevArgs, max_fds: Option<u64>, json: bool, mut stop: Stop) -> Result<(), Failure> {
    if !args.admin.ip().is_loopback() && !args.admin_allow_remote {
        return Err(Failure::AdminRemote(args.admin));
    }
    let root = RootKeys::for_dev()?;
    // 1. The data folder and the layout in it: everything that can be refused is refused before anything starts.
    let data = DataDir::take(&args.data)?;
    let (layout, recorded) = data.layout(&wanted(args))?;
    let as_told = shares(args, &layout, &layout.policy())?;
    // 2. Metadata, shared by all nodes. The policy in them may have been changed since the layout was recorded.
    let opened = metadata::open_embedded(&data.metadata(), as_told.metadata()).await?;
    let cluster = opened.cluster(layout.policy()).await?;
    let policy = cluster.policy.policy;
    let shares = shares(args, &layout, &policy)?;
    // 3. The nodes, the gateway over the first, the admin API.
    let metrics = Registry::new();
    let index = shares.index(layout.total_disks());
    let memory = (shares.node(layout.nodes.len()), &index);
    let mut nodes = Vec::new();
    for node in &layout.nodes {
        nodes.push(node_options(memory, &layout, node, &data, (&opened, &cluster), &metrics)?);
    }
    let mut gateway = GatewayOptions::new(args.s3, &root.access, &root.secret);
    gateway.metrics = metrics.clone();
    gateway.secrets = Some(keys::dev_secrets_key(&data.secrets_key())?);
    gateway.keyring = Some(keys::dev_keyring(&data.object_keys())?);
    gateway.customer_keys_over_http = true;
    let plan = Plan {
        nodes,
        gateway,
        audit: None,
        certificates: Vec::new(),
        admin: args.admin,
        prefix_bytes: 0,
        memory: (shares, index),
        metrics,
        max_fds,
    };
    let (serving, ready) = Serving::start(plan, &stop).await?;
    // 4. Tell where.
    if let Some(path) = &args.ready_file {
        ready.write(path)?;
    }
    if json {
        ready.print()?;
    } else {
        banner::print(&layout, &policy, recorded, data.root(), &ready, &root);
    }

    let ended = tokio::select! {
        () = stopped(&mut stop) => Ok(()),
        failure = opened.failed() => Err(failure),
        failure = serving.failed() => Err(failure),
    };
    if let Some(path) = &args.ready_file {
        files::forget(path);
    }
    serving.stop().await;
    opened.close().await;
    ended
}

fn wanted(args: &DevArgs) -> Wanted {
    Wanted {
        racks: args.racks,
        nodes_per_rack: args.nodes_per_rack,
        disks: args.disks,
        zones: args.zones,
        scheme: args.scheme,
        small_scheme: args.small_scheme,
        failure_domain: args.failure_domain.map(DomainArg::domain),
    }
}

/// How the process divides its memory: all nodes have one bound together.
fn shares(args: &DevArgs, layout: &Layout, policy: &Policy) -> Result<Shares, Failure> {
    let sharers = Sharers::of(layout.nodes.len(), layout.total_disks(), true, &[*policy]);
    Shares::divide(args.memory, &sharers).map_err(|why| Failure::Memory(args.memory, why))
}

fn node_options(
    (memory, index): (NodeMemory, &IndexMemory),
    layout: &Layout,
    node: &DevNode,
    data: &DataDir,
    (opened, cluster): (&metadata::Opened, &ClusterInfo),
    metrics: &Registry,
) -> Result<NodeOptions, Failure> {
    let id: NodeId = node.id.parse().map_err(|error| Failure::Certificates(format!("{error}")))?;
    let capacity_bytes = share_of_file_system(data.root(), layout.total_disks());
    let disk = |number| DiskOptions {
        path: data.disk(&node.id, number),
        cluster: cluster.id,
        segment_bytes: SEGMENT_BYTES,
        reserved_bytes: RESERVED_BYTES,
        capacity_bytes,
        max_queued_bytes: MAX_QUEUED_BYTES,
        max_queued_reads: MAX_QUEUED_READS,
        index: index.clone(),
    };
    Ok(NodeOptions {
        identity: certs::dev_identity(&data.certs(), &id)?,
        metrics: metrics.clone(),
        id,
        rack: node.rack.clone(),
        zone: node.zone.clone(),
        meta: opened.meta(),
        disks: (1..=node.disks).map(disk).collect(),
        listen: LOOPBACK,
        gossip_listen: LOOPBACK,
        gossip_seeds: Vec::new(),
        policy: cluster.policy.policy,
        timings: timings(),
        rates: Rates::default(),
        memory,
        client_memory_percent: StoreLimits::default().client_memory_percent,
        deliver: None,
    })
}

/// All disks are folders of one file system: each may have its part, or the cluster would claim the space many times
/// over.
fn share_of_file_system(root: &Path, disks: usize) -> Option<u64> {
    let file_system = rustix::fs::statvfs(root).ok()?;
    let share = file_system.f_blocks.saturating_mul(file_system.f_frsize) / disks.max(1) as u64;
    Some(share.max(RESERVED_BYTES + LEAST_SEGMENTS * SEGMENT_BYTES))
}

/// Quicker than production's: a developer who breaks something wants to watch it heal.
fn timings() -> Timings {
    Timings {
        gossip_interval: Duration::from_millis(250),
        down_to_lost: Duration::from_secs(120),
        domain_down_to_lost: Duration::from_secs(600),
        reclaim_grace: Duration::from_secs(3600),
        scrub_interval: Duration::from_secs(24 * 3600),
        ..Timings::default()
    }
}

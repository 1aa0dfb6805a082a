//! Starting a node step by step, and stopping it in reverse.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cairn_disk::{DiskHandle, pace::share};
use cairn_fragment::{Bounded, DiskError, LocalDisk, Priority, Probes};
use cairn_net::transport::{
    LocalDisks, Router,
    quic::{Endpoint, QuicError, QuicOptions},
    service::FragmentService,
};
use cairn_schema::{Meta, ids::*, record::*};
use prometheus::Registry;
use tokio::sync::{Mutex, OnceCell, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{
    NodeFailure, NodeOptions, RuntimeError,
    disk_actor::spawn_disk,
    rates::{RateFollower, RateKeeper},
};
use crate::{
    background::{
        BackgroundMemory, Context, Courtesy, Deliver, HealingMetrics, Inconsistent, events::Events, gc::Gc,
        lifecycle::Lifecycles, mover::Mover, placement::PlacementKeeper, repair::Repair, scrub::Scrub,
    },
    membership::{Gossip, GossipOptions, GossipSlot, GossipWorker, Judge, View, Views, leave},
    metrics::NodeRegistry,
    placement::{Placement, Told, Topology},
    policy::{NodeMemory, Policy},
    store::{Store, StoreLimits, StoreParts},
    supervisor::{
        ChildHandle, ChildStatus, Need, Pace, Rate, ShareLeft, Supervisor, WorkerCommand, WorkerMetrics, worker,
    },
};

/// The first scrub waits until the cluster has settled after a start.
const SCRUB_DELAY: Duration = Duration::from_secs(60);
/// Between two walks over the buckets that have lifecycles, whose rules are about days.
const LIFECYCLE_REST: Duration = Duration::from_secs(600);
/// Between two looks at events that wait: about what a listener waits for one.
const EVENTS_REST: Duration = Duration::from_millis(500);
/// A returning node's disks are usually up again within this; the start does not wait longer.
const UP_WAIT: Duration = Duration::from_secs(5);
/// Telling the metadata that the disks go away is a courtesy.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);
/// Two starts of the same node's metrics, gossip and sockets in one process must not overlap; how long closing disks
/// may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// Of all crates of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything that runs.
pub(super) struct Running {
    pub node: NodeId,
    pub meta: Meta,
    memory: NodeMemory,
    pub fragments: Bounded,
    pub placement: Arc<Placement>,
    pub rates: Arc<RateKeeper>,
    pub inconsistent: Inconsistent,
    pub metrics: HealingMetrics,
    pub router: Arc<Router>,
    pub store: Store,
    pub addresses: (SocketAddr, SocketAddr),
    begun: Begun,
    stopped: OnceCell<()>,
}

/// What must be undone, in the order in which it was begun.
#[derive(Default)]
struct Begun {
    registry: Option<(NodeRegistry, Registry)>,
    disk_actors: Option<Supervisor>,
    disks: Vec<DiskHandle>,
    endpoint: Option<Endpoint>,
    gossip: Option<GossipSlot>,
    views: Option<Views>,
    actors: Option<Supervisor>,
    caller: Option<AbortOnDropHandle<()>>,
}

pub(super) async fn start(options: NodeOptions) -> Result<Running, RuntimeError> {
    let mut begun = Begun::default();
    match begin(&mut begun, options).await {
        Ok(parts) => {
            let Parts { ctx, memory, rates, router, store, addresses } = parts;
            let Context { node, meta, fragments, placement, inconsistent, metrics, .. } = ctx;
            let stopped = OnceCell::new();
            Ok(Running {
                node,
                meta,
                memory,
                fragments,
                placement,
                rates,
                inconsistent,
                metrics,
                router,
                store,
                addresses,
                begun,
                stopped,
            })
        }
        Err(error) => {
            begun.undo(Duration::from_secs(1)).await;
            Err(error)
        }
    }
}

struct Parts {
    ctx: Context,
    memory: NodeMemory,
    rates: Arc<RateKeeper>,
    router: Arc<Router>,
    store: Store,
    addresses: (SocketAddr, SocketAddr),
}

async fn begin(begun: &mut Begun, options: NodeOptions) -> Result<Parts, RuntimeError> {
    let node = options.id.clone();
    let registry = open_registry(begun, &options)?;
    let cluster = options.meta.cluster(options.policy).await?.id;

    open_disks(begun, &options, &registry).await?;
    tracing::info!(%node, disks = begun.disks.len(), "1. disks are open");

    let endpoint = bind(begun, &options, &registry).await?;
    let quic = endpoint.local_addr();
    let locals =
        LocalDisks::new(begun.disks.iter().map(|disk| (disk.id(), Arc::new(disk.clone()) as Arc<dyn LocalDisk>)));
    // Empty as yet; calls look into it when they are sent.
    let told = Told { policy: options.policy, memory: options.memory };
    let placement = Placement::new(options.meta.clone(), node.clone(), told);
    let rates = RateKeeper::new(options.rates, placement.clone(), begun.disks.clone());
    let router = Router::new(endpoint.client().clone(), locals.clone(), placement.clone());
    let router = Arc::new(router);
    let fragments = Bounded::new(router.clone());
    endpoint.serve(Arc::new(FragmentService::new(locals, router.clone())));
    tracing::info!(%node, address = %quic, "2. QUIC listens");

    register(begun, &options, quic).await?;
    tracing::info!(%node, %cluster, "3. node and disks are registered");

    let gossip_options = gossip_options(&options, cluster, quic);
    let (gossip, gossip_options) = open_gossip(begun, gossip_options).await?;
    tracing::info!(%node, address = %gossip, "4. gossip runs");

    let metrics = HealingMetrics::new(&registry).map_err(metrics_error)?;
    let own = begun.disks.clone();
    // With the whole of the disks' time they yield to nobody.
    let courtesy = Courtesy::new(move || own.iter().any(|disk| disk.use_now().0 && disk.background_share() < 1.0));
    let ctx = Context {
        node: node.clone(),
        meta: options.meta.clone(),
        fragments: fragments.with_priority(Priority::Background),
        placement: placement.clone(),
        timings: Arc::new(options.timings.clone()),
        memory: BackgroundMemory::new(options.memory.background),
        courtesy,
        inconsistent: Inconsistent::default(),
        metrics,
    };
    let rows = placement.refresh().await?;
    rates.follow();
    tracing::info!(%node, groups = rows.groups.len(), "5. placement is known");

    let workers = start_actors(begun, &ctx, router.clone(), gossip_options, &rates, &registry).await?;
    if let Some(deliver) = options.deliver {
        start_deliveries(&workers, &ctx, deliver).await?;
    }
    tracing::info!(%node, "6. background actors run");

    let store = Store::new(StoreParts {
        meta: options.meta,
        fragments: fragments.clone(),
        placement: placement.clone(),
        timings: options.timings,
        memory_bytes: options.memory.stripes,
        limits: StoreLimits { client_memory_percent: options.client_memory_percent, ..StoreLimits::default() },
        metrics: registry,
    });
    let up = wait_until_up(begun, &placement).await;
    tracing::info!(%node, disks_up = up, "7. the store serves");
    Ok(Parts { ctx, memory: options.memory, rates, router, store, addresses: (quic, gossip) })
}

fn metrics_error(error: prometheus::Error) -> RuntimeError {
    RuntimeError::Metrics(error.to_string())
}

fn open_registry(begun: &mut Begun, options: &NodeOptions) -> Result<Registry, RuntimeError> {
    let own = NodeRegistry::new(options.id.as_str()).map_err(metrics_error)?;
    own.attach(&options.metrics).map_err(metrics_error)?;
    let registry = own.registry().clone();
    begun.registry = Some((own, options.metrics.clone()));
    Ok(registry)
}

/// A disk that is refused (another cluster's, an unknown format) is a mistake to be told at once; one that is broken
/// must not keep the node's other disks away.
async fn open_disks(begun: &mut Begun, options: &NodeOptions, registry: &Registry) -> Result<(), RuntimeError> {
    let supervisor = Supervisor::start(&format!("{}: disks", options.id)).await?;
    begun.disk_actors = Some(supervisor.clone());
    let opening = options.disks.iter().map(|disk| spawn_disk(&supervisor, disk.clone()));
    let mut failure = None;
    for (opened, disk) in futures::future::join_all(opening).await.into_iter().zip(&options.disks) {
        match opened {
            Ok(handle) => {
                handle.metrics().register(registry).map_err(metrics_error)?;
                begun.disks.push(handle);
            }
            Err(error @ DiskError::Refused { .. }) => return Err(error.into()),
            Err(error) => {
                tracing::error!(node = %options.id, path = %disk.path.display(), %error, "a disk did not open");
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if begun.disks.is_empty() => Err(error.into()),
        _ => Ok(()),
    }
}

async fn bind(begun: &mut Begun, options: &NodeOptions, registry: &Registry) -> Result<Endpoint, RuntimeError> {
    for address in [options.listen, options.gossip_listen] {
        if address.ip().is_unspecified() {
            let why = "other nodes need an address that they can reach; name an interface's".to_owned();
            return Err(RuntimeError::Listen(address, why));
        }
    }
    let quic = QuicOptions {
        metrics: Some(registry.clone()),
        max_served_bytes: u32::try_from(options.memory.served).unwrap_or(u32::MAX),
        ..QuicOptions::default()
    };
    let bound = Endpoint::bind(options.listen, &options.identity, quic).await;
    let endpoint = bound.map_err(|error| match error {
        QuicError::Listen(address, why) => RuntimeError::Listen(address, why),
        QuicError::Identity(error) => RuntimeError::Identity(error.to_string()),
        error => RuntimeError::Listen(options.listen, error.to_string()),
    })?;
    if *endpoint.node() != options.id {
        let why = format!("the certificate names node {}, the configuration {}", endpoint.node(), options.id);
        endpoint.close(Duration::ZERO).await;
        return Err(RuntimeError::Identity(why));
    }
    begun.endpoint = Some(endpoint.clone());
    Ok(endpoint)
}

async fn register(begun: &Begun, options: &NodeOptions, quic: SocketAddr) -> Result<(), RuntimeError> {
    let NodeOptions { id, rack, zone, meta, .. } = options;
    let node = Node { id: id.clone(), rack: rack.clone(), zone: zone.clone(), address: quic };
    meta.register_node(node).await?;
    for handle in &begun.disks {
        let disk = Disk {
            id: handle.id(),
            node: id.clone(),
            rack: rack.clone(),
            zone: zone.clone(),
            capacity_bytes: handle.status().capacity_bytes,
            state: DiskState::Up,
            since_ms: cairn_schema::clock::now_ms(),
        };
        meta.register_disk(disk).await?;
    }
    Ok(())
}

fn gossip_options(options: &NodeOptions, cluster: ClusterId, quic: SocketAddr) -> GossipOptions {
    GossipOptions {
        node: options.id.clone(),
        cluster,
        listen: options.gossip_listen,
        seeds: options.gossip_seeds.clone(),
        interval: options.timings.gossip_interval,
        quic,
        rack: options.rack.clone(),
        zone: options.zone.clone(),
        version: VERSION.to_owned(),
    }
}

async fn open_gossip(begun: &mut Begun, options: GossipOptions) -> Result<(SocketAddr, GossipOptions), RuntimeError> {
    let gossip = Gossip::start(options.clone()).await.map_err(|error| RuntimeError::Gossip(error.to_string()))?;
    let listen = gossip.listen();
    begun.gossip = Some(Arc::new(Mutex::new(Some(gossip))));
    // A restart of gossip within this life must be found where the others know it.
    Ok((listen, GossipOptions { listen, ..options }))
}

/// Without gossip, membership and placement the node would act on the cluster of yesterday. Without the others it
/// serves all the same, and the status tells of what is not healed or reclaimed: ending for these would let one object
/// that they cannot cope with stop every node of the cluster.
async fn start_actors(
    begun: &mut Begun,
    ctx: &Context,
    probes: Arc<dyn Probes>,
    gossip: GossipOptions,
    rates: &Arc<RateKeeper>,
    registry: &Registry,
) -> Result<(Supervisor, WorkerMetrics), RuntimeError> {
    let supervisor = Supervisor::start(ctx.node.as_str()).await?;
    begun.actors = Some(supervisor.clone());
    let metrics = WorkerMetrics::new(registry).map_err(metrics_error)?;
    let (views, view) = watch::channel(Arc::new(View::default()));
    let views = Arc::new(views);
    begun.views = Some(view.clone());
    let own: Vec<DiskId> = begun.disks.iter().map(DiskHandle::id).collect();
    let often = pace(ctx.timings.gossip_interval, 0.0, None, Duration::from_secs(300));

    if let Some(slot) = begun.gossip.clone() {
        let placement = ctx.placement.clone();
        let make = move || GossipWorker::new(slot.clone(), gossip.clone(), placement.clone(), views.clone());
        worker::run(&supervisor, "gossip", Need::Essential, often.clone(), &metrics, make).await?;
    }
    let (judge_ctx, disks) = (ctx.clone(), own.clone());
    let make = move || Judge::new(judge_ctx.clone(), probes.clone(), disks.clone(), view.clone());
    worker::run(&supervisor, "membership", Need::Essential, often, &metrics, make).await?;

    let keeper_ctx = ctx.clone();
    let soon = pace(ctx.timings.gossip_interval.min(Duration::from_secs(1)), 0.0, None, Duration::from_secs(120));
    let make = move || PlacementKeeper::new(keeper_ctx.clone());
    worker::run(&supervisor, "placement", Need::Essential, soon.clone(), &metrics, make).await?;

    let repair_ctx = ctx.clone();
    let paced = pace(Duration::from_secs(1), 0.0, Some(rates.repair.clone()), Duration::from_secs(900));
    let make = move || Repair::new(repair_ctx.clone());
    let repair = worker::run(&supervisor, "repair", Need::Helpful, paced, &metrics, make).await?;
    rates.paces(repair.clone());
    begun.caller = Some(AbortOnDropHandle::new(tokio::spawn(call_on_change(ctx.placement.pictures(), repair))));

    let mover_ctx = ctx.clone();
    let paced = pace(Duration::from_secs(1), 0.0, Some(rates.repair.clone()), Duration::from_secs(900));
    let make = move || Mover::new(mover_ctx.clone());
    rates.paces(worker::run(&supervisor, "move", Need::Helpful, paced, &metrics, make).await?);

    let delay = SCRUB_DELAY.min(ctx.timings.scrub_interval);
    for disk in &begun.disks {
        let (scrub_ctx, id, folder) = (ctx.clone(), disk.id(), disk.path().to_owned());
        let paced = pace(Duration::from_secs(1), 4.0, Some(rates.scrub.clone()), Duration::from_secs(900));
        let paced = Pace { share_left: Some(share_left(vec![disk.clone()])), ..paced };
        let make = move || Scrub::new(scrub_ctx.clone(), id, folder.clone(), delay);
        rates.paces(worker::run(&supervisor, &format!("scrub {id}"), Need::Helpful, paced, &metrics, make).await?);
    }

    let gc_ctx = ctx.clone();
    let idle = (ctx.timings.reclaim_grace / 4).clamp(Duration::from_secs(1), Duration::from_secs(30));
    // It yields to clients as the disks do, and while there are none it rests for nobody.
    let paced = pace(idle, 0.0, None, Duration::from_secs(900));
    let paced = Pace { share_left: Some(share_left(begun.disks.clone())), ..paced };
    let follower = rates.clone();
    worker::run(&supervisor, "rates", Need::Helpful, soon, &metrics, move || RateFollower(follower.clone())).await?;
    worker::run(&supervisor, "gc", Need::Helpful, paced, &metrics, move || Gc::new(gc_ctx.clone())).await?;
    let lifecycle_ctx = ctx.clone();
    let paced = pace(LIFECYCLE_REST, 0.0, None, Duration::from_secs(900));
    let paced = Pace { share_left: Some(share_left(begun.disks.clone())), ..paced };
    let make = move || Lifecycles::new(lifecycle_ctx.clone());
    worker::run(&supervisor, "lifecycle", Need::Helpful, paced, &metrics, make).await?;
    Ok((supervisor, metrics))
}

/// A worker for each target, so that one that hangs holds up no other.
async fn start_deliveries(
    (supervisor, metrics): &(Supervisor, WorkerMetrics),
    ctx: &Context,
    deliver: Arc<dyn Deliver>,
) -> Result<(), RuntimeError> {
    for target in deliver.targets() {
        let (ctx, deliver, name) = (ctx.clone(), deliver.clone(), format!("events {target}"));
        let make = move || Events::new(ctx.clone(), target.clone(), deliver.clone());
        let paced = pace(EVENTS_REST, 0.0, None, Duration::from_secs(300));
        worker::run(supervisor, &name, Need::Helpful, paced, metrics, make).await?;
    }
    Ok(())
}

/// Repair is not to find out by its own clock that disks or groups have changed: all nodes begin at once.
async fn call_on_change(mut pictures: watch::Receiver<Arc<Topology>>, repair: ChildHandle<WorkerCommand>) {
    let mut seen = pictures.borrow_and_update().rows.revision;
    while pictures.changed().await.is_ok() {
        let revision = pictures.borrow_and_update().rows.revision;
        if revision != seen {
            seen = revision;
            // One that does not run is started anew, and looks by itself.
            let _ = repair.cast(WorkerCommand::Look);
        }
    }
}

/// What clients of this node's disks leave to work that can wait: of the disk in use that needs it most.
fn share_left(disks: Vec<DiskHandle>) -> ShareLeft {
    Arc::new(move || {
        let now: Vec<(bool, f64)> = disks.iter().map(DiskHandle::use_now).collect();
        let pressure = now.iter().map(|(_, pressure)| *pressure).fold(0.0, f64::max);
        share(now.iter().any(|(in_use, _)| *in_use), pressure)
    })
}

fn pace(idle: Duration, tranquility: f64, bytes_per_second: Option<Rate>, step_limit: Duration) -> Pace {
    Pace { tranquility, bytes_per_second, share_left: None, idle, step_limit }
}

/// How many of the own disks count as up, waiting a while for all of them: the caller is about to say that it serves.
async fn wait_until_up(begun: &Begun, placement: &Placement) -> usize {
    let own = &begun.disks;
    let is_up = |topology: &Topology, id| topology.rows.state(id).is_some_and(DiskState::serves);
    let up = |topology: &Topology| own.iter().filter(|disk| is_up(topology, disk.id())).count();
    let mut pictures = placement.pictures();
    let all_up = pictures.wait_for(|topology| up(topology) == own.len());
    // Those that are late may still come up while the node serves.
    let _ = tokio::time::timeout(UP_WAIT, all_up).await;
    up(&placement.topology())
}

impl Begun {
    /// The reverse of the start.
    async fn undo(&self, grace: Duration) {
        if let Some(actors) = &self.actors {
            actors.stop(grace).await;
        }
        if let Some(gossip) = &self.gossip
            && let Some(gossip) = gossip.lock().await.take()
        {
            gossip.stop().await;
        }
        if let Some(endpoint) = &self.endpoint {
            endpoint.close(grace).await;
        }
        let closing = futures::future::join_all(self.disks.iter().map(DiskHandle::close));
        if tokio::time::timeout(CLOSE_LIMIT, closing).await.is_err() {
            tracing::error!("a disk did not close in time; its index is rebuilt at the next start");
        }
        if let Some(actors) = &self.disk_actors {
            actors.stop(grace).await;
        }
        if let Some((own, process)) = &self.registry {
            own.detach(process);
        }
    }
}

impl Running {
    /// Of a node's program, as it gossips.
    pub(super) fn version_of(&self, node: &NodeId) -> Option<String> {
        if *node == self.node {
            return Some(VERSION.to_owned());
        }
        self.begun.views.as_ref()?.borrow().peers.get(node)?.version.clone()
    }

    pub(super) async fn set_policy(&self, expected: u64, policy: Policy) -> Result<ClusterPolicy, RuntimeError> {
        self.can_hold(&policy)?;
        let set = self.meta.set_policy(expected, policy).await?;
        tracing::warn!(node = %self.node, generation = set.generation, policy = ?set.policy, "the cluster's policy was set here");
        self.look_again().await;
        Ok(set)
    }

    pub(super) async fn set_rates(&self, expected: u64, rates: RateOverrides) -> Result<ClusterRates, RuntimeError> {
        let set = self.meta.set_rates(expected, rates).await?;
        tracing::warn!(node = %self.node, generation = set.generation, rates = ?set.rates, "the cluster's rates were set here");
        self.look_again().await;
        Ok(set)
    }

    pub(super) fn can_hold(&self, policy: &Policy) -> Result<(), RuntimeError> {
        self.memory.too_small_for(policy).map_or(Ok(()), |why| Err(RuntimeError::PolicyTooLarge(why)))
    }

    pub(super) async fn look_again(&self) {
        if let Err(error) = self.placement.refresh().await {
            tracing::warn!(node = %self.node, %error, "what has changed in the cluster is not known here yet");
        }
        self.rates.follow();
    }

    pub(super) fn actors(&self) -> Vec<ChildStatus> {
        let supervisors = [&self.begun.disk_actors, &self.begun.actors];
        supervisors.into_iter().flatten().flat_map(Supervisor::status).collect()
    }

    /// Waits until an essential actor is given up, or peers are not heard any more.
    pub(super) async fn failed(&self) -> NodeFailure {
        let (Some(actors), Some(endpoint)) = (&self.begun.actors, &self.begun.endpoint) else {
            return std::future::pending().await;
        };
        tokio::select! {
            actor = actors.failed() => actor.into(),
            () = endpoint.ended() => NodeFailure::Deaf,
        }
    }

    pub(super) async fn stop(&self, grace: Duration) {
        self.stopped.get_or_init(|| self.stop_once(grace)).await;
    }

    async fn stop_once(&self, grace: Duration) {
        let own: Vec<DiskId> = self.begun.disks.iter().map(DiskHandle::id).collect();
        // Before the judge could call them up again, and so that nobody waits for them.
        if let Some(actors) = &self.begun.actors {
            actors.stop(grace).await;
        }
        match tokio::time::timeout(LEAVE_LIMIT, leave(&self.meta, &own)).await {
            Ok(Ok(())) => tracing::info!(node = %self.node, "disks are called down"),
            Ok(Err(error)) => tracing::warn!(node = %self.node, %error, "disks could not be called down"),
            Err(_) => tracing::warn!(node = %self.node, "disks could not be called down in time"),
        }
        self.store.settle(grace).await;
        self.begun.undo(grace).await;
        tracing::info!(node = %self.node, "stopped");
    }
}

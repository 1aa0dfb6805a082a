//! Where stripes go: the cluster as this node sees it, which groups it can write to, and the forming of new ones.

mod choose;
mod groups;
mod health;
pub mod members;
pub mod topology;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use cairn_schema::{Meta, MetaError, ids::*, record::*};
use parking_lot::Mutex;

pub use choose::write_quorum;
pub use topology::{DiskLoad, DiskView, Liveness, Topology};

use crate::transport::Fragments;

/// What placement depends on; the same on every node of a cluster.
#[derive(Clone, Debug)]
pub struct PlacementPolicy {
    /// Every scheme that stripes are written with; groups are kept ready for each.
    pub schemes: Vec<Scheme>,
    pub failure_domain: FailureDomain,
    pub write_margin: u8,
    /// Groups of each scheme that an average disk is in, when all is well.
    pub groups_per_disk: usize,
    /// No disk enters more groups of a scheme than this, whatever happens: keeps the sets of disks that share data few.
    pub max_groups_per_disk: usize,
}

impl PlacementPolicy {
    pub fn new(schemes: Vec<Scheme>, failure_domain: FailureDomain, write_margin: u8) -> Self {
        Self { schemes, failure_domain, write_margin, groups_per_disk: 6, max_groups_per_disk: 64 }
    }
}

impl From<&crate::runtime::Policy> for PlacementPolicy {
    fn from(policy: &crate::runtime::Policy) -> Self {
        let mut schemes = vec![policy.scheme];
        if policy.small_scheme != policy.scheme {
            schemes.push(policy.small_scheme);
        }
        Self::new(schemes, policy.failure_domain, policy.write_margin)
    }
}

/// One node's view of the cluster and its choice of groups. Shared by the store and the placement actor.
///
/// Someone has to keep it current: [`Placement::refresh`] on a timer, [`Placement::set_liveness`] from gossip and
/// [`Placement::poll_loads`] on a slower timer. Requests themselves report what they learn with [`Placement::report`].
pub struct Placement {
    meta: Meta,
    node: NodeId,
    policy: PlacementPolicy,
    topology: ArcSwap<Topology>,
    known: Mutex<Known>,
    shuns: health::Shuns,
    /// Grows with every new picture, so that "nothing can be formed" is remembered for one picture only.
    generation: AtomicU64,
    /// One reader of the metadata at a time, and not more often than the picture can change.
    refreshing: tokio::sync::Mutex<Option<Instant>>,
    /// One former of groups at a time on this node; a lease makes it one in the cluster.
    forming: tokio::sync::Mutex<()>,
    hopeless: Mutex<HashMap<Scheme, (u64, String)>>,
}

/// What the snapshot is made of besides the metadata's rows.
#[derive(Default)]
struct Known {
    liveness: HashMap<NodeId, Liveness>,
    loads: HashMap<DiskId, DiskLoad>,
    revision: u64,
    nodes: HashMap<NodeId, Node>,
    disks: HashMap<DiskId, Disk>,
    groups: HashMap<GroupId, Arc<Group>>,
}

/// How a request to a disk ended, as far as the disk's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Answer,
    /// It did not answer, or answered that it cannot.
    Nothing,
}

impl Placement {
    /// `node` is this node: its disks are local, and leases are taken in its name. Empty until the first [`Placement::refresh`].
    pub fn new(meta: Meta, node: NodeId, policy: PlacementPolicy) -> Arc<Self> {
        Arc::new(Self {
            meta,
            node,
            policy,
            topology: ArcSwap::default(),
            known: Mutex::default(),
            shuns: health::Shuns::default(),
            generation: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::new(None),
            forming: tokio::sync::Mutex::new(()),
            hopeless: Mutex::default(),
        })
    }

    pub fn node(&self) -> &NodeId {
        &self.node
    }

    pub fn policy(&self) -> &PlacementPolicy {
        &self.policy
    }

    /// The picture now.
    pub fn topology(&self) -> Arc<Topology> {
        if self.shuns.ended(Instant::now()) {
            self.rebuild(&self.known.lock());
        }
        self.topology.load_full()
    }

    /// Reads nodes, disks and groups again if their revision has moved on. True when it had.
    pub async fn refresh(&self) -> Result<bool, MetaError> {
        let mut last = self.refreshing.lock().await;
        let revision = self.meta.placement_revision().await?;
        *last = Some(Instant::now());
        if revision == self.known.lock().revision && !self.topology.load().disks.is_empty() {
            return Ok(false);
        }
        let (nodes, disks, groups) = futures::try_join!(self.meta.nodes(), self.meta.disks(), self.meta.groups())?;
        let mut known = self.known.lock();
        // The rows may be newer than the revision read before them; then the next poll reads them again.
        known.revision = revision;
        known.nodes = nodes.into_iter().map(|node| (node.id.clone(), node)).collect();
        known.disks = disks.into_iter().map(|disk| (disk.id, disk)).collect();
        known.groups = groups.into_iter().map(|group| (group.id, Arc::new(group))).collect();
        let Known { loads, liveness, nodes, disks, .. } = &mut *known;
        loads.retain(|id, _| disks.contains_key(id));
        liveness.retain(|id, _| nodes.contains_key(id));
        self.rebuild(&known);
        Ok(true)
    }

    /// As [`Placement::refresh`], but not when the metadata was read a moment ago: for requests that found the picture wanting.
    async fn refresh_soon(&self) -> Result<(), MetaError> {
        const OFTEN_ENOUGH: Duration = Duration::from_millis(200);
        let recent = |last: &Option<Instant>| last.is_some_and(|last| last.elapsed() < OFTEN_ENOUGH);
        if recent(&*self.refreshing.lock().await) {
            return Ok(());
        }
        self.refresh().await.map(drop)
    }

    /// One group's row read again, for when the picture turned out to be old.
    pub async fn refresh_group(&self, id: GroupId) -> Result<Option<Arc<Group>>, MetaError> {
        let group = self.meta.group(id).await?.map(Arc::new);
        let mut known = self.known.lock();
        let changed = match &group {
            Some(group) if known.groups.get(&id) == Some(group) => false,
            Some(group) => known.groups.insert(id, group.clone()) != Some(group.clone()),
            None => known.groups.remove(&id).is_some(),
        };
        if changed {
            self.rebuild(&known);
        }
        Ok(group)
    }

    /// A group by id, from the picture or else from the metadata.
    pub async fn group(&self, id: GroupId) -> Result<Option<Arc<Group>>, MetaError> {
        match self.topology.load().group(id) {
            Some(group) => Ok(Some(group.clone())),
            None => self.refresh_group(id).await,
        }
    }

    /// What gossip says. Nodes not named keep what was said before; nodes never named count as alive.
    pub fn set_liveness(&self, nodes: impl IntoIterator<Item = (NodeId, Liveness)>) {
        let mut known = self.known.lock();
        let mut changed = false;
        for (node, liveness) in nodes {
            changed |= known.liveness.insert(node, liveness).unwrap_or(Liveness::Alive) != liveness;
        }
        if changed {
            self.rebuild(&known);
        }
    }

    /// What a disk's node says about it.
    pub fn set_loads(&self, loads: impl IntoIterator<Item = (DiskId, DiskLoad)>) {
        let mut known = self.known.lock();
        for (disk, load) in loads {
            if known.disks.contains_key(&disk) {
                known.loads.insert(disk, load);
            }
        }
        self.rebuild(&known);
    }

    /// Asks every disk that is expected to answer how full and how slow it is, a few at a time. Those that do not answer keep
    /// what they said before.
    pub async fn poll_loads(&self, fragments: &dyn Fragments, deadline: Duration) {
        use futures::StreamExt;
        let topology = self.topology();
        let answering = topology.disks.values().filter(|disk| disk.answers()).map(|disk| disk.disk.id);
        let ask = |id: DiskId| async move {
            let status = fragments.disk_status(id, Instant::now() + deadline);
            let status = tokio::time::timeout(deadline, status).await.ok()?.ok()?;
            let load = DiskLoad {
                free_bytes: status.free_bytes,
                used_bytes: status.used_bytes,
                writable: status.writable && status.failed.is_none(),
                read_us: status.read_us,
                write_us: status.write_us,
            };
            Some((id, load))
        };
        let loads: Vec<_> = futures::stream::iter(answering.map(ask).collect::<Vec<_>>())
            .buffer_unordered(16)
            .filter_map(|load| async move { load })
            .collect()
            .await;
        self.set_loads(loads);
    }

    /// What a request to a disk taught about it.
    pub fn report(&self, disk: DiskId, heard: Heard) {
        let changed = match heard {
            Heard::Answer => self.shuns.succeeded(disk),
            Heard::Nothing => self.shuns.failed(disk, Instant::now()),
        };
        if changed {
            self.rebuild(&self.known.lock());
        }
    }

    /// Makes a new picture of what is known. The caller holds the lock, so pictures follow each other in order.
    fn rebuild(&self, known: &Known) {
        let view = |disk: &Disk| DiskView {
            disk: disk.clone(),
            liveness: known.liveness.get(&disk.node).copied().unwrap_or(Liveness::Alive),
            load: known.loads.get(&disk.id).copied(),
            shunned: self.shuns.is_shunned(disk.id),
            sending: self.sending_of(disk.id),
        };
        let disks = known.disks.values().map(|disk| (disk.id, view(disk))).collect();
        let topology = Topology::new(known.revision, known.nodes.clone(), disks, known.groups.clone(), &self.policy);
        self.topology.store(Arc::new(topology));
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The counter lives as long as any picture holds the disk.
    fn sending_of(&self, disk: DiskId) -> Arc<AtomicU64> {
        self.topology.load().disk(disk).map(|view| view.sending.clone()).unwrap_or_default()
    }
}

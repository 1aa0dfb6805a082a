//! Where stripes go: the cluster as this node sees it, which groups it can write to, and the forming of new ones.

mod choose;
mod groups;
mod health;
mod maintenance;
pub mod members;
mod policy_view;
pub mod redundancy;
mod rows;
mod safety;
pub mod share_out;
pub mod standing;
pub mod stopping;
pub mod tolerance;
pub mod topology;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use cairn_fragment::{Bounded, Directory};
use cairn_schema::{Meta, MetaError, clock::now_ms, ids::*, record::*};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use health::{Heard, Use};
pub use policy_view::{PolicyView, Told};
pub use rows::Rows;
pub(crate) use rows::all_group_repairs;
pub use safety::{Safety, write_quorum};
pub use topology::{DiskLoad, DiskView, Liveness, Topology};

/// One node's picture of the cluster and its choice of groups: the only picture there is on the node. Requests,
/// background actors and the transport all look at it, so none can know of a disk that another does not.
///
/// Someone has to keep it current: [`Placement::refresh`] on a timer, [`Placement::set_liveness`] from gossip and
/// [`Placement::poll_loads`] on a slower timer. Requests themselves report what they learn with [`Placement::report`].
pub struct Placement {
    meta: Meta,
    node: NodeId,
    told: Told,
    picture: watch::Sender<Arc<Topology>>,
    known: Mutex<Known>,
    shuns: health::Shuns,
    /// One reader of the metadata at a time; those who wait for it meanwhile share what it reads.
    reading: tokio::sync::Mutex<Option<Reading>>,
    /// One former of groups at a time on this node; a lease makes it one in the cluster.
    forming: tokio::sync::Mutex<()>,
    /// Schemes of which no group could be formed, by the picture in which that was so, and why.
    hopeless: Mutex<HashMap<Scheme, (u64, String)>>,
}

/// What a picture is made of.
struct Known {
    rows: Arc<Rows>,
    policy: Arc<PolicyView>,
    liveness: HashMap<NodeId, Liveness>,
    loads: HashMap<DiskId, DiskLoad>,
    windows: maintenance::Windows,
    pictures: u64,
}

/// The last reading of the metadata, when it began and how it ended.
struct Reading {
    began: Instant,
    result: Result<Arc<Rows>, MetaError>,
}

impl Placement {
    /// `node` is this node: its disks are local, and leases are taken in its name. `told` holds until the metadata say
    /// otherwise. Empty until the first [`Placement::refresh`].
    pub fn new(meta: Meta, node: NodeId, told: impl Into<Told>) -> Arc<Self> {
        let told = told.into();
        let policy = Arc::new(PolicyView::new(&told, None));
        let known = Known {
            rows: Arc::default(),
            policy,
            liveness: HashMap::new(),
            loads: HashMap::new(),
            windows: maintenance::Windows::default(),
            pictures: 0,
        };
        let first = Topology::new(0, known.rows.clone(), HashMap::new(), HashMap::new(), known.policy.clone());
        Arc::new(Self {
            meta,
            node,
            told,
            picture: watch::Sender::new(Arc::new(first)),
            known: Mutex::new(known),
            shuns: health::Shuns::default(),
            reading: tokio::sync::Mutex::default(),
            forming: tokio::sync::Mutex::default(),
            hopeless: Mutex::default(),
        })
    }

    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// How data is cut and spread, by the picture now.
    pub fn policy(&self) -> Policy {
        self.picture.borrow().policy()
    }

    /// The picture now.
    pub fn topology(&self) -> Arc<Topology> {
        if self.shuns.ended(Instant::now()) {
            self.publish(&mut self.known.lock());
        }
        self.picture.borrow().clone()
    }

    /// Every picture from now on, the newest at once: for who must act when it changes.
    pub fn pictures(&self) -> watch::Receiver<Arc<Topology>> {
        self.picture.subscribe()
    }

    /// Reads nodes, disks, groups, the policy and the rates again if their revision has moved on. Returns them as they
    /// were at some time after the call; whether anything is new to the caller, only the caller can tell, by the
    /// revision that it saw last.
    pub async fn refresh(&self) -> Result<Arc<Rows>, MetaError> {
        self.read_since(Instant::now()).await
    }

    /// As [`Placement::refresh`], but what was read a moment ago will do: for requests that found the picture wanting.
    async fn refresh_soon(&self) -> Result<Arc<Rows>, MetaError> {
        const OFTEN_ENOUGH: Duration = Duration::from_millis(200);
        let now = Instant::now();
        self.read_since(now.checked_sub(OFTEN_ENOUGH).unwrap_or(now)).await
    }

    /// The result of a reading that began at `since` or later.
    async fn read_since(&self, since: Instant) -> Result<Arc<Rows>, MetaError> {
        let mut last = self.reading.lock().await;
        if let Some(reading) = last.as_ref().filter(|reading| reading.began >= since) {
            return reading.result.clone();
        }
        let began = Instant::now();
        let known = self.known.lock().rows.revision;
        let read = Rows::newer(&self.meta, known).await;
        let result = read.map(|newer| self.take_rows(newer));
        *last = Some(Reading { began, result: result.clone() });
        result
    }

    /// Makes rows that were read the node's, if there are any new ones.
    fn take_rows(&self, newer: Option<Rows>) -> Arc<Rows> {
        let mut known = self.known.lock();
        if let Some(mut rows) = newer {
            // A group that was read alone meanwhile may be newer than these.
            for group in rows.groups.values_mut() {
                if let Some(other) = known.rows.groups.get(&group.id).filter(|other| other.epoch > group.epoch) {
                    *group = other.clone();
                }
            }
            known.loads.retain(|id, _| rows.disks.contains_key(id));
            known.liveness.retain(|id, _| rows.nodes.contains_key(id));
            if known.rows.policy != rows.policy {
                known.policy = Arc::new(PolicyView::new(&self.told, rows.policy));
                known.policy.tell(&self.node);
            }
            let now = Instant::now();
            known.windows.see(&rows.maintenance, now);
            rows.maintained = known.windows.open(&rows.maintenance, now, now_ms());
            known.rows = Arc::new(rows);
            self.publish(&mut known);
        }
        known.rows.clone()
    }

    /// The windows of maintenance that the rows tell of, and how long each still lasts; zero: it is over.
    pub fn windows(&self) -> Vec<(MaintenanceWindow, Duration)> {
        let (known, now) = (self.known.lock(), Instant::now());
        let left = |window: &MaintenanceWindow| known.windows.left(window, now, now_ms());
        known.rows.maintenance.windows.iter().map(|window| (window.clone(), left(window))).collect()
    }

    /// Sees to it that windows that are over are over in the picture as well. Call it now and then. Returns what the
    /// metadata should say of maintenance from now on, with the serial that they have, if that is to change.
    pub fn end_windows(&self) -> Option<(u64, ClusterMaintenance)> {
        let (mut known, now, now_ms) = (self.known.lock(), Instant::now(), now_ms());
        let kept = &known.rows.maintenance;
        if kept.windows.is_empty() {
            return None;
        }
        let open = known.windows.open(kept, now, now_ms);
        let left = kept.without(|window| !open.contains(&window.node));
        let changed = (left != *kept).then_some((kept.serial, left));
        if open != known.rows.maintained {
            Arc::make_mut(&mut known.rows).maintained = open;
            self.publish(&mut known);
        }
        changed
    }

    /// One group's row read again, for when the picture turned out to be old.
    pub async fn refresh_group(&self, id: GroupId) -> Result<Option<Arc<Group>>, MetaError> {
        let group = self.meta.group(id).await?.map(Arc::new);
        if !self.take_group(id, group.as_ref()) {
            // A member that came after the picture could not be reached: its node is not known here.
            self.refresh().await?;
        }
        Ok(group)
    }

    /// False if a member is on no disk that is known.
    fn take_group(&self, id: GroupId, group: Option<&Arc<Group>>) -> bool {
        let mut known = self.known.lock();
        if known.rows.groups.get(&id) != group {
            let groups = &mut Arc::make_mut(&mut known.rows).groups;
            match group {
                Some(group) => groups.insert(id, group.clone()),
                None => groups.remove(&id),
            };
            self.publish(&mut known);
        }
        let members = group.iter().flat_map(|group| &group.members);
        members.into_iter().all(|disk| known.rows.disks.contains_key(disk))
    }

    /// A group by id, from the picture or else from the metadata.
    pub async fn group(&self, id: GroupId) -> Result<Option<Arc<Group>>, MetaError> {
        let group = self.picture.borrow().group(id).cloned();
        match group {
            Some(group) => Ok(Some(group)),
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
            self.publish(&mut known);
        }
    }

    /// What a disk's node says about it.
    pub fn set_loads(&self, loads: impl IntoIterator<Item = (DiskId, DiskLoad)>) {
        let mut known = self.known.lock();
        for (disk, load) in loads {
            if known.rows.disks.contains_key(&disk) {
                known.loads.insert(disk, load);
            }
        }
        self.publish(&mut known);
    }

    /// Asks every disk that is expected to answer how full and how slow it is, a few at a time. Those that do not
    /// answer keep what they said before.
    pub async fn poll_loads(&self, fragments: &Bounded, deadline: Duration) {
        use futures::StreamExt;
        let topology = self.topology();
        let answering = topology.disks.values().filter(|disk| disk.answers()).map(|disk| disk.disk.id);
        let ask = |id: DiskId| async move {
            let status = fragments.disk_status(id, Instant::now() + deadline).await.ok()?;
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
    pub fn report(&self, disk: DiskId, asked: Use, heard: Heard) {
        if self.shuns.heard(disk, asked, heard, Instant::now()) {
            self.publish(&mut self.known.lock());
        }
    }

    /// Several disks of a failure domain, in different groups, are slow at once: its others are taken for slow as well,
    /// so that no further group is tried that has one of them.
    pub(crate) fn doubt(&self, domain: &str) {
        let (topology, now) = (self.topology(), Instant::now());
        let level = topology.policy().failure_domain;
        let inside = topology.disks.values().filter(|view| view.domain(level) == domain);
        let doubted = inside.filter(|view| view.shunned_writes == 0);
        let changed = doubted.map(|view| self.shuns.heard(view.disk.id, Use::Write, Heard::Nothing, now));
        if changed.fold(false, |any, changed| any | changed) {
            self.publish(&mut self.known.lock());
        }
    }

    /// Makes a new picture of what is known. The caller holds the lock, so pictures follow each other in order.
    fn publish(&self, known: &mut Known) {
        let old = self.picture.borrow().clone();
        let view = |disk: &Disk| DiskView {
            disk: disk.clone(),
            liveness: known.liveness.get(&disk.node).copied().unwrap_or(Liveness::Alive),
            load: known.loads.get(&disk.id).copied(),
            shunned_reads: self.shuns.failures(disk.id, Use::Read),
            shunned_writes: self.shuns.failures(disk.id, Use::Write),
            maintained: known.rows.maintained.contains(&disk.node),
            // The counter lives as long as any picture holds the disk.
            sending: old.disk(disk.id).map_or_else(|| Arc::new(AtomicU64::new(0)), |view| view.sending.clone()),
        };
        let disks = known.rows.disks.values().map(|disk| (disk.id, view(disk))).collect();
        known.pictures += 1;
        let (rows, liveness) = (known.rows.clone(), known.liveness.clone());
        let topology = Topology::new(known.pictures, rows, liveness, disks, known.policy.clone());
        debug_assert!(topology.number > old.number, "a picture was published without the lock");
        self.picture.send_replace(Arc::new(topology));
    }
}

impl Directory for Placement {
    fn node_of(&self, disk: DiskId) -> Option<NodeId> {
        self.picture.borrow().disk(disk).map(|view| view.disk.node.clone())
    }

    fn address_of(&self, node: &NodeId) -> Option<SocketAddr> {
        self.picture.borrow().rows.nodes.get(node).map(|node| node.address)
    }
}

//! The cluster as this node sees it now: an immutable snapshot, replaced whole, so that a request works with one
//! picture.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cairn_fragment::Positions;
use cairn_schema::{ids::*, record::*};

use super::{
    PolicyView, Rows,
    members::{domain_cap, spread},
    share_out::MAX_GROUPS_PER_DISK,
};

/// What this node holds of another, by gossip and probes. It only suspects; the metadata store decides ([`DiskState`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Liveness {
    #[default]
    Alive,
    /// Missed heartbeats; not confirmed.
    Suspect,
    /// Answers neither gossip nor a probe.
    Dead,
}

impl Liveness {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}

/// What a disk's own node last said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLoad {
    pub free_bytes: u64,
    pub used_bytes: u64,
    pub writable: bool,
    /// Smoothed latencies in microseconds.
    pub read_us: u64,
    pub write_us: u64,
}

/// Why a disk takes no new fragments, in the words of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    NotUp,
    NodeNotAlive,
    /// An operator works on its node: what is written goes elsewhere if it can.
    Maintained,
    Shunned,
    ReadOnly,
    Full,
}

/// One disk with everything known about it.
#[derive(Clone, Debug)]
pub struct DiskView {
    pub disk: Disk,
    pub liveness: Liveness,
    pub load: Option<DiskLoad>,
    /// How often in a row reads of it failed lately, and writes. Unless that is 0, this node avoids it for a while.
    pub shunned_reads: u32,
    pub shunned_writes: u32,
    /// An operator works on its node.
    pub maintained: bool,
    /// Bytes that this node is sending to it now.
    pub sending: Arc<AtomicU64>,
}

/// A disk with a smaller share of free space takes no new fragments; its own reserve is kept by the disk itself.
const FULL_BELOW_FREE_PERMILLE: u64 = 30;

impl DiskView {
    /// The fragments on it can be expected to answer.
    pub fn answers(&self) -> bool {
        matches!(self.disk.state, DiskState::Up | DiskState::Draining)
            && self.liveness == Liveness::Alive
            && self.shunned_reads == 0
    }

    /// Nobody knows better than that it is gone: a request to it would only cost its deadline.
    pub fn known_dead(&self) -> bool {
        matches!(self.disk.state, DiskState::Down | DiskState::Lost | DiskState::Removed)
            || self.liveness == Liveness::Dead
    }

    /// Whether it may take fragments of new stripes, and if not, why.
    pub fn fit(&self) -> Result<(), Unfit> {
        self.fit_but_for_maintenance()?;
        if self.maintained { Err(Unfit::Maintained) } else { Ok(()) }
    }

    /// The same, whether or not somebody works on its node: a write that finds no other place is not refused for that.
    pub fn fit_but_for_maintenance(&self) -> Result<(), Unfit> {
        match self.fit_if_it_answers() {
            Ok(()) | Err(Unfit::ReadOnly | Unfit::Full) if self.shunned() > 0 => Err(Unfit::Shunned),
            fit => fit,
        }
    }

    /// Whether it may take a fragment of a stripe that is written to a group that it is in, late perhaps.
    pub fn may_take(&self) -> bool {
        !self.known_dead() && self.load.is_none_or(|load| load.writable)
    }

    /// Whether it could, if it answered. Of a disk that failed once only it is not known that it does not: it may just
    /// have been slow.
    pub fn may_be_fit(&self) -> bool {
        self.shunned() <= 1 && self.fit_if_it_answers().is_ok()
    }

    /// One that does not read is not given anything either.
    fn shunned(&self) -> u32 {
        self.shunned_reads.max(self.shunned_writes)
    }

    fn fit_if_it_answers(&self) -> Result<(), Unfit> {
        if self.disk.state != DiskState::Up {
            return Err(Unfit::NotUp);
        }
        if self.liveness != Liveness::Alive {
            return Err(Unfit::NodeNotAlive);
        }
        match self.load {
            Some(load) if !load.writable => Err(Unfit::ReadOnly),
            Some(load) if load.free_bytes.saturating_mul(1000) < self.capacity() * FULL_BELOW_FREE_PERMILLE => {
                Err(Unfit::Full)
            }
            _ => Ok(()),
        }
    }

    /// Bytes, at least 1 so that it can divide.
    pub fn capacity(&self) -> u64 {
        self.disk.capacity_bytes.max(1)
    }

    /// 0 empty to 1 full; what is not known counts as empty.
    pub fn fullness(&self) -> f64 {
        self.load.map_or(0.0, |load| 1.0 - (load.free_bytes as f64 / self.capacity() as f64).clamp(0.0, 1.0))
    }

    /// The name of the domain it fails with at `level`; qualified, so that rack "a" of one zone is not rack "a" of
    /// another.
    pub fn domain(&self, level: FailureDomain) -> String {
        self.disk.domain(level)
    }
}

/// One picture of the cluster.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Which picture of this node it is: what was found out from one holds for that one only.
    pub number: u64,
    /// What the metadata says.
    pub rows: Arc<Rows>,
    /// How data is cut and spread.
    pub policy: Arc<PolicyView>,
    liveness: HashMap<NodeId, Liveness>,
    /// Every disk of the rows, with what is known of it besides.
    pub disks: HashMap<DiskId, DiskView>,
    /// By scheme, open groups whose members can all take a fragment now and that spread as widely as a new group would.
    healthy: HashMap<Scheme, Vec<Arc<Group>>>,
}

impl Topology {
    /// Works out once, for all requests to come, which groups are healthy.
    pub fn new(
        number: u64,
        rows: Arc<Rows>,
        liveness: HashMap<NodeId, Liveness>,
        disks: HashMap<DiskId, DiskView>,
        policy: Arc<PolicyView>,
    ) -> Self {
        let mut topology = Self { number, rows, policy, liveness, disks, healthy: HashMap::new() };
        let stands = topology.stands();
        let find = |scheme| (scheme, topology.find_healthy(scheme, &stands));
        topology.healthy = topology.policy().schemes().map(find).collect();
        topology
    }

    pub fn policy(&self) -> Policy {
        self.policy.policy
    }

    /// The picture as it would be with these disks down.
    pub fn without(&self, gone: &HashSet<DiskId>) -> Self {
        let mut disks = self.disks.clone();
        disks
            .values_mut()
            .filter(|view| gone.contains(&view.disk.id))
            .for_each(|view| view.disk.state = DiskState::Down);
        Self::new(self.number, self.rows.clone(), self.liveness.clone(), disks, self.policy.clone())
    }

    /// Found out once for all groups, for each of which it is asked as often as it has members.
    fn stands(&self) -> HashMap<DiskId, Stand> {
        let (level, mut numbers) = (self.policy().failure_domain, HashMap::new());
        let stand = |(id, view): (&DiskId, &DiskView)| {
            let next = numbers.len();
            (*id, Stand { fit: view.fit().is_ok(), domain: *numbers.entry(view.domain(level)).or_insert(next) })
        };
        self.disks.iter().map(stand).collect()
    }

    /// A group that was formed when fewer domains lived than now is not among them: what is written to it would keep
    /// the narrower spread for as long as it lives.
    fn find_healthy(&self, scheme: Scheme, stands: &HashMap<DiskId, Stand>) -> Vec<Arc<Group>> {
        let wanted = |group: &&Arc<Group>| group.state == GroupState::Open && group.scheme == scheme;
        let open = self.rows.groups.values().filter(wanted);
        let mut healthy: Vec<_> = open.filter_map(|group| Some((crowding_if_fit(group, stands)?, group))).collect();
        let mut domains: BTreeMap<String, usize> = BTreeMap::new();
        for disk in self.may_enter(scheme) {
            *domains.entry(disk.domain(self.policy().failure_domain)).or_default() += 1;
        }
        let existing = healthy.iter().map(|(crowding, _)| *crowding).min().unwrap_or(usize::MAX);
        let least = spread(scheme, &domains).unwrap_or(domain_cap(scheme)).min(existing);
        healthy.retain(|(crowding, _)| *crowding <= least);
        healthy.sort_unstable_by_key(|(_, group)| group.id);
        healthy.into_iter().map(|(_, group)| group.clone()).collect()
    }

    /// Disks that may become members of a new group of the scheme.
    pub fn may_enter(&self, scheme: Scheme) -> impl Iterator<Item = &DiskView> {
        let mut groups: HashMap<DiskId, usize> = HashMap::new();
        for member in self.rows.groups.values().filter(|group| group.scheme == scheme).flat_map(|group| &group.members)
        {
            *groups.entry(*member).or_default() += 1;
        }
        let below_bound = move |id: &DiskId| groups.get(id).copied().unwrap_or(0) < MAX_GROUPS_PER_DISK;
        self.disks.values().filter(move |view| view.fit().is_ok() && below_bound(&view.disk.id))
    }

    pub fn disk(&self, id: DiskId) -> Option<&DiskView> {
        self.disks.get(&id)
    }

    /// Bytes that a disk can take of what is moved. None of one that takes nothing, that nothing is known of, or on a
    /// node that somebody works on.
    pub(crate) fn free_for_moves(&self, id: DiskId) -> Option<u64> {
        let view = self.disk(id)?;
        view.load.filter(|load| load.writable && !view.maintained).map(|load| load.free_bytes)
    }

    pub fn group(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.rows.groups.get(&id)
    }

    /// A node of which nothing is known counts as alive.
    pub fn liveness(&self, node: &NodeId) -> Liveness {
        self.liveness.get(node).copied().unwrap_or_default()
    }

    /// Groups that a stripe of the scheme can be written to whole, as widely spread as can be had now. In order of id.
    pub fn healthy_groups(&self, scheme: Scheme) -> &[Arc<Group>] {
        self.healthy.get(&scheme).map_or(&[], Vec::as_slice)
    }

    /// Open groups of a scheme, healthy or not, in order of id.
    pub fn open_groups(&self, scheme: Scheme) -> Vec<Arc<Group>> {
        let wanted = |group: &&Arc<Group>| group.state == GroupState::Open && group.scheme == scheme;
        let mut groups: Vec<_> = self.rows.groups.values().filter(wanted).cloned().collect();
        groups.sort_by_key(|group| group.id);
        groups
    }

    /// Members that can take a fragment now.
    pub fn fit_members(&self, group: &Group) -> usize {
        self.members_that(group, |disk| disk.fit().is_ok()).len()
    }

    /// The positions of a group whose members are such disks.
    pub fn members_that(&self, group: &Group, such: impl Fn(&DiskView) -> bool) -> Positions {
        let members = group.members.iter().enumerate().filter(|(_, id)| self.disk(**id).is_some_and(&such));
        members.map(|(position, _)| position as u8).collect()
    }

    /// Whether some failure domain holds more members than PLC-1 allows.
    pub fn is_crowded(&self, group: &Group) -> bool {
        let level = self.policy().failure_domain;
        let mut domains: Vec<String> =
            group.members.iter().filter_map(|id| self.disk(*id)).map(|disk| disk.domain(level)).collect();
        domains.sort_unstable();
        domains.chunk_by(|a, b| a == b).any(|inside| inside.len() > domain_cap(group.scheme))
    }

    /// How much a write to the group would burden its most burdened member: lower is better. Fullness counts most;
    /// bytes under way and slowness tell equals apart.
    pub fn burden(&self, group: &Group) -> f64 {
        let of = |id: &DiskId| self.disk(*id).map_or(f64::MAX, disk_burden);
        group.members.iter().map(of).fold(0.0, f64::max)
    }
}

/// A disk as groups see it.
#[derive(Clone, Copy)]
struct Stand {
    fit: bool,
    /// The number of its failure domain.
    domain: usize,
}

/// The largest number of members that any one failure domain holds, if all members can take a fragment now.
fn crowding_if_fit(group: &Group, stands: &HashMap<DiskId, Stand>) -> Option<usize> {
    let stand = |id| stands.get(id).filter(|stand| stand.fit).map(|stand| stand.domain);
    let mut domains: Vec<usize> = group.members.iter().map(stand).collect::<Option<_>>()?;
    domains.sort_unstable();
    Some(domains.chunk_by(|a, b| a == b).map(<[usize]>::len).max().unwrap_or(0))
}

fn disk_burden(disk: &DiskView) -> f64 {
    const BUSY_BYTES: f64 = (64 << 20) as f64;
    const SLOW_US: f64 = 200_000.0;
    let sending = disk.sending.load(Ordering::Relaxed) as f64 / BUSY_BYTES;
    let slow = disk.load.map_or(0.0, |load| load.write_us as f64 / SLOW_US);
    disk.fullness() + sending.min(1.0) + slow.min(1.0)
}

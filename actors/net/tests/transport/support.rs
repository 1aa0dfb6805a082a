//! Nodes on loopback with disks in memory, and peers that break the rules.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    ops::{Bound, Range},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_fragment::{
    BlobRange, Directory, DiskError, DiskStatus, FragmentInfo, LocalDisk, NameDigest, NewFragment, PARTS, Priority,
    Turn, block_checksums, verify_blocks,
};
use cairn_net::{
    tls::{self, Identity, PemPair},
    transport::{
        LocalDisks, Router,
        quic::{Endpoint, QuicOptions},
        service::FragmentService,
    },
};
use cairn_schema::ids::{BlobId, DiskId, FragmentName, GroupId, NodeId};
use parking_lot::Mutex;

pub(crate) fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub(crate) fn name(stripe: u32) -> FragmentName {
    FragmentName { group: GroupId(3), blob: BlobId([9; 16]), stripe, position: 1 }
}

pub(crate) fn bytes(seed: u64, len: usize) -> Bytes {
    use rand::{RngCore, SeedableRng};
    let mut out = vec![0; len];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut out);
    out.into()
}

pub(crate) fn fragment(stripe: u32, payload: Bytes) -> NewFragment {
    NewFragment { name: name(stripe), block_checksums: block_checksums(&payload), payload }
}

/// As a deadline, or as the terms of a client's call.
pub(crate) fn soon<T: From<Instant>>() -> T {
    (Instant::now() + Duration::from_secs(20)).into()
}

pub(crate) fn after_ms<T: From<Instant>>(ms: u64) -> T {
    (Instant::now() + Duration::from_millis(ms)).into()
}

/// Waits for a condition, not for time to pass.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline: Instant = soon();
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The disk engine's twin in memory.
pub(crate) struct MemoryDisk {
    pub id: DiskId,
    pub fragments: Mutex<BTreeMap<FragmentName, Bytes>>,
    /// While set, reads and writes never end.
    pub stalled: AtomicBool,
    pub most_at_once: AtomicUsize,
    /// What was asked for, in order.
    pub turns: Mutex<Vec<Priority>>,
    /// While set, work in the background gets no turn.
    pub turns_held: AtomicBool,
    at_once: AtomicUsize,
}

impl MemoryDisk {
    pub(crate) fn new(id: u8) -> Arc<Self> {
        Arc::new(Self {
            id: DiskId([id; 16]),
            fragments: Mutex::default(),
            stalled: AtomicBool::new(false),
            most_at_once: AtomicUsize::new(0),
            turns: Mutex::default(),
            turns_held: AtomicBool::new(false),
            at_once: AtomicUsize::new(0),
        })
    }

    async fn work(&self) {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        if self.stalled.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
    }

    fn find(&self, name: FragmentName) -> Result<Bytes, DiskError> {
        self.fragments.lock().get(&name).cloned().ok_or(DiskError::NotFound(name))
    }
}

fn info(name: FragmentName, bytes: &Bytes) -> FragmentInfo {
    FragmentInfo { name, length: bytes.len() as u32, written_ms: 1_700_000_000_000 }
}

#[async_trait]
impl LocalDisk for MemoryDisk {
    async fn turn(&self, priority: Priority) -> Turn {
        self.turns.lock().push(priority);
        if self.turns_held.load(Ordering::SeqCst) && !priority.is_client() {
            std::future::pending::<()>().await;
        }
        Turn::client()
    }
    async fn put(&self, fragment: NewFragment, _: Turn) -> Result<(), DiskError> {
        self.work().await;
        verify_blocks(&fragment.payload, &fragment.block_checksums).map_err(|_| DiskError::BadChecksum)?;
        self.fragments.lock().insert(fragment.name, fragment.payload);
        Ok(())
    }
    async fn get(&self, name: FragmentName, range: Range<u32>, _: Turn) -> Result<Bytes, DiskError> {
        self.work().await;
        let bytes = self.find(name)?;
        let Range { start, end } = range;
        if end as usize > bytes.len() {
            let (start, end, length) = (start.into(), end.into(), bytes.len() as u64);
            return Err(DiskError::OutOfRange { name, start, end, length });
        }
        Ok(bytes.slice(start as usize..end as usize))
    }
    async fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        Ok(info(name, &self.find(name)?))
    }
    async fn delete(&self, names: Vec<FragmentName>) -> Result<u64, DiskError> {
        let mut fragments = self.fragments.lock();
        Ok(names.iter().filter(|name| fragments.remove(name).is_some()).count() as u64)
    }
    async fn list(
        &self,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
    ) -> Result<Vec<FragmentInfo>, DiskError> {
        let fragments = self.fragments.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = fragments.range((from, Bound::Unbounded)).map(|(name, bytes)| info(*name, bytes));
        Ok(listed.filter(|info| group.is_none_or(|group| info.name.group == group)).take(limit).collect())
    }
    async fn digests(&self, group: GroupId, position: u8, range: BlobRange) -> Result<Vec<NameDigest>, DiskError> {
        let mut parts = vec![NameDigest::default(); PARTS];
        let fragments = self.fragments.lock();
        let names = fragments.keys().filter(|name| (name.group, name.position) == (group, position));
        for name in names.filter(|name| range.contains(name.blob)) {
            parts[range.part_of(name.blob)].add(name.blob, name.stripe);
        }
        Ok(parts)
    }
    async fn verify(&self, name: FragmentName, _: Turn) -> Result<FragmentInfo, DiskError> {
        Ok(info(name, &self.find(name)?))
    }
    fn status(&self) -> DiskStatus {
        let fragments = self.fragments.lock().len() as u64;
        DiskStatus {
            capacity_bytes: 1 << 40,
            free_bytes: 1 << 40,
            fragments,
            writable: true,
            read_us: 7,
            ..DiskStatus::default()
        }
    }
}

/// What a node knows of the others.
#[derive(Default)]
pub(crate) struct Known {
    disks: Mutex<HashMap<DiskId, NodeId>>,
    nodes: Mutex<HashMap<NodeId, SocketAddr>>,
}

impl Known {
    /// Replaces all that was known.
    pub(crate) fn set(&self, disks: Vec<(DiskId, NodeId)>, nodes: Vec<(NodeId, SocketAddr)>) {
        *self.disks.lock() = disks.into_iter().collect();
        *self.nodes.lock() = nodes.into_iter().collect();
    }
}

impl Directory for Known {
    fn node_of(&self, disk: DiskId) -> Option<NodeId> {
        self.disks.lock().get(&disk).cloned()
    }
    fn address_of(&self, node: &NodeId) -> Option<SocketAddr> {
        self.nodes.lock().get(node).copied()
    }
}

/// One node: an endpoint that serves one disk, and a router.
pub(crate) struct Node {
    pub id: NodeId,
    pub endpoint: Endpoint,
    pub router: Router,
    pub known: Arc<Known>,
    pub disk: Arc<MemoryDisk>,
    pub metrics: prometheus::Registry,
}

pub(crate) fn ca() -> PemPair {
    tls::new_ca("test").unwrap()
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Node {
    pub(crate) async fn start(ca: &PemPair, id: &str, disk: u8) -> Self {
        Self::start_at(ca, id, disk, loopback(), QuicOptions::default()).await
    }

    pub(crate) async fn start_at(ca: &PemPair, id: &str, disk: u8, listen: SocketAddr, options: QuicOptions) -> Self {
        let identity = Identity::issue(ca, &node(id), &[]).unwrap();
        Self::with_identity(&identity, disk, listen, options).await
    }

    pub(crate) async fn with_identity(identity: &Identity, disk: u8, listen: SocketAddr, options: QuicOptions) -> Self {
        let metrics = prometheus::Registry::new();
        let options = QuicOptions { metrics: Some(metrics.clone()), ..options };
        let endpoint = Endpoint::bind(listen, identity, options).await.unwrap();
        let disk = MemoryDisk::new(disk);
        let disks = LocalDisks::new([(disk.id, disk.clone() as Arc<dyn LocalDisk>)]);
        let known = Arc::new(Known::default());
        let router = Router::new(endpoint.client().clone(), disks.clone(), known.clone());
        endpoint.serve(Arc::new(FragmentService::new(disks, Arc::new(router.clone()))));
        Self { id: endpoint.node().clone(), endpoint, router, known, disk, metrics }
    }

    pub(crate) fn knows(&self, others: &[&Node]) {
        let disks = others.iter().map(|node| (node.disk.id, node.id.clone())).collect();
        let nodes = others.iter().map(|node| (node.id.clone(), node.endpoint.local_addr())).collect();
        self.known.set(disks, nodes);
    }

    /// The sum of a counter or gauge over the labels that match.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().filter(|family| family.name() == name);
        let matching = family.flat_map(|family| family.get_metric()).filter(|metric| {
            labels.iter().all(|(name, value)| {
                metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
            })
        });
        matching.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }
}

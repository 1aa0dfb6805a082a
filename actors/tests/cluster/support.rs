//! Six nodes in one process, each on a runtime of its own, so that one can be killed without any good-bye.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_actors::{
    Store, StoreError,
    checksum::DigestPlan,
    disk::{DiskOptions, IndexMemory},
    policy::{NodeMemory, Policy, Rates, Timings},
    runtime::{ClusterStatus, NodeOptions, NodeRuntime, NodeStatus},
    store::{PutObject, Requester},
    tls::{self, Identity, PemPair},
};
use cairn_schema::{Meta, ids::*, record::*, verbs::*};
use futures::TryStreamExt;

/// Everything that is waited for comes much sooner.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const BUCKET: &str = "bucket";

pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    ca: PemPair,
    pub meta: Meta,
    pub id: ClusterId,
    pub timings: Timings,
    /// Of each node.
    pub racks: Vec<String>,
    /// What each node is told, if other than [`policy`], and how much memory it has, if other than plenty.
    pub told: HashMap<usize, (Policy, NodeMemory)>,
    nodes: Vec<Option<Node>>,
}

struct Node {
    runtime: NodeRuntime,
    metrics: prometheus::Registry,
    threads: tokio::runtime::Runtime,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A runtime must not be dropped where tasks run.
        for node in self.nodes.drain(..).flatten() {
            node.threads.shutdown_background();
        }
    }
}

pub(crate) fn timings() -> Timings {
    Timings {
        gossip_interval: Duration::from_millis(100),
        probe_timeout: Duration::from_millis(500),
        down_to_lost: Duration::from_secs(3600),
        fragment_deadline: Duration::from_secs(5),
        ..Timings::default()
    }
}

pub(crate) fn policy() -> Policy {
    Policy {
        fragment_bytes: 256 << 10,
        ..Policy::new("4+2".parse().unwrap(), "replicated(3)".parse().unwrap(), FailureDomain::Rack)
    }
}

pub(crate) const PLENTY: NodeMemory = NodeMemory { stripes: 256 << 20, served: 64 << 20, background: 64 << 20 };

impl Cluster {
    pub(crate) async fn start(nodes: usize, timings: Timings) -> Self {
        Self::start_told(nodes, timings, HashMap::new()).await
    }

    pub(crate) async fn start_told(nodes: usize, timings: Timings, told: HashMap<usize, (Policy, NodeMemory)>) -> Self {
        let racks = (0..nodes).map(|index| format!("r{index}")).collect();
        Self::start_all(racks, timings, told).await
    }

    /// A node in each of these racks.
    pub(crate) async fn start_in(racks: &[&str], timings: Timings) -> Self {
        Self::start_all(racks.iter().map(ToString::to_string).collect(), timings, HashMap::new()).await
    }

    async fn start_all(racks: Vec<String>, timings: Timings, told: HashMap<usize, (Policy, NodeMemory)>) -> Self {
        let nodes = racks.len();
        let meta = Meta::in_memory();
        let id = meta.cluster(policy()).await.unwrap().id;
        let ca = tls::new_ca("test").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let none = (0..nodes).map(|_| None).collect();
        let mut cluster = Self { dir, ca, meta, id, timings, racks, told, nodes: none };
        for index in 0..nodes {
            cluster.start_node(index).await;
        }
        let bucket = Bucket::new(BUCKET, 0);
        cluster.meta.create_bucket(bucket).await.unwrap();
        cluster.until_disks("all up", |disks| disks.iter().all(|disk| disk.state == DiskState::Up)).await;
        for index in 0..nodes {
            cluster.until_all_known(index).await;
        }
        cluster
    }

    fn node_id(index: usize) -> NodeId {
        format!("n{index}").parse().unwrap()
    }

    pub(crate) fn disk_dir(&self, node: usize, disk: usize) -> PathBuf {
        self.dir.path().join(format!("n{node}-d{disk}"))
    }

    /// One node more, of another authority: gossip does not mind, but no node takes a call of it or is reached by it.
    /// Returns its index.
    pub(crate) async fn start_stranger(&mut self) -> usize {
        let index = self.nodes.len();
        self.racks.push(format!("r{index}"));
        self.nodes.push(None);
        let authority = std::mem::replace(&mut self.ca, tls::new_ca("another").unwrap());
        self.start_node(index).await;
        self.ca = authority;
        index
    }

    fn options(&self, index: usize) -> NodeOptions {
        let id = Self::node_id(index);
        let disk = |number| DiskOptions {
            path: self.disk_dir(index, number),
            cluster: self.id,
            segment_bytes: 16 << 20,
            reserved_bytes: 1 << 20,
            capacity_bytes: Some(1 << 30),
            max_queued_bytes: 64 << 20,
            max_queued_reads: 1024,
            index: IndexMemory::default(),
        };
        let (policy, memory) = self.told.get(&index).copied().unwrap_or((policy(), PLENTY));
        let seed = self.nodes.iter().flatten().next().map(|node| node.runtime.addresses().1.to_string());
        NodeOptions {
            identity: Identity::issue(&self.ca, &id, &[]).unwrap(),
            id,
            rack: self.racks[index].clone(),
            zone: "z".into(),
            meta: self.meta.clone(),
            disks: (0..2).map(disk).collect(),
            listen: "127.0.0.1:0".parse().unwrap(),
            gossip_listen: "127.0.0.1:0".parse().unwrap(),
            gossip_seeds: seed.into_iter().collect(),
            policy,
            timings: self.timings.clone(),
            rates: Rates::default(),
            memory,
            client_memory_percent: 75,
            metrics: prometheus::Registry::new(),
            deliver: None,
        }
    }

    pub(crate) async fn start_node(&mut self, index: usize) {
        assert!(self.nodes[index].is_none());
        let deadline = Instant::now() + LIMIT;
        loop {
            let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let options = self.options(index);
            let metrics = options.metrics.clone();
            match threads.spawn(NodeRuntime::start(options)).await.unwrap() {
                Ok(runtime) => {
                    self.nodes[index] = Some(Node { runtime, metrics, threads });
                    return;
                }
                // The threads of a killed node may still be letting go of its disks.
                Err(error) => {
                    threads.shutdown_background();
                    assert!(Instant::now() < deadline, "node {index} does not start: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// The node is gone from one moment to the next: no message, no flush.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].take().unwrap().threads.shutdown_background();
    }

    pub(crate) async fn stop(&mut self, index: usize) {
        let node = self.nodes[index].take().unwrap();
        let runtime = node.runtime.clone();
        node.threads.spawn(async move { runtime.stop(Duration::from_secs(5)).await }).await.unwrap();
        drop(node.runtime);
        node.threads.shutdown_background();
    }

    pub(crate) async fn stop_all(mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_some() {
                self.stop(index).await;
            }
        }
    }

    pub(crate) fn runtime(&self, index: usize) -> &NodeRuntime {
        &self.nodes[index].as_ref().unwrap().runtime
    }

    pub(crate) fn store(&self, index: usize) -> Store {
        self.runtime(index).store()
    }

    /// The sum of a counter over the nodes that live.
    pub(crate) fn counted(&self, name: &str) -> f64 {
        let families = self.nodes.iter().flatten().flat_map(|node| node.metrics.gather());
        let named = families.filter(|family| family.name() == name);
        named
            .flat_map(|family| family.get_metric().iter().map(|one| one.get_counter().get_value()).collect::<Vec<_>>())
            .sum()
    }

    pub(crate) async fn status(&self, index: usize) -> ClusterStatus {
        self.runtime(index).status().await.unwrap()
    }

    pub(crate) async fn put(&self, node: usize, key: &str, body: &Bytes) {
        // A node that has just started learns of the others within a second, and a machine that is busy with other
        // things may be too slow for a deadline: a client would be told to slow down, and try again.
        let placed = async {
            loop {
                match self.store(node).put(put_request(key, body)).await {
                    Err(StoreError::NoPlacement { .. } | StoreError::NotEnoughFragments { .. }) => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    other => return other,
                }
            }
        };
        let put = tokio::time::timeout(LIMIT, placed).await;
        put.expect("a put in time").unwrap_or_else(|error| panic!("put {key} on n{node}: {error}"));
    }

    pub(crate) async fn get(&self, node: usize, key: &str) -> Bytes {
        let store = self.store(node);
        let read = async {
            let located = store.locate(BUCKET, key, VersionSelector::Current, RangeRequest::All).await?;
            let got = store.open(&Requester::default(), located).await?;
            let chunks: Vec<Bytes> = got.body.try_collect().await?;
            Ok::<_, cairn_actors::StoreError>(Bytes::from(chunks.concat()))
        };
        let got = tokio::time::timeout(LIMIT, read).await;
        got.expect("a get in time").unwrap_or_else(|error| panic!("get {key} on n{node}: {error}"))
    }

    pub(crate) async fn delete(&self, key: &str) {
        let request = DeleteObject {
            attempt: AttemptId::random(),
            bucket: BUCKET.into(),
            key: key.into(),
            selector: VersionSelector::Current,
            precondition: Precondition::default(),
            bypass_governance: false,
            origin: Origin::default(),
        };
        self.meta.delete_object(request).await.unwrap();
    }

    /// DUR-1: every object is what was put, byte for byte, from every node named.
    pub(crate) async fn check(&self, nodes: &[usize], objects: &[(String, Bytes)]) {
        for node in nodes {
            for (key, body) in objects {
                let got = self.get(*node, key).await;
                assert!(got == body, "{key} from n{node}: {} bytes, not the {} that were put", got.len(), body.len());
            }
        }
    }

    pub(crate) async fn until_disks(&self, what: &str, condition: impl Fn(&[Disk]) -> bool) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let disks = self.meta.disks().await.unwrap();
            if condition(&disks) {
                return;
            }
            assert!(Instant::now() < deadline, "not in time: {what}; {disks:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until a node has heard of every disk and reaches it: from then on what it writes is spread over all of them.
    async fn until_all_known(&self, index: usize) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.status(index).await;
            let known = |node: &NodeStatus| {
                node.gossip == "alive"
                    && node.disks.len() == 2
                    && node.disks.iter().all(|disk| disk.fragments.is_some())
            };
            if status.nodes.len() == self.nodes.len() && status.nodes.iter().all(known) {
                return;
            }
            assert!(Instant::now() < deadline, "n{index} does not know all: {status:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_node(&self, index: usize, state: DiskState) {
        let id = Self::node_id(index);
        let of_node = |disks: &[Disk]| disks.iter().filter(|disk| disk.node == id).all(|disk| disk.state == state);
        self.until_disks(&format!("disks of {id} {state:?}"), of_node).await;
    }

    pub(crate) async fn until_ledger_empty(&self) {
        let deadline = Instant::now() + LIMIT;
        while self.meta.ledger_len().await.unwrap() > 0 {
            let rows = self.meta.ledger(None, 5).await.unwrap();
            let groups = self.meta.group_repairs(None, 5).await.unwrap();
            assert!(Instant::now() < deadline, "the ledger does not drain: {rows:#?} {groups:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(self.meta.group_repairs(None, 1).await.unwrap().is_empty());
        assert!(self.meta.ledger(None, 1).await.unwrap().is_empty());
    }

    /// The node's disks, and how many fragments of stripes the metadata expects on them.
    pub(crate) async fn held_by(&self, index: usize) -> (Vec<DiskId>, u64) {
        let id = Self::node_id(index);
        let disks = self.meta.disks().await.unwrap();
        let disks: Vec<_> = disks.iter().filter(|disk| disk.node == id).map(|disk| disk.id).collect();
        let stripes = self.meta.group_stripes().await.unwrap().unwrap();
        let held = |group: &Group| group.members.iter().filter(|member| disks.contains(member)).count() as u64;
        let groups = self.meta.groups().await.unwrap();
        let fragments = groups.iter().map(|group| held(group) * stripes.get(&group.id).unwrap_or(&0)).sum();
        (disks, fragments)
    }

    pub(crate) async fn fragments(&self, seen_by: usize) -> u64 {
        let status = self.status(seen_by).await;
        status.nodes.iter().flat_map(|node| &node.disks).filter_map(|disk| disk.fragments).sum()
    }
}

/// Bytes that differ everywhere and by seed.
pub(crate) fn body(seed: u64, length: usize) -> Bytes {
    use rand::{RngCore, SeedableRng};
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// Objects of all kinds: empty, replicated, one short stripe, many stripes.
pub(crate) fn objects(seed: u64) -> Vec<(String, Bytes)> {
    let sizes = [0, 1, 100 << 10, (1 << 20) + 13, (5 << 20) + 1];
    let object = |(index, size): (u64, &usize)| (format!("{seed}/{index}"), body(seed * 100 + index, *size));
    (0..).zip(&sizes).map(object).collect()
}

pub(crate) fn put_request(key: &str, body: &[u8]) -> PutObject {
    let chunks: Vec<Result<Bytes, cairn_actors::error::BoxError>> =
        body.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    PutObject {
        requester: Requester::default(),
        bucket: BUCKET.into(),
        key: key.into(),
        length: Some(body.len() as u64),
        body: Box::pin(futures::stream::iter(chunks)),
        digests: DigestPlan::default(),
        verify: Box::new(|_| Ok(None)),
        owner: "test".into(),
        attributes: Attributes::default(),
        precondition: Precondition::default(),
        sealing: None,
        cause: Cause::default(),
    }
}

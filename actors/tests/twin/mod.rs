//! An in-memory twin of the fragments of a cluster, with faults on command, and a store over it.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_actors::{
    checksum::DigestPlan,
    error::{BoxError, StoreError},
    fragment::{
        BLOCK_BYTES, Bounded, DiskError, DiskStatus, FragmentInfo, Fragments, NewFragment, Terms, TransportError,
        block_checksums, verify_blocks,
    },
    placement::Placement,
    policy::{Policy, Timings},
    store::{BodyIn, PutObject, Requester, Store, StoreLimits, StoreParts},
};
use cairn_schema::{
    Meta,
    ids::*,
    record::*,
    verbs::{Committed, Precondition, RangeRequest, VersionSelector},
};
use futures::StreamExt;
use parking_lot::Mutex;
use rand::{RngCore, SeedableRng, rngs::StdRng};

pub(crate) const BUCKET: &str = "bucket";

/// What a disk does wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fault {
    /// Refuses everything at once, as a machine that is off.
    pub off: bool,
    /// Answers nothing until the deadline.
    pub hangs: bool,
    pub full: bool,
    pub read_delay: Duration,
    pub write_delay: Duration,
}

#[derive(Default)]
pub(crate) struct MemFragments {
    disks: Mutex<HashMap<DiskId, MemDisk>>,
    pub puts: AtomicU64,
    pub gets: AtomicU64,
    in_flight: AtomicU64,
    pub peak_in_flight: AtomicU64,
}

struct MemDisk {
    node: NodeId,
    fault: Fault,
    fragments: BTreeMap<FragmentName, NewFragment>,
}

impl MemFragments {
    pub(crate) fn add(&self, disk: DiskId, node: NodeId) {
        self.disks.lock().insert(disk, MemDisk { node, fault: Fault::default(), fragments: BTreeMap::new() });
    }

    pub(crate) fn set_fault(&self, disk: DiskId, fault: Fault) {
        self.disks.lock().get_mut(&disk).unwrap().fault = fault;
    }

    pub(crate) fn heal_all(&self) {
        self.disks.lock().values_mut().for_each(|disk| disk.fault = Fault::default());
    }

    /// Everything stored, in order of name.
    pub(crate) fn all(&self) -> Vec<(DiskId, FragmentName)> {
        let disks = self.disks.lock();
        let mut all: Vec<_> =
            disks.iter().flat_map(|(id, disk)| disk.fragments.keys().map(move |name| (*id, *name))).collect();
        all.sort_by_key(|(_, name)| *name);
        all
    }

    pub(crate) fn lose(&self, disk: DiskId, name: FragmentName) {
        self.disks.lock().get_mut(&disk).unwrap().fragments.remove(&name).unwrap();
    }

    /// Flips one bit of a stored fragment; its checksums stay.
    pub(crate) fn corrupt(&self, disk: DiskId, name: FragmentName, byte: usize) {
        let mut disks = self.disks.lock();
        let fragment = disks.get_mut(&disk).unwrap().fragments.get_mut(&name).unwrap();
        let mut bytes = fragment.payload.to_vec();
        let byte = byte % bytes.len();
        bytes[byte] ^= 0x10;
        fragment.payload = bytes.into();
    }

    pub(crate) fn payload(&self, disk: DiskId, name: FragmentName) -> Bytes {
        self.disks.lock()[&disk].fragments[&name].payload.clone()
    }

    /// Gives a fragment other bytes, and the checksums that are theirs.
    pub(crate) fn forge(&self, disk: DiskId, name: FragmentName, payload: Bytes) {
        let block_checksums = block_checksums(&payload);
        let forged = NewFragment { name, payload, block_checksums };
        self.disks.lock().get_mut(&disk).unwrap().fragments.insert(name, forged).unwrap();
    }

    async fn admit(&self, disk: DiskId, write: bool, deadline: Instant) -> Result<(), TransportError> {
        let (fault, node) = {
            let disks = self.disks.lock();
            let disk = disks.get(&disk).ok_or(TransportError::UnknownDisk(disk))?;
            (disk.fault, disk.node.clone())
        };
        if fault.off {
            return Err(TransportError::Unreachable(node, "it is off".into()));
        }
        let delay = if write { fault.write_delay } else { fault.read_delay };
        if fault.hangs || Instant::now() + delay > deadline {
            tokio::time::sleep_until(deadline.into()).await;
            return Err(TransportError::Deadline(node));
        }
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        } else {
            tokio::task::yield_now().await;
        }
        if write && fault.full {
            return Err(DiskError::Full { free: 0, reserved: 0 }.into());
        }
        Ok(())
    }
}

/// Counts down also when the write is cancelled.
struct Flying<'a>(&'a AtomicU64, u64);

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Fragments for MemFragments {
    async fn put(&self, disk: DiskId, fragment: NewFragment, terms: Terms) -> Result<(), TransportError> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        let bytes = fragment.payload.len() as u64;
        let now = self.in_flight.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let _flying = Flying(&self.in_flight, bytes);
        self.peak_in_flight.fetch_max(now, Ordering::SeqCst);
        self.admit(disk, true, terms.deadline).await?;
        verify_blocks(&fragment.payload, &fragment.block_checksums).map_err(|_| DiskError::BadChecksum)?;
        // A copy: the real disk does not keep the caller's memory either.
        let stored = NewFragment { payload: Bytes::copy_from_slice(&fragment.payload), ..fragment };
        let mut disks = self.disks.lock();
        let disk = disks.get_mut(&disk).unwrap();
        if let Some(other) = disk.fragments.insert(stored.name, stored.clone()) {
            assert_eq!(other.payload, stored.payload, "{} stored twice with different bytes", stored.name);
        }
        Ok(())
    }

    async fn get(
        &self,
        disk: DiskId,
        name: FragmentName,
        range: Range<u32>,
        terms: Terms,
    ) -> Result<Bytes, TransportError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.admit(disk, false, terms.deadline).await?;
        let disks = self.disks.lock();
        let fragment = disks[&disk].fragments.get(&name).ok_or(DiskError::NotFound(name))?;
        let length = fragment.payload.len() as u64;
        let (start, end) = (u64::from(range.start), u64::from(range.end));
        if start > end || end > length {
            return Err(DiskError::OutOfRange { name, start, end, length }.into());
        }
        let blocks = range.start as usize / BLOCK_BYTES..(range.end as usize).div_ceil(BLOCK_BYTES);
        let covered = blocks.start * BLOCK_BYTES..(blocks.end * BLOCK_BYTES).min(fragment.payload.len());
        verify_blocks(&fragment.payload[covered], &fragment.block_checksums[blocks])
            .map_err(|block| DiskError::Corrupt { name, what: format!("block {block}") })?;
        Ok(fragment.payload.slice(range.start as usize..range.end as usize))
    }

    async fn info(&self, disk: DiskId, name: FragmentName, terms: Terms) -> Result<FragmentInfo, TransportError> {
        self.admit(disk, false, terms.deadline).await?;
        let disks = self.disks.lock();
        let fragment = disks[&disk].fragments.get(&name).ok_or(DiskError::NotFound(name))?;
        Ok(FragmentInfo { name, length: fragment.payload.len() as u32, written_ms: 0 })
    }

    async fn delete(&self, disk: DiskId, names: Vec<FragmentName>, terms: Terms) -> Result<u64, TransportError> {
        self.admit(disk, true, terms.deadline).await?;
        let mut disks = self.disks.lock();
        let disk = disks.get_mut(&disk).unwrap();
        Ok(names.iter().filter(|name| disk.fragments.remove(name).is_some()).count() as u64)
    }

    async fn list(
        &self,
        _: DiskId,
        _: Option<GroupId>,
        _: Option<FragmentName>,
        _: usize,
        _: Terms,
    ) -> Result<Vec<FragmentInfo>, TransportError> {
        unreachable!("the data path does not list")
    }

    async fn verify(&self, disk: DiskId, name: FragmentName, at: Terms) -> Result<FragmentInfo, TransportError> {
        self.info(disk, name, at).await
    }

    async fn disk_status(&self, disk: DiskId, terms: Terms) -> Result<DiskStatus, TransportError> {
        self.admit(disk, false, terms.deadline).await?;
        let full = self.disks.lock()[&disk].fault.full;
        let free_bytes = if full { 0 } else { 1 << 40 };
        Ok(DiskStatus { capacity_bytes: 1 << 40, free_bytes, writable: !full, ..DiskStatus::default() })
    }
}

pub(crate) struct Shape {
    pub racks: u8,
    pub nodes_per_rack: u8,
    pub disks_per_node: u8,
    pub level: FailureDomain,
    pub scheme: &'static str,
    pub small: &'static str,
    pub small_below: u64,
    pub fragment_bytes: u32,
    pub memory: u64,
    pub deadline: Duration,
    pub reclaim_grace: Duration,
    pub limits: StoreLimits,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            racks: 6,
            nodes_per_rack: 1,
            disks_per_node: 1,
            level: FailureDomain::Rack,
            scheme: "4+2",
            small: "replicated(3)",
            small_below: 512,
            fragment_bytes: 1000,
            memory: 64 << 20,
            deadline: Duration::from_secs(5),
            reclaim_grace: Duration::from_secs(3600),
            limits: StoreLimits { straggler_grace: Duration::from_millis(100), ..StoreLimits::default() },
        }
    }
}

pub(crate) struct Twin {
    pub meta: Meta,
    pub fragments: Arc<MemFragments>,
    pub placement: Arc<Placement>,
    pub store: Store,
    pub disks: Vec<DiskId>,
    pub policy: Policy,
    pub metrics: prometheus::Registry,
}

pub(crate) fn disk_id(rack: u8, node: u8, disk: u8) -> DiskId {
    let mut id = [0xd0; 16];
    id[..3].copy_from_slice(&[rack, node, disk]);
    DiskId(id)
}

pub(crate) fn node_id(rack: u8, node: u8) -> NodeId {
    format!("r{rack}n{node}").parse().unwrap()
}

pub(crate) async fn twin(shape: Shape) -> Twin {
    let meta = Meta::in_memory();
    let fragments = Arc::new(MemFragments::default());
    let mut disks = Vec::new();
    for rack in 0..shape.racks {
        for node in 0..shape.nodes_per_rack {
            let (id, rack_name) = (node_id(rack, node), format!("r{rack}"));
            let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
            let row = Node { id: id.clone(), rack: rack_name.clone(), zone: "z".into(), address };
            meta.register_node(row).await.unwrap();
            for disk in 0..shape.disks_per_node {
                let disk = disk_id(rack, node, disk);
                let row = Disk {
                    id: disk,
                    node: id.clone(),
                    rack: rack_name.clone(),
                    zone: "z".into(),
                    capacity_bytes: 1 << 40,
                    state: DiskState::Up,
                    since_ms: 0,
                };
                meta.register_disk(row).await.unwrap();
                fragments.add(disk, id.clone());
                disks.push(disk);
            }
        }
    }
    let policy = Policy {
        small_below: shape.small_below,
        fragment_bytes: shape.fragment_bytes,
        ..Policy::new(shape.scheme.parse().unwrap(), shape.small.parse().unwrap(), shape.level)
    };
    let timings =
        Timings { fragment_deadline: shape.deadline, reclaim_grace: shape.reclaim_grace, ..Timings::default() };
    let placement = Placement::new(meta.clone(), node_id(0, 0), policy);
    placement.refresh().await.unwrap();
    placement.ensure_groups().await.unwrap();
    let bucket = Bucket::new(BUCKET, 0);
    meta.create_bucket(bucket).await.unwrap();
    let metrics = prometheus::Registry::new();
    let store = Store::new(StoreParts {
        meta: meta.clone(),
        fragments: Bounded::new(fragments.clone()),
        placement: placement.clone(),
        timings,
        memory_bytes: shape.memory,
        limits: shape.limits,
        metrics: metrics.clone(),
    });
    Twin { meta, fragments, placement, store, disks, policy, metrics }
}

pub(crate) fn random_bytes(len: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// A body that comes in pieces of `piece` bytes.
pub(crate) fn body_of(bytes: Bytes, piece: usize) -> BodyIn {
    let pieces: Vec<Result<Bytes, BoxError>> =
        (0..bytes.len()).step_by(piece.max(1)).map(|at| Ok(bytes.slice(at..(at + piece).min(bytes.len())))).collect();
    futures::stream::iter(pieces).boxed()
}

pub(crate) fn put_request(key: &str, length: Option<u64>, body: BodyIn) -> PutObject {
    PutObject {
        requester: Requester::default(),
        bucket: BUCKET.into(),
        key: key.into(),
        length,
        body,
        digests: DigestPlan::default(),
        verify: Box::new(|_| Ok(None)),
        owner: "me".into(),
        attributes: Attributes::default(),
        precondition: Precondition::default(),
        sealing: None,
        cause: Cause::default(),
    }
}

impl Twin {
    pub(crate) async fn put(&self, key: &str, bytes: &Bytes) -> Result<Committed, StoreError> {
        self.store.put(put_request(key, Some(bytes.len() as u64), body_of(bytes.clone(), 700))).await
    }

    pub(crate) async fn get(&self, key: &str, range: RangeRequest) -> Result<Bytes, StoreError> {
        let (bytes, failed) = self.get_some(key, range).await?;
        failed.map_or(Ok(bytes), Err)
    }

    /// What came of a body, and how it failed if it did.
    pub(crate) async fn get_some(
        &self,
        key: &str,
        range: RangeRequest,
    ) -> Result<(Bytes, Option<StoreError>), StoreError> {
        let located = self.store.locate(BUCKET, key, VersionSelector::Current, range).await?;
        let mut got = self.store.open(&Requester::default(), located).await?;
        let (expected, mut bytes) = ((got.range.end - got.range.start) as usize, Vec::new());
        loop {
            match got.body.next().await {
                Some(Ok(some)) => bytes.extend_from_slice(&some),
                Some(Err(error)) => return Ok((bytes.into(), Some(error))),
                None => break,
            }
        }
        assert_eq!(bytes.len(), expected, "a body without an error has its whole length");
        Ok((bytes.into(), None))
    }

    pub(crate) async fn get_all(&self, key: &str) -> Result<Bytes, StoreError> {
        self.get(key, RangeRequest::All).await
    }

    /// A counter without labels, as Prometheus would be told.
    pub(crate) fn counted(&self, name: &str) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family.get_metric()[0].get_counter().get_value()
    }

    /// Waits for background work, then says what is stored.
    pub(crate) async fn settled(&self) -> Vec<(DiskId, FragmentName)> {
        self.store.settle(Duration::from_secs(20)).await;
        self.fragments.all()
    }

    pub(crate) async fn ledger(&self) -> Vec<LedgerEntry> {
        self.store.settle(Duration::from_secs(20)).await;
        self.meta.ledger(None, 1_000_000).await.unwrap()
    }

    pub(crate) fn fault(&self, disk: usize, fault: Fault) {
        self.fragments.set_fault(self.disks[disk], fault);
    }
}

pub(crate) const OFF: Fault =
    Fault { off: true, hangs: false, full: false, read_delay: Duration::ZERO, write_delay: Duration::ZERO };

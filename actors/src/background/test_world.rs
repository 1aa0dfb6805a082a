//! A cluster of disks in memory under a background worker, for tests of one worker at a time.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_fragment::{
    BlobRange, Bounded, DiskError, DiskStatus, FragmentInfo, Fragments, NameDigest, NewFragment, PARTS, Terms,
    TransportError,
};
use cairn_schema::{Meta, ids::*, record::*, verbs::*};
use parking_lot::Mutex;

use super::{BackgroundMemory, Context, Courtesy, HealingMetrics, Inconsistent};
use crate::{
    placement::Placement,
    policy::{Policy, Timings},
};

pub(super) fn disk(number: u8) -> DiskId {
    DiskId([number; 16])
}

/// What a disk has of a fragment, and what comes of verifying it.
#[derive(Clone)]
pub(super) struct Kept {
    pub length: u32,
    pub written_ms: u64,
    pub verified: Result<(), TransportError>,
}

/// Disks that know which fragments they have, and of some what is in them.
#[derive(Default)]
pub(super) struct Shelves {
    pub kept: Mutex<HashMap<DiskId, BTreeMap<FragmentName, Kept>>>,
    pub bytes: Mutex<HashMap<(DiskId, FragmentName), Bytes>>,
    /// A disk of a node of before there were digests.
    pub without_digests: Mutex<Option<DiskId>>,
    /// Every fragment that was verified, in order.
    pub verified: Mutex<Vec<(DiskId, FragmentName)>>,
    /// Disks that have just so many bytes left; the others have plenty.
    pub free: Mutex<HashMap<DiskId, u64>>,
}

impl Shelves {
    pub(super) fn keep(&self, disk: DiskId, name: FragmentName, kept: Kept) {
        self.kept.lock().entry(disk).or_default().insert(name, kept);
    }

    /// A fragment with its bytes, as an old one that verifies.
    pub(super) fn keep_bytes(&self, disk: DiskId, name: FragmentName, bytes: Bytes) {
        let kept = Kept { length: bytes.len() as u32, written_ms: 1, verified: Ok(()) };
        self.keep(disk, name, kept);
        self.bytes.lock().insert((disk, name), bytes);
    }

    pub(super) fn names(&self, disk: DiskId) -> Vec<FragmentName> {
        self.kept.lock().get(&disk).map(|kept| kept.keys().copied().collect()).unwrap_or_default()
    }
}

#[async_trait]
impl Fragments for Shelves {
    async fn put(&self, _: DiskId, _: NewFragment, _: Terms) -> Result<(), TransportError> {
        unreachable!("nothing is put on shelves by those who work with them")
    }
    async fn get(&self, disk: DiskId, name: FragmentName, at: Range<u32>, _: Terms) -> Result<Bytes, TransportError> {
        let bytes = self.bytes.lock().get(&(disk, name)).cloned().ok_or(DiskError::NotFound(name))?;
        Ok(bytes.slice(at.start as usize..at.end as usize))
    }
    async fn info(&self, disk: DiskId, name: FragmentName, _: Terms) -> Result<FragmentInfo, TransportError> {
        let kept = self.kept.lock().get(&disk).and_then(|kept| kept.get(&name).cloned());
        let Kept { length, written_ms, .. } = kept.ok_or(DiskError::NotFound(name))?;
        Ok(FragmentInfo { name, length, written_ms })
    }
    async fn delete(&self, disk: DiskId, names: Vec<FragmentName>, _: Terms) -> Result<u64, TransportError> {
        let mut kept = self.kept.lock();
        let shelf = kept.entry(disk).or_default();
        names.iter().for_each(|name| drop(self.bytes.lock().remove(&(disk, *name))));
        Ok(names.iter().filter(|name| shelf.remove(name).is_some()).count() as u64)
    }
    async fn list(
        &self,
        disk: DiskId,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
        _: Terms,
    ) -> Result<Vec<FragmentInfo>, TransportError> {
        let kept = self.kept.lock();
        let wanted = |name: &FragmentName| {
            group.is_none_or(|group| group == name.group) && after.is_none_or(|after| *name > after)
        };
        let listed = kept.get(&disk).into_iter().flatten().filter(|(name, _)| wanted(name));
        let info = |(name, kept): (&FragmentName, &Kept)| FragmentInfo {
            name: *name,
            length: kept.length,
            written_ms: kept.written_ms,
        };
        Ok(listed.map(info).take(limit).collect())
    }
    async fn digests(
        &self,
        disk: DiskId,
        group: GroupId,
        position: u8,
        range: BlobRange,
        _: Terms,
    ) -> Result<Vec<NameDigest>, TransportError> {
        if *self.without_digests.lock() == Some(disk) {
            return Err(TransportError::Protocol("n2".parse().unwrap(), "it knows no digests".into()));
        }
        let mut parts = vec![NameDigest::default(); PARTS];
        let names = self.names(disk).into_iter().filter(|name| (name.group, name.position) == (group, position));
        for name in names.filter(|name| range.contains(name.blob)) {
            parts[range.part_of(name.blob)].add(name.blob, name.stripe);
        }
        Ok(parts)
    }
    async fn verify(&self, disk: DiskId, name: FragmentName, at: Terms) -> Result<FragmentInfo, TransportError> {
        self.verified.lock().push((disk, name));
        let outcome = self.kept.lock().get(&disk).and_then(|kept| kept.get(&name)).map(|kept| kept.verified.clone());
        outcome.unwrap_or(Ok(()))?;
        self.info(disk, name, at).await
    }
    async fn disk_status(&self, disk: DiskId, _: Terms) -> Result<DiskStatus, TransportError> {
        let free_bytes = self.free.lock().get(&disk).copied().unwrap_or(1 << 40);
        Ok(DiskStatus { writable: true, free_bytes, ..DiskStatus::default() })
    }
}

/// Disks that keep bytes.
#[derive(Default)]
pub(super) struct Jars {
    pub kept: Mutex<HashMap<(DiskId, FragmentName), Bytes>>,
    pub silent: Mutex<HashSet<DiskId>>,
    /// What a put takes.
    pub slowness: Mutex<Duration>,
}

impl Jars {
    fn look(&self, disk: DiskId, name: FragmentName) -> Result<Bytes, TransportError> {
        if self.silent.lock().contains(&disk) {
            return Err(TransportError::Overdue(disk));
        }
        Ok(self.kept.lock().get(&(disk, name)).cloned().ok_or(DiskError::NotFound(name))?)
    }
}

#[async_trait]
impl Fragments for Jars {
    async fn put(&self, disk: DiskId, new: NewFragment, _: Terms) -> Result<(), TransportError> {
        let slowness = *self.slowness.lock();
        tokio::time::sleep(slowness).await;
        self.kept.lock().insert((disk, new.name), new.payload);
        Ok(())
    }
    async fn get(&self, disk: DiskId, name: FragmentName, at: Range<u32>, _: Terms) -> Result<Bytes, TransportError> {
        Ok(self.look(disk, name)?.slice(at.start as usize..at.end as usize))
    }
    async fn info(&self, disk: DiskId, name: FragmentName, at: Terms) -> Result<FragmentInfo, TransportError> {
        self.verify(disk, name, at).await
    }
    async fn delete(&self, _: DiskId, _: Vec<FragmentName>, _: Terms) -> Result<u64, TransportError> {
        unreachable!("nothing of wrong contents is kept")
    }
    async fn list(
        &self,
        _: DiskId,
        _: Option<GroupId>,
        _: Option<FragmentName>,
        _: usize,
        _: Terms,
    ) -> Result<Vec<FragmentInfo>, TransportError> {
        unreachable!("repair lists nothing")
    }
    async fn verify(&self, disk: DiskId, name: FragmentName, _: Terms) -> Result<FragmentInfo, TransportError> {
        Ok(FragmentInfo { name, length: self.look(disk, name)?.len() as u32, written_ms: 0 })
    }
    async fn disk_status(&self, _: DiskId, _: Terms) -> Result<DiskStatus, TransportError> {
        Ok(DiskStatus { writable: true, free_bytes: 1 << 40, ..DiskStatus::default() })
    }
}

/// Node `n1` of a cluster of two-way copies.
pub(super) fn context(meta: Meta, fragments: Arc<dyn Fragments>, timings: Timings) -> Context {
    let scheme = Scheme::Replicated { copies: 2 };
    let policy = Policy::new(scheme, scheme, FailureDomain::Node);
    let node: NodeId = "n1".parse().unwrap();
    Context {
        placement: Placement::new(meta.clone(), node.clone(), policy),
        node,
        meta,
        fragments: Bounded::new(fragments),
        timings: Arc::new(timings),
        memory: BackgroundMemory::new(64 << 20),
        courtesy: Courtesy::new(|| false),
        inconsistent: Inconsistent::default(),
        metrics: HealingMetrics::new(&prometheus::Registry::new()).unwrap(),
    }
}

/// A bucket `b`, and disks 1 and 2, each on a node of its own.
pub(super) async fn furnish(meta: &Meta) {
    let bucket = Bucket::new("b", 1);
    meta.create_bucket(bucket).await.unwrap();
    for number in [1, 2] {
        register(meta, number).await;
    }
}

pub(super) async fn register(meta: &Meta, number: u8) {
    let (node, rack, zone) = (format!("n{number}").parse().unwrap(), "r".to_owned(), "z".to_owned());
    let row = Disk { id: disk(number), node, rack, zone, capacity_bytes: 1, state: DiskState::Up, since_ms: 0 };
    meta.register_disk(row).await.unwrap();
}

pub(super) async fn group(meta: &Meta) -> Group {
    meta.create_group(Scheme::Replicated { copies: 2 }, vec![disk(1), disk(2)]).await.unwrap()
}

/// An object of one stripe of one byte.
pub(super) fn put(group: &Group, key: String, attempt: AttemptId) -> CommitObject {
    let blob = Blob {
        id: BlobId::random(),
        scheme: group.scheme,
        length: 1,
        stripe_bytes: 1,
        runs: vec![StripeRun { group: group.id, stripes: 1 }],
        checksum: 0,
    };
    CommitObject {
        attempt,
        bucket: "b".into(),
        key,
        version: NewVersion {
            etag: Etag { md5: [0; 16], parts: None },
            size: 1,
            owner: "o".into(),
            attributes: Attributes::default(),
            checksum: None,
            encryption: None,
        },
        blob: Some(NewBlob { blob, epochs: vec![(group.id, group.epoch)], missing: Vec::new(), policy: None }),
        precondition: Precondition::default(),
        cause: Cause::default(),
    }
}

#![allow(clippy::unwrap_used)]

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use cairn_fragment::{Bounded, DiskStatus, FragmentInfo, Fragments, NewFragment, TransportError};
use cairn_schema::{Meta, MetaError, verbs::*};

use super::*;
use crate::{
    background::{BackgroundMemory, HealingMetrics},
    placement::Placement,
    policy::{Policy, Timings},
};

/// Disks that have no fragments.
struct Empty;

#[async_trait]
impl Fragments for Empty {
    async fn delete(&self, _: DiskId, _: Vec<FragmentName>, _: Instant) -> Result<u64, TransportError> {
        Ok(0)
    }
    async fn put(&self, _: DiskId, _: NewFragment, _: Instant) -> Result<(), TransportError> {
        unreachable!("reclaim writes no fragments")
    }
    async fn get(&self, _: DiskId, _: FragmentName, _: Range<u32>, _: Instant) -> Result<Bytes, TransportError> {
        unreachable!("reclaim reads no fragments")
    }
    async fn info(&self, _: DiskId, _: FragmentName, _: Instant) -> Result<FragmentInfo, TransportError> {
        unreachable!("reclaim reads no fragments")
    }
    async fn list(
        &self,
        _: DiskId,
        _: Option<GroupId>,
        _: Option<FragmentName>,
        _: usize,
        _: Instant,
    ) -> Result<Vec<FragmentInfo>, TransportError> {
        unreachable!("reclaim reads no fragments")
    }
    async fn verify(&self, _: DiskId, _: FragmentName, _: Instant) -> Result<FragmentInfo, TransportError> {
        unreachable!("reclaim reads no fragments")
    }
    async fn disk_status(&self, _: DiskId, _: Instant) -> Result<DiskStatus, TransportError> {
        unreachable!("reclaim asks no disk how it is")
    }
}

fn context(meta: Meta) -> Context {
    let scheme = Scheme::Replicated { copies: 2 };
    let policy = Policy::new(scheme, scheme, FailureDomain::Node);
    let node: NodeId = "n1".parse().unwrap();
    Context {
        placement: Placement::new(meta.clone(), node.clone(), (&policy).into()),
        node,
        meta,
        fragments: Bounded::new(Arc::new(Empty)),
        policy: Arc::new(policy),
        timings: Arc::new(Timings { reclaim_grace: Duration::from_secs(1), ..Timings::default() }),
        memory: BackgroundMemory::new(64 << 20),
        metrics: HealingMetrics::new(&prometheus::Registry::new()).unwrap(),
    }
}

async fn group(meta: &Meta) -> Group {
    let mut members = Vec::new();
    for (index, id) in [(1, DiskId([1; 16])), (2, DiskId([2; 16]))] {
        let (node, rack, zone) = (format!("n{index}").parse().unwrap(), "r".to_owned(), "z".to_owned());
        let row = Disk { id, node, rack, zone, capacity_bytes: 1, state: DiskState::Up, since_ms: 0 };
        members.push(meta.register_disk(row).await.unwrap().id);
    }
    meta.create_group(Scheme::Replicated { copies: 2 }, members).await.unwrap()
}

fn put(group: &Group, key: String, attempt: AttemptId) -> CommitObject {
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
        },
        blob: Some(NewBlob { blob, epochs: vec![(group.id, group.epoch)], missing: Vec::new() }),
        precondition: Precondition::default(),
    }
}

/// An attempt of 1970.
fn old() -> AttemptId {
    let mut id = AttemptId::random();
    id.0[1..5].fill(0);
    id
}

async fn is_remembered(meta: &Meta, put: &CommitObject) -> bool {
    match meta.commit_object(put.clone()).await {
        Ok(_) => true,
        Err(MetaError::Stale(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn bnd_1_old_attempts_are_forgotten_while_the_queue_is_full() {
    // Long ago, so that every grace period is over.
    let meta = Meta::in_memory().with_clock(|| 1000);
    let bucket = Bucket {
        name: "b".into(),
        created_ms: 1,
        owner: "o".into(),
        region: String::new(),
        versioning: Versioning::Off,
    };
    meta.create_bucket(bucket).await.unwrap();
    let group = group(&meta).await;
    for index in 0..500 {
        // Each replaces the one before, whose blob is queued.
        meta.commit_object(put(&group, format!("k{}", index % 2), AttemptId::random())).await.unwrap();
    }
    let (first, second) = (put(&group, "first".into(), old()), put(&group, "second".into(), old()));
    meta.commit_object(first.clone()).await.unwrap();
    assert!(is_remembered(&meta, &first).await);

    let mut gc = Gc::new(context(meta.clone()));
    gc.step().await.unwrap();
    assert!(!is_remembered(&meta, &first).await);
    // Not at every step, but when it is time again.
    meta.commit_object(second.clone()).await.unwrap();
    gc.step().await.unwrap();
    assert!(is_remembered(&meta, &second).await);
    gc.forget_at = Instant::now();
    gc.step().await.unwrap();
    assert!(!is_remembered(&meta, &second).await);

    // The queue was full all the time, and is worked off.
    assert!(gc.ctx.metrics.reclaimed_blobs.get() < 498);
    while gc.step().await.unwrap() != Step::Idle {}
    assert_eq!(gc.ctx.metrics.reclaimed_blobs.get(), 498);
}

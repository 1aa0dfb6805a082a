#![allow(clippy::unwrap_used)]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use cairn_schema::{Meta, ids::*, record::*, verbs::*};

use super::*;
use crate::{
    background::test_world::{Shelves, context, furnish, group, put},
    policy::Timings,
};

const DAY_MS: u64 = 86_400_000;

struct World {
    meta: Meta,
    group: Group,
    clock: Arc<AtomicU64>,
    worker: Lifecycles,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(AtomicU64::new(20_000 * DAY_MS));
        let shown = clock.clone();
        let meta = Meta::in_memory().with_clock(move || shown.load(Ordering::Relaxed));
        furnish(&meta).await;
        let group = group(&meta).await;
        let worker = Lifecycles::new(context(meta.clone(), Arc::<Shelves>::default(), Timings::default()));
        Self { meta, group, clock, worker }
    }

    fn pass_days(&self, days: u64) {
        self.clock.fetch_add(days * DAY_MS, Ordering::Relaxed);
    }

    async fn rules(&self, rules: Vec<LifecycleRule>) {
        let rules = rules.into_iter().map(|rule| LifecycleRule { enabled: true, ..rule }).collect();
        let lifecycle = Lifecycle { document: "<x/>".into(), minimum_size: "m".into(), rules };
        let body = Some(lifecycle.encode().to_vec());
        self.meta.set_bucket_document("b", BucketDocument::Lifecycle, body).await.unwrap();
    }

    async fn put(&self, key: &str) -> VersionId {
        let request = put(&self.group, key.into(), AttemptId::random());
        self.meta.commit_object(request).await.unwrap().version.id
    }

    /// Once over all buckets.
    async fn pass(&mut self) {
        while self.worker.step().await.unwrap() != Step::Idle {}
    }

    /// Keys and kinds, newest first.
    async fn left(&self) -> Vec<(String, VersionKind)> {
        let query = ListVersionsQuery { bucket: "b".into(), limit: 1000, ..Default::default() };
        let entries = self.meta.list_versions(&query).await.unwrap().entries.into_iter();
        let version = |entry| match entry {
            ListVersionsEntry::Version { key, version, .. } => (key, version.kind),
            ListVersionsEntry::CommonPrefix(_) => unreachable!(),
        };
        entries.map(version).collect()
    }
}

fn prefixed(prefix: &str, rule: LifecycleRule) -> LifecycleRule {
    LifecycleRule { filter: LifecycleFilter { prefix: prefix.into(), ..LifecycleFilter::default() }, ..rule }
}

#[tokio::test]
async fn objects_end_in_time_and_no_others() {
    let mut world = World::new().await;
    let days = LifecycleRule { expiration: Some(Expiration::Days(2)), ..LifecycleRule::default() };
    world.rules(vec![prefixed("old/", days)]).await;
    // More than a page of them.
    for number in 0..PAGE + 20 {
        world.put(&format!("old/{number}")).await;
    }
    world.put("other").await;
    world.pass_days(1);
    world.put("old/new").await;
    world.pass().await;
    assert_eq!(world.left().await.len(), PAGE + 22, "nothing is due");
    world.pass_days(1);
    world.pass().await;
    let left = world.left().await.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(left, ["old/new", "other"]);
    world.meta.set_bucket_document("b", BucketDocument::Lifecycle, None).await.unwrap();
    world.pass_days(10);
    world.pass().await;
    assert_eq!(world.left().await.len(), 2, "rules that are gone end nothing");
}

#[tokio::test]
async fn versions_end_newest_last_and_lone_markers_after_them() {
    let mut world = World::new().await;
    world.meta.set_versioning("b", Versioning::Enabled).await.unwrap();
    let noncurrent = Some(NoncurrentExpiration { days: 1, keep_newer: 1 });
    let rule = LifecycleRule { noncurrent, expiration: Some(Expiration::Days(5)), ..LifecycleRule::default() };
    world.rules(vec![rule]).await;
    for _ in 0..4 {
        world.put("k").await;
    }
    world.pass_days(2);
    world.pass().await;
    assert_eq!(world.left().await.len(), 2, "the current one and the newest of the others");
    world.pass_days(4);
    world.pass().await;
    let kinds = |left: Vec<(String, VersionKind)>| left.into_iter().map(|(_, kind)| kind).collect::<Vec<_>>();
    let (marker, object) = (VersionKind::DeleteMarker, VersionKind::Object);
    assert_eq!(kinds(world.left().await), [marker, object, object]);
    world.pass_days(2);
    world.pass().await;
    assert_eq!(kinds(world.left().await), [marker, object], "one is kept, however old");
    let rule = LifecycleRule {
        noncurrent: Some(NoncurrentExpiration { days: 1, keep_newer: 0 }),
        expiration: Some(Expiration::LoneMarkers),
        ..LifecycleRule::default()
    };
    world.rules(vec![rule]).await;
    world.pass().await;
    world.pass().await;
    assert_eq!(world.left().await, []);
    assert_eq!(world.meta.audit().await.unwrap().problems, 0);
}

#[tokio::test]
async fn gc_1_what_is_locked_outlives_the_rules() {
    let mut world = World::new().await;
    world.meta.set_versioning("b", Versioning::Enabled).await.unwrap();
    world.meta.set_object_lock("b", ObjectLock::default()).await.unwrap();
    let noncurrent = Some(NoncurrentExpiration { days: 1, keep_newer: 0 });
    world.rules(vec![LifecycleRule { noncurrent, ..LifecycleRule::default() }]).await;
    let (held, governed) = (world.put("k").await, world.put("k").await);
    world.put("k").await;
    world.put("k").await;
    world.meta.set_legal_hold("b", "k", VersionSelector::Id(held), true).await.unwrap();
    let until_ms = world.meta.now_ms() + 9 * DAY_MS;
    let retention = Some(Retention { mode: RetentionMode::Governance, until_ms });
    world.meta.set_retention("b", "k", VersionSelector::Id(governed), retention, false).await.unwrap();
    world.pass_days(3);
    world.pass().await;
    assert_eq!(world.left().await.len(), 3, "the current one and the two that are locked");
    world.pass_days(9);
    world.pass().await;
    assert_eq!(world.left().await.len(), 2);
    world.meta.set_legal_hold("b", "k", VersionSelector::Id(held), false).await.unwrap();
    world.pass().await;
    assert_eq!(world.left().await.len(), 1);
}

#[tokio::test]
async fn uploads_that_nobody_completes_are_aborted() {
    let mut world = World::new().await;
    let rule = LifecycleRule { abort_uploads_days: Some(3), ..LifecycleRule::default() };
    world.rules(vec![prefixed("up/", rule)]).await;
    let begin = async |key: &str| {
        let upload = Upload {
            id: UploadId::random(),
            bucket: "b".into(),
            key: key.into(),
            created_ms: world.meta.now_ms(),
            owner: "o".into(),
            attributes: Attributes::default(),
            checksum: None,
            encryption: None,
        };
        world.meta.create_upload(upload).await.unwrap();
    };
    begin("up/old").await;
    begin("other").await;
    world.pass_days(2);
    begin("up/new").await;
    world.pass_days(1);
    world.pass().await;
    let query = ListUploadsQuery { bucket: "b".into(), limit: 10, ..Default::default() };
    let uploads = world.meta.list_uploads(&query).await.unwrap().uploads;
    let keys: Vec<_> = uploads.iter().map(|upload| upload.key.as_str()).collect();
    assert_eq!(keys, ["other", "up/new"]);
}

#[tokio::test]
async fn rules_that_cannot_be_read_keep_no_other_bucket_from_its_ends() {
    let mut world = World::new().await;
    // Before the other in the walk.
    let first = Bucket { name: "a".into(), ..world.meta.bucket("b").await.unwrap() };
    world.meta.create_bucket(first).await.unwrap();
    world.meta.set_bucket_document("a", BucketDocument::Lifecycle, Some(b"\xffof later".to_vec())).await.unwrap();
    let days = LifecycleRule { expiration: Some(Expiration::Days(1)), ..LifecycleRule::default() };
    world.rules(vec![days]).await;
    world.put("old").await;
    world.pass_days(2);
    world.pass().await;
    assert!(world.left().await.is_empty());
}

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

    fn abort_after_days(&mut self, days: u64) {
        let timings = Timings { abort_uploads_after: Some(Duration::from_millis(days * DAY_MS)), ..Timings::default() };
        self.worker.ctx.timings = Arc::new(timings);
    }

    async fn begin(&self, key: &str) {
        let upload = Upload {
            id: UploadId::random(),
            bucket: "b".into(),
            key: key.into(),
            created_ms: self.meta.now_ms(),
            owner: "o".into(),
            attributes: Attributes::default(),
            checksum: None,
            encryption: None,
        };
        self.meta.create_upload(upload).await.unwrap();
    }

    /// Keys of unfinished uploads, in order.
    async fn uploads(&self) -> Vec<String> {
        let query = ListUploadsQuery { bucket: "b".into(), limit: 1000, ..Default::default() };
        self.meta.list_uploads(&query).await.unwrap().uploads.into_iter().map(|upload| upload.key).collect()
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
    world.begin("up/old").await;
    world.begin("other").await;
    world.pass_days(2);
    world.begin("up/new").await;
    world.pass_days(1);
    world.pass().await;
    assert_eq!(world.uploads().await, ["other", "up/new"]);
}

#[tokio::test]
async fn uploads_that_no_rule_speaks_of_are_aborted_at_the_configured_age_and_never_without_one() {
    let mut world = World::new().await;
    let rule = |days| LifecycleRule { abort_uploads_days: Some(days), ..LifecycleRule::default() };
    world.begin("without rules").await;
    world.pass_days(1000);
    world.pass().await;
    assert_eq!(world.uploads().await, ["without rules"], "nothing is configured");

    world.abort_after_days(30);
    // More of them than a page, in a bucket without rules.
    for number in 0..PAGE + 20 {
        world.begin(&format!("many/{number:04}")).await;
    }
    world.pass().await;
    assert_eq!(world.uploads().await.len(), PAGE + 20, "the first was overdue, the others are not");
    world.pass_days(29);
    world.begin("young").await;
    world.pass().await;
    assert_eq!(world.uploads().await.len(), PAGE + 21);
    world.pass_days(1);
    world.pass().await;
    assert_eq!(world.uploads().await, ["young"]);

    // A rule goes first, whether it says sooner or later; one that is disabled says nothing.
    world.rules(vec![prefixed("soon/", rule(3)), prefixed("late/", rule(90))]).await;
    for key in ["late/a", "soon/a", "usual/a"] {
        world.begin(key).await;
    }
    world.pass_days(4);
    world.pass().await;
    assert_eq!(world.uploads().await, ["late/a", "usual/a", "young"]);
    world.pass_days(40);
    world.pass().await;
    assert_eq!(world.uploads().await, ["late/a"]);
    world.pass_days(60);
    world.pass().await;
    assert_eq!(world.uploads().await, [""; 0]);
    world.begin("late/b").await;
    let disabled = LifecycleRule { enabled: false, ..prefixed("late/", rule(90)) };
    let lifecycle = Lifecycle { document: "<x/>".into(), minimum_size: "m".into(), rules: vec![disabled] };
    let body = Some(lifecycle.encode().to_vec());
    world.meta.set_bucket_document("b", BucketDocument::Lifecycle, body).await.unwrap();
    world.pass_days(30);
    world.pass().await;
    assert_eq!(world.uploads().await, [""; 0]);
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

//! Object lock, against a small model: whatever is done in whatever order, what is locked stays.
#![allow(clippy::unwrap_used)]

mod common;
use std::{
    collections::BTreeMap,
    io::Cursor,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cairn_schema::{Meta, MetaError, codec::Stored, ids::*, keyspace, kv::SharedKv, record::*, verbs::*};
use common::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const BUCKET: &str = "b";
const KEYS: [&str; 3] = ["x", "y", "z"];
const DAY_MS: u64 = 86_400_000;

/// A version, as the model has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    kind: VersionKind,
    lock: Lock,
    blobs: Vec<BlobId>,
}

struct World {
    meta: Meta,
    group: Group,
    clock: Arc<AtomicU64>,
    rng: StdRng,
    versioning: Versioning,
    object_lock: Option<ObjectLock>,
    /// By key and id.
    versions: BTreeMap<(String, VersionId), Kept>,
}

/// Whether a version may not be removed.
fn is_kept(lock: Lock, now_ms: u64, bypass: bool) -> bool {
    let retained = match lock.retention {
        Some(Retention { mode: RetentionMode::Compliance, until_ms }) => now_ms < until_ms,
        Some(Retention { mode: RetentionMode::Governance, until_ms }) => now_ms < until_ms && !bypass,
        None => false,
    };
    retained || lock.legal_hold.unwrap_or(false)
}

/// Whether a retention may be replaced.
fn may_replace(old: Option<Retention>, new: Option<Retention>, now_ms: u64, bypass: bool) -> bool {
    let Some(old) = old.filter(|old| now_ms < old.until_ms) else { return true };
    let longer = new.is_some_and(|new| new.mode == old.mode && new.until_ms >= old.until_ms);
    match old.mode {
        RetentionMode::Compliance => longer,
        RetentionMode::Governance => longer || bypass,
    }
}

impl World {
    async fn new(kv: SharedKv, seed: u64) -> Self {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let shown = clock.clone();
        let meta = Meta::new(kv).with_clock(move || shown.load(Ordering::Relaxed));
        meta.create_bucket(bucket(BUCKET, Versioning::Off)).await.unwrap();
        let group = group(&meta).await;
        let (versioning, rng) = (Versioning::Off, StdRng::seed_from_u64(seed));
        Self { meta, group, clock, rng, versioning, object_lock: None, versions: BTreeMap::new() }
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn key(&mut self) -> &'static str {
        KEYS.choose(&mut self.rng).unwrap()
    }

    fn version(&mut self) -> (String, VersionId) {
        let all: Vec<_> = self.versions.keys().cloned().collect();
        match all.choose(&mut self.rng) {
            Some(version) if self.rng.random_bool(0.95) => version.clone(),
            _ => (self.key().to_owned(), VersionId::NULL),
        }
    }

    fn retention(&mut self) -> Option<Retention> {
        let mode = *[RetentionMode::Governance, RetentionMode::Compliance].choose(&mut self.rng).unwrap();
        let until_ms = self.now() + self.rng.random_range(0..4) * DAY_MS;
        self.rng.random_bool(0.8).then_some(Retention { mode, until_ms })
    }

    /// Mostly none is asked for.
    fn asked(&mut self) -> Lock {
        if self.rng.random_bool(0.7) {
            return Lock::default();
        }
        let legal_hold = [None, Some(true), Some(false)].choose(&mut self.rng).copied().unwrap();
        Lock { retention: self.retention(), legal_hold }
    }

    fn attributes(lock: Lock) -> Attributes {
        Attributes { storage_class: "STANDARD".into(), lock, ..Attributes::default() }
    }

    /// What making a version came to, which the model is told.
    fn made(&mut self, key: &str, asked: Lock, blobs: Vec<BlobId>, outcome: Result<Committed, MetaError>) {
        if self.object_lock.is_none() && asked != Lock::default() {
            assert_eq!(outcome, Err(MetaError::NoObjectLock(BUCKET.into())));
            return;
        }
        let version = outcome.unwrap().version;
        let default = self.object_lock.and_then(|object_lock| object_lock.default_retention).map(|default| {
            let days = match default.period {
                RetentionPeriod::Days(days) => days,
                RetentionPeriod::Years(years) => years * 365,
            };
            Retention { mode: default.mode, until_ms: version.modified_ms + u64::from(days) * DAY_MS }
        });
        let lock = Lock { retention: asked.retention.or(default), ..asked };
        assert_eq!(version.attributes.lock, lock);
        self.versions.insert((key.into(), version.id), Kept { kind: VersionKind::Object, lock, blobs });
    }

    async fn put(&mut self) {
        let (key, asked) = (self.key(), self.asked());
        let mut request = put(&self.group, BUCKET, key, self.rng.random_range(0..3));
        request.version.attributes = Self::attributes(asked);
        let blobs = request.blob.iter().map(|new| new.blob.id).collect();
        let outcome = self.meta.commit_object(request).await;
        self.made(key, asked, blobs, outcome);
    }

    async fn copy(&mut self) {
        let ((source, id), key) = (self.version(), self.key());
        let Some(kept) = self.versions.get(&(source.clone(), id)).cloned() else { return };
        let mut request = copy((BUCKET, &source), (BUCKET, key));
        request.source.2 = VersionSelector::Id(id);
        let asked = if self.rng.random_bool(0.5) { Lock::default() } else { self.asked() };
        // None inherits what the source says, but never its lock.
        request.attributes = (asked != Lock::default()).then(|| Self::attributes(asked));
        let outcome = self.meta.copy_object(request).await;
        match kept.kind {
            VersionKind::Object => self.made(key, asked, kept.blobs, outcome),
            VersionKind::DeleteMarker => assert!(matches!(outcome, Err(MetaError::IsDeleteMarker { .. }))),
        }
    }

    async fn upload(&mut self) {
        let (key, asked) = (self.key(), self.asked());
        let begun = Upload { attributes: Self::attributes(asked), ..upload(BUCKET, key) };
        let created = self.meta.create_upload(begun.clone()).await;
        if self.object_lock.is_none() && asked != Lock::default() {
            assert_eq!(created, Err(MetaError::NoObjectLock(BUCKET.into())));
            return;
        }
        created.unwrap();
        let part = put_part(&self.group, &begun, 1, 7);
        let blobs = part.blob.iter().map(|new| new.blob.id).collect();
        let part = self.meta.put_part(part).await.unwrap();
        if self.rng.random_bool(0.2) {
            return self.meta.abort_upload(BUCKET, key, begun.id).await.unwrap();
        }
        let outcome = self.meta.complete_upload(complete(&begun, &[part])).await;
        self.made(key, asked, blobs, outcome);
    }

    async fn delete_current(&mut self) {
        let key = self.key();
        let deleted = self.meta.delete_object(delete(BUCKET, key, VersionSelector::Current)).await.unwrap();
        if self.versioning != Versioning::Enabled {
            self.versions.remove(&(key.to_owned(), VersionId::NULL));
        }
        if self.versioning != Versioning::Off {
            let marker = Kept { kind: VersionKind::DeleteMarker, lock: Lock::default(), blobs: Vec::new() };
            self.versions.insert((key.into(), deleted.version.unwrap()), marker);
        }
    }

    fn judged(&mut self, version: &(String, VersionId), bypass: bool, outcome: Result<Deleted, MetaError>) {
        let now = self.now();
        match self.versions.get(version) {
            Some(kept) if is_kept(kept.lock, now, bypass) => {
                let (key, version) = version.clone();
                assert_eq!(outcome, Err(MetaError::Locked { key, version }));
            }
            found => {
                let removed = found.map(|_| version.1);
                assert_eq!(outcome.unwrap().version, removed);
                self.versions.remove(version);
            }
        }
    }

    fn named(&mut self, version: &(String, VersionId), bypass: bool) -> DeleteObject {
        let request = delete(BUCKET, &version.0, VersionSelector::Id(version.1));
        DeleteObject { bypass_governance: bypass, ..request }
    }

    async fn delete_version(&mut self) {
        let (version, bypass) = (self.version(), self.rng.random_bool(0.4));
        let request = self.named(&version, bypass);
        let outcome = self.meta.delete_object(request).await;
        self.judged(&version, bypass, outcome);
    }

    /// A lifecycle that is wrong about everything: it ends whatever it sees, however it stands.
    async fn end_version(&mut self) {
        let (key, id) = self.version();
        let selector = VersionSelector::Id(id);
        let Ok(located) = self.meta.locate(BUCKET, &key, selector, RangeRequest::Nothing).await else { return };
        let mut version = located.version;
        let stale = self.rng.random_bool(0.2);
        if stale {
            version.attributes.tags.push(("t".into(), "of before".into()));
        }
        let newest = self.meta.locate(BUCKET, &key, VersionSelector::Current, RangeRequest::Nothing).await;
        let is_current = newest.is_ok_and(|newest| newest.version.id == id);
        let ending = *[Ending::Current, Ending::Noncurrent, Ending::LoneMarker].choose(&mut self.rng).unwrap();
        let (attempt, bucket) = (AttemptId::random(), BUCKET.into());
        let outcome = self.meta.end_version(EndVersion { attempt, bucket, key: key.clone(), version, ending }).await;
        let lock = self.versions[&(key.clone(), id)].lock;
        match ending {
            Ending::Current if is_current && !stale => {
                outcome.unwrap();
                let query =
                    ListVersionsQuery { bucket: BUCKET.into(), prefix: key.clone(), limit: 1, ..Default::default() };
                let page = self.meta.list_versions(&query).await.unwrap();
                if self.versioning != Versioning::Enabled {
                    self.versions.remove(&(key.clone(), VersionId::NULL));
                }
                if self.versioning != Versioning::Off {
                    let Some(ListVersionsEntry::Version { version, .. }) = page.entries.first() else { unreachable!() };
                    let marker = Kept { kind: VersionKind::DeleteMarker, lock: Lock::default(), blobs: Vec::new() };
                    self.versions.insert((key, version.id), marker);
                }
            }
            Ending::Noncurrent if !is_current && !stale && is_kept(lock, self.now(), false) => {
                assert_eq!(outcome, Err(MetaError::Locked { key, version: id }));
            }
            Ending::Noncurrent if !is_current && !stale => {
                assert_eq!(outcome, Ok(true));
                self.versions.remove(&(key, id));
            }
            _ => assert_eq!(outcome, Ok(false)),
        }
    }

    async fn delete_many(&mut self) {
        let bypass = self.rng.random_bool(0.4);
        let mut versions: Vec<_> = (0..4).map(|_| self.version()).collect();
        versions.sort();
        versions.dedup();
        let requests = versions.iter().map(|version| self.named(version, bypass)).collect();
        let outcomes = self.meta.delete_objects(requests).await;
        for (version, outcome) in versions.iter().zip(outcomes) {
            self.judged(version, bypass, outcome);
        }
    }

    /// Of a retention or a legal hold; `allowed` by what is there.
    fn relocked(
        &mut self,
        version: &(String, VersionId),
        lock: Lock,
        allowed: bool,
        outcome: Result<VersionId, MetaError>,
    ) {
        let lockable = self.object_lock.is_some();
        let (key, id) = version.clone();
        match self.versions.get_mut(version) {
            _ if !lockable => assert_eq!(outcome, Err(MetaError::NoObjectLock(BUCKET.into()))),
            None => assert!(matches!(outcome, Err(MetaError::NoSuchVersion { .. }))),
            Some(kept) if kept.kind == VersionKind::DeleteMarker => {
                assert!(matches!(outcome, Err(MetaError::IsDeleteMarker { .. })));
            }
            Some(_) if !allowed => assert_eq!(outcome, Err(MetaError::Locked { key, version: id })),
            Some(kept) => {
                assert_eq!(outcome, Ok(id));
                kept.lock = lock;
            }
        }
    }

    async fn change_lock(&mut self) {
        let (version, bypass, retention) = (self.version(), self.rng.random_bool(0.3), self.retention());
        let lock = self.versions.get(&version).map(|kept| kept.lock).unwrap_or_default();
        let selector = VersionSelector::Id(version.1);
        if self.rng.random_bool(0.6) {
            let allowed = may_replace(lock.retention, retention, self.now(), bypass);
            let outcome = self.meta.set_retention(BUCKET, &version.0, selector, retention, bypass).await;
            self.relocked(&version, Lock { retention, ..lock }, allowed, outcome);
        } else {
            let held = self.rng.random_bool(0.4);
            let outcome = self.meta.set_legal_hold(BUCKET, &version.0, selector, held).await;
            self.relocked(&version, Lock { legal_hold: Some(held), ..lock }, true, outcome);
        }
    }

    async fn change_bucket(&mut self) {
        if self.rng.random_bool(0.5) {
            let versioning =
                *[Versioning::Enabled, Versioning::Enabled, Versioning::Suspended].choose(&mut self.rng).unwrap();
            let outcome = self.meta.set_versioning(BUCKET, versioning).await;
            if self.object_lock.is_some() && versioning == Versioning::Suspended {
                assert_eq!(outcome, Err(MetaError::VersioningLocked(BUCKET.into())));
            } else {
                outcome.unwrap();
                self.versioning = versioning;
            }
            return;
        }
        let default_retention = self.retention().map(|retention| {
            let period = if self.rng.random_bool(0.9) { RetentionPeriod::Days(2) } else { RetentionPeriod::Years(1) };
            DefaultRetention { mode: retention.mode, period }
        });
        let object_lock = ObjectLock { default_retention };
        let outcome = self.meta.set_object_lock(BUCKET, object_lock).await;
        if self.versioning == Versioning::Enabled {
            outcome.unwrap();
            self.object_lock = Some(object_lock);
        } else {
            assert_eq!(outcome, Err(MetaError::VersioningNotEnabled(BUCKET.into())));
        }
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..21) {
            0..4 => self.put().await,
            4..6 => self.copy().await,
            6 => self.upload().await,
            7..9 => self.delete_current().await,
            9..12 => self.delete_version().await,
            12 => self.delete_many().await,
            13..16 => self.change_lock().await,
            16 => self.change_bucket().await,
            17 => {
                self.clock.fetch_add(self.rng.random_range(0..DAY_MS), Ordering::Relaxed);
            }
            19 => self.end_version().await,
            18 => {
                let (key, id) = self.version();
                let tags = vec![("t".to_owned(), self.now().to_string())];
                let _ = self.meta.set_tags(BUCKET, &key, VersionSelector::Id(id), tags, Cause::default()).await;
            }
            _ if !self.versions.is_empty() => {
                let outcome = self.meta.delete_bucket(BUCKET).await;
                assert_eq!(outcome, Err(MetaError::BucketNotEmpty(BUCKET.into())));
            }
            _ => {}
        }
    }

    /// Every version is there, locked as the model has it.
    async fn check(&self) {
        let query = ListVersionsQuery { bucket: BUCKET.into(), limit: 1000, ..Default::default() };
        let mut found = BTreeMap::new();
        for entry in self.meta.list_versions(&query).await.unwrap().entries {
            let ListVersionsEntry::Version { key, version, .. } = entry else { unreachable!() };
            found.insert((key, version.id), (version.kind, version.attributes.lock));
        }
        let wanted = self.versions.iter().map(|(version, kept)| (version.clone(), (kept.kind, kept.lock)));
        assert_eq!(found, wanted.collect());
    }
}

pub(crate) async fn run(name: &str, kv: SharedKv, seed: u64, steps: usize) {
    println!("{name}: CAIRN_SEED={seed}");
    let mut world = World::new(kv, seed).await;
    for _ in 0..steps {
        world.step().await;
        world.check().await;
    }
    // GC-1: nothing of what is there waits to be reclaimed.
    let queued = queued(&world.meta).await;
    for ((key, id), kept) in &world.versions {
        assert!(kept.blobs.iter().all(|blob| queued.binary_search(blob).is_err()), "{key} {id}");
    }
    audited(&world.meta, name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_1_what_is_locked_stays_whatever_is_done() {
    let seed = seed();
    for run_number in 0..40 {
        run("mem", mem_kv(), seed.wrapping_add(run_number), 120).await;
    }
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        run(name, kv, seed, 60).await;
    }
}

fn by_id(id: VersionId) -> VersionSelector {
    VersionSelector::Id(id)
}

/// A bucket with a null version that is held, of before versioning was enabled.
async fn held_null_version(kv: &SharedKv) -> (Meta, Group) {
    let meta = Meta::new(kv.clone());
    meta.cluster(policy()).await.unwrap();
    meta.create_bucket(bucket(BUCKET, Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    meta.commit_object(put(&group, BUCKET, "k", 5)).await.unwrap();
    meta.set_versioning(BUCKET, Versioning::Enabled).await.unwrap();
    meta.set_object_lock(BUCKET, ObjectLock::default()).await.unwrap();
    meta.set_legal_hold(BUCKET, "k", by_id(VersionId::NULL), true).await.unwrap();
    (meta, group)
}

/// No verb suspends versioning in such a bucket. Were a row to say that it is all the same, nothing is overwritten.
#[tokio::test]
async fn a_locked_null_version_is_not_overwritten() {
    let kv = mem_kv();
    let (meta, group) = held_null_version(&kv).await;
    for versioning in [Versioning::Suspended, Versioning::Off] {
        let row = Bucket { versioning, ..meta.bucket(BUCKET).await.unwrap() };
        let mut tx = kv.begin().await.unwrap();
        tx.set(keyspace::bucket(BUCKET), row.encode());
        tx.commit().await.unwrap();
        let locked = MetaError::Locked { key: "k".into(), version: VersionId::NULL };
        assert_eq!(meta.commit_object(put(&group, BUCKET, "k", 6)).await, Err(locked.clone()), "{versioning:?}");
        let deleted = meta.delete_object(delete(BUCKET, "k", VersionSelector::Current)).await;
        assert_eq!(deleted, Err(locked.clone()), "{versioning:?}");
        assert_eq!(meta.copy_object(copy((BUCKET, "k"), (BUCKET, "k"))).await, Err(locked), "{versioning:?}");
    }
    let located = meta.locate(BUCKET, "k", VersionSelector::Current, RangeRequest::All).await.unwrap();
    assert_eq!(located.version.size, 5);
    assert!(queued(&meta).await.is_empty());
}

#[tokio::test]
async fn locks_survive_an_export_and_an_import() {
    let (meta, _) = held_null_version(&mem_kv()).await;
    let mut file = Vec::new();
    meta.export(&mut file).await.unwrap();
    let imported = Meta::in_memory();
    imported.import(&mut Cursor::new(file.clone())).await.unwrap();
    let deleted = imported.delete_object(delete(BUCKET, "k", by_id(VersionId::NULL))).await;
    assert_eq!(deleted, Err(MetaError::Locked { key: "k".into(), version: VersionId::NULL }));
    let over = meta.import(&mut Cursor::new(file)).await;
    assert!(matches!(over, Err(MetaError::Invalid { .. })), "an import takes no other's place: {over:?}");
}

#[tokio::test]
async fn a_new_bucket_with_object_lock_has_versioning() {
    let meta = Meta::in_memory();
    let lock = Some(ObjectLock::default());
    let unversioned = Bucket { object_lock: lock, ..bucket(BUCKET, Versioning::Off) };
    assert_eq!(meta.create_bucket(unversioned).await, Err(MetaError::VersioningNotEnabled(BUCKET.into())));
    meta.create_bucket(Bucket { object_lock: lock, ..bucket(BUCKET, Versioning::Enabled) }).await.unwrap();
    let suspended = meta.set_versioning(BUCKET, Versioning::Suspended).await;
    assert_eq!(suspended, Err(MetaError::VersioningLocked(BUCKET.into())));
}

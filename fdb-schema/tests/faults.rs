//! Conflicts and unknown commits under every verb: each change happens once or not at all, and what is counted equals a
//! recount.
#![allow(clippy::unwrap_used)]

mod common;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_schema::{
    Meta, MetaError,
    ids::*,
    keyspace::RECLAIM_BUCKETS,
    kv::{
        SharedKv,
        embedded::{self, EmbeddedOptions},
        inject::{Fault, Injecting},
        mem,
        remote::{MetaTransport, RemoteServer, TransportFailure},
    },
    record::*,
    verbs::*,
};
use common::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

pub(crate) const FAULTS: [Fault; 7] = [
    Fault::None,
    Fault::Conflict,
    Fault::UnknownNotApplied,
    Fault::UnknownApplied,
    Fault::UnknownBeforeNext,
    Fault::UnknownAfterNext,
    Fault::Unavailable,
];

/// Every two faults in memory, and each fault first and second on every backend: what the faults leave behind is
/// decided by the store's own conflicts.
#[tokio::test(flavor = "multi_thread")]
async fn each_verb_answers_the_same_after_each_fault() {
    for first in FAULTS {
        for second in FAULTS {
            each_verb(mem_kv(), [first, second], &format!("mem, {first:?}, {second:?}")).await;
        }
    }
    for (first, second) in FAULTS.into_iter().zip(FAULTS.into_iter().cycle().skip(1)) {
        let (kvs, _directory) = every_kv();
        for (backend, kv) in kvs {
            each_verb(kv, [first, second], &format!("{backend}, {first:?}, {second:?}")).await;
        }
    }
}

pub(crate) async fn each_verb(kv: SharedKv, faults: [Fault; 2], case: &str) {
    let plain = Meta::new(kv.clone());
    plain.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    let group = group(&plain).await;
    let upload = upload("b", "mp");
    plain.create_upload(upload.clone()).await.unwrap();
    let faulty = || Meta::new(Arc::new(Injecting::script(kv.clone(), faults)));

    faulty().create_bucket(bucket("new", Versioning::Off)).await.expect(case);
    let made = faulty().commit_object(put(&group, "b", "k", 5)).await.expect(case);
    let marker = faulty().delete_object(delete("b", "k", VersionSelector::Current)).await.expect(case);
    let part = faulty().put_part(put_part(&group, &upload, 1, 10)).await.expect(case);
    let whole = faulty().complete_upload(complete(&upload, &[part])).await.expect(case);
    let members = group.members.clone();
    let second_group = faulty().create_group(group.scheme, members.clone()).await.expect(case);
    let reversed: Vec<_> = members.iter().rev().copied().collect();
    let moved = faulty().update_group(second_group.id, 1, reversed, GroupState::Open).await.expect(case);
    assert_eq!(moved.epoch, 2, "{case}");
    let down = faulty().set_disk_state(members[0], DiskState::Up, DiskState::Down).await.expect(case);
    assert_eq!(down.state, DiskState::Down);
    let lease = faulty().lease("l", "me", 1000).await.expect(case).unwrap();
    assert_eq!(lease.term, 1, "{case}");
    faulty().delete_bucket("new").await.expect(case);

    let query = ListVersionsQuery { bucket: "b".into(), limit: 100, ..Default::default() };
    let listed = plain.list_versions(&query).await.unwrap().entries;
    let ids = listed.into_iter().map(|entry| match entry {
        ListVersionsEntry::Version { version, .. } => version.id,
        ListVersionsEntry::CommonPrefix(_) => unreachable!(),
    });
    let wanted = [marker.version.unwrap(), made.version.id, whole.version.id];
    assert_eq!(ids.collect::<Vec<_>>(), wanted, "{case}");
    assert_eq!(plain.groups().await.unwrap().len(), 2, "{case}");
    assert_eq!(plain.usage("b").await.unwrap(), Usage { objects: 2, bytes: 15 }, "{case}");
    assert!(queued(&plain).await.is_empty(), "{case}");
}

#[tokio::test]
async fn endless_trouble_ends_in_a_typed_error_within_the_deadline() {
    let ends = |fault: Fault| {
        let kv: SharedKv = Arc::new(Injecting::new(mem_kv(), move || fault));
        Meta::new(kv).with_deadline(SHORT)
    };
    let started = Instant::now();
    let made = bucket("b", Versioning::Off);
    assert_eq!(ends(Fault::Conflict).create_bucket(made.clone()).await, Err(MetaError::Contention));
    let unknown = ends(Fault::UnknownNotApplied).create_bucket(made.clone()).await;
    assert!(matches!(unknown, Err(MetaError::CommitUnknown(_))));
    let gone = ends(Fault::Unavailable).create_bucket(made).await;
    assert!(matches!(gone, Err(MetaError::Unavailable(_))));
    // A batch does not wait for each of its keys in turn.
    let batch: Vec<_> = (0..1000).map(|index| delete("b", &format!("k{index}"), VersionSelector::Current)).collect();
    let kv = mem_kv();
    // Deleting what is not there leaves a marker, so every delete is a write.
    Meta::new(kv.clone()).create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    let gone = Meta::new(Arc::new(Injecting::new(kv, || Fault::Unavailable))).with_deadline(SHORT);
    let outcomes = gone.delete_objects(batch).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(MetaError::Unavailable(_)))));
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Random work on few keys.
struct Worker {
    meta: Meta,
    group: Group,
    rng: StdRng,
    uploads: BTreeMap<UploadId, (Upload, BTreeMap<u16, UploadedPart>)>,
}

impl Worker {
    fn key(&mut self) -> String {
        ["a", "b", "c"][self.rng.random_range(0..3)].to_owned()
    }

    /// An upload under way, taken or not.
    fn upload(&mut self, take: bool) -> Option<(Upload, BTreeMap<u16, UploadedPart>)> {
        let ids: Vec<UploadId> = self.uploads.keys().copied().collect();
        let id = *ids.get(self.rng.random_range(0..ids.len().max(1)))?;
        if take { self.uploads.remove(&id) } else { self.uploads.get(&id).cloned() }
    }

    fn keep_part(&mut self, upload: &Upload, part: UploadedPart) {
        if let Some((_, parts)) = self.uploads.get_mut(&upload.id) {
            parts.insert(part.number, part);
        }
    }

    /// One verb, whatever comes of it.
    async fn step(&mut self) -> Result<(), MetaError> {
        let key = self.key();
        match self.rng.random_range(0..14) {
            0..3 => {
                let put = put(&self.group, "b", &key, self.rng.random_range(0..50));
                self.meta.commit_object(put).await.map(drop)
            }
            3 if self.rng.random() => {
                let batch = ["a", "b", "c"].map(|key| delete("b", key, VersionSelector::Current));
                self.meta.delete_objects(batch.into()).await.into_iter().try_for_each(|outcome| outcome.map(drop))
            }
            3 => self.meta.delete_object(delete("b", &key, VersionSelector::Current)).await.map(drop),
            4 => {
                let query = ListVersionsQuery { bucket: "b".into(), limit: 1000, ..Default::default() };
                let listed = self.meta.list_versions(&query).await?.entries;
                if listed.is_empty() {
                    return Ok(());
                }
                let ListVersionsEntry::Version { key, version, .. } = &listed[self.rng.random_range(0..listed.len())]
                else {
                    unreachable!()
                };
                self.meta.delete_object(delete("b", key, VersionSelector::Id(version.id))).await.map(drop)
            }
            5 => {
                let to = self.key();
                self.meta.copy_object(copy(("b", &key), ("b", &to))).await.map(drop)
            }
            6 => {
                let versioning = [Versioning::Enabled, Versioning::Suspended][self.rng.random_range(0..2)];
                self.meta.set_versioning("b", versioning).await
            }
            7 => {
                let upload = upload("b", &key);
                self.meta.create_upload(upload.clone()).await?;
                self.uploads.insert(upload.id, (upload.clone(), BTreeMap::new()));
                // Sometimes more than fit in a version's row.
                for number in 1..=self.rng.random_range(1..25) {
                    let part = self.meta.put_part(put_part(&self.group, &upload, number, 10)).await?;
                    self.keep_part(&upload, part);
                }
                Ok(())
            }
            8 | 9 => {
                let Some((upload, _)) = self.upload(false) else { return Ok(()) };
                let number = self.rng.random_range(1..30);
                let first = self.rng.random_range(0..30);
                let range = RangeRequest::Inclusive(first, first + self.rng.random_range(0..60));
                let located = self.meta.locate("b", &key, VersionSelector::Current, range).await?;
                let part = self.meta.copy_part(copy_of(located, ("b", &key), &upload, number)).await?;
                self.keep_part(&upload, part);
                Ok(())
            }
            10 => {
                let Some((upload, mut parts)) = self.upload(true) else { return Ok(()) };
                let unnamed: Vec<u16> = parts.keys().copied().filter(|_| self.rng.random_bool(0.1)).collect();
                parts.retain(|number, _| !unnamed.contains(number));
                let parts: Vec<UploadedPart> = parts.into_values().collect();
                let request = CompleteUpload { min_part_bytes: 0, ..complete(&upload, &parts) };
                self.meta.complete_upload(request).await.map(drop)
            }
            11 => {
                let Some((upload, _)) = self.upload(true) else { return Ok(()) };
                self.meta.abort_upload("b", &upload.key, upload.id).await
            }
            12 => {
                let tags = vec![("t".to_owned(), self.rng.random::<u8>().to_string())];
                self.meta.set_tags("b", &key, VersionSelector::Current, tags, Cause::default()).await.map(drop)
            }
            _ => {
                let bucket = self.rng.random_range(0..RECLAIM_BUCKETS);
                for reclaim in self.meta.reclaimable(bucket, u64::MAX, 5).await? {
                    self.meta.reclaimed(std::slice::from_ref(&reclaim)).await?;
                }
                Ok(())
            }
        }
    }
}

/// What a verb may answer when others change the same keys.
fn is_of_the_others_making(error: &MetaError) -> bool {
    matches!(
        error,
        MetaError::NoSuchKey(_)
            | MetaError::KeyDeleted { .. }
            | MetaError::NoSuchVersion { .. }
            | MetaError::InvalidRange { .. }
            | MetaError::Stale("copy source")
            // Nothing was named.
            | MetaError::Invalid { what: "part list", .. }
    )
}

/// GC-1, GC-2: usage, references, heads, queue and ledger equal a recount, on every store.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_equals_a_recount_after_random_work_under_faults() {
    let seed = seed();
    println!("seed {seed}");
    for round in 0..3 {
        let (kvs, _directory) = every_kv();
        for (backend, kv) in kvs {
            println!("{backend}");
            random_work(kv, seed ^ (round << 32)).await;
        }
    }
}

pub(crate) async fn random_work(kv: SharedKv, seed: u64) {
    let plain = Meta::new(kv.clone());
    plain.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&plain).await;
    let workers = (0..4u64).map(|worker| {
        let mut faults = StdRng::seed_from_u64(seed ^ worker);
        let decide =
            move || if faults.random_bool(0.7) { Fault::None } else { FAULTS[faults.random_range(0..FAULTS.len())] };
        let mut worker = Worker {
            meta: Meta::new(Arc::new(Injecting::new(kv.clone(), decide))),
            group: group.clone(),
            rng: StdRng::seed_from_u64(!seed ^ worker),
            uploads: BTreeMap::new(),
        };
        tokio::spawn(async move {
            for _ in 0..60 {
                match worker.step().await {
                    Ok(()) => {}
                    Err(error) if is_of_the_others_making(&error) => {}
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    audited(&plain, &format!("seed {seed}")).await;
    queued(&plain).await;
    audited(&plain, &format!("seed {seed}, with the lists of parts worked off")).await;
}

/// Drops answers, or requests.
struct Lossy {
    server: RemoteServer,
    rng: parking_lot::Mutex<StdRng>,
    dead: Arc<AtomicBool>,
}

#[async_trait]
impl MetaTransport for Lossy {
    async fn call(&self, request: Bytes) -> Result<Bytes, TransportFailure> {
        if self.dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let luck = self.rng.lock().random_range(0..20);
        if luck == 0 {
            return Err(TransportFailure::NotSent("dropped".into()));
        }
        let answer = self.server.handle("test", request).await;
        match luck {
            1 => Err(TransportFailure::NoResponse("lost".into())),
            2 => Ok(Bytes::from_static(b"\x09garbage")),
            _ => Ok(answer),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lossy_connection_loses_no_change_and_doubles_none() {
    let store = mem::kv();
    let server = RemoteServer::new(store);
    let plain = Meta::remote(Arc::new(Loopback(server.clone())));
    plain.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    let group = group(&plain).await;
    let dead = Arc::new(AtomicBool::new(false));
    let rng = parking_lot::Mutex::new(StdRng::seed_from_u64(1));
    let meta = Meta::remote(Arc::new(Lossy { server, rng, dead: dead.clone() }));
    for _ in 0..100 {
        meta.commit_object(put(&group, "b", "k", 3)).await.unwrap();
    }
    assert_eq!(plain.usage("b").await.unwrap(), Usage { objects: 100, bytes: 300 });
    // A server that is gone: an error, in time.
    dead.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let late = meta.with_deadline(SHORT).ping().await;
    assert!(matches!(late, Err(MetaError::Timeout(_) | MetaError::Unavailable(_))), "{late:?}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_server_refuses_garbage_and_forgets_versions() {
    let server = RemoteServer::new(mem::kv());
    for garbage in [&b""[..], b"\x02", b"\x01\xc1", b"\x01\xff\xff"] {
        let answer = server.handle("peer", Bytes::copy_from_slice(garbage)).await;
        assert!(answer.windows(10).any(|window| window == b"BadRequest"), "{garbage:?}");
    }
    // A read at a version that nobody holds: GetMany { at: 99, keys: ["k"] }.
    let old = Bytes::from_static(b"\x01\x81\xa7GetMany\x92\x63\x91\xc4\x01k");
    let answer = server.handle("peer", old).await;
    assert!(answer.windows(6).any(|window| window == b"TooOld"), "{answer:?}");
}

/// A client of another make may send what ours refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_refuses_commits_of_rows_without_a_key_and_serves_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = RemoteServer::new(embedded::open(directory.path(), EmbeddedOptions::default()).unwrap());
    // Commit { read_version: None, reads: [], extra_writes: [], mutations: [Set("", "v") | Clear("") | Add("", 1)] }.
    for mutation in [&b"\x81\xa3Set\x92\xc4\x00\xc4\x01v"[..], b"\x81\xa5Clear\xc4\x00", b"\x81\xa3Add\x92\xc4\x00\x01"]
    {
        let request = [&b"\x01\x81\xa6Commit\x94\xc0\x90\x90\x91"[..], mutation].concat();
        let answer = server.handle("peer", request.into()).await;
        assert_eq!(answer, &b"\x01\x81\xa6Failed\xa8EmptyKey"[..], "{answer:?}");
    }
    let meta = Meta::remote(Arc::new(Loopback(server)));
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
}

//! What the tests of the verbs share.
#![allow(dead_code, clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_schema::{
    Meta,
    ids::*,
    keyspace::RECLAIM_BUCKETS,
    kv::{
        SharedKv,
        embedded::{self, EmbeddedOptions},
        mem,
        remote::{self, MetaTransport, RemoteServer, TransportFailure},
    },
    record::*,
    verbs::*,
};

/// A transport that is a call.
pub(crate) struct Loopback(pub RemoteServer);

#[async_trait]
impl MetaTransport for Loopback {
    async fn call(&self, request: Bytes) -> Result<Bytes, TransportFailure> {
        Ok(self.0.handle("test", request).await)
    }
}

pub(crate) fn mem_kv() -> SharedKv {
    Arc::new(mem::kv())
}

pub(crate) fn embedded_kv(directory: &std::path::Path) -> SharedKv {
    Arc::new(embedded::open(directory, EmbeddedOptions::default()).unwrap())
}

pub(crate) fn remote_kv() -> SharedKv {
    Arc::new(remote::kv(Arc::new(Loopback(RemoteServer::new(mem::kv())))))
}

/// A new store of each kind that needs no server; the directory goes with the last. `tests/fdb.rs` runs what uses this
/// on FoundationDB.
pub(crate) fn every_kv() -> (Vec<(&'static str, SharedKv)>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let kvs = vec![("mem", mem_kv()), ("embedded", embedded_kv(directory.path())), ("remote", remote_kv())];
    (kvs, directory)
}

pub(crate) fn seed() -> u64 {
    std::env::var("CAIRN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random)
}

pub(crate) fn policy() -> Policy {
    Policy::new("4+2".parse().unwrap(), "replicated(3)".parse().unwrap(), FailureDomain::Rack)
}

pub(crate) fn bucket(name: &str, versioning: Versioning) -> Bucket {
    Bucket { owner: "owner".into(), versioning, ..Bucket::new(name, 1) }
}

pub(crate) async fn group(meta: &Meta) -> Group {
    if let Some(group) = meta.groups().await.unwrap().into_iter().next() {
        return group;
    }
    let mut members = Vec::new();
    for index in 0..3u8 {
        let disk = Disk {
            id: DiskId::random(),
            node: format!("n{index}").parse().unwrap(),
            rack: format!("r{index}"),
            zone: "z".into(),
            capacity_bytes: 1 << 40,
            state: DiskState::Up,
            since_ms: 0,
        };
        members.push(meta.register_disk(disk).await.unwrap().id);
    }
    meta.create_group(Scheme::Replicated { copies: 3 }, members).await.unwrap()
}

pub(crate) fn blob(group: &Group, length: u64) -> NewBlob {
    NewBlob {
        blob: Blob {
            id: BlobId::random(),
            scheme: group.scheme,
            length,
            stripe_bytes: 4 << 20,
            runs: vec![StripeRun { group: group.id, stripes: 1 }],
            checksum: length,
        },
        epochs: vec![(group.id, group.epoch)],
        missing: vec![],
        policy: None,
    }
}

pub(crate) fn md5_of(text: &str) -> [u8; 16] {
    md5_simd::digest(text.as_bytes())
}

pub(crate) fn new_version(size: u64) -> NewVersion {
    NewVersion {
        etag: Etag { md5: md5_of(&size.to_string()), parts: None },
        size,
        owner: "owner".into(),
        attributes: Attributes { storage_class: "STANDARD".into(), ..Attributes::default() },
        checksum: None,
        encryption: None,
    }
}

/// One that is told from others by its key's version.
pub(crate) fn encryption(key_version: u32) -> Encryption {
    Encryption {
        kind: EncryptionKind::Cluster,
        key_id: "k".into(),
        key_version,
        context: None,
        bucket_key: false,
        wrapped: vec![key_version as u8],
    }
}

pub(crate) fn put(group: &Group, bucket: &str, key: &str, size: u64) -> CommitObject {
    CommitObject {
        attempt: AttemptId::random(),
        bucket: bucket.into(),
        key: key.into(),
        version: new_version(size),
        blob: (size > 0).then(|| blob(group, size)),
        precondition: Precondition::default(),
        cause: Cause::default(),
    }
}

pub(crate) fn delete(bucket: &str, key: &str, selector: VersionSelector) -> DeleteObject {
    DeleteObject {
        attempt: AttemptId::random(),
        bucket: bucket.into(),
        key: key.into(),
        selector,
        precondition: Precondition::default(),
        bypass_governance: false,
        origin: Origin::default(),
    }
}

pub(crate) fn upload(bucket: &str, key: &str) -> Upload {
    Upload {
        id: UploadId::random(),
        bucket: bucket.into(),
        key: key.into(),
        created_ms: 1,
        owner: "owner".into(),
        attributes: Attributes { storage_class: "STANDARD".into(), ..Attributes::default() },
        checksum: None,
        encryption: None,
    }
}

pub(crate) fn put_part(group: &Group, upload: &Upload, number: u16, length: u64) -> PutPart {
    PutPart {
        attempt: AttemptId::random(),
        upload: upload.id,
        bucket: upload.bucket.clone(),
        key: upload.key.clone(),
        number,
        md5: md5_of(&format!("{number} {length}")),
        checksum: None,
        length,
        blob: (length > 0).then(|| blob(group, length)),
    }
}

pub(crate) fn complete(upload: &Upload, parts: &[UploadedPart]) -> CompleteUpload {
    CompleteUpload {
        attempt: AttemptId::random(),
        upload: upload.id,
        bucket: upload.bucket.clone(),
        key: upload.key.clone(),
        parts: parts.iter().map(|part| CompletedPart { number: part.number, md5: part.md5, checksum: None }).collect(),
        checksum: None,
        min_part_bytes: 5,
        precondition: Precondition::default(),
        origin: Origin::default(),
    }
}

/// Every blob in the reclaim queue.
pub(crate) async fn queued(meta: &Meta) -> Vec<BlobId> {
    let mut ids = Vec::new();
    // Lists of parts in a bucket become blobs of all buckets.
    for bucket in 0..RECLAIM_BUCKETS {
        meta.reclaimable(bucket, u64::MAX, 100_000).await.unwrap();
    }
    for bucket in 0..RECLAIM_BUCKETS {
        let rows = meta.reclaimable(bucket, u64::MAX, 100_000).await.unwrap();
        ids.extend(rows.into_iter().map(|reclaim| reclaim.blob.id));
    }
    ids.sort();
    ids
}

/// Takes everything in the reclaim queue away, as if its fragments were deleted.
pub(crate) async fn reclaim_all(meta: &Meta) {
    // Twice: what a list of parts releases may belong to a bucket before its own.
    for bucket in (0..RECLAIM_BUCKETS).chain(0..RECLAIM_BUCKETS) {
        for reclaim in meta.reclaimable(bucket, u64::MAX, 100_000).await.unwrap() {
            meta.reclaimed(std::slice::from_ref(&reclaim)).await.unwrap();
        }
    }
}

pub(crate) async fn keys(meta: &Meta, bucket: &str) -> Vec<String> {
    let query = ListQuery { bucket: bucket.into(), limit: 1000, ..ListQuery::default() };
    let page = meta.list_objects(&query).await.unwrap();
    let entries = page.entries.into_iter().map(|entry| match entry {
        ListEntry::Object(object) => object.key,
        ListEntry::CommonPrefix(prefix) => prefix,
    });
    entries.collect()
}

/// Fails if anything that is counted differs from a recount.
pub(crate) async fn audited(meta: &Meta, case: &str) {
    let audit = meta.audit().await.unwrap();
    assert!(audit.problems == 0, "{case}: {} problems: {:#?}", audit.problems, audit.first_problems);
    // In several passes, as with very many blobs.
    let again = meta.audit_in_passes(audit.blobs.div_ceil(3).max(1)).await.unwrap();
    assert_eq!(again, audit, "{case}");
}

/// A copy of a range of the current version of a key, to a part of an upload.
pub(crate) async fn copy_part(
    meta: &Meta,
    from: (&str, &str),
    range: RangeRequest,
    to: &Upload,
    number: u16,
) -> CopyPart {
    let located = meta.locate(from.0, from.1, VersionSelector::Current, range).await.unwrap();
    copy_of(located, from, to, number)
}

pub(crate) fn copy_of(located: Located, from: (&str, &str), to: &Upload, number: u16) -> CopyPart {
    CopyPart {
        attempt: AttemptId::random(),
        source: (from.0.into(), from.1.into(), VersionSelector::Current),
        slices: located.slices().iter().map(Slice::name).collect(),
        range: located.range,
        upload: to.id,
        bucket: to.bucket.clone(),
        key: to.key.clone(),
        number,
        md5: md5_of(&format!("copy {number}")),
        checksum: None,
    }
}

pub(crate) fn copy(from: (&str, &str), to: (&str, &str)) -> CopyObject {
    CopyObject {
        attempt: AttemptId::random(),
        source: (from.0.into(), from.1.into(), VersionSelector::Current),
        source_precondition: Precondition::default(),
        bucket: to.0.into(),
        key: to.1.into(),
        attributes: None,
        owner: "copier".into(),
        precondition: Precondition::default(),
        origin: Origin::default(),
        encryption: None,
    }
}

pub(crate) const SHORT: Duration = Duration::from_millis(500);

pub(crate) fn access_key(name: &str, user: &str) -> AccessKey {
    AccessKey {
        access_key: name.into(),
        secret: SealedSecret { key_id: [1; 16], sealed: vec![2; 40] },
        user: user.into(),
        enabled: true,
        created_ms: 1,
        expires_ms: None,
        session_policy: None,
    }
}

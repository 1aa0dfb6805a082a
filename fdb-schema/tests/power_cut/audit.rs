//! What must hold of all rows together, whatever happened: every index, counter and reference equals a recount.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cairn_schema::{
    codec::Stored,
    ids::*,
    keyspace::{self, ReclaimKind, Space, UsageField},
    kv::{Kv, RangeQuery, Row, counter, key_after},
    record::{rows::*, *},
};

/// All rows by the first byte of their keys, as of one moment.
struct Rows(BTreeMap<u8, Vec<Row>>);

impl Rows {
    async fn read(kv: &dyn Kv) -> Self {
        let mut snapshot = kv.long_snapshot().await.unwrap().expect("the embedded store keeps snapshots");
        let mut rows: BTreeMap<u8, Vec<Row>> = BTreeMap::new();
        let mut begin = Bytes::from_static(keyspace::FIRST_KEY);
        loop {
            let query = RangeQuery::new(begin, Bytes::from_static(keyspace::END_KEY), 5000).snapshot();
            let page = snapshot.range(query).await.unwrap();
            let last = page.rows.last().map(|(key, _)| key_after(key));
            for row in page.rows {
                rows.entry(row.0[0]).or_default().push(row);
            }
            match last.filter(|_| page.more) {
                Some(next) => begin = next,
                None => return Self(rows),
            }
        }
    }

    fn of(&self, space: Space) -> &[Row] {
        self.0.get(&(space as u8)).map_or(&[], Vec::as_slice)
    }

    fn records<R: Stored>(&self, space: Space) -> Vec<R> {
        self.of(space).iter().map(|(_, value)| R::read(value).unwrap()).collect()
    }

    /// Counters by what follows the first byte of their keys.
    fn counters(&self, space: Space) -> BTreeMap<[u8; 16], i64> {
        self.of(space).iter().map(|(key, value)| (key[1..].try_into().unwrap(), counter(Some(value)))).collect()
    }
}

fn bucket_of(key: &[u8]) -> &str {
    let end = key.iter().position(|byte| *byte == 0).unwrap();
    std::str::from_utf8(&key[1..end]).unwrap()
}

/// Panics with `context` when something does not add up. Nothing half-applied passes.
pub async fn check(kv: &dyn Kv, context: &str) {
    let rows = Rows::read(kv).await;
    assert!(rows.of(Space::Importing).is_empty());
    for space in [Space::Attempt, Space::Node, Space::Disk, Space::Cluster] {
        match space {
            Space::Attempt => drop(rows.records::<AttemptRow>(space)),
            Space::Node => drop(rows.records::<Node>(space)),
            Space::Disk => drop(rows.records::<Disk>(space)),
            _ => drop(rows.records::<ClusterRow>(space)),
        }
    }
    let versions = versions_and_heads(&rows, context);
    usage(&rows, &versions, context);
    references(&rows, &versions, context);
    ledger(&rows, context);
    completed(&rows, context);
    let next = rows.records::<u64>(Space::NextGroup).first().copied().unwrap_or(1);
    assert!(rows.records::<Group>(Space::Group).iter().all(|group| u64::from(group.id.0) < next), "{context}");
}

/// By bucket and key, newest first.
type Versions = BTreeMap<(String, String), Vec<(VersionId, VersionRow)>>;

/// A key has a head exactly while it has a version, and the head tells of the newest.
fn versions_and_heads(rows: &Rows, context: &str) -> Versions {
    let mut versions = Versions::new();
    for (key, value) in rows.of(Space::Version) {
        let bucket = bucket_of(key);
        let (object, row) = keyspace::split_keyed(bucket, key).unwrap();
        let of_key = versions.entry((bucket.to_owned(), object)).or_default();
        of_key.push((VersionId(row), VersionRow::read(value).unwrap()));
    }
    let mut heads = BTreeMap::new();
    for (key, value) in rows.of(Space::Head) {
        let bucket = bucket_of(key);
        let object = keyspace::head_object_key(bucket, key).unwrap();
        heads.insert((bucket.to_owned(), object.to_owned()), HeadRow::read(value).unwrap());
    }
    assert!(heads.keys().eq(versions.keys()), "{context}: heads and versions are of the same keys");
    for (name, head) in &heads {
        let (row, newest) = &versions[name][0];
        let version = &newest.version;
        let told = (head.row, head.id, head.kind, head.etag, head.size, head.modified_ms);
        let wanted = (*row, version.id, version.kind, version.etag, version.size, version.modified_ms);
        assert_eq!(told, wanted, "{context}: head of {name:?}");
        let null = versions[name].iter().find(|(_, stored)| stored.version.id.is_null());
        assert_eq!(head.null_row, null.map(|(row, _)| *row), "{context}: null version of {name:?}");
    }
    versions
}

fn usage(rows: &Rows, versions: &Versions, context: &str) {
    let mut counted: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (key, value) in rows.of(Space::Usage) {
        let usage = counted.entry(bucket_of(key)).or_default();
        let field = if key.last() == Some(&(UsageField::Objects as u8)) { &mut usage.0 } else { &mut usage.1 };
        *field += counter(Some(value));
    }
    for bucket in rows.records::<Bucket>(Space::Bucket) {
        let of_bucket = versions.iter().filter(|((name, _), _)| *name == bucket.name).flat_map(|(_, stored)| stored);
        let objects = of_bucket.filter(|(_, stored)| stored.version.kind == VersionKind::Object);
        let recount = objects.fold((0, 0), |sum, (_, stored)| (sum.0 + 1, sum.1 + stored.version.size as i64));
        let told = counted.remove(bucket.name.as_str()).unwrap_or_default();
        assert_eq!(told, recount, "{context}: usage of {} equals a recount", bucket.name);
    }
    assert!(counted.is_empty(), "{context}: counters of no bucket: {counted:?}");
}

/// GC-1 and GC-2 as far as the metadata goes: a blob is referenced as often as is counted, or it is queued.
fn references(rows: &Rows, versions: &Versions, context: &str) {
    let mut blobs: BTreeMap<BlobId, i64> = BTreeMap::new();
    let mut lists: BTreeMap<UploadId, i64> = BTreeMap::new();
    for (_, stored) in versions.values().flatten() {
        match &stored.parts {
            PartList::Inline(parts) => {
                for blob in parts.iter().filter_map(|part| part.blob.as_ref()) {
                    *blobs.entry(blob.id()).or_default() += 1;
                }
            }
            PartList::Listed { list, runs } => {
                *lists.entry(*list).or_default() += 1;
                let wanted: usize = runs.iter().map(|run| usize::from(run.count)).sum();
                let prefix = keyspace::parts(*list);
                let found = rows.of(Space::Part).iter().filter(|(key, _)| key.starts_with(&prefix)).count();
                assert_eq!(found, wanted, "{context}: part rows of list {list}");
            }
        }
    }
    let uploads: BTreeSet<UploadId> = rows.records::<Upload>(Space::Upload).iter().map(|upload| upload.id).collect();
    let (mut queued_blobs, mut queued_lists) = (BTreeSet::new(), BTreeSet::new());
    for (key, _) in rows.of(Space::Reclaim) {
        match keyspace::split_reclaim(key).unwrap() {
            (_, ReclaimKind::Blob, id) => assert!(queued_blobs.insert(BlobId(id)), "{context}: queued twice"),
            (_, ReclaimKind::List, id) => assert!(queued_lists.insert(UploadId(id)), "{context}: queued twice"),
        }
    }
    for (key, value) in rows.of(Space::Part) {
        let list = UploadId(key[1..17].try_into().unwrap());
        let holders = [lists.contains_key(&list), uploads.contains(&list), queued_lists.contains(&list)];
        let holders = holders.into_iter().filter(|holds| *holds).count();
        assert_eq!(holders, 1, "{context}: list {list} is of one upload, of versions, or queued");
        if let Some(blob) = PartRow::read(value).unwrap().blob {
            *blobs.entry(blob.id()).or_default() += 1;
        }
    }
    let list_extra = rows.counters(Space::ListExtra);
    let extra = list_extra.iter().filter(|(_, extra)| **extra != 0).map(|(id, extra)| (UploadId(*id), *extra));
    let wanted = lists.iter().filter(|(_, count)| **count > 1).map(|(id, count)| (*id, count - 1));
    assert!(extra.eq(wanted), "{context}: references to lists");

    let stored: Vec<Blob> = rows.records(Space::Blob);
    let ids: BTreeSet<BlobId> = stored.iter().map(|blob| blob.id).collect();
    let referenced: BTreeSet<BlobId> = blobs.keys().copied().collect();
    assert!(referenced.is_disjoint(&queued_blobs), "{context}: GC-1");
    let known: BTreeSet<BlobId> = referenced.union(&queued_blobs).copied().collect();
    assert_eq!(ids, known, "{context}: GC-2: every blob is referenced or queued");
    let blob_extra = rows.counters(Space::BlobExtra);
    let extra = blob_extra.iter().filter(|(_, extra)| **extra != 0).map(|(id, extra)| (BlobId(*id), *extra));
    let wanted = blobs.iter().filter(|(_, count)| **count > 1).map(|(id, count)| (*id, count - 1));
    assert!(extra.eq(wanted), "{context}: references to blobs");

    let mut of_groups = BTreeSet::new();
    for blob in &stored {
        of_groups.extend(blob.runs.iter().map(|run| keyspace::group_blob(run.group, blob.id)));
    }
    let index: BTreeSet<Bytes> = rows.of(Space::GroupBlob).iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(index, of_groups, "{context}: blobs by group");
}

fn ledger(rows: &Rows, context: &str) {
    let count: i64 = rows.of(Space::LedgerCount).iter().map(|(_, value)| counter(Some(value))).sum();
    assert_eq!(count, rows.of(Space::Ledger).len() as i64, "{context}: the ledger's length");
    let blobs: BTreeSet<BlobId> = rows.records::<Blob>(Space::Blob).iter().map(|blob| blob.id).collect();
    for (key, value) in rows.of(Space::Ledger) {
        let fragment = keyspace::ledger_fragment(key).unwrap();
        assert!(blobs.contains(&fragment.blob), "{context}: ledger row of no blob");
        LedgerRow::read(value).unwrap();
    }
}

fn completed(rows: &Rows, context: &str) {
    let completed: BTreeSet<Bytes> = rows.of(Space::Completed).iter().map(|(key, _)| key.clone()).collect();
    drop(rows.records::<CompletedRow>(Space::Completed));
    let times = rows.of(Space::CompletedTime).iter().filter_map(|(key, _)| keyspace::completed_time_upload(key));
    let timed: BTreeSet<Bytes> = times.map(keyspace::completed).collect();
    assert_eq!(completed, timed, "{context}: completed uploads and when to forget them");
}

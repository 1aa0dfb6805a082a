//! An audit finds what was made wrong, and nothing where nothing is.
#![allow(clippy::unwrap_used)]

mod common;
use std::sync::Arc;

use bytes::Bytes;
use cairn_schema::{
    Meta,
    audit::Problem,
    ids::*,
    keyspace::{self, ReclaimKind, Space, UsageField},
    kv::{RangeQuery, SharedKv, Transaction, mem},
    record::*,
    verbs::*,
};
use common::*;

struct World {
    kv: SharedKv,
    meta: Meta,
    blob: BlobId,
}

/// An object and its copy, a version list in rows, an upload, a row of the ledger.
async fn world() -> World {
    let kv: SharedKv = Arc::new(mem::kv());
    let meta = Meta::new(kv.clone());
    meta.cluster(policy()).await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    let group = group(&meta).await;
    let mut request = put(&group, "b", "k", 10);
    let new = request.blob.as_mut().unwrap();
    new.missing = vec![FragmentName { group: group.id, blob: new.blob.id, stripe: 0, position: 1 }];
    let blob = new.blob.id;
    meta.commit_object(request).await.unwrap();
    meta.copy_object(copy(("b", "k"), ("b", "copy"))).await.unwrap();
    meta.delete_object(delete("b", "k", VersionSelector::Current)).await.unwrap();
    let many = upload("b", "many");
    meta.create_upload(many.clone()).await.unwrap();
    let mut parts = Vec::new();
    for number in 1..=20 {
        parts.push(meta.put_part(put_part(&group, &many, number, 10)).await.unwrap());
    }
    meta.complete_upload(complete(&many, &parts)).await.unwrap();
    let open = upload("b", "open");
    meta.create_upload(open.clone()).await.unwrap();
    meta.put_part(put_part(&group, &open, 1, 10)).await.unwrap();
    audited(&meta, "sound").await;
    World { kv, meta, blob }
}

/// The first problem after a change behind the verbs' back.
async fn after(change: impl FnOnce(&mut dyn Transaction, &World)) -> Vec<Problem> {
    let world = world().await;
    let mut tx = world.kv.begin().await.unwrap();
    change(&mut *tx, &world);
    tx.commit().await.unwrap();
    let audit = world.meta.audit().await.unwrap();
    assert_eq!(audit.problems, audit.first_problems.len() as u64);
    audit.first_problems
}

async fn first_key(kv: &SharedKv, space: Space) -> Bytes {
    let (begin, end) = keyspace::space(space);
    kv.begin().await.unwrap().range(RangeQuery::new(begin, end, 1)).await.unwrap().rows.remove(0).0
}

#[tokio::test]
async fn each_contradiction_is_told() {
    let usage = after(|tx, _| tx.add(keyspace::usage("b", 1, UsageField::Bytes), 1)).await;
    assert!(matches!(&usage[..], [Problem::Usage { bytes: 220, counted_bytes: 221, .. }]), "{usage:?}");
    let elsewhere = after(|tx, _| tx.add(keyspace::usage("c", 1, UsageField::Bytes), 0)).await;
    assert_eq!(elsewhere, [Problem::NoBucket("c".into())]);
    let head = after(|tx, _| tx.clear(keyspace::head("b", "k"))).await;
    let without = Problem::Head { bucket: "b".into(), key: "k".into() };
    assert_eq!(head, [without, Problem::Heads { heads: 2, keys: 3 }]);
    let extra = after(|tx, world| tx.add(keyspace::blob_extra(world.blob), -1)).await;
    assert!(matches!(&extra[..], [Problem::Blob { exists: true, references: 2, extra: 0, .. }]), "{extra:?}");
    // GC-1: what is referenced waits to be deleted.
    let queued = after(|tx, world| {
        tx.set(keyspace::reclaim(ReclaimKind::Blob, 1, world.blob.0), Bytes::from_static(b"\x01\xa4Blob"));
    });
    let queued = queued.await;
    assert!(matches!(&queued[..], [Problem::Blob { references: 2, queued: 1, .. }]), "{queued:?}");
    let gone = after(|tx, world| tx.clear(keyspace::blob(world.blob))).await;
    let expected: Vec<fn(&Problem) -> bool> = vec![
        |problem| matches!(problem, Problem::LedgerBlob(_)),
        |problem| matches!(problem, Problem::Blob { exists: false, .. }),
        |problem| matches!(problem, Problem::GroupBlobs),
        |problem| matches!(problem, Problem::GroupStripes { stripes: 21, counted: 22, .. }),
    ];
    assert!(gone.len() == expected.len() && gone.iter().zip(expected).all(|(problem, is)| is(problem)), "{gone:?}");
    let ledger = after(|tx, _| tx.add(keyspace::ledger_count(3), 5)).await;
    assert_eq!(ledger, [Problem::Ledger { rows: 1, counted: 6 }]);
    let stripes = after(|tx, _| tx.add(keyspace::group_stripes(GroupId(1)), 2)).await;
    assert_eq!(stripes, [Problem::GroupStripes { group: GroupId(1), stripes: 22, counted: 24 }]);
    // A store of before they were counted contradicts nothing.
    let uncounted = after(|tx, _| {
        tx.clear(keyspace::stripes_are_counted());
        tx.add(keyspace::group_stripes(GroupId(1)), 2);
    });
    assert_eq!(uncounted.await, []);
    let completed = after(|tx, _| tx.set(keyspace::completed_time(1, UploadId([3; 16])), Bytes::new())).await;
    assert_eq!(completed, [Problem::Completed]);
    let group = after(|tx, _| tx.set(keyspace::next_group(), Bytes::from_static(&[1, 1]))).await;
    assert_eq!(group, [Problem::NextGroup(GroupId(1))]);
    let lease = after(|tx, _| tx.set(keyspace::lease("l"), Bytes::from_static(b"\x09"))).await;
    assert!(lease.len() == 1 && lease[0].to_string().contains("\\x15l"), "{lease:?}");
    let garbled = after(|tx, world| tx.set(keyspace::blob(world.blob), Bytes::from_static(b"\x07"))).await;
    assert!(garbled[0].to_string().contains("version 7"), "{garbled:?}");
}

#[tokio::test]
async fn lost_lists_and_uploads_are_told() {
    for space in [Space::Version, Space::Upload] {
        let world = world().await;
        // The first version is that of the copy, so here the blob is meant.
        let key = first_key(&world.kv, space).await;
        let mut tx = world.kv.begin().await.unwrap();
        tx.clear(key);
        tx.commit().await.unwrap();
        let told = world.meta.audit().await.unwrap().first_problems;
        let is = |problem: &Problem| match space {
            Space::Upload => matches!(problem, Problem::List { owners: 0, parts: 1, queued: 0, .. }),
            _ => matches!(problem, Problem::Blob { references: 1, extra: 1, .. }),
        };
        assert!(told.iter().any(is), "{space:?}: {told:?}");
    }
}

#[tokio::test]
async fn users_that_contradict_their_keys_groups_and_policies_are_found() {
    let kv: SharedKv = Arc::new(mem::kv());
    let meta = Meta::new(kv.clone());
    meta.create_user(User::new("u", 1)).await.unwrap();
    meta.create_user_group("g").await.unwrap();
    meta.put_access_policy("p", "{}").await.unwrap();
    meta.change_user("u", UserChange::Join("g".into())).await.unwrap();
    meta.change_user("u", UserChange::Attach(AttachedPolicy { name: "p".into(), text: None })).await.unwrap();
    meta.create_access_key(access_key("key", "u"), None).await.unwrap();
    audited(&meta, "sound").await;
    for (row, problem) in [
        (keyspace::access_key("key"), Problem::AccessKeys),
        (keyspace::user_group("g"), Problem::AccessTarget { from: "u".into(), to: "g".into() }),
        (keyspace::access_policy("p"), Problem::AccessTarget { from: "u".into(), to: "p".into() }),
        (keyspace::link(keyspace::LinkKind::MemberOfGroup, "g", "u"), Problem::AccessLinks),
    ] {
        let mut tx = kv.begin().await.unwrap();
        let kept = tx.get(&row, false).await.unwrap().unwrap();
        tx.clear(row.clone());
        tx.commit().await.unwrap();
        assert_eq!(meta.audit().await.unwrap().first_problems, [problem]);
        let mut tx = kv.begin().await.unwrap();
        tx.set(row, kept);
        tx.commit().await.unwrap();
    }
    audited(&meta, "sound again").await;
}

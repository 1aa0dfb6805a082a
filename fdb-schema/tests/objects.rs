//! Objects: puts, reads, deletes, copies, versions, on every store.
#![allow(clippy::unwrap_used)]

mod common;
use cairn_schema::{Meta, MetaError, ids::*, keyspace::RECLAIM_BUCKETS, kv::SharedKv, record::*, verbs::*};
use common::*;

async fn located(meta: &Meta, key: &str) -> Result<Located, MetaError> {
    meta.locate("b", key, VersionSelector::Current, RangeRequest::All).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_seen_at_once_and_its_blob_reclaimed_once_replaced() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        an_object_is_seen_and_reclaimed(name, kv).await;
    }
}

pub(crate) async fn an_object_is_seen_and_reclaimed(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let first = put(&group, "b", "k", 10);
    let committed = meta.commit_object(first.clone()).await.unwrap();
    assert!(committed.version.id.is_null(), "{name}");
    // The same attempt again is the same outcome, not another version.
    assert_eq!(meta.commit_object(first.clone()).await.unwrap(), committed);
    let read = located(&meta, "k").await.unwrap();
    assert_eq!((read.version, read.range, read.parts.len()), (committed.version, 0..10, 1));
    assert_eq!(*read.parts[0].slices[0].blob, first.blob.as_ref().unwrap().blob);
    assert_eq!(keys(&meta, "b").await, ["k"]);
    assert_eq!(meta.usage("b").await.unwrap(), Usage { objects: 1, bytes: 10 });
    assert!(queued(&meta).await.is_empty());

    let second = put(&group, "b", "k", 7);
    meta.commit_object(second.clone()).await.unwrap();
    assert_eq!(meta.usage("b").await.unwrap(), Usage { objects: 1, bytes: 7 });
    assert_eq!(queued(&meta).await, [first.blob.unwrap().blob.id]);
    assert_eq!(meta.delete_bucket("b").await, Err(MetaError::BucketNotEmpty("b".into())));

    let gone = meta.delete_object(delete("b", "k", VersionSelector::Current)).await.unwrap();
    assert_eq!(gone, Deleted { version: Some(VersionId::NULL), delete_marker: false });
    assert_eq!(located(&meta, "k").await.unwrap_err(), MetaError::NoSuchKey("k".into()));
    assert_eq!(meta.usage("b").await.unwrap(), Usage::default());
    assert_eq!(queued(&meta).await.len(), 2);
    let again = meta.delete_object(delete("b", "k", VersionSelector::Current)).await.unwrap();
    assert_eq!(again, Deleted { version: None, delete_marker: false });
    for bucket in 0..RECLAIM_BUCKETS {
        for reclaim in meta.reclaimable(bucket, u64::MAX, 10).await.unwrap() {
            meta.reclaimed(std::slice::from_ref(&reclaim)).await.unwrap();
            assert_eq!(meta.blobs(&[reclaim.blob.id]).await.unwrap(), [None]);
        }
    }
    assert!(meta.group_blobs(group.id, None, 10).await.unwrap().is_empty());
    meta.delete_bucket("b").await.unwrap();
    assert_eq!(located(&meta, "k").await.unwrap_err(), MetaError::NoSuchBucket("b".into()));
}

#[tokio::test]
async fn versions_are_kept_in_order_and_markers_hide_them() {
    let meta = Meta::in_memory();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    meta.commit_object(put(&group, "b", "k", 1)).await.unwrap();
    meta.set_versioning("b", Versioning::Enabled).await.unwrap();
    let second = meta.commit_object(put(&group, "b", "k", 2)).await.unwrap().version;
    let third = meta.commit_object(put(&group, "b", "k", 3)).await.unwrap().version;
    assert!(third.id < second.id && third.modified_ms >= second.modified_ms);
    assert_eq!(meta.usage("b").await.unwrap(), Usage { objects: 3, bytes: 6 });

    let marker = meta.delete_object(delete("b", "k", VersionSelector::Current)).await.unwrap();
    assert!(marker.delete_marker);
    let hidden = MetaError::KeyDeleted { key: "k".into(), marker: marker.version.unwrap() };
    assert_eq!(located(&meta, "k").await.unwrap_err(), hidden);
    assert!(keys(&meta, "b").await.is_empty());
    let by_id = VersionSelector::Id(marker.version.unwrap());
    let named = meta.locate("b", "k", by_id, RangeRequest::Nothing).await;
    assert!(matches!(named, Err(MetaError::IsDeleteMarker { .. })));
    let old = meta.locate("b", "k", VersionSelector::Id(second.id), RangeRequest::All).await.unwrap();
    assert_eq!(old.version, second);
    let null = meta.locate("b", "k", VersionSelector::Id(VersionId::NULL), RangeRequest::All).await.unwrap();
    assert_eq!(null.version.size, 1);

    // Without the marker the newest version is back.
    let removed = meta.delete_object(delete("b", "k", by_id)).await.unwrap();
    assert_eq!(removed, Deleted { version: marker.version, delete_marker: true });
    assert_eq!(located(&meta, "k").await.unwrap().version, third);

    // Suspended: the null version is replaced wherever it stands.
    meta.set_versioning("b", Versioning::Suspended).await.unwrap();
    let null = meta.commit_object(put(&group, "b", "k", 4)).await.unwrap().version;
    assert!(null.id.is_null());
    assert_eq!(located(&meta, "k").await.unwrap().version, null);
    assert_eq!(meta.usage("b").await.unwrap(), Usage { objects: 3, bytes: 9 });
    assert_eq!(queued(&meta).await.len(), 1);
    let marker = meta.delete_object(delete("b", "k", VersionSelector::Current)).await.unwrap();
    assert_eq!(marker, Deleted { version: Some(VersionId::NULL), delete_marker: true });
    assert_eq!(meta.usage("b").await.unwrap(), Usage { objects: 2, bytes: 5 });
    meta.delete_object(delete("b", "k", VersionSelector::Id(third.id))).await.unwrap();
    meta.delete_object(delete("b", "k", VersionSelector::Id(VersionId::NULL))).await.unwrap();
    assert_eq!(located(&meta, "k").await.unwrap().version, second);
    meta.delete_object(delete("b", "k", VersionSelector::Id(second.id))).await.unwrap();
    assert_eq!(meta.usage("b").await.unwrap(), Usage::default());
    assert_eq!(queued(&meta).await.len(), 4);
    meta.delete_bucket("b").await.unwrap();
}

#[tokio::test]
async fn preconditions_are_decided_in_the_transaction() {
    let meta = Meta::in_memory();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let absent = Precondition { if_none_match: Some(EtagMatch::Any), ..Precondition::default() };
    let create = |size| CommitObject { precondition: absent.clone(), ..put(&group, "b", "k", size) };
    // CON-1: of many that create one key, one does.
    let creates = (1..20).map(|size| meta.commit_object(create(size)));
    let outcomes = futures::future::join_all(creates).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = outcomes.into_iter().filter_map(Result::err);
    assert!(refused.into_iter().all(|error| error == MetaError::PreconditionFailed("If-None-Match")));

    let etag = located(&meta, "k").await.unwrap().version.etag.to_string();
    let matching = |etag: &str| Precondition {
        if_match: Some(EtagMatch::OneOf(vec![etag.to_owned()])),
        ..Precondition::default()
    };
    let wrong = CommitObject { precondition: matching("x"), ..put(&group, "b", "k", 30) };
    assert_eq!(meta.commit_object(wrong).await, Err(MetaError::PreconditionFailed("If-Match")));
    let right = CommitObject { precondition: matching(&etag), ..put(&group, "b", "k", 30) };
    meta.commit_object(right.clone()).await.unwrap();
    let nowhere = CommitObject { key: "other".into(), ..right };
    assert!(matches!(
        meta.commit_object(CommitObject { attempt: AttemptId::random(), ..nowhere }).await,
        Err(MetaError::NoSuchKey(_))
    ));
    let stale = DeleteObject { precondition: matching(&etag), ..delete("b", "k", VersionSelector::Current) };
    assert_eq!(meta.delete_object(stale).await, Err(MetaError::PreconditionFailed("If-Match")));
}

#[tokio::test]
async fn a_copy_shares_the_blob_until_the_last_reference_goes() {
    let meta = Meta::in_memory();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let original = put(&group, "b", "k", 10);
    meta.commit_object(original.clone()).await.unwrap();
    let copy = |key: &str| CopyObject {
        attempt: AttemptId::random(),
        source: ("b".into(), "k".into(), VersionSelector::Current),
        source_precondition: Precondition::default(),
        bucket: "b".into(),
        key: key.into(),
        attributes: None,
        owner: "copier".into(),
        precondition: Precondition::default(),
        encryption: None,
        origin: Origin::default(),
    };
    // Onto itself, to others, and to one of these again.
    for key in ["k", "c1", "c2", "c1"] {
        meta.copy_object(copy(key)).await.unwrap();
        assert!(queued(&meta).await.is_empty(), "GC-1: {key}");
    }
    assert_eq!(meta.usage("b").await.unwrap(), Usage { objects: 3, bytes: 30 });
    for key in ["k", "c2", "c1"] {
        assert!(queued(&meta).await.is_empty(), "GC-1");
        assert_eq!(*located(&meta, key).await.unwrap().parts[0].slices[0].blob, original.blob.as_ref().unwrap().blob);
        meta.delete_object(delete("b", key, VersionSelector::Current)).await.unwrap();
    }
    assert_eq!(queued(&meta).await, [original.blob.unwrap().blob.id]);
}

#[tokio::test]
async fn a_group_that_changed_under_the_writer_fails_the_commit() {
    let meta = Meta::in_memory();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let mut members = group.members.clone();
    members.reverse();
    let before = put(&group, "b", "k", 10);
    let sealed = meta.update_group(group.id, 1, group.members.clone(), GroupState::Sealed).await.unwrap();
    assert_eq!(sealed.epoch, 1);
    meta.commit_object(before.clone()).await.unwrap();
    let moved = meta.update_group(group.id, 1, members.clone(), GroupState::Open).await.unwrap();
    assert_eq!(moved.epoch, 2);
    let late = put(&group, "b", "k2", 10);
    assert_eq!(meta.commit_object(late.clone()).await, Err(MetaError::GroupChanged(group.id)));
    assert_eq!(meta.blobs(&[late.blob.unwrap().blob.id]).await.unwrap(), [None]);
    assert_eq!(keys(&meta, "b").await, ["k"]);
    let stale = meta.update_group(group.id, 1, members, GroupState::Open).await;
    assert_eq!(stale, Err(MetaError::Stale("group epoch")));
}

/// Bad input on every store alike: a typed error, and nothing changed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_a_limit_changes_nothing() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        what_is_over_a_limit(name, kv, 0).await;
    }
}

/// The store has at most `prefix_bytes` of its own before every key.
pub(crate) async fn what_is_over_a_limit(name: &str, kv: SharedKv, prefix_bytes: usize) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let long = "k".repeat(1025);
    let error = MetaError::KeyTooLong { bytes: 1025, limit: 1024 };
    assert_eq!(meta.commit_object(put(&group, "b", &long, 5)).await, Err(error.clone()), "{name}");
    assert_eq!(meta.create_upload(upload("b", &long)).await, Err(error), "{name}");
    let mut heavy = put(&group, "b", "k", 5);
    heavy.version.attributes.user_metadata = vec![("n".into(), "v".repeat(200_000))];
    let refused = meta.commit_object(heavy).await;
    assert!(matches!(refused, Err(MetaError::TooLarge { what: "value", .. })), "{name}: {refused:?}");
    // More fragments missing than one transaction can note.
    let mut missing = put(&group, "b", "k", 5);
    let new = missing.blob.as_mut().unwrap();
    let fragment = |stripe| FragmentName { group: group.id, blob: new.blob.id, stripe, position: 0 };
    new.missing = (0..200_000).map(fragment).collect();
    let refused = meta.commit_object(missing.clone()).await;
    assert!(matches!(refused, Err(MetaError::TooLarge { what: "transaction", .. })), "{name}: {refused:?}");
    let named = meta.create_bucket(bucket(&"n".repeat(256), Versioning::Off)).await;
    assert!(matches!(named, Err(MetaError::Invalid { what: "bucket name", .. })), "{name}: {named:?}");
    assert!(keys(&meta, "b").await.is_empty(), "{name}");
    let audit = meta.audit().await.unwrap();
    assert_eq!((audit.problems, audit.blobs, audit.versions), (0, 0, 0), "{name}: {:?}", audit.first_problems);
    // As many as it can, with the longest rows besides.
    missing.blob.as_mut().unwrap().missing.truncate(most_absent(prefix_bytes));
    missing.version.attributes.user_metadata = vec![("n".into(), "v".repeat(98_000))];
    meta.commit_object(missing).await.unwrap();
    assert_eq!(meta.ledger_len().await.unwrap(), most_absent(prefix_bytes) as u64, "{name}");
}

/// How many stripes a group holds is counted with the blobs, through copies, deletes, reclaim, export and import.
#[tokio::test]
async fn the_stripes_of_each_group_are_counted() {
    let meta = Meta::in_memory();
    meta.cluster(policy()).await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let other = meta.create_group(group.scheme, group.members.clone()).await.unwrap();
    assert_eq!(meta.group_stripes().await.unwrap(), Some([].into()));
    let mut request = put(&group, "b", "two groups", 10);
    let new = request.blob.as_mut().unwrap();
    new.blob.runs = vec![
        StripeRun { group: group.id, stripes: 3 },
        StripeRun { group: other.id, stripes: 4 },
        StripeRun { group: group.id, stripes: 1 },
    ];
    new.epochs = vec![(group.id, group.epoch), (other.id, other.epoch)];
    meta.commit_object(request).await.unwrap();
    meta.commit_object(put(&group, "b", "one", 10)).await.unwrap();
    meta.copy_object(copy(("b", "two groups"), ("b", "copy"))).await.unwrap();
    let counted = Some([(group.id, 5), (other.id, 4)].into());
    assert_eq!(meta.group_stripes().await.unwrap(), counted);

    let mut file = Vec::new();
    meta.export(&mut file).await.unwrap();
    let moved = Meta::in_memory();
    moved.import(&mut std::io::Cursor::new(file)).await.unwrap();
    assert_eq!(moved.group_stripes().await.unwrap(), counted);
    audited(&moved, "imported").await;

    for key in ["two groups", "copy"] {
        meta.delete_object(delete("b", key, VersionSelector::Current)).await.unwrap();
    }
    // Still on the disks, so still counted.
    assert_eq!(meta.group_stripes().await.unwrap(), counted);
    reclaim_all(&meta).await;
    assert_eq!(meta.group_stripes().await.unwrap(), Some([(group.id, 1)].into()));
    audited(&meta, "reclaimed").await;
}

/// A store that an older program has written to does not say what it cannot know.
#[tokio::test]
async fn stripes_that_were_not_counted_from_the_beginning_are_not_told() {
    let kv = mem_kv();
    let meta = Meta::new(kv.clone());
    meta.cluster(policy()).await.unwrap();
    let mut tx = kv.begin().await.unwrap();
    tx.clear(cairn_schema::keyspace::stripes_are_counted());
    tx.commit().await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    meta.commit_object(put(&group(&meta).await, "b", "k", 10)).await.unwrap();
    assert_eq!(meta.group_stripes().await.unwrap(), None);
    audited(&meta, "not counted").await;
}

/// Whichever comes first: a write that comes late must not name bytes that are gone.
#[tokio::test(flavor = "multi_thread")]
async fn gc_1_a_blob_is_either_committed_or_condemned() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        committed_or_condemned(name, kv).await;
    }
}

pub(crate) async fn committed_or_condemned(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let (committed, late) = (put(&group, "b", "k", 10), put(&group, "b", "late", 10));
    let id = |put: &CommitObject| put.blob.as_ref().unwrap().blob.id;
    meta.commit_object(committed.clone()).await.unwrap();
    assert!(!meta.condemn(id(&committed)).await.unwrap(), "{name}");
    assert!(located(&meta, "k").await.is_ok());

    assert!(meta.condemn(id(&late)).await.unwrap(), "{name}");
    assert!(meta.condemn(id(&late)).await.unwrap(), "{name}: again");
    assert!(matches!(meta.commit_object(late.clone()).await, Err(MetaError::Stale(_))), "{name}");
    assert_eq!(located(&meta, "late").await.unwrap_err(), MetaError::NoSuchKey("late".into()));
    // Forgotten when nobody can come any more.
    assert_eq!(meta.forget_condemned(0, None, 10).await.unwrap(), None);
    assert!(matches!(meta.commit_object(late.clone()).await, Err(MetaError::Stale(_))), "{name}: too early");
    assert_eq!(meta.forget_condemned(u64::MAX, None, 10).await.unwrap(), None);
    assert!(meta.commit_object(late).await.is_ok(), "{name}");

    let many: Vec<BlobId> = (0..25).map(|_| BlobId::random()).collect();
    for id in &many {
        meta.condemn(*id).await.unwrap();
    }
    let (mut after, mut pages) = (None, 0);
    loop {
        after = meta.forget_condemned(u64::MAX, after, 10).await.unwrap();
        pages += 1;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3, "{name}");
}

//! UploadPartCopy: parts that share the blobs of other objects (GC-1).
#![allow(clippy::unwrap_used)]

mod common;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use cairn_schema::{
    Meta, MetaError,
    ids::*,
    keyspace::RECLAIM_BUCKETS,
    kv::{
        SharedKv,
        inject::{Fault, Injecting},
    },
    record::*,
    verbs::*,
};
use common::*;

/// A bucket with `one`, put whole, of 100 bytes, and `many`, of `parts` parts of 10 bytes.
async fn world(meta: &Meta, parts: u16) -> Group {
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(meta).await;
    meta.commit_object(put(&group, "b", "one", 100)).await.unwrap();
    let many = upload("b", "many");
    meta.create_upload(many.clone()).await.unwrap();
    let mut done = Vec::new();
    for number in 1..=parts {
        done.push(meta.put_part(put_part(&group, &many, number, 10)).await.unwrap());
    }
    meta.complete_upload(complete(&many, &done)).await.unwrap();
    group
}

async fn located(meta: &Meta, key: &str, range: RangeRequest) -> Located {
    meta.locate("b", key, VersionSelector::Current, range).await.unwrap()
}

async fn names(meta: &Meta, key: &str, range: RangeRequest) -> Vec<SliceName> {
    located(meta, key, range).await.slices().iter().map(Slice::name).collect()
}

async fn gone(meta: &Meta, key: &str) {
    meta.delete_object(delete("b", key, VersionSelector::Current)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_parts_share_blobs_until_the_last_reference_goes() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        copied_parts_share_blobs(name, kv).await;
    }
}

pub(crate) async fn copied_parts_share_blobs(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    // Enough parts for rows of their own.
    world(&meta, 20).await;
    let to = upload("b", "to");
    meta.create_upload(to.clone()).await.unwrap();
    let whole = names(&meta, "one", RangeRequest::All).await;
    let across = names(&meta, "many", RangeRequest::Inclusive(5, 64)).await;
    assert_eq!(
        across.iter().map(|slice| (slice.blob_offset, slice.length)).collect::<Vec<_>>(),
        [(5, 5), (0, 10), (0, 10), (0, 10), (0, 10), (0, 10), (0, 5)]
    );
    let mut parts = Vec::new();
    for (number, from, range) in [
        (1, "one", RangeRequest::All),
        (2, "many", RangeRequest::Inclusive(5, 64)),
        (3, "one", RangeRequest::Inclusive(10, 29)),
        (4, "many", RangeRequest::Inclusive(30, 39)),
    ] {
        let request = copy_part(&meta, ("b", from), range, &to, number).await;
        let part = meta.copy_part(request.clone()).await.unwrap();
        assert_eq!(meta.copy_part(request).await.unwrap(), part, "{name}: one attempt, one part");
        parts.push(part);
    }
    audited(&meta, name).await;
    assert_eq!(parts.iter().map(|part| part.length).collect::<Vec<_>>(), [100, 60, 20, 10]);
    gone(&meta, "one").await;
    gone(&meta, "many").await;
    audited(&meta, name).await;
    meta.complete_upload(complete(&to, &parts)).await.unwrap();
    audited(&meta, name).await;
    assert_eq!(meta.usage("b").await.unwrap(), Usage { objects: 1, bytes: 190 }, "{name}");
    // Only what no part shares is reclaimed: of `many`, parts 8 to 20.
    assert_eq!(queued(&meta).await.len(), 13, "{name}: GC-1");
    audited(&meta, name).await;

    let all = located(&meta, "to", RangeRequest::All).await;
    assert_eq!(all.parts.iter().map(|part| part.slices.len()).collect::<Vec<_>>(), [1, 7, 1, 1], "{name}");
    assert_eq!(names(&meta, "to", RangeRequest::Part(1)).await, whole, "{name}");
    assert_eq!(names(&meta, "to", RangeRequest::Part(2)).await, across, "{name}");
    let within = names(&meta, "to", RangeRequest::Inclusive(112, 161)).await;
    assert_eq!(within[0], SliceName { blob_offset: 7, length: 3, ..across[1] }, "{name}");
    assert_eq!(within.last(), Some(&SliceName { blob_offset: 10, length: 2, ..whole[0] }), "{name}");
    assert_eq!(within.iter().map(|slice| slice.length).sum::<u64>(), 50, "{name}");

    // A copy of a copy, then both go.
    meta.copy_object(copy(("b", "to"), ("b", "again"))).await.unwrap();
    let third = upload("b", "third");
    meta.create_upload(third.clone()).await.unwrap();
    meta.copy_part(copy_part(&meta, ("b", "to"), RangeRequest::All, &third, 1).await).await.unwrap();
    gone(&meta, "to").await;
    gone(&meta, "again").await;
    assert_eq!(queued(&meta).await.len(), 13, "{name}: GC-1");
    audited(&meta, name).await;
    meta.abort_upload("b", "third", third.id).await.unwrap();
    audited(&meta, name).await;
    assert_eq!(queued(&meta).await.len(), 21, "{name}: GC-2");
    audited(&meta, name).await;
}

#[tokio::test]
async fn a_part_may_be_replaced_by_a_copy_of_itself_and_of_others() {
    let meta = Meta::in_memory();
    let group = world(&meta, 3).await;
    let to = upload("b", "to");
    meta.create_upload(to.clone()).await.unwrap();
    let own = put_part(&group, &to, 1, 50);
    let own_blob = own.blob.as_ref().unwrap().blob.id;
    meta.put_part(own).await.unwrap();
    for range in [RangeRequest::All, RangeRequest::Suffix(3), RangeRequest::All] {
        meta.copy_part(copy_part(&meta, ("b", "one"), range, &to, 1).await).await.unwrap();
        assert_eq!(queued(&meta).await, [own_blob]);
        audited(&meta, "replaced").await;
    }
    // The same blob twice in one part: bytes 90 to 99 of `one`, then 0 to 9, by way of a made-up object.
    let made = upload("b", "made");
    meta.create_upload(made.clone()).await.unwrap();
    let mut parts = Vec::new();
    for (number, range) in [(1, RangeRequest::Suffix(10)), (2, RangeRequest::Inclusive(0, 9))] {
        parts.push(meta.copy_part(copy_part(&meta, ("b", "one"), range, &made, number).await).await.unwrap());
    }
    meta.complete_upload(complete(&made, &parts)).await.unwrap();
    let twice = meta.copy_part(copy_part(&meta, ("b", "made"), RangeRequest::All, &to, 2).await).await.unwrap();
    assert_eq!(twice.length, 20);
    audited(&meta, "twice").await;
    meta.abort_upload("b", "to", to.id).await.unwrap();
    gone(&meta, "made").await;
    gone(&meta, "one").await;
    assert_eq!(queued(&meta).await.len(), 2, "GC-2: each blob once");
    audited(&meta, "gone").await;
}

#[tokio::test]
async fn a_source_that_changed_or_went_is_not_copied() {
    let meta = Meta::in_memory();
    let group = world(&meta, 3).await;
    let to = upload("b", "to");
    meta.create_upload(to.clone()).await.unwrap();
    let request = copy_part(&meta, ("b", "one"), RangeRequest::All, &to, 1).await;
    meta.commit_object(put(&group, "b", "one", 100)).await.unwrap();
    assert_eq!(meta.copy_part(request.clone()).await, Err(MetaError::Stale("copy source")));
    gone(&meta, "one").await;
    assert_eq!(meta.copy_part(request.clone()).await, Err(MetaError::NoSuchKey("one".into())));
    let other = CopyPart { upload: UploadId::random(), ..request.clone() };
    assert!(matches!(meta.copy_part(other).await, Err(MetaError::NoSuchUpload(_))));
    let number = CopyPart { number: 0, ..request.clone() };
    assert!(matches!(meta.copy_part(number).await, Err(MetaError::Invalid { what: "part number", .. })));
    let many = CopyPart { slices: vec![request.slices[0]; MAX_SLICES + 1], ..request };
    assert!(matches!(meta.copy_part(many).await, Err(MetaError::TooLarge { what: "slices of a part", .. })));
    assert!(meta.list_parts("b", "to", to.id, 0, 10).await.unwrap().parts.is_empty());
    audited(&meta, "refused").await;
}

#[tokio::test]
async fn many_slices_stay_in_rows_of_their_own() {
    let meta = Meta::in_memory();
    world(&meta, 64).await;
    let to = upload("b", "to");
    meta.create_upload(to.clone()).await.unwrap();
    let mut parts = Vec::new();
    for number in 1..=3 {
        let request = copy_part(&meta, ("b", "many"), RangeRequest::All, &to, number).await;
        parts.push(meta.copy_part(request).await.unwrap());
    }
    let unnamed = parts.pop().unwrap();
    assert_eq!(unnamed.length, 640);
    meta.complete_upload(complete(&to, &parts)).await.unwrap();
    let read = located(&meta, "to", RangeRequest::From(635)).await;
    assert_eq!(read.slices().len(), 65);
    gone(&meta, "many").await;
    assert!(queued(&meta).await.is_empty(), "GC-1");
    audited(&meta, "many").await;
    gone(&meta, "to").await;
    assert_eq!(queued(&meta).await.len(), 64, "GC-2");
    audited(&meta, "gone").await;
}

#[tokio::test]
async fn bnd_1_an_object_of_more_pieces_than_a_reader_can_hold_is_not_made() {
    let meta = Meta::in_memory();
    world(&meta, 64).await;
    let to = upload("b", "to");
    meta.create_upload(to.clone()).await.unwrap();
    let most = u16::try_from(MAX_REFERENCES / MAX_SLICES).unwrap();
    let source = located(&meta, "many", RangeRequest::All).await;
    let mut parts = Vec::new();
    let mut copied = async |number| {
        let request = copy_of(source.clone(), ("b", "many"), &to, number);
        parts.push(meta.copy_part(request).await.unwrap());
        parts.clone()
    };
    let mut named = Vec::new();
    for number in 1..=most + 1 {
        named = copied(number).await;
    }
    let refused = meta.complete_upload(complete(&to, &named)).await;
    let (actual, limit) = (u64::from(most + 1) * 64, MAX_REFERENCES as u64);
    assert_eq!(refused, Err(MetaError::TooManyPieces { actual, limit }));
    // Nor when there are so many that one cannot tell without reading very much, whichever are named.
    for number in most + 2..=2 * most + 2 {
        copied(number).await;
    }
    let refused = meta.complete_upload(complete(&to, &named[..1])).await;
    assert!(matches!(refused, Err(MetaError::TooManyPieces { .. })), "{refused:?}");
    audited(&meta, "refused").await;
    for number in most + 1..=2 * most + 2 {
        meta.put_part(put_part(&group(&meta).await, &to, number, 0)).await.unwrap();
    }

    meta.complete_upload(complete(&to, &named[..usize::from(most)])).await.unwrap();
    let read = located(&meta, "to", RangeRequest::All).await.slices();
    assert_eq!(read.len(), usize::from(most) * 64);
    assert!(Arc::ptr_eq(&read[0].blob, &read[64].blob), "slices share their blobs");
    gone(&meta, "many").await;
    gone(&meta, "to").await;
    assert_eq!(queued(&meta).await.len(), 64, "GC-2");
    audited(&meta, "gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_1_a_shared_blob_has_its_grace_period_from_its_last_reference_on() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        a_shared_blob_has_its_grace_period(name, kv).await;
    }
}

pub(crate) async fn a_shared_blob_has_its_grace_period(name: &str, kv: SharedKv) {
    let now = Arc::new(AtomicU64::new(1000));
    let clock = now.clone();
    let meta = Meta::new(kv).with_clock(move || clock.load(Relaxed));
    let group = world(&meta, 3).await;
    let shared = names(&meta, "one", RangeRequest::All).await[0].blob;
    let to = upload("b", "to");
    meta.create_upload(to.clone()).await.unwrap();
    meta.copy_part(copy_part(&meta, ("b", "one"), RangeRequest::All, &to, 1).await).await.unwrap();
    let own = put_part(&group, &to, 2, 10);
    let own_blob = own.blob.as_ref().unwrap().blob.id;
    meta.put_part(own).await.unwrap();

    // The list of parts is queued, and not looked at until long after; meanwhile `one` is still read.
    meta.abort_upload("b", "to", to.id).await.unwrap();
    now.store(5000, Relaxed);
    gone(&meta, "one").await;
    now.store(6000, Relaxed);
    let reclaimable = async |before_ms| {
        let mut found = Vec::new();
        // Twice: a list in one bucket becomes blobs of others.
        for bucket in (0..RECLAIM_BUCKETS).chain(0..RECLAIM_BUCKETS) {
            found.extend(meta.reclaimable(bucket, before_ms, 100).await.unwrap());
        }
        found.sort_by_key(|reclaim| reclaim.queued_ms);
        found.dedup();
        found.into_iter().map(|reclaim| reclaim.blob.id).collect::<Vec<_>>()
    };
    assert_eq!(reclaimable(5000).await, [own_blob], "{name}");
    assert_eq!(reclaimable(6001).await, [own_blob, shared], "{name}: GC-2");
    audited(&meta, name).await;
}

#[tokio::test]
async fn a_copy_counts_once_whatever_becomes_of_its_commit() {
    for first in [Fault::Conflict, Fault::UnknownApplied, Fault::UnknownNotApplied, Fault::Unavailable] {
        let kv = mem_kv();
        let meta = Meta::new(kv.clone());
        world(&meta, 3).await;
        let to = upload("b", "to");
        meta.create_upload(to.clone()).await.unwrap();
        let faulty = Meta::new(Arc::new(Injecting::script(kv, [first, first])));
        faulty.copy_part(copy_part(&meta, ("b", "one"), RangeRequest::All, &to, 1).await).await.unwrap();
        audited(&meta, "faulty").await;
    }
}

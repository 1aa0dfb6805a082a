//! Multipart uploads, small and at S3's limits.
#![allow(clippy::unwrap_used)]

mod common;
use std::time::Instant;

use cairn_schema::{Meta, MetaError, ids::*, kv::SharedKv, record::*, verbs::*};
use common::*;
use futures::{StreamExt, stream};

/// The parts in order of number, and their blobs.
async fn uploaded(
    meta: &Meta,
    group: &Group,
    upload: &Upload,
    sizes: &[(u16, u64)],
) -> (Vec<UploadedPart>, Vec<BlobId>) {
    meta.create_upload(upload.clone()).await.unwrap();
    let requests: Vec<PutPart> = sizes.iter().map(|(number, size)| put_part(group, upload, *number, *size)).collect();
    let mut blobs: Vec<(u16, BlobId)> = requests.iter().filter_map(|put| Some((put.number, blob_of(put)?))).collect();
    blobs.sort_unstable();
    let puts = requests.into_iter().map(|request| meta.put_part(request));
    let mut parts: Vec<UploadedPart> =
        stream::iter(puts).buffer_unordered(64).map(|part| part.unwrap()).collect().await;
    parts.sort_by_key(|part| part.number);
    (parts, blobs.into_iter().map(|(_, id)| id).collect())
}

fn blob_of(put: &PutPart) -> Option<BlobId> {
    put.blob.as_ref().map(|new| new.blob.id)
}

#[tokio::test]
async fn parts_become_an_object_and_the_others_are_reclaimed() {
    let meta = Meta::in_memory();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let upload = upload("b", "k");
    let (parts, blobs) = uploaded(&meta, &group, &upload, &[(7, 10), (2, 20), (5, 30), (9, 0)]).await;
    // Part 5 again: its first blob is reclaimed.
    let replaced = blobs[1];
    let again = meta.put_part(put_part(&group, &upload, 5, 31)).await.unwrap();
    assert_eq!(queued(&meta).await, [replaced]);
    let page = meta.list_parts("b", "k", upload.id, 2, 2).await.unwrap();
    assert_eq!(page.parts, [again.clone(), parts[2].clone()]);
    assert_eq!(page.next, Some(7));

    let named = [parts[0].clone(), again.clone(), parts[3].clone()];
    let request = complete(&upload, &named);
    let refused = |change: &dyn Fn(&mut CompleteUpload)| {
        let mut request = request.clone();
        change(&mut request);
        meta.complete_upload(request)
    };
    assert_eq!(refused(&|r| r.parts.swap(0, 1)).await, Err(MetaError::InvalidPartOrder { number: 2 }));
    assert_eq!(refused(&|r| r.parts[1].md5 = [0; 16]).await, Err(MetaError::InvalidPart { number: 5 }));
    assert_eq!(refused(&|r| r.parts[2].number = 10).await, Err(MetaError::InvalidPart { number: 10 }));
    let small = MetaError::PartTooSmall { number: 2, length: 20, min: 21 };
    assert_eq!(refused(&|r| r.min_part_bytes = 21).await, Err(small));
    assert!(matches!(refused(&|r| r.parts.clear()).await, Err(MetaError::Invalid { .. })));
    assert!(keys(&meta, "b").await.is_empty());

    let committed = meta.complete_upload(request.clone()).await.unwrap();
    let digests: Vec<u8> = named.iter().flat_map(|part| part.md5).collect();
    assert_eq!(committed.version.etag, Etag { md5: md5_simd::digest(&digests), parts: Some(3) });
    assert_eq!(committed.version.size, 51);
    let repeated = CompleteUpload { attempt: AttemptId::random(), ..request.clone() };
    assert_eq!(meta.complete_upload(repeated.clone()).await.unwrap(), committed);
    assert_eq!(meta.usage("b").await.unwrap(), Usage { objects: 1, bytes: 51 });
    let mut unused = vec![replaced, blobs[2]];
    unused.sort();
    assert_eq!(queued(&meta).await, unused);
    assert_eq!(meta.upload("b", "k", upload.id).await, Err(MetaError::NoSuchUpload(upload.id)));
    assert_eq!(meta.put_part(put_part(&group, &upload, 1, 5)).await, Err(MetaError::NoSuchUpload(upload.id)));

    let read = async |range| meta.locate("b", "k", VersionSelector::Current, range).await;
    let second = read(RangeRequest::Part(2)).await.unwrap();
    assert_eq!((second.range, second.parts_offset, second.parts[0].number), (20..51, 20, 5));
    assert_eq!(read(RangeRequest::Part(3)).await.unwrap().range, 51..51);
    assert_eq!(read(RangeRequest::Part(4)).await.unwrap_err(), MetaError::InvalidPart { number: 4 });
    let listed = async |after, limit| {
        let page = meta.object_parts("b", "k", VersionSelector::Current, after, limit).await.unwrap();
        (page.parts.iter().map(|part| (part.number, part.length)).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(listed(0, 10).await, (vec![(1, 20), (2, 31), (3, 0)], false));
    assert_eq!(listed(0, 2).await, (vec![(1, 20), (2, 31)], true));
    assert_eq!(listed(2, 2).await, (vec![(3, 0)], false));
    assert_eq!(listed(0, 0).await, (vec![], true));
    let across = read(RangeRequest::Inclusive(19, 20)).await.unwrap();
    assert_eq!((across.range, across.parts_offset, across.parts.len()), (19..21, 0, 2));
    assert_eq!(read(RangeRequest::From(51)).await.unwrap_err(), MetaError::InvalidRange { size: 51 });
    assert_eq!(read(RangeRequest::Suffix(1)).await.unwrap().parts_offset, 20);
    assert!(read(RangeRequest::Nothing).await.unwrap().parts.is_empty());

    while meta.expire_attempts(u64::MAX).await.unwrap() {}
    meta.expire_completed(u64::MAX, 1000).await.unwrap();
    assert_eq!(meta.complete_upload(repeated).await, Err(MetaError::NoSuchUpload(upload.id)));
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let meta = Meta::in_memory();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let upload = upload("b", "k");
    let sizes: Vec<(u16, u64)> = (1..=1200).map(|number| (number, 10)).collect();
    let (_, mut ids) = uploaded(&meta, &group, &upload, &sizes).await;
    meta.abort_upload("b", "k", upload.id).await.unwrap();
    assert_eq!(meta.abort_upload("b", "k", upload.id).await, Err(MetaError::NoSuchUpload(upload.id)));
    ids.sort();
    assert_eq!(queued(&meta).await, ids);
    meta.delete_bucket("b").await.unwrap();
}

#[tokio::test]
async fn a_bucket_is_deleted_together_with_its_unfinished_uploads() {
    let meta = Meta::in_memory();
    let group = group(&meta).await;
    // More than one transaction takes.
    for uploads in [0, 1, 500, 501, 1100] {
        meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
        meta.create_bucket(bucket("b2", Versioning::Off)).await.unwrap();
        let kept = upload("b2", "k");
        meta.create_upload(kept.clone()).await.unwrap();
        let first = upload("b", "k");
        let mut ids = queued(&meta).await;
        if uploads > 0 {
            ids.extend(uploaded(&meta, &group, &first, &[(1, 10), (2, 20)]).await.1);
        }
        for number in 1..uploads {
            meta.create_upload(upload("b", &format!("k{number}"))).await.unwrap();
        }
        meta.commit_object(put(&group, "b", "z", 1)).await.unwrap();
        assert_eq!(meta.delete_bucket("b").await, Err(MetaError::BucketNotEmpty("b".into())), "{uploads}");
        if uploads > 0 {
            assert_eq!(meta.upload("b", "k", first.id).await.unwrap(), first, "a refusal changes nothing");
        }
        meta.delete_object(delete("b", "z", VersionSelector::Current)).await.unwrap();
        ids.extend(queued(&meta).await);
        meta.delete_bucket("b").await.unwrap();
        assert_eq!(meta.bucket("b").await, Err(MetaError::NoSuchBucket("b".into())), "{uploads}");
        ids.sort();
        ids.dedup();
        assert_eq!(queued(&meta).await, ids, "{uploads}: the parts are reclaimed");
        // Another bucket whose name begins alike, and a bucket of the same name made again.
        assert_eq!(meta.upload("b2", "k", kept.id).await.unwrap(), kept);
        meta.delete_bucket("b2").await.unwrap();
        meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
        assert_eq!(meta.upload("b", "k", first.id).await, Err(MetaError::NoSuchUpload(first.id)));
        meta.delete_bucket("b").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_parts_complete_quickly_and_are_read_copied_and_reclaimed() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        ten_thousand_parts(name, kv).await;
    }
}

pub(crate) async fn ten_thousand_parts(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let upload = upload("b", "k");
    // 5 TB in parts of 500 MiB, the last one shorter, number 77 left out.
    const PART: u64 = 500 << 20;
    let sizes: Vec<(u16, u64)> = (1..=10_000).map(|number| (number, if number == 10_000 { 5 } else { PART })).collect();
    let (mut parts, blobs) = uploaded(&meta, &group, &upload, &sizes).await;
    parts.remove(76);
    let request = complete(&upload, &parts);
    let started = Instant::now();
    let committed = meta.complete_upload(request).await.unwrap();
    println!("{name}: Complete of 9,999 parts took {:?}", started.elapsed());
    assert_eq!(committed.version.size, 9998 * PART + 5);
    assert_eq!(queued(&meta).await, [blobs[76]]);

    let read = async |range| meta.locate("b", "k", VersionSelector::Current, range).await.unwrap();
    let all = read(RangeRequest::All).await;
    assert!(all.parts.iter().map(|part| part.number).eq((1..=10_000).filter(|number| *number != 77)));
    // Around the hole: byte 76 x PART is the first of part 78.
    let hole = read(RangeRequest::Inclusive(76 * PART - 1, 76 * PART)).await;
    assert_eq!(hole.parts.iter().map(|part| part.number).collect::<Vec<_>>(), [76, 78]);
    assert_eq!(hole.parts_offset, 75 * PART);
    assert_eq!(read(RangeRequest::Part(77)).await.parts[0].number, 78);
    // By place, whatever numbers were left out.
    let mut listed: Vec<(u16, u64)> = Vec::new();
    loop {
        let after = listed.last().map_or(0, |(place, _)| *place);
        let page = meta.object_parts("b", "k", VersionSelector::Current, after, 1000).await.unwrap();
        listed.extend(page.parts.iter().map(|part| (part.number, part.length)));
        if !page.more {
            break;
        }
    }
    assert_eq!(listed.len(), 9999);
    assert_eq!((listed[76], listed[9998]), ((77, PART), (9999, 5)));
    let beyond = meta.object_parts("b", "k", VersionSelector::Current, u16::MAX, 1000).await.unwrap();
    assert!(beyond.parts.is_empty() && !beyond.more);
    assert_eq!(read(RangeRequest::Suffix(6)).await.parts.len(), 2);

    let copy = CopyObject {
        attempt: AttemptId::random(),
        source: ("b".into(), "k".into(), VersionSelector::Current),
        source_precondition: Precondition::default(),
        bucket: "b".into(),
        key: "copy".into(),
        attributes: None,
        owner: "owner".into(),
        precondition: Precondition::default(),
        encryption: None,
        origin: Origin::default(),
    };
    meta.copy_object(copy).await.unwrap();
    meta.delete_object(delete("b", "k", VersionSelector::Current)).await.unwrap();
    assert_eq!(queued(&meta).await.len(), 1, "GC-1");
    let copied = meta.locate("b", "copy", VersionSelector::Current, RangeRequest::All).await.unwrap();
    assert_eq!(copied.parts, all.parts);
    let started = Instant::now();
    meta.delete_object(delete("b", "copy", VersionSelector::Current)).await.unwrap();
    println!("{name}: delete of 9,999 parts took {:?}", started.elapsed());
    assert_eq!(queued(&meta).await.len(), 10_000);
    assert_eq!(meta.usage("b").await.unwrap(), Usage::default());
    audited(&meta, name).await;
}

/// As much metadata and as many tags as S3 allows, and more.
fn full_attributes() -> Attributes {
    let tag = |index: usize| (format!("{index:0128}"), "\u{1f980}".repeat(256));
    Attributes {
        content_type: Some("t".repeat(1024)),
        user_metadata: (0..8).map(|index| (format!("{index}"), "v".repeat(1024))).collect(),
        tags: (0..10).map(tag).collect(),
        storage_class: "STANDARD".into(),
        ..Attributes::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_parts_of_as_many_lengths_complete_and_are_tagged_and_copied() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        ten_thousand_lengths(name, kv).await;
    }
}

pub(crate) async fn ten_thousand_lengths(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let upload = Upload { attributes: full_attributes(), ..upload("b", "k") };
    // The shortest parts of full objects are 500 MiB: no length is short.
    let length = |number: u16| if number == 5000 { 0 } else { (500 << 20) + u64::from(number) };
    let sizes: Vec<(u16, u64)> = (1..=10_000).map(|number| (number, length(number))).collect();
    let (parts, _) = uploaded(&meta, &group, &upload, &sizes).await;
    let request = CompleteUpload { min_part_bytes: 0, ..complete(&upload, &parts) };
    let committed = meta.complete_upload(request).await.unwrap();
    assert_eq!(committed.version.attributes, full_attributes(), "{name}");

    let tags = full_attributes().tags.into_iter().rev().collect();
    meta.set_tags("b", "k", VersionSelector::Current, tags, Cause::default()).await.unwrap();
    let replaced = Attributes { content_encoding: Some("e".repeat(1024)), ..full_attributes() };
    meta.copy_object(CopyObject { attributes: Some(replaced), ..copy(("b", "k"), ("b", "copy")) }).await.unwrap();
    audited(&meta, name).await;
    meta.delete_object(delete("b", "k", VersionSelector::Current)).await.unwrap();

    let started = Instant::now();
    let all = meta.locate("b", "copy", VersionSelector::Current, RangeRequest::All).await.unwrap();
    println!("{name}: locate of 10,000 lengths took {:?}", started.elapsed());
    assert!(all.parts.iter().map(|part| part.number).eq((1..=10_000).filter(|number| *number != 5000)), "{name}");
    assert!(all.parts.iter().all(|part| part.length == length(part.number)), "{name}");
    let start: u64 = (1..4999).map(length).sum();
    let hole = RangeRequest::Inclusive(start + 1, start + length(4999));
    let around = meta.locate("b", "copy", VersionSelector::Current, hole).await.unwrap();
    assert_eq!(around.parts.iter().map(|part| part.number).collect::<Vec<_>>(), [4999, 5001], "{name}");
    assert_eq!(around.parts_offset, start, "{name}");
    let part = meta.locate("b", "copy", VersionSelector::Current, RangeRequest::Part(4999)).await.unwrap();
    assert_eq!((part.range.start, part.parts.len()), (start, 1), "{name}");
}

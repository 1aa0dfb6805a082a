//! What is put is got, whatever is lost, damaged, slow or missing, and never anything else.
#![allow(clippy::unwrap_used)]

mod twin;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_actors::{
    StoreError,
    store::{PutUploadPart, Requester},
};
use cairn_schema::{ids::*, record::*, verbs::*};
use futures::StreamExt;
use proptest::prelude::*;
use twin::*;

/// Sizes around every edge of 4+2 with stripes of 4000 bytes, and of small objects.
const SIZES: [usize; 12] = [0, 1, 511, 512, 999, 1000, 1001, 3999, 4000, 4001, 12_000, 21_234];

#[tokio::test]
async fn bodies_of_every_edge_size_come_back_and_healthy_writes_leave_an_empty_ledger() {
    let twin = twin(Shape::default()).await;
    for size in SIZES {
        let bytes = random_bytes(size, size as u64);
        let committed = twin.put(&format!("known-{size}"), &bytes).await.unwrap();
        assert_eq!(committed.version.size, size as u64);
        assert_eq!(twin.get_all(&format!("known-{size}")).await.unwrap(), bytes, "{size}");
        // The same without a declared length.
        let body = body_of(bytes.clone(), 333);
        twin.store.put(put_request(&format!("unknown-{size}"), None, body)).await.unwrap();
        assert_eq!(twin.get_all(&format!("unknown-{size}")).await.unwrap(), bytes, "{size}");
    }
    assert_eq!(twin.ledger().await, []);
}

#[tokio::test]
async fn small_objects_are_copied_and_large_ones_striped() {
    let twin = twin(Shape::default()).await;
    twin.put("small", &random_bytes(511, 1)).await.unwrap();
    assert_eq!(twin.settled().await.len(), 3);
    twin.put("large", &random_bytes(512, 1)).await.unwrap();
    assert_eq!(twin.settled().await.len(), 3 + 6);
    twin.put("empty", &Bytes::new()).await.unwrap();
    assert_eq!(twin.settled().await.len(), 3 + 6);
}

async fn every_loss_of(scheme: &'static str, lost: usize, size: usize) {
    let twin = twin(Shape { scheme, small_below: 0, ..Shape::default() }).await;
    let bytes = random_bytes(size, 5);
    twin.put("key", &bytes).await.unwrap();
    for pattern in 0u32..1 << twin.disks.len() {
        if pattern.count_ones() as usize != lost {
            continue;
        }
        twin.fragments.heal_all();
        (0..twin.disks.len()).filter(|disk| pattern & (1 << disk) != 0).for_each(|disk| twin.fault(disk, OFF));
        assert_eq!(twin.get_all("key").await.unwrap(), bytes, "{scheme} without {pattern:06b}");
        let some = twin.get("key", RangeRequest::Inclusive(900, 2100)).await.unwrap();
        assert_eq!(some, bytes.slice(900..2101), "{scheme} without {pattern:06b}");
    }
}

#[tokio::test]
async fn dur_1_any_m_disks_lost_gf256() {
    every_loss_of("4+2", 2, 9_001).await;
    every_loss_of("3+3", 3, 9_001).await;
}

#[tokio::test]
async fn dur_1_any_m_disks_lost_novelpoly() {
    every_loss_of("4+2/novelpoly", 2, 9_001).await;
}

#[tokio::test]
async fn dur_1_any_m_disks_lost_replicated() {
    every_loss_of("replicated(3)", 2, 2_500).await;
}

#[tokio::test]
async fn dur_1_lost_fragments_are_rebuilt_and_told_to_the_ledger() {
    let twin = twin(Shape::default()).await;
    let bytes = random_bytes(4000, 9);
    twin.put("key", &bytes).await.unwrap();
    let all = twin.settled().await;
    for (disk, name) in all.iter().filter(|(_, name)| name.position == 1 || name.position == 3) {
        twin.fragments.lose(*disk, *name);
    }
    assert_eq!(twin.get_all("key").await.unwrap(), bytes);
    let ledger = twin.ledger().await;
    let found: Vec<_> = ledger.iter().map(|entry| (entry.fragment.position, entry.cause)).collect();
    assert_eq!(found, [(1, MissingCause::NotFound), (3, MissingCause::NotFound)]);
    // Reading again says nothing new.
    assert_eq!(twin.get_all("key").await.unwrap(), bytes);
    assert_eq!(twin.ledger().await.len(), 2);
}

#[tokio::test]
async fn int_1_a_corrupt_byte_is_never_served() {
    for scheme in ["4+2", "replicated(3)", "4+2/novelpoly"] {
        let twin = twin(Shape { scheme, small_below: 0, ..Shape::default() }).await;
        let bytes = random_bytes(7_777, 3);
        twin.put("key", &bytes).await.unwrap();
        let all = twin.settled().await;
        for (n, (disk, name)) in all.iter().enumerate() {
            twin.fragments.corrupt(*disk, *name, n * 131);
            assert_eq!(twin.get_all("key").await.unwrap(), bytes, "{scheme} {name}");
            // Flipped back.
            twin.fragments.corrupt(*disk, *name, n * 131);
        }
    }
}

/// Two stripes change places, as a fault of ours could have it: every fragment is right by its checksums, parity agrees
/// with data, and only the blob's own checksum tells.
#[tokio::test]
async fn int_1_con_2_a_blob_put_together_wrongly_is_never_read_to_its_end() {
    for (scheme, stripe_bytes) in [("4+2", 4000), ("4+2/novelpoly", 4000), ("replicated(3)", 1000)] {
        let twin = twin(Shape { scheme, small_below: 0, ..Shape::default() }).await;
        let bytes = random_bytes(3 * stripe_bytes, 3);
        twin.put("key", &bytes).await.unwrap();
        let all = twin.settled().await;
        let place = |stripe, position| {
            *all.iter().find(|(_, name)| (name.stripe, name.position) == (stripe, position)).unwrap()
        };
        for (disk, name) in all.iter().filter(|(_, name)| name.stripe == 0) {
            let (other_disk, other) = place(1, name.position);
            let (first, second) = (twin.fragments.payload(*disk, *name), twin.fragments.payload(other_disk, other));
            twin.fragments.forge(*disk, *name, second);
            twin.fragments.forge(other_disk, other, first);
        }
        let (came, failed) = twin.get_some("key", RangeRequest::All).await.unwrap();
        assert!(matches!(failed, Some(StoreError::WrongBytes { .. })), "{scheme}: {failed:?}");
        assert_eq!(came.len(), 2 * stripe_bytes, "{scheme}: of the last piece nothing");
        assert_eq!(twin.counted("cairn_get_wrong_blobs_total"), 1.0);
    }
}

#[tokio::test]
async fn int_1_a_blob_of_one_stripe_with_other_bytes_is_refused_before_its_first() {
    let twin = twin(Shape::default()).await;
    twin.put("key", &random_bytes(300, 3)).await.unwrap();
    for (disk, name) in twin.settled().await {
        twin.fragments.forge(disk, name, random_bytes(300, 4));
    }
    assert!(matches!(twin.get_some("key", RangeRequest::All).await, Err(StoreError::WrongBytes { .. })));
}

#[tokio::test]
async fn int_1_more_damage_than_redundancy_is_an_error_and_no_bytes() {
    let twin = twin(Shape::default()).await;
    twin.put("key", &random_bytes(4000, 3)).await.unwrap();
    for (disk, name) in twin.settled().await.into_iter().filter(|(_, name)| name.position < 3) {
        twin.fragments.corrupt(disk, name, 77);
    }
    let error = twin.get_all("key").await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { readable: 3, needed: 4, .. }), "{error}");
    let corrupt = twin.ledger().await.into_iter().filter(|entry| entry.cause == MissingCause::Corrupt);
    assert_eq!(corrupt.count(), 3);
}

#[tokio::test]
async fn con_2_a_body_that_breaks_in_the_middle_ends_with_an_error() {
    let twin = twin(Shape::default()).await;
    let bytes = random_bytes(40_000, 3);
    twin.put("key", &bytes).await.unwrap();
    for (disk, name) in twin.settled().await.into_iter().filter(|(_, name)| name.stripe == 6 && name.position < 3) {
        twin.fragments.lose(disk, name);
    }
    let located = twin.store.locate(BUCKET, "key", VersionSelector::Current, RangeRequest::All).await.unwrap();
    let mut got = twin.store.open(&Requester::default(), located).await.unwrap();
    let mut read = Vec::new();
    let mut broken = false;
    while let Some(next) = got.body.next().await {
        assert!(!broken, "nothing follows an error");
        match next {
            Ok(piece) => read.extend_from_slice(&piece),
            Err(error) => {
                assert!(matches!(error, StoreError::Unreadable { .. }), "{error}");
                broken = true;
            }
        }
    }
    assert!(broken);
    assert_eq!(read, bytes[..24_000]);
    // The other stripes still read.
    let rest = twin.get("key", RangeRequest::From(28_000)).await.unwrap();
    assert_eq!(rest, bytes.slice(28_000..));
}

#[tokio::test]
async fn con_2_readers_see_one_whole_version_while_it_is_overwritten() {
    let twin = twin(Shape::default()).await;
    let versions: Vec<_> = (0..6).map(|n| random_bytes(9_000 + n * 1500, n as u64)).collect();
    twin.put("key", &versions[0]).await.unwrap();
    let write = async {
        for version in &versions[1..] {
            twin.put("key", version).await.unwrap();
        }
    };
    let read = async {
        for _ in 0..30 {
            let bytes = twin.get_all("key").await.unwrap();
            assert!(versions.contains(&bytes), "a mixture of {} bytes", bytes.len());
        }
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn a_slow_disk_is_hedged() {
    let twin = twin(Shape::default()).await;
    let bytes = random_bytes(4000, 4);
    twin.put("key", &bytes).await.unwrap();
    let small = random_bytes(100, 4);
    twin.put("small", &small).await.unwrap();
    for disk in 0..6 {
        twin.fragments.heal_all();
        twin.fault(disk, Fault { read_delay: Duration::from_secs(4), ..Fault::default() });
        let start = Instant::now();
        assert_eq!(twin.get_all("key").await.unwrap(), bytes);
        assert_eq!(twin.get_all("small").await.unwrap(), small);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    assert_eq!(twin.ledger().await, [], "slow is not damaged");
}

#[tokio::test]
async fn a_group_that_changed_since_the_picture_was_taken_is_read_at_its_new_place() {
    let twin = twin(Shape { disks_per_node: 2, ..Shape::default() }).await;
    let bytes = random_bytes(4000, 4);
    twin.put("key", &bytes).await.unwrap();
    let all = twin.settled().await;
    let group = twin.meta.group(all[0].1.group).await.unwrap().unwrap();
    // Three fragments move, more than can be rebuilt around.
    let mut members = group.members.clone();
    for (disk, name) in all.iter().filter(|(_, name)| name.position < 3) {
        let mut other = *disk;
        other.0[2] ^= 1;
        members[usize::from(name.position)] = other;
        let deadline = (Instant::now() + Duration::from_secs(1)).into();
        use cairn_actors::fragment::{Fragments, NewFragment, block_checksums};
        let payload = twin.fragments.get(*disk, *name, 0..1000, deadline).await.unwrap();
        let block_checksums = block_checksums(&payload);
        twin.fragments.put(other, NewFragment { name: *name, payload, block_checksums }, deadline).await.unwrap();
        twin.fragments.lose(*disk, *name);
    }
    twin.meta.update_group(group.id, group.epoch, members, GroupState::Open).await.unwrap();
    assert_eq!(twin.get_all("key").await.unwrap(), bytes);
    assert_eq!(twin.ledger().await, [], "what moved is not missing");
}

#[tokio::test]
async fn parts_of_an_upload_are_read_as_one_object() {
    let twin = twin(Shape::default()).await;
    let upload = Upload {
        id: UploadId::random(),
        bucket: BUCKET.into(),
        key: "key".into(),
        created_ms: 1,
        owner: "me".into(),
        attributes: Attributes::default(),
        checksum: None,
        encryption: None,
    };
    twin.meta.create_upload(upload.clone()).await.unwrap();
    let parts: Vec<_> = [5000, 100, 12_345].iter().map(|size| random_bytes(*size, *size as u64)).collect();
    let mut completed = Vec::new();
    for (n, bytes) in parts.iter().enumerate() {
        let request = PutUploadPart {
            requester: Requester::default(),
            bucket: BUCKET.into(),
            key: "key".into(),
            upload: upload.id,
            number: n as u16 + 1,
            length: Some(bytes.len() as u64),
            body: body_of(bytes.clone(), 999),
            digests: Default::default(),
            verify: Box::new(|_| Ok(None)),
            sealer: None,
        };
        let part = twin.store.put_part(request).await.unwrap();
        completed.push(CompletedPart { number: part.number, md5: part.md5, checksum: None });
    }
    let request = CompleteUpload {
        attempt: AttemptId::random(),
        upload: upload.id,
        bucket: BUCKET.into(),
        key: "key".into(),
        parts: completed,
        checksum: None,
        min_part_bytes: 1,
        precondition: Precondition::default(),
        origin: Origin::default(),
    };
    twin.meta.complete_upload(request).await.unwrap();
    let whole: Bytes = parts.concat().into();
    assert_eq!(twin.get_all("key").await.unwrap(), whole);
    for (from, to) in [(4_990, 5_110), (5_000, 5_099), (5_100, 5_100), (0, 17_444), (4_999, 17_000)] {
        let got = twin.get("key", RangeRequest::Inclusive(from, to)).await.unwrap();
        assert_eq!(got, whole.slice(from as usize..=to as usize), "{from}-{to}");
    }
    assert_eq!(twin.get("key", RangeRequest::Part(3)).await.unwrap(), parts[2]);
    // An upload that does not exist is refused before its bytes are taken.
    let request = PutUploadPart {
        requester: Requester::default(),
        bucket: BUCKET.into(),
        key: "key".into(),
        upload: UploadId::random(),
        number: 1,
        length: None,
        body: futures::stream::pending().boxed(),
        digests: Default::default(),
        verify: Box::new(|_| Ok(None)),
        sealer: None,
    };
    assert!(twin.store.put_part(request).await.is_err());
}

#[tokio::test]
async fn a_probe_writes_reads_and_leaves_nothing() {
    let twin = twin(Shape::default()).await;
    twin.store.probe_write().await.unwrap();
    assert_eq!(twin.settled().await, []);
    (0..5).for_each(|disk| twin.fault(disk, OFF));
    assert!(twin.store.probe_write().await.is_err());
    twin.fragments.heal_all();
    assert_eq!(twin.settled().await, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any range of any object, with up to m disks off and one slow, equals the slice of what was put.
    #[test]
    fn ranges_equal_slices_of_the_model(
        size in 0usize..30_000,
        ranges in prop::collection::vec((0u64..31_000, 0u64..9_000, 0u8..4), 6),
        piece in 1usize..6_000,
        declared in any::<bool>(),
        scheme in prop::sample::select(vec!["4+2", "2+2", "5+1", "4+2/novelpoly", "3+2/novelpoly", "replicated(3)"]),
        off in prop::collection::vec(0usize..6, 0..2),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let shape = Shape { scheme, level: FailureDomain::Disk, fragment_bytes: 777, ..Shape::default() };
            let twin = twin(shape).await;
            let bytes = random_bytes(size, seed);
            let length = declared.then_some(size as u64);
            twin.store.put(put_request("key", length, body_of(bytes.clone(), piece))).await.unwrap();
            off.iter().for_each(|disk| twin.fault(*disk, OFF));
            for (start, len, kind) in ranges {
                let request = match kind {
                    0 => RangeRequest::Inclusive(start, start + len),
                    1 => RangeRequest::From(start),
                    2 => RangeRequest::Suffix(len + 1),
                    _ => RangeRequest::All,
                };
                let size = size as u64;
                let model = match request {
                    RangeRequest::Inclusive(from, to) if from < size => Some(from..(to + 1).min(size)),
                    RangeRequest::From(from) if from < size => Some(from..size),
                    RangeRequest::Suffix(n) if size > 0 => Some(size.saturating_sub(n)..size),
                    RangeRequest::All => Some(0..size),
                    _ => None,
                };
                let got = twin.get("key", request).await;
                match model {
                    Some(range) => {
                        let expected = bytes.slice(range.start as usize..range.end as usize);
                        assert_eq!(got.unwrap(), expected, "{request:?} of {size}");
                    }
                    None => assert!(got.is_err(), "{request:?} of {size}"),
                }
            }
        });
    }
}

//! Blobs that are sealed: ranges open only what they touch, nothing but what was sealed is ever served, and whoever
//! stores and mends them knows nothing of it.
#![allow(clippy::unwrap_used)]

mod twin;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cairn_actors::{
    StoreError,
    sealing::{BLOCK_BYTES, BlobSealer, NotOpened, SEALED_BLOCK_BYTES, Sealer},
    store::{CopyUploadPart, GotObject, PutUploadPart, Requester, Sealing, StoreLimits},
};
use cairn_schema::{MetaError, ids::*, record::*, verbs::*};
use futures::StreamExt;
use twin::*;

/// Bytes of no cipher, but bound to blob, block and end as those of a cipher are. Counts what is opened.
#[derive(Clone, Default)]
struct Toy {
    opened: Arc<AtomicU64>,
}

struct ToyBlob(BlobId, Arc<AtomicU64>);

impl ToyBlob {
    fn tag(&self, block: u64, last: bool, sealed: &[u8]) -> [u8; 16] {
        let mut all = [&self.0.0[..], &block.to_be_bytes(), &[last.into()]].concat();
        all.extend_from_slice(sealed);
        let hash = xxhash_rust::xxh3::xxh3_64(&all);
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&hash.to_be_bytes());
        tag
    }
}

impl Sealer for Toy {
    fn of_blob(&self, blob: BlobId) -> Arc<dyn BlobSealer> {
        Arc::new(ToyBlob(blob, self.opened.clone()))
    }

    fn tag_of(&self, md5: [u8; 16]) -> [u8; 16] {
        md5.map(|byte| !byte)
    }
}

impl BlobSealer for ToyBlob {
    fn seal(&self, block: u64, last: bool, plain: &[u8], out: &mut Vec<u8>) {
        assert!(plain.len() == BLOCK_BYTES || (last && !plain.is_empty() && plain.len() < BLOCK_BYTES));
        let sealed: Vec<u8> = plain.iter().map(|byte| byte ^ 0x5a).collect();
        let tag = self.tag(block, last, &sealed);
        out.extend_from_slice(&sealed);
        out.extend_from_slice(&tag);
    }

    fn open(&self, block: u64, last: bool, sealed: &mut [u8]) -> Result<usize, NotOpened> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let length = sealed.len().checked_sub(16).ok_or(NotOpened { block })?;
        let (bytes, tag) = sealed.split_at_mut(length);
        if self.tag(block, last, bytes) != *tag {
            return Err(NotOpened { block });
        }
        bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
        Ok(length)
    }
}

fn kept() -> Encryption {
    Encryption {
        kind: EncryptionKind::Cluster,
        key_id: "toy".into(),
        key_version: 1,
        context: None,
        bucket_key: false,
        wrapped: vec![1],
    }
}

fn sealing(toy: &Toy) -> Option<Sealing> {
    Some(Sealing { sealer: Arc::new(toy.clone()), kept: kept() })
}

async fn put(twin: &Twin, toy: &Toy, key: &str, bytes: &Bytes, declared: bool) -> Committed {
    let length = declared.then_some(bytes.len() as u64);
    let mut request = put_request(key, length, body_of(bytes.clone(), 70_001));
    request.sealing = sealing(toy);
    twin.store.put(request).await.unwrap()
}

async fn open(twin: &Twin, toy: &Toy, key: &str, range: RangeRequest) -> Result<GotObject, StoreError> {
    let located = twin.store.locate(BUCKET, key, VersionSelector::Current, range).await?;
    twin.store.open_sealed(&Requester::default(), located, Some(Arc::new(toy.clone()))).await
}

async fn rest(got: &mut GotObject) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while let Some(next) = got.body.next().await {
        bytes.extend_from_slice(&next?);
    }
    Ok(bytes)
}

async fn get(twin: &Twin, toy: &Toy, key: &str, range: RangeRequest) -> Result<Bytes, StoreError> {
    let mut got = open(twin, toy, key, range).await?;
    Ok(rest(&mut got).await?.into())
}

const SCHEMES: [&str; 3] = ["4+2", "replicated(3)", "4+2/novelpoly"];

fn shape(scheme: &'static str, fragment_bytes: u32) -> Shape {
    Shape { scheme, fragment_bytes, small_below: 0, ..Shape::default() }
}

#[tokio::test]
async fn sealed_bodies_of_every_edge_size_come_back_and_none_of_it_is_stored_in_clear() {
    let toy = Toy::default();
    for scheme in SCHEMES {
        // Stripes of one block, and of several.
        for fragment_bytes in [1000, 100_000] {
            let twin = twin(Shape { small_below: 512, ..shape(scheme, fragment_bytes) }).await;
            for size in [0, 1, 511, 512, 65_535, 65_536, 65_537, 131_072, 393_216, 393_217, 500_000] {
                let bytes = random_bytes(size, size as u64);
                for (key, declared) in [("known", true), ("unknown", false)] {
                    let version = put(&twin, &toy, key, &bytes, declared).await.version;
                    assert_eq!((version.size, version.encryption), (size as u64, Some(kept())));
                    let md5 = md5_of(&bytes);
                    assert_eq!(version.etag.md5, toy.tag_of(md5), "{scheme} {size}");
                    let got = get(&twin, &toy, key, RangeRequest::All).await.unwrap();
                    assert!(got == bytes, "{scheme} {fragment_bytes} {size} {key}");
                }
                for (disk, name) in twin.settled().await {
                    let stored = twin.fragments.payload(disk, name);
                    let clear = size >= 600 && stored.windows(64).any(|window| window == &bytes[..64]);
                    assert!(!clear, "{scheme} {size}: bytes lie in the clear");
                }
            }
            assert_eq!(twin.ledger().await, []);
        }
    }
}

fn md5_of(bytes: &[u8]) -> [u8; 16] {
    use cairn_actors::checksum::{DigestPlan, Digester};
    let mut digester = Digester::new(DigestPlan { md5: true, ..DigestPlan::default() });
    digester.update(bytes);
    digester.finish().digests.md5.unwrap()
}

#[tokio::test]
async fn ranges_of_sealed_bodies_open_the_blocks_that_they_touch() {
    let block = BLOCK_BYTES as u64;
    for scheme in SCHEMES {
        for fragment_bytes in [1000, 100_000] {
            let (twin, toy) = (twin(shape(scheme, fragment_bytes)).await, Toy::default());
            let size = 20 * block + 17;
            let bytes = random_bytes(size as usize, 7);
            put(&twin, &toy, "key", &bytes, true).await;
            for (from, to) in [
                (0, 0),
                (0, block - 1),
                (block - 1, block),
                (block, 2 * block - 1),
                (5, 20 * block + 3),
                (6 * block - 1, 12 * block),
                (20 * block, size - 1),
                (size - 1, size - 1),
                (0, size - 1),
            ] {
                toy.opened.store(0, Ordering::Relaxed);
                let got = get(&twin, &toy, "key", RangeRequest::Inclusive(from, to)).await.unwrap();
                assert!(got == bytes.slice(from as usize..=to as usize), "{scheme} {from}-{to}");
                let touched = to / block - from / block + 1;
                assert_eq!(toy.opened.load(Ordering::Relaxed), touched, "{scheme} {from}-{to}");
            }
        }
    }
}

/// DUR-1: what is lost is made anew of sealed bytes.
#[tokio::test]
async fn dur_1_sealed_bodies_are_read_with_any_m_disks_lost() {
    for scheme in SCHEMES {
        let (twin, toy) = (twin(shape(scheme, 40_000)).await, Toy::default());
        let bytes = random_bytes(300_000, 5);
        put(&twin, &toy, "key", &bytes, true).await;
        for (first, second) in [(0, 1), (2, 5), (3, 4)] {
            twin.fragments.heal_all();
            twin.fault(first, OFF);
            twin.fault(second, OFF);
            let got = get(&twin, &toy, "key", RangeRequest::All).await.unwrap();
            assert!(got == bytes, "{scheme} without {first} and {second}");
            let got = get(&twin, &toy, "key", RangeRequest::Inclusive(65_000, 200_000)).await.unwrap();
            assert!(got == bytes.slice(65_000..200_001), "{scheme} without {first} and {second}");
        }
    }
}

/// INT-1: bytes that somebody put on the disks with right checksums, so that only the seal tells.
#[tokio::test]
async fn int_1_forged_sealed_bytes_are_never_served() {
    let stored = SEALED_BLOCK_BYTES;
    let toy = Toy::default();
    // Replicas hold stripes as they are: one block each.
    let twin = twin(shape("replicated(3)", 1000)).await;
    let bytes = random_bytes(4 * BLOCK_BYTES, 3);
    put(&twin, &toy, "key", &bytes, true).await;
    let all = twin.settled().await;
    let of = |stripe| all.iter().filter(move |(_, name)| name.stripe == stripe);
    let (disk, name) = of(1).next().unwrap();
    let original = twin.fragments.payload(*disk, *name);
    assert_eq!(original.len(), stored);
    let (disk, name) = of(2).next().unwrap();
    let another = twin.fragments.payload(*disk, *name);
    let mut flipped = original.to_vec();
    flipped[100] ^= 1;
    for (what, forged) in [("another block", another), ("a bit", flipped.into()), ("nothing", vec![0; stored].into())] {
        of(1).for_each(|(disk, name)| twin.fragments.forge(*disk, *name, forged.clone()));
        // Of a range that begins there, not even the answer does.
        let refused = open(&twin, &toy, "key", RangeRequest::Inclusive(70_000, 70_010)).await;
        assert!(matches!(refused.err(), Some(StoreError::NotOpened { .. })), "{what}");
        let mut got = open(&twin, &toy, "key", RangeRequest::Inclusive(0, 3 * BLOCK_BYTES as u64)).await.unwrap();
        let mut came = Vec::new();
        let failed = loop {
            match got.body.next().await {
                Some(Ok(some)) => came.extend_from_slice(&some),
                Some(Err(error)) => break error,
                None => panic!("{what}: it came to its end"),
            }
        };
        assert!(matches!(failed, StoreError::NotOpened { .. }), "{what}: {failed}");
        assert!(came == bytes[..BLOCK_BYTES], "{what}");
        // Others can still be read.
        let got = get(&twin, &toy, "key", RangeRequest::Inclusive(0, 10)).await.unwrap();
        assert!(got == bytes.slice(..11));
    }
    assert!(twin.counted("cairn_get_unopened_total") >= 6.0);
}

/// Scrub, deep scrub and repair go by the blob's row, and need no keys.
#[tokio::test]
async fn the_row_of_a_sealed_blob_is_of_what_is_stored() {
    let (twin, toy) = (twin(shape("replicated(3)", 1000)).await, Toy::default());
    let bytes = random_bytes(200_000, 3);
    put(&twin, &toy, "key", &bytes, true).await;
    let located = twin.store.locate(BUCKET, "key", VersionSelector::Current, RangeRequest::All).await.unwrap();
    let blob = located.parts[0].slices[0].blob.clone();
    let mut stored: Vec<_> = twin.settled().await.into_iter().filter(|(_, name)| name.position == 0).collect();
    stored.sort_by_key(|(_, name)| name.stripe);
    let stored: Vec<u8> =
        stored.into_iter().flat_map(|(disk, name)| twin.fragments.payload(disk, name).to_vec()).collect();
    assert_eq!(Some(stored.len() as u64), sealed_length(200_000));
    assert_eq!((blob.length, blob.checksum), (stored.len() as u64, xxhash_rust::xxh3::xxh3_64(&stored)));
}

#[tokio::test]
async fn sealed_versions_are_not_read_without_what_opens_them() {
    let (twin, toy) = (twin(Shape::default()).await, Toy::default());
    let bytes = random_bytes(5000, 1);
    put(&twin, &toy, "sealed", &bytes, true).await;
    twin.put("open", &bytes).await.unwrap();
    assert!(matches!(twin.get_all("sealed").await, Err(StoreError::Meta(MetaError::Invalid { .. }))));
    assert!(get(&twin, &toy, "open", RangeRequest::All).await.is_err());
}

/// BND-1: what a reader that stalls has not been given is taken back, and read again when it goes on.
#[tokio::test]
async fn bnd_1_stalled_readers_of_sealed_bodies_get_all_of_it() {
    for scheme in SCHEMES {
        let limits = StoreLimits { stall: Duration::from_millis(20), ..Shape::default().limits };
        let twin = twin(Shape { memory: 12 << 20, limits, ..shape(scheme, 400_000) }).await;
        let toy = Toy::default();
        let bytes = random_bytes(9 << 20, 9);
        put(&twin, &toy, "key", &bytes, true).await;
        for range in [RangeRequest::All, RangeRequest::Inclusive(100, (9 << 20) - 100)] {
            let mut stalled = Vec::new();
            for _ in 0..4 {
                let mut got = open(&twin, &toy, "key", range).await.unwrap();
                let first = got.body.next().await.unwrap().unwrap();
                stalled.push((got, first.to_vec()));
            }
            // All of them hold what they may; whoever comes now needs what they do not use.
            for _ in 0..2 {
                let got = get(&twin, &toy, "key", RangeRequest::All).await.unwrap();
                assert!(got == bytes, "{scheme}");
            }
            for (mut got, mut came) in stalled {
                came.extend(rest(&mut got).await.unwrap());
                let wanted = if range == RangeRequest::All { 0..bytes.len() } else { 100..bytes.len() - 99 };
                assert!(came == bytes[wanted], "{scheme} {range:?}");
            }
        }
    }
}

#[tokio::test]
async fn parts_are_sealed_as_their_upload_is_and_copies_of_them_written_again() {
    let (twin, toy) = (twin(shape("4+2", 100_000)).await, Toy::default());
    let upload = |key: &str, encryption| Upload {
        id: UploadId::random(),
        bucket: BUCKET.into(),
        key: key.into(),
        created_ms: 1,
        owner: "me".into(),
        attributes: Attributes::default(),
        checksum: None,
        encryption,
    };
    let part = |upload: &Upload, number, bytes: &Bytes, sealer: Option<Arc<dyn Sealer>>| PutUploadPart {
        requester: Requester::default(),
        bucket: BUCKET.into(),
        key: upload.key.clone(),
        upload: upload.id,
        number,
        length: Some(bytes.len() as u64),
        body: body_of(bytes.clone(), 9999),
        digests: Default::default(),
        verify: Box::new(|_| Ok(None)),
        sealer,
    };
    let sealer = || -> Option<Arc<dyn Sealer>> { Some(Arc::new(toy.clone())) };
    let bodies = [random_bytes(200_000, 1), random_bytes(100, 2), random_bytes(65_536, 3)];
    let sealed = upload("sealed", Some(kept()));
    twin.meta.create_upload(sealed.clone()).await.unwrap();
    let mut parts = Vec::new();
    for (number, bytes) in (1..).zip(&bodies) {
        assert!(twin.store.put_part(part(&sealed, number, bytes, None)).await.is_err());
        parts.push(twin.store.put_part(part(&sealed, number, bytes, sealer())).await.unwrap());
    }
    twin.meta.complete_upload(complete(&sealed, &parts)).await.unwrap();
    let whole: Bytes = bodies.concat().into();
    assert!(get(&twin, &toy, "sealed", RangeRequest::All).await.unwrap() == whole);
    for (from, to) in [(199_000, 200_150), (200_100, 265_635), (65_535, 65_536)] {
        let got = get(&twin, &toy, "sealed", RangeRequest::Inclusive(from, to)).await.unwrap();
        assert!(got == whole.slice(from as usize..=to as usize), "{from}-{to}");
    }
    assert!(get(&twin, &toy, "sealed", RangeRequest::Part(3)).await.unwrap() == bodies[2]);
    // To what is not sealed, and from there to what is.
    let plain = upload("plain", None);
    let again = upload("again", Some(kept()));
    for (from, to) in [(&sealed, &plain), (&plain, &again)] {
        twin.meta.create_upload(to.clone()).await.unwrap();
        let range = RangeRequest::Inclusive(1000, whole.len() as u64 - 1);
        let range = if from.encryption.is_some() { range } else { RangeRequest::All };
        let located = twin.store.locate(BUCKET, &from.key, VersionSelector::Current, range).await.unwrap();
        let copy = CopyUploadPart {
            requester: Requester::default(),
            source: (BUCKET.into(), from.key.clone(), VersionSelector::Current),
            located,
            bucket: BUCKET.into(),
            key: to.key.clone(),
            upload: to.id,
            number: 1,
            opener: from.encryption.as_ref().and_then(|_| sealer()),
            sealer: to.encryption.as_ref().and_then(|_| sealer()),
            known: None,
            digests: Default::default(),
            verify: Box::new(|_| Ok(None)),
        };
        let part = twin.store.copy_part(copy).await.unwrap();
        twin.meta.complete_upload(complete(to, &[part])).await.unwrap();
    }
    assert!(twin.get_all("plain").await.unwrap() == whole.slice(1000..));
    assert!(get(&twin, &toy, "again", RangeRequest::All).await.unwrap() == whole.slice(1000..));
}

fn complete(upload: &Upload, parts: &[UploadedPart]) -> CompleteUpload {
    let named = |part: &UploadedPart| CompletedPart { number: part.number, md5: part.md5, checksum: None };
    CompleteUpload {
        attempt: AttemptId::random(),
        upload: upload.id,
        bucket: upload.bucket.clone(),
        key: upload.key.clone(),
        parts: parts.iter().map(named).collect(),
        checksum: None,
        min_part_bytes: 1,
        precondition: Precondition::default(),
        origin: Origin::default(),
    }
}

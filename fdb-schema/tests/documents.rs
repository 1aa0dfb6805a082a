//! Bucket documents of every length, on every store.
#![allow(clippy::unwrap_used)]

mod common;
use std::sync::Arc;

use bytes::Bytes;
use cairn_schema::{
    Meta, MetaError, keyspace,
    kv::{
        Kv, SharedKv,
        inject::{Fault, Injecting},
        mem,
    },
    record::{document::*, *},
};
use common::*;

fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_every_length_are_read_as_they_were_written() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        documents_of_every_length(name, kv).await;
    }
}

pub(crate) async fn documents_of_every_length(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    meta.create_bucket(bucket("b0", Versioning::Off)).await.unwrap();
    let read = async |document| meta.bucket_document("b", document).await.unwrap();
    meta.set_bucket_document("b", BucketDocument::Cors, Some(body(9))).await.unwrap();
    meta.set_bucket_document("b0", BucketDocument::Policy, Some(body(8))).await.unwrap();
    // Longer and shorter in turn: nothing of an earlier one is left.
    for length in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, MAX_BYTES, 3 * CHUNK_BYTES, 100_000, 5, MAX_BYTES - 1] {
        meta.set_bucket_document("b", BucketDocument::Policy, Some(body(length))).await.unwrap();
        assert_eq!(read(BucketDocument::Policy).await, Some(body(length)), "{name}: {length}");
    }
    let over = meta.set_bucket_document("b", BucketDocument::Policy, Some(body(MAX_BYTES + 1))).await;
    let (actual, limit) = (MAX_BYTES as u64 + 1, MAX_BYTES as u64);
    assert_eq!(over, Err(MetaError::TooLarge { what: "bucket document", actual, limit }), "{name}");
    assert_eq!(read(BucketDocument::Policy).await, Some(body(MAX_BYTES - 1)), "{name}: nothing is changed");
    meta.set_bucket_document("b", BucketDocument::Policy, None).await.unwrap();
    assert_eq!(read(BucketDocument::Policy).await, None, "{name}");
    assert_eq!(read(BucketDocument::Cors).await, Some(body(9)), "{name}");
    assert_eq!(meta.bucket_document("b0", BucketDocument::Policy).await.unwrap(), Some(body(8)), "{name}");
    let nowhere = meta.set_bucket_document("c", BucketDocument::Policy, Some(body(1))).await;
    assert_eq!(nowhere, Err(MetaError::NoSuchBucket("c".into())), "{name}");
    meta.set_bucket_document("b", BucketDocument::Policy, Some(body(MAX_BYTES))).await.unwrap();
    meta.delete_bucket("b").await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    assert_eq!(read(BucketDocument::Policy).await, None, "{name}: a new bucket has none");
}

#[tokio::test]
async fn a_document_is_replaced_whole_or_not_at_all() {
    for fault in [Fault::Conflict, Fault::UnknownApplied, Fault::UnknownNotApplied, Fault::Unavailable] {
        let kv = mem_kv();
        let meta = Meta::new(kv.clone());
        meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
        meta.set_bucket_document("b", BucketDocument::Policy, Some(body(300_000))).await.unwrap();
        let endless = Meta::new(Arc::new(Injecting::new(kv.clone(), move || fault))).with_deadline(SHORT);
        let written = endless.set_bucket_document("b", BucketDocument::Policy, Some(body(200_000))).await;
        let found = meta.bucket_document("b", BucketDocument::Policy).await.unwrap().unwrap();
        // The second try finds what the first did.
        assert_eq!(written.is_ok(), fault == Fault::UnknownApplied, "{written:?}");
        let wanted = if written.is_ok() { 200_000 } else { 300_000 };
        assert!(found == body(wanted), "{fault:?}: {} bytes", found.len());
    }
}

#[tokio::test]
async fn a_damaged_document_is_an_error_that_names_its_row() {
    let kv = Arc::new(mem::kv());
    let meta = Meta::new(kv.clone());
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let chunk = keyspace::document_chunk("b", BucketDocument::Policy, 2);
    for damage in [None, Some(Bytes::from_static(b"\x01short")), Some(Bytes::from_static(b"\x07new"))] {
        meta.set_bucket_document("b", BucketDocument::Policy, Some(body(200_000))).await.unwrap();
        let mut tx = kv.begin().await.unwrap();
        match damage {
            None => tx.clear(chunk.clone()),
            Some(row) => tx.set(chunk.clone(), row),
        }
        tx.commit().await.unwrap();
        let read = meta.bucket_document("b", BucketDocument::Policy).await;
        let named = |why: &str| why.contains(r"\x03b\x00\x01");
        assert!(matches!(&read, Err(MetaError::Corrupt { why, .. }) if named(why)), "{read:?}");
    }
}

//! A store is ready when it takes a change and keeps it, and is not taken for ready by less.
#![allow(clippy::unwrap_used)]

mod common;
use std::sync::Arc;

use cairn_schema::{
    Meta, MetaError,
    keyspace::{self, Space},
    kv::{
        RangeQuery, SharedKv,
        inject::{Fault, Injecting},
    },
    record::*,
};
use common::*;

async fn rows_of(kv: &SharedKv, space: Space) -> usize {
    let (begin, end) = keyspace::space(space);
    kv.begin().await.unwrap().range(RangeQuery::new(begin, end, 1000)).await.unwrap().rows.len()
}

#[tokio::test]
async fn a_proof_is_one_row_however_often_it_is_made() {
    let directory = tempfile::tempdir().unwrap();
    for kv in [mem_kv(), embedded_kv(directory.path()), remote_kv()] {
        a_proof_is_one_row(kv).await;
    }
}

pub(crate) async fn a_proof_is_one_row(kv: SharedKv) {
    let meta = Meta::new(kv.clone());
    for _ in 0..20 {
        meta.prove("n1").await.unwrap();
    }
    meta.prove("n2").await.unwrap();
    assert_eq!(rows_of(&kv, Space::Proof).await, 2);
    // It is no row of the metadata: an empty store is still one that an import fills.
    assert_eq!(meta.existing_cluster().await.unwrap(), None);
    let source = Meta::in_memory();
    source.cluster(policy()).await.unwrap();
    source.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let mut file = Vec::new();
    source.export(&mut file).await.unwrap();
    meta.import(&mut std::io::Cursor::new(file)).await.unwrap();
    audited(&meta, "proofs").await;
}

/// Each of these answers reads, and would do for a ping.
#[tokio::test]
async fn a_store_that_reads_and_does_not_keep_changes_is_not_ready() {
    for (fault, expected) in [
        (Fault::Unavailable, "cannot be reached"),
        (Fault::UnknownNotApplied, "not known whether"),
        (Fault::Lost, "reads back otherwise"),
    ] {
        let meta = Meta::new(Arc::new(Injecting::new(mem_kv(), move || fault))).with_deadline(SHORT);
        meta.ping().await.unwrap();
        let proof = meta.prove("n1").await.unwrap_err();
        assert!(proof.to_string().contains(expected), "{fault:?}: {proof}");
    }
    // What passes does no harm.
    for fault in [Fault::Conflict, Fault::Unavailable, Fault::UnknownApplied, Fault::UnknownNotApplied] {
        Meta::new(Arc::new(Injecting::script(mem_kv(), [fault]))).prove("n1").await.unwrap();
    }
    assert!(matches!(
        Meta::new(Arc::new(Injecting::new(mem_kv(), || Fault::Lost))).prove("n1").await,
        Err(MetaError::Stale(_))
    ));
}

//! Export and import, across backends; damaged files change nothing.
#![allow(clippy::unwrap_used)]

mod common;
use std::{io::Cursor, sync::Arc};

use cairn_schema::{
    Meta, MetaError,
    ids::*,
    kv::{
        SharedKv,
        inject::{Fault, Injecting},
    },
    record::*,
    verbs::*,
};
use common::*;

async fn filled(meta: &Meta) {
    meta.cluster().await.unwrap();
    meta.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    meta.set_bucket_document("b", BucketDocument::Cors, Some(b"<x/>".to_vec())).await.unwrap();
    meta.set_bucket_document("b", BucketDocument::Policy, Some(vec![7; 300_000])).await.unwrap();
    let credential =
        Credential { access_key: "a".into(), secret_key: "s".into(), user: "u".into(), enabled: true, created_ms: 1 };
    meta.put_credential(credential).await.unwrap();
    let group = group(meta).await;
    for index in 0..1500 {
        meta.commit_object(put(&group, "b", &format!("k{index}"), index % 7)).await.unwrap();
    }
    let mut missing = put(&group, "b", "absent", 9);
    let blob = missing.blob.as_mut().unwrap();
    blob.missing = vec![FragmentName { group: group.id, blob: blob.blob.id, stripe: 0, position: 2 }];
    meta.commit_object(missing).await.unwrap();
    let upload = upload("b", "mp");
    meta.create_upload(upload.clone()).await.unwrap();
    let mut parts = Vec::new();
    for number in 1..40 {
        parts.push(meta.put_part(put_part(&group, &upload, number, 10)).await.unwrap());
    }
    meta.complete_upload(complete(&upload, &parts)).await.unwrap();
    meta.delete_object(delete("b", "k1", VersionSelector::Current)).await.unwrap();
    meta.lease("l", "h", 5).await.unwrap();
}

async fn exported(meta: &Meta) -> Vec<u8> {
    let mut file = Vec::new();
    let totals = meta.export(&mut file).await.unwrap();
    assert!(totals.rows > 1500);
    file
}

/// Without the time it was made.
fn body(file: &[u8]) -> &[u8] {
    &file[30..]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_moves_from_any_backend_to_any() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        an_export_arrives_and_leaves_again(name, kv).await;
    }
}

pub async fn an_export_arrives_and_leaves_again(name: &str, kv: SharedKv) {
    let source = Meta::in_memory();
    filled(&source).await;
    let file = exported(&source).await;
    let meta = Meta::new(kv);
    meta.import(&mut Cursor::new(&file)).await.unwrap();
    assert_eq!(meta.cluster().await.unwrap(), source.cluster().await.unwrap(), "{name}");
    assert_eq!(meta.usage("b").await.unwrap(), source.usage("b").await.unwrap());
    assert_eq!(meta.ledger_len().await.unwrap(), 1);
    let read = meta.locate("b", "mp", VersionSelector::Current, RangeRequest::All).await.unwrap();
    assert_eq!(read.parts.len(), 39);
    let again = exported(&meta).await;
    assert!(body(&again) == body(&file), "{name}");
    let twice = meta.import(&mut Cursor::new(&file)).await;
    assert!(matches!(twice, Err(MetaError::Invalid { what: "metadata store", .. })), "{twice:?}");
}

#[tokio::test]
async fn a_damaged_export_changes_nothing() {
    let source = Meta::in_memory();
    filled(&source).await;
    let file = exported(&source).await;
    let refused = async |file: Vec<u8>| {
        let meta = Meta::in_memory();
        let outcome = meta.import(&mut Cursor::new(&file)).await;
        assert!(matches!(outcome, Err(MetaError::Corrupt { .. })), "{outcome:?}");
        assert!(meta.list_buckets("", None, 10).await.unwrap().is_empty());
        meta.cluster().await.unwrap();
    };
    for length in [0, 1, 21, 22, 29, 30, 35, file.len() / 2, file.len() - 25, file.len() - 1] {
        refused(file[..length].to_vec()).await;
    }
    for place in [0, 20, 21, 31, 40, file.len() / 3, file.len() - 20, file.len() - 1] {
        let mut damaged = file.clone();
        damaged[place] ^= 0x40;
        refused(damaged).await;
    }
    let mut longer = file.clone();
    longer.push(0);
    refused(longer).await;
}

#[tokio::test]
async fn an_interrupted_import_is_noticed_and_started_again() {
    let source = Meta::in_memory();
    filled(&source).await;
    let file = exported(&source).await;
    let kv = mem_kv();
    let mut commits = 0;
    let failing = Injecting::new(kv.clone(), move || {
        commits += 1;
        if commits > 1 { Fault::UnknownNotApplied } else { Fault::None }
    });
    let failing = Meta::new(Arc::new(failing)).with_deadline(SHORT);
    assert!(failing.import(&mut Cursor::new(&file)).await.is_err());
    let meta = Meta::new(kv);
    let unfinished = meta.cluster().await;
    assert!(matches!(unfinished, Err(MetaError::Corrupt { what: "metadata store", .. })), "{unfinished:?}");
    meta.import(&mut Cursor::new(&file)).await.unwrap();
    assert!(body(&exported(&meta).await) == body(&file));
}

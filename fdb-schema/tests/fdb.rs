//! A real FoundationDB passes the conformance suite, and the verbs work on it. Needs the `fdb` feature and a running server whose
//! cluster file `CAIRN_FDB_CLUSTER_FILE` names. One test: the client library starts once in a process.
#![cfg(feature = "fdb")]
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::PathBuf, sync::Arc, time::Instant};

use cairn_schema::{
    Meta, conformance,
    kv::{
        KvError, SharedKv,
        fdb::{self, FdbKv, FdbOptions},
    },
    record::*,
    verbs::*,
};
use common::*;

#[tokio::test(flavor = "multi_thread")]
async fn foundationdb_conforms_and_the_verbs_work_on_it() {
    let Some(cluster_file) = std::env::var_os("CAIRN_FDB_CLUSTER_FILE").map(PathBuf::from) else {
        eprintln!("SKIPPED: CAIRN_FDB_CLUSTER_FILE is not set, nothing was tried on FoundationDB");
        return;
    };
    // SAFETY: dropped at the end of this test, before the process exits.
    let network = unsafe { fdb::boot() }.unwrap();
    refuses_wrong_cluster_files(&network).await;
    let prefix = [b"cairn-test/", hex::encode(rand::random::<[u8; 8]>()).as_bytes(), b"/"].concat();
    let options = FdbOptions { cluster_file: Some(cluster_file), prefix };
    let kv: SharedKv = Arc::new(FdbKv::open(&network, &options).await.unwrap());
    let seed = std::env::var("CAIRN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    conformance::run(kv.clone(), seed).await;
    objects_and_listings(&Meta::new(kv.clone())).await;
    drop(kv);
    drop(network);
}

async fn refuses_wrong_cluster_files(network: &fdb::FdbNetwork) {
    let folder = tempfile::tempdir().unwrap();
    let (absent, garbled) = (folder.path().join("absent"), folder.path().join("garbled"));
    std::fs::write(&garbled, "no cluster file at all").unwrap();
    for file in [absent, garbled] {
        let options = FdbOptions { cluster_file: Some(file.clone()), prefix: Vec::new() };
        match FdbKv::open(network, &options).await {
            Err(KvError::Unavailable(why)) => assert!(why.contains(file.to_str().unwrap()), "{why}"),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("opened {}", file.display()),
        }
    }
}

/// CON-1: what was committed is located and listed, what was deleted is not.
async fn objects_and_listings(meta: &Meta) {
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(meta).await;
    let started = Instant::now();
    let count = 500;
    for index in 0..count {
        meta.commit_object(put(&group, "b", &format!("k{index:03}"), 5)).await.unwrap();
    }
    println!("{:.0} commits/s by one writer", f64::from(count) / started.elapsed().as_secs_f64());
    meta.delete_object(delete("b", "k007", VersionSelector::Current)).await.unwrap();
    assert!(meta.locate("b", "k007", VersionSelector::Current, RangeRequest::All).await.is_err());
    let page = meta.list_objects(&ListQuery { bucket: "b".into(), limit: 1000, ..Default::default() }).await.unwrap();
    assert_eq!(page.entries.len(), 499);
    assert_eq!(meta.usage("b").await.unwrap().objects, 499);
}

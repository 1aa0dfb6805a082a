//! What is tried. The verbs, faults and transfers are those of the other backends' tests.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_schema::{
    Meta, MetaError, conformance,
    kv::{
        Kv, KvError, RangeQuery,
        fdb::{FdbKv, FdbOptions, OpenError},
        limits,
    },
    record::*,
    verbs::*,
};
use futures::FutureExt;

use self::common::*;
use super::harness::{Case, Server, clear};

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, unused_imports)]
#[path = "../faults.rs"]
mod faults;
#[allow(dead_code, unused_imports)]
#[path = "../group_repair.rs"]
mod group_repair;
#[allow(dead_code, unused_imports)]
#[path = "../maintenance.rs"]
mod maintenance;
#[allow(dead_code, unused_imports)]
#[path = "../multipart.rs"]
mod multipart;
#[allow(dead_code, unused_imports)]
#[path = "../objects.rs"]
mod objects;
#[allow(dead_code, unused_imports)]
#[path = "../policy.rs"]
mod policies;
#[allow(dead_code, unused_imports)]
#[path = "../rates.rs"]
mod rates;
#[allow(dead_code, unused_imports)]
#[path = "../transfer.rs"]
mod transfer;

macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), |server| $name(server).boxed_local())),*] };
}

pub(crate) const CASES: &[Case] = cases![
    conformance_suite,
    wrong_cluster_files_and_prefixes_are_typed_errors,
    prefixes_keep_stores_apart,
    a_cluster_that_does_not_answer_is_an_error_in_time,
    objects_and_listings,
    an_object_is_seen_and_reclaimed,
    ten_thousand_parts,
    a_lost_disk_is_one_row_and_the_ledger_counts_exactly,
    each_verb_answers_the_same_after_each_fault,
    counters_equal_a_recount_after_random_work_under_faults,
    an_export_arrives_and_leaves_again,
    the_policy_is_one_for_all_and_changes_by_command,
    rates_of_the_cluster_are_set_and_reset,
    nodes_are_under_maintenance,
];

async fn conformance_suite(server: Arc<Server>) {
    conformance::run(server.kv(), seed()).await;
}

async fn an_object_is_seen_and_reclaimed(server: Arc<Server>) {
    objects::an_object_is_seen_and_reclaimed("fdb", server.kv()).await;
}

async fn the_policy_is_one_for_all_and_changes_by_command(server: Arc<Server>) {
    policies::the_policy_is_one_for_all_and_changes_by_command("fdb", server.kv()).await;
}

async fn rates_of_the_cluster_are_set_and_reset(server: Arc<Server>) {
    rates::rates_are_set_and_reset("fdb", server.kv()).await;
}

async fn nodes_are_under_maintenance(server: Arc<Server>) {
    maintenance::windows_are_opened_and_ended("fdb", server.kv()).await;
}

async fn ten_thousand_parts(server: Arc<Server>) {
    multipart::ten_thousand_parts("fdb", server.kv()).await;
}

async fn a_lost_disk_is_one_row_and_the_ledger_counts_exactly(server: Arc<Server>) {
    group_repair::a_lost_disk_is_one_row("fdb", server.kv()).await;
    group_repair::first_rows_of_groups("fdb", server.kv()).await;
    group_repair::random_work(server.kv(), seed(), true).await;
}

async fn each_verb_answers_the_same_after_each_fault(server: Arc<Server>) {
    for first in faults::FAULTS {
        for second in faults::FAULTS {
            faults::each_verb(server.kv(), [first, second], &format!("fdb, {first:?}, {second:?}")).await;
        }
    }
}

async fn counters_equal_a_recount_after_random_work_under_faults(server: Arc<Server>) {
    let seed = seed();
    println!("seed {seed}");
    for round in 0..3 {
        faults::random_work(server.kv(), seed ^ (round << 32)).await;
    }
}

async fn an_export_arrives_and_leaves_again(server: Arc<Server>) {
    transfer::an_export_arrives_and_leaves_again("fdb", server.kv()).await;
}

/// CON-1: what was committed is located and listed, what was deleted is not.
async fn objects_and_listings(server: Arc<Server>) {
    let meta = Meta::new(server.kv());
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
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

fn connect(server: &Server, file: &Path, prefix: &[u8]) -> Result<FdbKv, OpenError> {
    FdbKv::connect(&server.network, &FdbOptions { cluster_file: Some(file.into()), prefix: prefix.into() })
}

async fn wrong_cluster_files_and_prefixes_are_typed_errors(server: Arc<Server>) {
    let folder = tempfile::tempdir().unwrap();
    let (absent, garbled) = (folder.path().join("absent"), folder.path().join("garbled"));
    std::fs::write(&garbled, "no cluster file at all").unwrap();
    for wrong in [absent, garbled, folder.path().to_owned(), PathBuf::from("/dev/zero")] {
        match connect(&server, &wrong, b"") {
            Err(OpenError::ClusterFile { file, .. }) => assert_eq!(file, wrong),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("opened {}", wrong.display()),
        }
    }
    for prefix in [vec![b'x'; limits::PREFIX_BYTES + 1], b"\xff/mine".to_vec()] {
        let length = prefix.len();
        assert_eq!(connect(&server, &server.cluster_file, &prefix).map(|_| ()), Err(OpenError::Prefix(length)));
    }
}

/// A cluster file of the right form that names nobody, or another cluster: opening says so, and every operation ends in
/// time.
async fn a_cluster_that_does_not_answer_is_an_error_in_time(server: Arc<Server>) {
    let folder = tempfile::tempdir().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let real = std::fs::read_to_string(&server.cluster_file).unwrap();
    let (_, coordinators) = real.rsplit_once('@').unwrap();
    let silent = [format!("test:test@{nobody}"), format!("another:cluster@{coordinators}")];
    let tries = silent.into_iter().enumerate().map(|(index, text)| {
        let file = folder.path().join(index.to_string());
        std::fs::write(&file, text).unwrap();
        let options = FdbOptions { cluster_file: Some(file), prefix: b"cairn-test/nobody/".to_vec() };
        let server = &server;
        async move {
            let started = Instant::now();
            let opened = FdbKv::open(&server.network, &options).await.map(|_| ());
            assert!(matches!(opened, Err(OpenError::NoAnswer { .. })), "{opened:?}");
            let kv = Arc::new(FdbKv::connect(&server.network, &options).unwrap());
            let read = kv.begin().await.unwrap().get(b"k", false).await;
            assert!(matches!(read, Err(KvError::Timeout(_) | KvError::Unavailable(_))), "{read:?}");
            let mut tx = kv.begin().await.unwrap();
            tx.set(Bytes::from_static(b"k"), Bytes::new());
            let commit = tx.commit().await;
            assert!(matches!(commit, Err(KvError::CommitUnknown(_) | KvError::Unavailable(_))), "{commit:?}");
            let verb = Meta::new(kv).with_deadline(SHORT).cluster(policy()).await;
            assert!(matches!(verb, Err(MetaError::Timeout(_) | MetaError::Unavailable(_))), "{verb:?}");
            assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
        }
    });
    futures::future::join_all(tries).await;
}

async fn prefixes_keep_stores_apart(server: Arc<Server>) {
    let base = format!("cairn-test/{}", hex::encode(rand::random::<[u8; 8]>()));
    let names = ["", "a", "b", "\u{7f}"].map(|name| format!("{base}{name}/"));
    let kvs = names.map(|name| connect(&server, &server.cluster_file, name.as_bytes()).unwrap());
    for (index, kv) in kvs.iter().enumerate() {
        let mut tx = kv.begin().await.unwrap();
        tx.set(Bytes::from_static(b"k"), vec![index as u8].into());
        tx.set_versionstamped(Bytes::from_static(b"s"), Bytes::new(), Bytes::new());
        tx.commit().await.unwrap();
    }
    for (index, kv) in kvs.iter().enumerate() {
        let all = RangeQuery::new(Bytes::new(), Bytes::from_static(&[0xff]), 100);
        let rows = kv.begin().await.unwrap().range(all.clone()).await.unwrap().rows;
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[0].0[..], &rows[0].1[..]), (&b"k"[..], &[index as u8][..]));
        assert_eq!((rows[1].0[0], rows[1].0.len()), (b's', 11));
        clear(kv).await.unwrap();
        assert!(kv.begin().await.unwrap().range(all).await.unwrap().rows.is_empty());
    }
}

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
        inject::Fault,
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
#[path = "../deletes.rs"]
mod deletes;
#[allow(dead_code, unused_imports)]
#[path = "../documents.rs"]
mod documents;
#[allow(dead_code, unused_imports)]
#[path = "../encryption.rs"]
mod encryption;
#[allow(dead_code, unused_imports)]
#[path = "../events.rs"]
mod events;
#[allow(dead_code, unused_imports)]
#[path = "../exchanges.rs"]
mod exchanges;
#[allow(dead_code, unused_imports)]
#[path = "../faults.rs"]
mod faults;
#[allow(dead_code, unused_imports)]
#[path = "../group_repair.rs"]
mod group_repair;
#[allow(dead_code, unused_imports)]
#[path = "../idempotent.rs"]
mod idempotent;
#[allow(dead_code, unused_imports)]
#[path = "../jobs.rs"]
mod jobs;
#[allow(dead_code, unused_imports)]
#[path = "../leases.rs"]
mod leases;
#[allow(dead_code, unused_imports)]
#[path = "../lifecycle.rs"]
mod lifecycle;
#[allow(dead_code, unused_imports)]
#[path = "../locks.rs"]
mod locks;
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
#[path = "../part_copy.rs"]
mod part_copy;
#[allow(dead_code, unused_imports)]
#[path = "../policy.rs"]
mod policies;
#[allow(dead_code, unused_imports)]
#[path = "../quotas.rs"]
mod quotas;
#[allow(dead_code, unused_imports)]
#[path = "../rates.rs"]
mod rates;
#[allow(dead_code, unused_imports)]
#[path = "../readiness.rs"]
mod readiness;
#[allow(dead_code, unused_imports)]
#[path = "../transfer.rs"]
mod transfer;
#[allow(dead_code, unused_imports)]
#[path = "../users.rs"]
mod users;

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
    dur_1_plc_1_nothing_is_done_by_a_policy_that_is_over,
    every_verb_that_writes_is_done_once,
    what_others_did_stays,
    each_delete_is_done_once,
    documents_of_every_length,
    versions_that_are_sealed,
    every_kind_of_change_is_told_once,
    events_are_in_the_order_of_their_commits,
    one_event_for_each_change,
    bnd_1_events_are_bounded_and_dead_ones_kept,
    jobs_begin_and_end,
    gc_1_what_is_left_of_disks,
    red_1_new_members_have_everything,
    leases_go_by_no_clock,
    a_version_ends_as_it_was_judged,
    gc_1_what_is_locked_stays,
    gc_1_copied_parts_share_blobs,
    bnd_1_a_bucket_never_grows_beyond_its_quota,
    a_grant_has_every_policy,
    what_is_over_a_limit_changes_nothing,
    gc_1_a_blob_is_committed_or_condemned,
    a_proof_is_one_row,
    exchanges_are_few,
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
    multipart::ten_thousand_lengths("fdb", server.kv()).await;
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

async fn dur_1_plc_1_nothing_is_done_by_a_policy_that_is_over(server: Arc<Server>) {
    policies::nothing_is_done_by_a_policy_that_is_over("fdb", server.kv()).await;
}

const UNKNOWN: [Fault; 4] =
    [Fault::UnknownApplied, Fault::UnknownNotApplied, Fault::UnknownBeforeNext, Fault::UnknownAfterNext];

async fn every_verb_that_writes_is_done_once(server: Arc<Server>) {
    for first in [Fault::None, Fault::Conflict].into_iter().chain(UNKNOWN) {
        for second in [Fault::None, first] {
            idempotent::every_verb(server.kv(), [first, second], &format!("fdb, {first:?}, {second:?}")).await;
        }
    }
}

async fn what_others_did_stays(server: Arc<Server>) {
    idempotent::what_others_did_stays("fdb", server.kv()).await;
}

async fn each_delete_is_done_once(server: Arc<Server>) {
    for fault in UNKNOWN {
        for times in [1, 5] {
            deletes::each_delete_is_done_once(server.kv(), fault, times).await;
        }
    }
}

async fn documents_of_every_length(server: Arc<Server>) {
    documents::documents_of_every_length("fdb", server.kv()).await;
}

async fn versions_that_are_sealed(server: Arc<Server>) {
    encryption::lengths_of_what_is_sealed("fdb", server.kv()).await;
    encryption::copies_take_keys_along("fdb", server.kv()).await;
    encryption::keys_are_wrapped_again("fdb", server.kv()).await;
}

async fn every_kind_of_change_is_told_once(server: Arc<Server>) {
    for versioning in [Versioning::Off, Versioning::Enabled] {
        events::every_kind_of_change("fdb", server.kv(), versioning).await;
    }
    events::a_configuration_is_set_whole("fdb", server.kv()).await;
}

async fn events_are_in_the_order_of_their_commits(server: Arc<Server>) {
    events::events_are_in_order("fdb", server.kv()).await;
    events::what_waits_is_exported("fdb", server.kv()).await;
}

async fn one_event_for_each_change(server: Arc<Server>) {
    for first in [Fault::None, Fault::Conflict].into_iter().chain(UNKNOWN) {
        for second in [Fault::None, Fault::Conflict].into_iter().chain(UNKNOWN) {
            let case = format!("fdb, {first:?}, {second:?}");
            events::one_event_for_each_change(server.kv(), [first, second], &case).await;
        }
    }
}

async fn bnd_1_events_are_bounded_and_dead_ones_kept(server: Arc<Server>) {
    events::events_are_bounded("fdb", server.kv()).await;
    events::dead_events_are_kept("fdb", server.kv()).await;
}

async fn jobs_begin_and_end(server: Arc<Server>) {
    jobs::drains("fdb", server.kv()).await;
    jobs::jobs_are_forgotten("fdb", server.kv()).await;
}

async fn gc_1_what_is_left_of_disks(server: Arc<Server>) {
    jobs::a_disk_is_taken_out("fdb", server.kv()).await;
    jobs::what_is_not_moved("fdb", server.kv()).await;
}

async fn red_1_new_members_have_everything(server: Arc<Server>) {
    jobs::random_moves(server.kv(), seed()).await;
}

async fn leases_go_by_no_clock(server: Arc<Server>) {
    leases::a_clock_a_day_ahead("fdb", server.kv()).await;
    leases::a_clock_that_stands_still("fdb", server.kv()).await;
}

async fn a_version_ends_as_it_was_judged(server: Arc<Server>) {
    lifecycle::a_version_ends_as_it_was_judged("fdb", server.kv()).await;
}

async fn gc_1_what_is_locked_stays(server: Arc<Server>) {
    locks::run("fdb", server.kv(), seed(), 120).await;
}

async fn gc_1_copied_parts_share_blobs(server: Arc<Server>) {
    part_copy::copied_parts_share_blobs("fdb", server.kv()).await;
    part_copy::a_shared_blob_has_its_grace_period("fdb", server.kv()).await;
}

async fn bnd_1_a_bucket_never_grows_beyond_its_quota(server: Arc<Server>) {
    quotas::run("fdb", server.kv(), seed(), 200).await;
    quotas::writers_fill_a_quota("fdb", server.kv()).await;
    quotas::a_quota_below_what_there_is("fdb", server.kv()).await;
}

async fn a_grant_has_every_policy(server: Arc<Server>) {
    users::a_grant_has_every_policy("fdb", server.kv()).await;
}

async fn what_is_over_a_limit_changes_nothing(server: Arc<Server>) {
    objects::what_is_over_a_limit("fdb", server.kv(), limits::PREFIX_BYTES).await;
}

async fn gc_1_a_blob_is_committed_or_condemned(server: Arc<Server>) {
    objects::committed_or_condemned("fdb", server.kv()).await;
}

async fn a_proof_is_one_row(server: Arc<Server>) {
    readiness::a_proof_is_one_row(server.kv()).await;
}

async fn exchanges_are_few(server: Arc<Server>) {
    exchanges::exchanges_are_few("fdb", server.kv()).await;
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

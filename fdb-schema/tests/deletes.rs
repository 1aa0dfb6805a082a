//! Many deletes in one request come to what they come to one by one, and share their syncs.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use cairn_schema::{
    Meta, MetaError,
    ids::*,
    kv::{
        SharedKv,
        embedded::{self, EmbeddedOptions},
        inject::{Fault, Injecting},
    },
    record::*,
    verbs::*,
};
use common::*;
use futures::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Two stores with the same objects; ids differ.
struct Twin {
    meta: Meta,
    /// Of each key, oldest first.
    versions: Vec<Vec<VersionId>>,
}

const BUCKETS: [&str; 3] = ["off", "enabled", "suspended"];
const KEYS: usize = 5;

async fn twin(rng: &mut StdRng) -> Twin {
    let meta = Meta::in_memory();
    let group = group(&meta).await;
    let mut versions = Vec::new();
    for name in BUCKETS {
        let start = if name == "off" { Versioning::Off } else { Versioning::Enabled };
        meta.create_bucket(bucket(name, start)).await.unwrap();
        for key in 0..KEYS {
            let mut of_key = Vec::new();
            for _ in 0..rng.random_range(0..3) {
                let made = meta.commit_object(put(&group, name, &key.to_string(), rng.random_range(0..9))).await;
                of_key.push(made.unwrap().version.id);
            }
            versions.push(of_key);
        }
        if name == "suspended" {
            meta.set_versioning(name, Versioning::Suspended).await.unwrap();
            meta.commit_object(put(&group, name, "0", 77)).await.unwrap();
        }
    }
    Twin { meta, versions }
}

/// The same request for a twin.
fn request(twin: &Twin, rng: &mut StdRng) -> DeleteObject {
    let (place, key) = (rng.random_range(0..BUCKETS.len()), rng.random_range(0..KEYS + 1));
    let selector = match rng.random_range(0..4) {
        0 => VersionSelector::Id(VersionId::NULL),
        1 if key < KEYS => match twin.versions[place * KEYS + key].first() {
            Some(id) => VersionSelector::Id(*id),
            None => VersionSelector::Current,
        },
        _ => VersionSelector::Current,
    };
    let bucket = if rng.random_bool(0.02) { "none" } else { BUCKETS[place] };
    let mut request = delete(bucket, &key.to_string(), selector);
    if rng.random_bool(0.05) {
        request.precondition.if_match = Some(EtagMatch::Any);
    }
    request
}

async fn left(meta: &Meta) -> Vec<(String, VersionKind, u64)> {
    let mut left = Vec::new();
    for name in BUCKETS {
        let query = ListVersionsQuery { bucket: name.into(), limit: 1000, ..Default::default() };
        for entry in meta.list_versions(&query).await.unwrap().entries {
            let ListVersionsEntry::Version { key, version, .. } = entry else { unreachable!() };
            left.push((format!("{name}/{key}"), version.kind, version.size));
        }
        let usage = meta.usage(name).await.unwrap();
        left.push((name.to_owned(), VersionKind::Object, usage.objects * 1000 + usage.bytes));
    }
    left
}

fn told(answer: &Result<Deleted, MetaError>) -> Result<(bool, bool), String> {
    match answer {
        Ok(deleted) => Ok((deleted.version.is_some(), deleted.delete_marker)),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn together_they_come_to_what_they_come_to_one_by_one() {
    let seed: u64 = std::env::var("CAIRN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    for round in 0..200 {
        let rng = || StdRng::seed_from_u64(seed ^ round);
        let (mut first, mut second) = (rng(), rng());
        let (one_by_one, together) = (twin(&mut first).await, twin(&mut second).await);
        let count = first.random_range(1..20);
        let _ = second.random_range(1..20);
        let mut wanted = Vec::new();
        for _ in 0..count {
            let request = request(&one_by_one, &mut first);
            wanted.push(told(&one_by_one.meta.delete_object(request).await));
        }
        let requests: Vec<DeleteObject> = (0..count).map(|_| request(&together, &mut second)).collect();
        let refused = wanted.iter().any(Result::is_err);
        let keys: std::collections::BTreeSet<_> = requests.iter().map(|r| (&r.bucket, &r.key)).collect();
        if refused && keys.len() < requests.len() {
            // Then they run beside each other, and those of one key in any order.
            continue;
        }
        let answers = together.meta.delete_objects(requests).await;
        assert_eq!(answers.iter().map(told).collect::<Vec<_>>(), wanted, "seed {seed}, round {round}");
        assert_eq!(left(&together.meta).await, left(&one_by_one.meta).await, "seed {seed}, round {round}");
        let reclaimed = (queued(&together.meta).await.len(), queued(&one_by_one.meta).await.len());
        assert_eq!(reclaimed.0, reclaimed.1, "seed {seed}, round {round}");
    }
}

#[tokio::test]
async fn after_any_fault_each_is_done_once() {
    let faults = [Fault::Conflict, Fault::UnknownNotApplied, Fault::UnknownApplied, Fault::Unavailable];
    for fault in faults {
        // So often that the transaction is given up and they are made one by one.
        for times in [1, 2, 3, 5] {
            each_delete_is_done_once(mem_kv(), fault, times).await;
        }
    }
}

pub(crate) async fn each_delete_is_done_once(kv: SharedKv, fault: Fault, times: usize) {
    let plain = Meta::new(kv.clone());
    plain.create_bucket(bucket("b", Versioning::Enabled)).await.unwrap();
    let faulty = Meta::new(Arc::new(Injecting::script(kv, vec![fault; times])));
    let requests = (0..30).map(|index| delete("b", &index.to_string(), VersionSelector::Current)).collect();
    for answer in faulty.delete_objects(requests).await {
        assert!(answer.as_ref().is_ok_and(|deleted| deleted.delete_marker), "{fault:?}, {times}: {answer:?}");
    }
    let query = ListVersionsQuery { bucket: "b".into(), limit: 1000, ..Default::default() };
    assert_eq!(plain.list_versions(&query).await.unwrap().entries.len(), 30, "{fault:?}, {times}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_share_a_few_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(embedded::open(directory.path(), EmbeddedOptions::default()).unwrap());
    let meta = Meta::new(store.clone());
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let puts = (0..1000).map(|index| meta.commit_object(put(&group, "b", &index.to_string(), 5)));
    stream::iter(puts).buffer_unordered(256).for_each(|put| async { drop(put.unwrap()) }).await;
    let before = store.stats().syncs;
    let requests = (0..1000).map(|index| delete("b", &index.to_string(), VersionSelector::Current)).collect();
    let answers = meta.delete_objects(requests).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|deleted| deleted.version.is_some())));
    let syncs = store.stats().syncs - before;
    assert!(syncs <= 8, "{syncs} syncs");
    assert_eq!(meta.usage("b").await.unwrap(), Usage::default());
    assert_eq!(queued(&meta).await.len(), 1000);
}

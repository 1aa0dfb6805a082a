//! Rates of a cluster: none at its birth, set and taken back by a command, refused when no node could go by them.
#![allow(clippy::unwrap_used)]

mod common;
use std::io::Cursor;

use cairn_schema::{Meta, MetaError, keyspace, kv::SharedKv, record::*};
use common::*;

const NONE: RateOverrides = RateOverrides { scrub_bytes: None, repair_bytes: None, background_percent: None };

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_none_until_they_are_set_and_none_again_when_they_are_reset() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        rates_are_set_and_reset(name, kv).await;
    }
}

pub(crate) async fn rates_are_set_and_reset(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv.clone());
    meta.cluster(policy()).await.unwrap();
    assert_eq!(meta.rates().await.unwrap(), ClusterRates { generation: 0, rates: NONE }, "{name}");
    let revision = meta.placement_revision().await.unwrap();
    let unchanged = meta.set_rates(0, NONE).await.unwrap();
    assert_eq!((unchanged.generation, meta.placement_revision().await.unwrap()), (0, revision), "{name}");

    let fast = RateOverrides { repair_bytes: Some(1 << 30), background_percent: Some(50), ..NONE };
    let set = meta.set_rates(0, fast).await.unwrap();
    assert_eq!(set, ClusterRates { generation: 1, rates: fast }, "{name}");
    assert_eq!(Meta::new(kv).rates().await.unwrap(), set, "{name}");
    // By this running nodes learn of it.
    assert_eq!(meta.placement_revision().await.unwrap(), revision + 1, "{name}");
    assert_eq!(meta.set_rates(1, fast).await.unwrap(), set, "{name}: nothing to change");
    for stale in [0, 2, u64::MAX] {
        assert_eq!(meta.set_rates(stale, NONE).await, Err(MetaError::Stale("rates")), "{name}");
    }

    for (wrong, field, why) in [
        (RateOverrides { scrub_bytes: Some((1 << 20) - 1), ..fast }, "rates.scrub", "1048575 B a second is too little"),
        (RateOverrides { repair_bytes: Some(0), ..NONE }, "rates.repair", "give at least 1 MiB"),
        (RateOverrides { background_percent: Some(0), ..fast }, "rates.background_percent", "0 is no part"),
        (RateOverrides { background_percent: Some(101), ..NONE }, "rates.background_percent", "give 1 to 100"),
    ] {
        match meta.set_rates(1, wrong).await {
            Err(MetaError::Invalid { what, why: said }) => {
                assert_eq!(what, field, "{name}");
                assert!(said.contains(why), "{name}: {said}");
            }
            other => panic!("{name}: {wrong:?}: {other:?}"),
        }
    }
    assert_eq!(meta.rates().await.unwrap(), set, "{name}: what was refused changed nothing");
    assert_eq!(meta.placement_revision().await.unwrap(), revision + 1, "{name}");

    let least = RateOverrides { scrub_bytes: Some(1 << 20), background_percent: Some(100), ..NONE };
    assert_eq!(meta.set_rates(1, least).await.unwrap().generation, 2, "{name}");
    assert_eq!(meta.set_rates(2, NONE).await.unwrap(), ClusterRates { generation: 3, rates: NONE }, "{name}");
    audited(&meta, name).await;
}

/// Each of those who change what they saw at once wins, or is told that it has changed.
#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_set_rates_at_once_one_does() {
    let meta = Meta::in_memory();
    let sets = (1..=4u64).map(|mib| {
        let meta = meta.clone();
        let rates = RateOverrides { repair_bytes: Some(mib << 20), ..NONE };
        tokio::spawn(async move { meta.set_rates(0, rates).await })
    });
    let ends: Vec<_> = futures::future::try_join_all(sets).await.unwrap();
    let done: Vec<_> = ends.iter().flatten().collect();
    assert!(done.len() == 1 && *done[0] == meta.rates().await.unwrap(), "{ends:?}");
    assert!(ends.iter().filter_map(|end| end.as_ref().err()).all(|error| *error == MetaError::Stale("rates")));
}

#[tokio::test]
async fn exports_carry_rates_and_their_absence() {
    let meta = Meta::in_memory();
    meta.cluster(policy()).await.unwrap();
    let rates = RateOverrides { scrub_bytes: Some(64 << 20), ..NONE };
    for kept in [ClusterRates::default(), ClusterRates { generation: 1, rates }] {
        if kept.generation == 1 {
            meta.set_rates(0, rates).await.unwrap();
        }
        let mut file = Vec::new();
        meta.export(&mut file).await.unwrap();
        let copy = Meta::in_memory();
        copy.import(&mut Cursor::new(file)).await.unwrap();
        assert_eq!(copy.rates().await.unwrap(), kept);
        audited(&copy, "imported").await;
    }
}

/// A program that knows no such row refuses it, rather than go by other rates.
#[tokio::test]
async fn unknown_rates_are_an_error() {
    let kv = mem_kv();
    let meta = Meta::new(kv.clone());
    meta.cluster(policy()).await.unwrap();
    let mut tx = kv.begin().await.unwrap();
    tx.set(keyspace::rates(), bytes::Bytes::from_static(&[2, 0x92, 1]));
    tx.commit().await.unwrap();
    for read in [meta.rates().await, meta.set_rates(0, NONE).await] {
        assert!(
            matches!(&read, Err(MetaError::Corrupt { what: "rates row", why }) if why.contains("version 2")),
            "{read:?}"
        );
    }
    assert_eq!(meta.audit().await.unwrap().problems, 1);
}

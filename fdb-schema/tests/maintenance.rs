//! Nodes under maintenance: none at a cluster's birth, opened, renewed and ended by commands, refused where no cluster
//! could have it.
#![allow(clippy::unwrap_used)]

mod common;
use std::io::Cursor;

use cairn_schema::{Meta, MetaError, ids::NodeId, keyspace, kv::SharedKv, record::*};
use common::*;

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

async fn register(meta: &Meta, name: &str) {
    let address = "127.0.0.1:7000".parse().unwrap();
    meta.register_node(Node { id: id(name), rack: "r".into(), zone: "z".into(), address }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_under_maintenance_until_it_is_ended() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        windows_are_opened_and_ended(name, kv).await;
    }
}

pub(crate) async fn windows_are_opened_and_ended(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv.clone());
    meta.cluster(policy()).await.unwrap();
    register(&meta, "n1").await;
    register(&meta, "n2").await;
    let none = meta.maintenance().await.unwrap();
    assert_eq!(none, ClusterMaintenance::default(), "{name}");
    let revision = meta.placement_revision().await.unwrap();
    assert_eq!(meta.set_maintenance(0, Vec::new()).await.unwrap(), none, "{name}: nothing to change");
    assert_eq!(meta.placement_revision().await.unwrap(), revision, "{name}");

    let first = none.started(id("n1"), 60_000, 5);
    assert_eq!(meta.set_maintenance(0, first.windows.clone()).await.unwrap(), first, "{name}");
    assert_eq!(Meta::new(kv).maintenance().await.unwrap(), first, "{name}");
    // By this running nodes learn of it.
    assert_eq!(meta.placement_revision().await.unwrap(), revision + 1, "{name}");
    for stale in [0, 2, u64::MAX] {
        let refused = meta.set_maintenance(stale, Vec::new()).await;
        assert_eq!(refused, Err(MetaError::Stale("maintenance")), "{name}");
    }
    let unknown = first.started(id("n3"), 60_000, 5);
    let refused = meta.set_maintenance(1, unknown.windows).await;
    assert_eq!(refused, Err(MetaError::NoSuchEntry { what: "node", name: "n3".into() }), "{name}");
    let short = first.started(id("n2"), 10, 5);
    let refused = meta.set_maintenance(1, short.windows).await;
    assert!(matches!(refused, Err(MetaError::Invalid { what: "maintenance", .. })), "{name}: {refused:?}");
    assert_eq!(meta.maintenance().await.unwrap(), first, "{name}: what was refused changed nothing");

    let second = first.started(id("n2"), 60_000, 6);
    meta.set_maintenance(1, second.windows.clone()).await.unwrap();
    let ended = second.without(|window| window.node == id("n1"));
    assert_eq!(meta.set_maintenance(2, ended.windows.clone()).await.unwrap(), ended, "{name}");
    audited(&meta, name).await;
}

#[tokio::test]
async fn exports_carry_maintenance() {
    let meta = Meta::in_memory();
    meta.cluster(policy()).await.unwrap();
    register(&meta, "n1").await;
    let windows = ClusterMaintenance::default().started(id("n1"), 60_000, 5).windows;
    let kept = meta.set_maintenance(0, windows).await.unwrap();
    let mut file = Vec::new();
    meta.export(&mut file).await.unwrap();
    let copy = Meta::in_memory();
    copy.import(&mut Cursor::new(file)).await.unwrap();
    assert_eq!(copy.maintenance().await.unwrap(), kept);
    audited(&copy, "imported").await;
}

/// A program that knows no such row refuses it, rather than give up what an operator works on.
#[tokio::test]
async fn an_unknown_row_is_an_error() {
    let kv = mem_kv();
    let meta = Meta::new(kv.clone());
    meta.cluster(policy()).await.unwrap();
    let mut tx = kv.begin().await.unwrap();
    tx.set(keyspace::maintenance(), bytes::Bytes::from_static(&[2, 0x92, 1]));
    tx.commit().await.unwrap();
    for read in [meta.maintenance().await, meta.set_maintenance(0, Vec::new()).await] {
        assert!(
            matches!(&read, Err(MetaError::Corrupt { what: "maintenance row", why }) if why.contains("version 2")),
            "{read:?}"
        );
    }
    assert_eq!(meta.audit().await.unwrap().problems, 1);
}

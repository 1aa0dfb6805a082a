//! The policy of a cluster: kept from its birth, changed by a command, refused when no cluster could go by it.
#![allow(clippy::unwrap_used)]

mod common;
use std::io::Cursor;

use cairn_schema::{Meta, MetaError, kv::SharedKv, record::*, verbs::*};
use common::*;

fn of(scheme: &str, failure_domain: FailureDomain) -> Policy {
    Policy { scheme: scheme.parse().unwrap(), failure_domain, ..policy() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_policy_holds_for_all_and_is_changed_by_command() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        the_policy_is_one_for_all_and_changes_by_command(name, kv).await;
    }
}

pub(crate) async fn the_policy_is_one_for_all_and_changes_by_command(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv.clone());
    assert_eq!(meta.policy().await.unwrap(), None, "{name}");
    // Of those who come to a new cluster together, each with its own policy, one decides.
    let told = [of("4+2", FailureDomain::Rack), of("2+1", FailureDomain::Node), of("8+4", FailureDomain::Disk)];
    let births = told.map(|told| {
        let meta = Meta::new(kv.clone());
        tokio::spawn(async move { meta.cluster(told).await.unwrap() })
    });
    let born: Vec<_> = futures::future::try_join_all(births).await.unwrap();
    let kept = meta.policy().await.unwrap().unwrap();
    assert!(born.iter().all(|info| *info == born[0] && info.policy == kept), "{name}: {born:?}");
    assert!(kept.generation == 1 && told.contains(&kept.policy), "{name}: {kept:?}");

    // Three disks in three racks.
    group(&meta).await;
    let revision = meta.placement_revision().await.unwrap();
    let narrow = of("2+1", FailureDomain::Rack);
    let wanted = Policy { fragment_bytes: 2 << 20, write_margin: 0, small_below: 7, ..narrow };
    let changed = meta.set_policy(1, wanted).await.unwrap();
    assert_eq!(changed, ClusterPolicy { generation: 2, policy: wanted }, "{name}");
    assert_eq!(meta.policy().await.unwrap(), Some(changed), "{name}");
    // By this running nodes learn of it.
    assert_eq!(meta.placement_revision().await.unwrap(), revision + 1, "{name}");
    assert_eq!(meta.cluster(told[2]).await.unwrap().policy, changed, "{name}: it is not made again");
    assert_eq!(meta.set_policy(2, wanted).await.unwrap(), changed, "{name}: nothing to change");
    assert_eq!(meta.set_policy(1, narrow).await, Err(MetaError::Stale("policy")), "{name}");
    assert_eq!(meta.set_policy(u64::MAX, narrow).await, Err(MetaError::Stale("policy")), "{name}");

    let by = |scheme: &str| Policy { scheme: scheme.parse().unwrap(), ..wanted };
    for (wrong, field, why) in [
        (by("4+2"), "policy.scheme", "3 racks with 3 disks take only 3"),
        (
            Policy { failure_domain: FailureDomain::Zone, ..wanted },
            "policy.scheme",
            "so 1 zone with 3 disks take only 1",
        ),
        (Policy { small_scheme: "replicated(4)".parse().unwrap(), ..wanted }, "policy.small_scheme", "4 fragments"),
        (Policy { write_margin: 2, ..wanted }, "policy.write_margin", "use at most 1"),
        (Policy { fragment_bytes: 1000, ..wanted }, "policy.fragment", "1000 B is not a multiple of 64 KiB"),
        (Policy { fragment_bytes: 32 << 20, ..wanted }, "policy.fragment", "32 MiB is not a multiple"),
        (Policy { scheme: Scheme::Replicated { copies: 0 }, ..wanted }, "policy.scheme", "is not a scheme"),
        (
            Policy { small_scheme: Scheme::Rs { data: 0, parity: 1, code: ErasureCode::Gf256 }, ..wanted },
            "policy.small_scheme",
            "is not a scheme",
        ),
    ] {
        match meta.set_policy(2, wrong).await {
            Err(MetaError::Invalid { what, why: said }) => {
                assert_eq!(what, field, "{name}");
                assert!(said.contains(why), "{name}: {said}");
            }
            other => panic!("{name}: {wrong:?}: {other:?}"),
        }
    }
    // Disks that go for good make no room; those that are down are taken to come back.
    let disk = meta.disks().await.unwrap()[0].id;
    meta.set_disk_state(disk, DiskState::Up, DiskState::Down).await.unwrap();
    let generation = meta.set_policy(2, narrow).await.unwrap().generation;
    meta.set_disk_state(disk, DiskState::Down, DiskState::Lost).await.unwrap();
    let lost = meta.set_policy(generation, wanted).await;
    assert!(matches!(&lost, Err(MetaError::Invalid { why, .. }) if why.contains("2 racks with 2 disks")), "{lost:?}");
    assert_eq!(meta.policy().await.unwrap(), Some(ClusterPolicy { generation: 3, policy: narrow }), "{name}");
    assert_eq!(meta.placement_revision().await.unwrap(), revision + 4, "{name}: what was refused changed nothing");
    audited(&meta, name).await;
}

#[tokio::test]
async fn a_cluster_is_not_born_with_a_policy_that_none_could_have() {
    let kv = mem_kv();
    let meta = Meta::new(kv.clone());
    let wrong = Policy { write_margin: 3, ..policy() };
    let refused = meta.cluster(wrong).await;
    assert!(matches!(refused, Err(MetaError::Invalid { what: "policy.write_margin", .. })), "{refused:?}");
    assert_eq!(meta.existing_cluster().await.unwrap(), None);
    assert_eq!(meta.placement_revision().await.unwrap(), 0);
}

/// A cluster of before policies were kept, and its exports.
#[tokio::test]
async fn a_cluster_without_a_policy_gets_that_of_the_first_who_comes_and_exports_carry_it() {
    let kv = mem_kv();
    let meta = Meta::new(kv.clone());
    let born = meta.cluster(policy()).await.unwrap();
    let mut tx = kv.begin().await.unwrap();
    tx.clear(cairn_schema::keyspace::policy());
    tx.commit().await.unwrap();
    assert_eq!(meta.policy().await.unwrap(), None);
    assert_eq!(meta.set_policy(1, policy()).await, Err(MetaError::Stale("policy")));
    let exported = async |meta: &Meta| {
        let mut file = Vec::new();
        meta.export(&mut file).await.unwrap();
        file
    };
    let without = exported(&meta).await;

    let (first, revision) = (of("2+1", FailureDomain::Node), meta.placement_revision().await.unwrap());
    let taken = meta.cluster(first).await.unwrap();
    assert_eq!((taken.id, taken.policy), (born.id, ClusterPolicy { generation: 1, policy: first }));
    assert_eq!(meta.cluster(policy()).await.unwrap(), taken);
    assert_eq!(meta.placement_revision().await.unwrap(), revision + 1);

    for (file, kept) in [(without, None), (exported(&meta).await, Some(taken.policy))] {
        let copy = Meta::in_memory();
        copy.import(&mut Cursor::new(file)).await.unwrap();
        assert_eq!(copy.policy().await.unwrap(), kept);
        assert_eq!(copy.existing_cluster().await.unwrap(), Some(born.id));
        audited(&copy, "imported").await;
    }
}

/// A program that knows no such row refuses it, rather than go without.
#[tokio::test]
async fn an_unknown_policy_is_an_error_and_no_reason_to_go_by_another() {
    let kv = mem_kv();
    let meta = Meta::new(kv.clone());
    meta.cluster(policy()).await.unwrap();
    let mut tx = kv.begin().await.unwrap();
    tx.set(cairn_schema::keyspace::policy(), bytes::Bytes::from_static(&[2, 0x92, 1]));
    tx.commit().await.unwrap();
    for read in [meta.policy().await.map(drop), meta.cluster(policy()).await.map(drop)] {
        assert!(
            matches!(&read, Err(MetaError::Corrupt { what: "policy row", why }) if why.contains("version 2")),
            "{read:?}"
        );
    }
    assert_eq!(meta.audit().await.unwrap().problems, 1);
}

/// Whoever has an old policy in memory learns of it where what it did by that would become true.
#[tokio::test(flavor = "multi_thread")]
async fn dur_1_plc_1_what_was_done_by_a_policy_that_is_over_is_neither_committed_nor_formed() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        nothing_is_done_by_a_policy_that_is_over(name, kv).await;
    }
}

pub(crate) async fn nothing_is_done_by_a_policy_that_is_over(name: &str, kv: SharedKv) {
    let meta = Meta::new(kv);
    meta.create_bucket(bucket("b", Versioning::Off)).await.unwrap();
    let group = group(&meta).await;
    let by = |key: &str, policy| {
        let mut request = put(&group, "b", key, 5);
        request.blob.as_mut().unwrap().policy = policy;
        request
    };
    let form = |policy| meta.form_group(policy, group.scheme, group.members.clone());
    let over = MetaError::Stale(POLICY);
    // A store that keeps none.
    meta.commit_object(by("before", Some(0))).await.unwrap();
    assert_eq!(meta.commit_object(by("too early", Some(1))).await.unwrap_err(), over, "{name}");
    assert_eq!(form(1).await.unwrap_err(), over, "{name}");
    meta.cluster(policy()).await.unwrap();
    assert_eq!(meta.commit_object(by("k", Some(0))).await.unwrap_err(), over, "{name}");

    let (first, late) = (by("k", Some(1)), by("late", Some(1)));
    let committed = meta.commit_object(first.clone()).await.unwrap();
    form(1).await.unwrap();
    let wanted = Policy { write_margin: 0, ..of("2+1", FailureDomain::Rack) };
    meta.set_policy(1, wanted).await.unwrap();
    let (groups, revision) = (meta.groups().await.unwrap(), meta.placement_revision().await.unwrap());
    assert_eq!(meta.commit_object(late.clone()).await.unwrap_err(), over, "{name}");
    assert_eq!(form(1).await.unwrap_err(), over, "{name}");
    assert_eq!(meta.groups().await.unwrap(), groups, "{name}");
    assert_eq!(meta.placement_revision().await.unwrap(), revision, "{name}: what is refused changes nothing");
    // One that was committed before is so still, whoever asks again.
    assert_eq!(meta.commit_object(first).await.unwrap(), committed, "{name}");
    // Judged anew it is taken.
    let mut again = late;
    again.blob.as_mut().unwrap().policy = Some(2);
    meta.commit_object(again).await.unwrap();
    form(2).await.unwrap();
    audited(&meta, name).await;
}

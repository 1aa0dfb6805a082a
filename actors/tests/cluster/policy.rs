//! One policy for all nodes: what the metadata keep holds, whatever a node was told, and a change holds at once.

use std::time::Instant;

use bytes::Bytes;
use cairn_actors::{
    StoreError,
    policy::{NodeMemory, Policy},
    runtime::{ClusterStatus, RuntimeError},
    store::PutObject,
};
use cairn_schema::{MetaError, record::*, verbs::*};
use futures::StreamExt;
use tokio::sync::oneshot;

use super::support::*;

/// What an object's bytes were written with.
async fn written(cluster: &Cluster, key: &str) -> (Scheme, u32) {
    let located = cluster.meta.locate(BUCKET, key, VersionSelector::Current, RangeRequest::All).await.unwrap();
    let blob = located.slices()[0].blob.clone();
    (blob.scheme, blob.stripe_bytes)
}

async fn until(cluster: &Cluster, node: usize, what: &str, holds: impl Fn(&ClusterStatus) -> bool) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let status = cluster.status(node).await;
        if holds(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "not in time on n{node}: {what}; {:#?}", status.policy);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn with_scheme(scheme: &str) -> Policy {
    Policy { scheme: scheme.parse().unwrap(), ..policy() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_obey_the_metadata_whatever_they_were_told_and_learn_of_a_change_without_a_restart() {
    let otherwise = Policy {
        scheme: "2+1".parse().unwrap(),
        small_scheme: "replicated(2)".parse().unwrap(),
        small_below: 7,
        failure_domain: FailureDomain::Disk,
        write_margin: 0,
        fragment_bytes: 128 << 10,
    };
    let cluster = Cluster::start_told(6, timings(), [(3, (otherwise, PLENTY))].into()).await;
    let (large, small) = (body(1, 3 << 20), body(2, 1000));
    let four_two = ("4+2".parse().unwrap(), 1 << 20);
    for node in [0, 3] {
        cluster.put(node, &format!("large/{node}"), &large).await;
        cluster.put(node, &format!("small/{node}"), &small).await;
        assert_eq!(written(&cluster, &format!("large/{node}")).await, four_two, "n{node}");
        let copies = Scheme::Replicated { copies: 3 };
        assert_eq!(written(&cluster, &format!("small/{node}")).await.0, copies, "n{node}");
        let status = cluster.status(node).await;
        let shown = (status.scheme.as_str(), status.failure_domain, status.policy.generation);
        assert_eq!(shown, ("4+2", FailureDomain::Rack, 1), "n{node}");
        let differences: Vec<_> = status.policy.differences.iter().map(ToString::to_string).collect();
        if node == 0 {
            assert_eq!(differences, [""; 0]);
        } else {
            assert_eq!(
                differences,
                [
                    "policy.scheme is 2+1 here and 4+2 in the cluster",
                    "policy.small_scheme is replicated(2) here and replicated(3) in the cluster",
                    "policy.small_below is 7 B here and 128 KiB in the cluster",
                    "policy.failure_domain is disk here and rack in the cluster",
                    "policy.write_margin is 0 here and 1 in the cluster",
                    "policy.fragment is 128 KiB here and 256 KiB in the cluster",
                ]
            );
        }
    }

    // What is refused changes nothing.
    let groups = cluster.meta.groups().await.unwrap();
    for (wrong, field) in [(with_scheme("20+4"), "policy.scheme"), (with_scheme("8+1"), "policy.scheme")] {
        match cluster.runtime(3).set_policy(1, wrong).await {
            Err(RuntimeError::Meta(MetaError::Invalid { what, .. })) => assert_eq!(what, field),
            other => panic!("{other:?}"),
        }
    }
    let stale = cluster.runtime(3).set_policy(7, with_scheme("2+2")).await;
    assert!(matches!(stale, Err(RuntimeError::Meta(MetaError::Stale("policy")))), "{stale:?}");
    assert_eq!(cluster.meta.policy().await.unwrap(), Some(ClusterPolicy { generation: 1, policy: policy() }));
    assert_eq!(cluster.meta.groups().await.unwrap(), groups);

    // What is taken holds at once where it was said, soon everywhere, and on what is written from then on.
    let now = Policy { scheme: "2+2".parse().unwrap(), fragment_bytes: 128 << 10, ..policy() };
    let set = cluster.runtime(3).set_policy(1, now).await.unwrap();
    assert_eq!(set, ClusterPolicy { generation: 2, policy: now });
    cluster.put(3, "new/3", &large).await;
    until(&cluster, 0, "the new policy", |status| status.policy.generation == 2 && status.scheme == "2+2").await;
    cluster.put(0, "new/0", &large).await;
    for node in [0, 3] {
        assert_eq!(written(&cluster, &format!("new/{node}")).await, ("2+2".parse().unwrap(), 256 << 10), "n{node}");
        assert_eq!(written(&cluster, &format!("large/{node}")).await, four_two, "n{node}: as it was written");
    }
    let kept = [0, 3].map(|node| {
        [("large", &large), ("small", &small), ("new", &large)]
            .map(|(kind, body)| (format!("{kind}/{node}"), body.clone()))
    });
    cluster.check(&[0, 3, 5], &kept.concat()).await;
    // By now the others were told otherwise, too.
    let differs = cluster.status(0).await.policy.differences;
    assert_eq!(
        differs.iter().map(|difference| difference.field).collect::<Vec<_>>(),
        ["policy.scheme", "policy.fragment"]
    );
    cluster.stop_all().await;
}

/// A request to put a body that says when it is asked for, and whose second half comes when it is let go.
fn slow(key: &str, bytes: &Bytes) -> (oneshot::Receiver<()>, oneshot::Sender<()>, PutObject) {
    let (begin, begun) = oneshot::channel::<()>();
    let (go, gone) = oneshot::channel::<()>();
    let (first, second) = (bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..));
    let first = async move {
        begin.send(()).ok();
        Ok(first)
    };
    let second = async move {
        gone.await.ok();
        Ok(second)
    };
    let chunks = futures::stream::once(first).chain(futures::stream::once(second));
    (begun, go, PutObject { body: Box::pin(chunks), ..put_request(key, bytes) })
}

/// Nothing is acknowledged by a rule that is over, however long ago the write began; what is safe by the new one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dur_1_a_write_that_a_change_of_the_policy_overtakes_is_judged_by_the_new_one() {
    let cluster = Cluster::start(6, timings()).await;
    let bytes = body(3, 6 << 20);
    let begin = async |key: &'static str| {
        let (begun, go, request) = slow(key, &bytes);
        let store = cluster.store(0);
        let writing = tokio::spawn(async move { store.put(request).await.map(drop) });
        begun.await.unwrap();
        (go, writing)
    };
    // Safe by the other as well: taken.
    let (go, writing) = begin("margin").await;
    let margin = Policy { write_margin: 0, ..policy() };
    let generation = cluster.runtime(3).set_policy(1, margin).await.unwrap().generation;
    go.send(()).unwrap();
    writing.await.unwrap().unwrap();

    let (go, writing) = begin("scheme").await;
    let scheme = Policy { scheme: "2+2".parse().unwrap(), ..policy() };
    cluster.runtime(3).set_policy(generation, scheme).await.unwrap();
    go.send(()).unwrap();
    let refused = writing.await.unwrap();
    assert!(matches!(&refused, Err(StoreError::Busy(why)) if why.contains("the scheme")), "{refused:?}");
    let listed = cluster.meta.locate(BUCKET, "scheme", VersionSelector::Current, RangeRequest::All).await.map(drop);
    assert!(matches!(listed, Err(MetaError::NoSuchKey(_))), "{listed:?}");
    cluster.put(0, "scheme", &bytes).await;
    let kept: Vec<_> = ["margin", "scheme"].map(|key| (key.to_owned(), bytes.clone())).into();
    cluster.check(&[0, 4], &kept).await;
    cluster.stop_all().await;
}

/// Every rack holds two members of a group of 4+2 that was placed by disks. By racks that is allowed, by zones not even
/// by the scheme; so it is by racks of which there are fewer: three nodes become one rack's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plc_1_a_wider_failure_domain_moves_members_out_of_crowded_ones() {
    let by_disk = Policy { failure_domain: FailureDomain::Disk, ..with_scheme("2+1") };
    let mut cluster = Cluster::start_in(&["r0", "r0", "r0", "r1", "r2"], timings()).await;
    let generation = cluster.runtime(0).set_policy(1, by_disk).await.unwrap().generation;
    until(&cluster, 0, "groups by disk", |status| status.groups.iter().any(|group| group.scheme == "2+1")).await;
    // Groups spread over racks as they can even then; so one is made that does not.
    let disks = cluster.meta.disks().await.unwrap();
    let crowded: Vec<_> = disks.iter().filter(|disk| disk.rack == "r0").map(|disk| disk.id).take(3).collect();
    let group = cluster.meta.create_group(by_disk.scheme, crowded.clone()).await.unwrap();
    until(&cluster, 0, "the group is no trouble", |status| {
        status.groups.iter().any(|shown| shown.id == group.id && !shown.crowded)
    })
    .await;

    let by_rack = Policy { failure_domain: FailureDomain::Rack, ..by_disk };
    cluster.runtime(1).set_policy(generation, by_rack).await.unwrap();
    until(&cluster, 0, "the group's members are spread", |status| {
        status.failure_domain == FailureDomain::Rack && status.groups.iter().all(|group| !group.crowded)
    })
    .await;
    let moved = cluster.meta.group(group.id).await.unwrap().unwrap();
    assert!(moved.epoch > 1 && moved.members != crowded, "{moved:?}");
    cluster.stop(4).await;
    cluster.stop_all().await;
}

/// A node that could not hold what it would write does not begin to (BND-1); what there is stays readable through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bnd_1_a_node_with_too_little_memory_for_the_policy_takes_no_writes_and_says_so() {
    let little = NodeMemory { stripes: 8 << 20, ..PLENTY };
    let mut cluster = Cluster::start_told(6, timings(), [(2, (policy(), little))].into()).await;
    let kept = vec![("before".to_owned(), body(1, 3 << 20))];
    cluster.put(2, &kept[0].0, &kept[0].1).await;
    let larger = Policy { fragment_bytes: 512 << 10, ..policy() };

    let refused = cluster.runtime(2).set_policy(1, larger).await;
    assert!(matches!(refused, Err(RuntimeError::PolicyTooLarge(_))), "{refused:?}");
    assert_eq!(cluster.meta.policy().await.unwrap().unwrap().generation, 1);

    cluster.runtime(0).set_policy(1, larger).await.unwrap();
    let too_large = |status: &ClusterStatus| status.policy.too_large.is_some();
    until(&cluster, 2, "too large", too_large).await;
    let why = cluster.status(2).await.policy.too_large.unwrap();
    assert_eq!(why, "stripes of 3 MiB need 12 MiB for requests, and this node has 8 MiB");
    for refused in
        [cluster.store(2).put(put_request("after", &kept[0].1)).await.map(drop), cluster.store(2).probe_write().await]
    {
        assert!(matches!(&refused, Err(StoreError::PolicyTooLarge(said)) if *said == why), "{refused:?}");
    }
    assert!(!too_large(&cluster.status(0).await));
    cluster.put(0, "after", &kept[0].1).await;
    cluster.check(&[2, 0], &kept).await;

    // As after a restart without more memory, and with it.
    cluster.stop(2).await;
    cluster.start_node(2).await;
    until(&cluster, 2, "still too large", too_large).await;
    cluster.check(&[2], &kept).await;
    cluster.stop(2).await;
    cluster.told.clear();
    cluster.start_node(2).await;
    until(&cluster, 2, "enough", |status| !too_large(status) && status.policy.generation == 2).await;
    cluster.put(2, "enough", &kept[0].1).await;
    cluster.stop_all().await;
}

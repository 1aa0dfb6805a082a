//! Writes that fail leave nothing; writes that succeed are as durable as they say; memory stays bounded.
#![allow(clippy::unwrap_used)]

mod twin;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_actors::{
    StoreError,
    checksum::{DigestPlan, Digests},
    fragment::Bounded,
    placement::{Heard, Liveness, Placement, Use},
    store::{Requester, StoreLimits},
};
use cairn_schema::{MetaError, ids::*, record::*, verbs::*};
use futures::StreamExt;
use twin::*;

#[tokio::test]
async fn absentees_of_an_acknowledged_write_are_in_the_ledger() {
    // One node of six disks: no other group can be formed, so the one there is takes writes without a member.
    let shape = Shape { racks: 1, disks_per_node: 6, level: FailureDomain::Disk, ..Shape::default() };
    let twin = twin(shape).await;
    twin.fault(2, OFF);
    let bytes = random_bytes(11_000, 1);
    twin.put("key", &bytes).await.unwrap();
    let stored = twin.settled().await;
    assert_eq!(stored.len(), 3 * 5);
    let missing: Vec<_> = twin.ledger().await.into_iter().map(|entry| (entry.fragment, entry.cause)).collect();
    assert_eq!(missing.len(), 3);
    for (fragment, cause) in missing {
        assert_eq!(cause, MissingCause::WriteAbsent);
        let group = twin.meta.group(fragment.group).await.unwrap().unwrap();
        assert_eq!(group.members[usize::from(fragment.position)], twin.disks[2]);
        assert!(!stored.iter().any(|(_, name)| *name == fragment));
    }
    assert_eq!(twin.get_all("key").await.unwrap(), bytes);
}

#[tokio::test]
async fn nothing_is_acknowledged_below_the_quorum_and_nothing_stays() {
    let shape = Shape { racks: 1, disks_per_node: 6, level: FailureDomain::Disk, ..Shape::default() };
    let twin = twin(shape).await;
    for disks in [[0, 1], [2, 5]] {
        disks.iter().for_each(|disk| twin.fault(*disk, OFF));
        let error = twin.put("key", &random_bytes(9_000, 1)).await.unwrap_err();
        let refused =
            matches!(error, StoreError::NotEnoughFragments { needed: 5, .. } | StoreError::NoPlacement { .. });
        assert!(refused, "{error}");
        twin.fragments.heal_all();
        // Fragments that a disk may hold although it is off now are scrub's business; here none was written to one.
        assert_eq!(twin.settled().await, []);
    }
    // Replicas need two of three.
    (0..5).for_each(|disk| twin.fault(disk, OFF));
    assert!(twin.put("small", &random_bytes(100, 1)).await.is_err());
    twin.fragments.heal_all();
    assert_eq!(twin.settled().await, []);
    assert!(matches!(twin.get_all("key").await, Err(StoreError::Meta(MetaError::NoSuchKey(_)))));
}

#[tokio::test]
async fn dur_2_the_answer_waits_for_the_quorum_to_be_durable() {
    let twin = twin(Shape::default()).await;
    (0..6).for_each(|disk| twin.fault(disk, Fault { write_delay: Duration::from_millis(300), ..Fault::default() }));
    let start = Instant::now();
    twin.put("key", &random_bytes(4_000, 1)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(twin.settled().await.len(), 6);
}

#[tokio::test]
async fn a_hanging_disk_delays_nothing_beyond_the_grace() {
    let twin = twin(Shape { deadline: Duration::from_secs(30), ..Shape::default() }).await;
    twin.fault(3, Fault { hangs: true, ..Fault::default() });
    let bytes = random_bytes(60_000, 1);
    let start = Instant::now();
    twin.put("key", &bytes).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(!twin.meta.ledger(None, 1000).await.unwrap().is_empty());
    assert_eq!(twin.get_all("key").await.unwrap(), bytes);
}

/// A rack of four that falls silent costs the first large upload a moment and not the deadline of a write: its stripes
/// go to groups without the rack. Nothing of them stays in the groups that were too slow.
#[tokio::test]
async fn a_silent_rack_does_not_hold_up_the_first_large_upload() {
    let (deadline, stripes) = (Duration::from_secs(8), 10);
    let bytes = random_bytes(stripes * 4000, 1);
    let twin = twin(Shape { racks: 4, disks_per_node: 2, deadline, ..Shape::default() }).await;
    let hangs = Fault { hangs: true, ..Fault::default() };
    [6, 7].iter().for_each(|disk| twin.fault(*disk, hangs));
    let start = Instant::now();
    twin.put("key", &bytes).await.unwrap();
    assert!(start.elapsed() < deadline, "{:?}", start.elapsed());
    assert_eq!(twin.get_all("key").await.unwrap(), bytes);
    // Every group has members in each of the four racks, and none can do without the silent one.
    assert!(twin.fragments.puts.load(Ordering::SeqCst) > stripes as u64 * 6, "no stripe was sent to another group");
    twin.fragments.heal_all();
    assert_eq!(twin.settled().await, expected_fragments(&twin, "key").await);
    // DUR-1: any rack may go now.
    for rack in 0..4 {
        (0..2).for_each(|disk| twin.fault(rack * 2 + disk, OFF));
        assert_eq!(twin.get_all("key").await.unwrap(), bytes, "rack {rack}");
        twin.fragments.heal_all();
    }
}

/// When everything is slow, whichever group is done first has the stripe, and the other nothing of it.
#[tokio::test]
async fn of_two_groups_that_a_slow_stripe_went_to_one_keeps_it() {
    let limits = StoreLimits { write_hedge_floor: Duration::from_millis(20), ..StoreLimits::default() };
    let twin = twin(Shape { racks: 8, deadline: Duration::from_secs(30), limits, ..Shape::default() }).await;
    let slow = |millis| Fault { write_delay: Duration::from_millis(millis), ..Fault::default() };
    (0..8).for_each(|disk| twin.fault(disk, slow(300)));
    let bytes = random_bytes(12_000, 1);
    // No disk is blamed: it would be all of them, and the stripes after the first would be refused.
    twin.put("key", &bytes).await.unwrap();
    let puts = twin.fragments.puts.load(Ordering::SeqCst);
    assert!(puts > 18, "no stripe was sent again: {puts}");
    twin.fragments.heal_all();
    let stored = twin.settled().await;
    let expected = expected_fragments(&twin, "key").await;
    let stray: Vec<_> = stored.iter().filter(|fragment| !expected.contains(fragment)).collect();
    assert!(stray.is_empty(), "left behind: {stray:?}");
    let absent = twin.ledger().await.len();
    assert!(
        stored.len() + absent >= expected.len(),
        "{} of {} are stored, {absent} known to be absent",
        stored.len(),
        expected.len()
    );
    assert_eq!(twin.get_all("key").await.unwrap(), bytes);
}

/// On a busy machine every disk is late once for some stripe, each for another one.
#[tokio::test]
async fn disks_that_were_all_slow_once_are_tried_before_a_write_is_refused() {
    let twin = twin(Shape::default()).await;
    let bytes = random_bytes(9_000, 1);
    twin.put("before", &bytes).await.unwrap();
    let avoid_all = || twin.disks.iter().for_each(|disk| twin.placement.report(*disk, Use::Write, Heard::Nothing));
    avoid_all();
    twin.put("late", &bytes).await.unwrap();
    assert_eq!(twin.get_all("late").await.unwrap(), bytes);
    // They have answered, and are as good as before.
    twin.put("after", &bytes).await.unwrap();
    // Those that really are gone cost one try, and then the refusal is at once.
    (0..6).for_each(|disk| twin.fault(disk, OFF));
    avoid_all();
    assert!(matches!(twin.put("lost", &bytes).await, Err(StoreError::NotEnoughFragments { .. })));
}

/// Every fragment that the current version of a key has, where it belongs, in order of name.
async fn expected_fragments(twin: &Twin, key: &str) -> Vec<(DiskId, FragmentName)> {
    let located = twin.store.locate(BUCKET, key, VersionSelector::Current, RangeRequest::All).await.unwrap();
    let mut expected = Vec::new();
    let blob = &located.parts[0].slices[0].blob;
    let mut stripe = 0;
    for run in &blob.runs {
        let group = twin.meta.group(run.group).await.unwrap().unwrap();
        for _ in 0..run.stripes {
            for (position, disk) in (0..).zip(&group.members) {
                expected.push((*disk, FragmentName { group: run.group, blob: blob.id, stripe, position }));
            }
            stripe += 1;
        }
    }
    expected.sort_by_key(|(_, name)| *name);
    expected
}

#[tokio::test]
async fn refused_short_long_broken_and_abandoned_bodies_leave_nothing() {
    let twin = twin(Shape::default()).await;
    for size in [0usize, 10, 5_000, 50_000] {
        let bytes = random_bytes(size, 1);
        let len = size as u64;

        let mut request = put_request("key", Some(len), body_of(bytes.clone(), 900));
        request.verify = Box::new(|_| Err("the digest differs".into()));
        assert!(matches!(twin.store.put(request).await, Err(StoreError::Rejected(_))));

        let request = put_request("key", Some(len + 1), body_of(bytes.clone(), 900));
        assert!(matches!(twin.store.put(request).await, Err(StoreError::Body(_))));

        if size > 0 {
            let request = put_request("key", Some(len - 1), body_of(bytes.clone(), 900));
            assert!(matches!(twin.store.put(request).await, Err(StoreError::Body(_))));
        }
        for length in [None, Some(len + 1)] {
            let broken = body_of(bytes.clone(), 900).chain(futures::stream::iter([Err("reset".into())])).boxed();
            assert!(matches!(twin.store.put(put_request("key", length, broken)).await, Err(StoreError::Body(_))));
        }
        let mut request = put_request("key", Some(len), body_of(bytes.clone(), 900));
        request.bucket = "nosuchbucket".into();
        assert!(matches!(twin.store.put(request).await, Err(StoreError::Meta(MetaError::NoSuchBucket(_)))));

        // The client goes away: its body never ends, and the future is dropped once it has taken everything.
        let taken = Arc::new(AtomicU64::new(0));
        let counter = taken.clone();
        let endless = body_of(bytes.clone(), 900)
            .inspect(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
            })
            .chain(futures::stream::pending())
            .boxed();
        let put = twin.store.put(put_request("key", None, endless));
        let pieces = bytes.len().div_ceil(900) as u64;
        let all_taken = async {
            while taken.load(Ordering::SeqCst) < pieces {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = put => panic!("the body has no end"),
            () = all_taken => {}
        }
        assert_eq!(twin.settled().await, [], "{size}");
        assert_eq!(twin.store.memory().0, 0);
    }
    assert!(matches!(twin.get_all("key").await, Err(StoreError::Meta(MetaError::NoSuchKey(_)))));
    assert_eq!(twin.ledger().await, []);
}

/// Scrub takes fragments without a blob row for orphans once they are as old as the grace: a write may not live as
/// long.
#[tokio::test]
async fn gc_1_a_body_that_outlives_half_the_grace_is_refused_and_leaves_nothing() {
    let twin = twin(Shape { reclaim_grace: Duration::from_secs(1), ..Shape::default() }).await;
    let dawdling = body_of(random_bytes(50_000, 1), 900).chain(futures::stream::pending()).boxed();
    let refused = twin.store.put(put_request("key", None, dawdling)).await;
    assert!(matches!(refused, Err(StoreError::Timeout(_))), "{refused:?}");
    assert_eq!(twin.settled().await, []);
    assert_eq!(twin.store.memory().0, 0);
}

#[tokio::test]
async fn a_failed_precondition_leaves_the_old_object_and_no_fragments_of_the_new() {
    let twin = twin(Shape::default()).await;
    let old = random_bytes(5_000, 1);
    twin.put("key", &old).await.unwrap();
    let before = twin.settled().await;
    let new = random_bytes(6_000, 2);
    let mut request = put_request("key", Some(6_000), body_of(new, 900));
    request.precondition.if_none_match = Some(EtagMatch::Any);
    let error = twin.store.put(request).await.unwrap_err();
    assert!(matches!(error, StoreError::Meta(MetaError::PreconditionFailed(_))), "{error}");
    assert_eq!(twin.settled().await, before);
    assert_eq!(twin.get_all("key").await.unwrap(), old);
}

#[tokio::test]
async fn the_verifier_sees_the_digests_of_the_whole_body() {
    let twin = twin(Shape::default()).await;
    let bytes = random_bytes(30_000, 1);
    let seen = Arc::new(parking_lot::Mutex::new(Digests::default()));
    let mut request = put_request("key", None, body_of(bytes.clone(), 1234));
    request.digests = DigestPlan { sha256: true, crc32c: true, ..DigestPlan::default() };
    let keep = seen.clone();
    request.verify = Box::new(move |digests| {
        *keep.lock() = digests.clone();
        Ok(None)
    });
    let committed = twin.store.put(request).await.unwrap();
    let mut digester = cairn_actors::checksum::Digester::new(DigestPlan {
        md5: true,
        sha256: true,
        crc32c: true,
        ..DigestPlan::default()
    });
    digester.update(&bytes);
    let expected = digester.finish();
    assert_eq!(*seen.lock(), expected.digests);
    assert_eq!(Some(committed.version.etag.md5), expected.digests.md5);
    let located = twin.meta.locate(BUCKET, "key", VersionSelector::Current, RangeRequest::All).await.unwrap();
    assert_eq!(located.parts[0].slices[0].blob.checksum, expected.xxh3);
}

#[tokio::test]
async fn two_racks_of_six_die_and_new_writes_go_to_groups_formed_from_the_rest() {
    let twin = twin(Shape { nodes_per_rack: 2, ..Shape::default() }).await;
    let old = random_bytes(9_000, 1);
    twin.put("old", &old).await.unwrap();
    let old_small = random_bytes(90, 1);
    twin.put("old-small", &old_small).await.unwrap();
    let before = twin.settled().await;
    let dead: Vec<usize> = (0..4).collect();
    dead.iter().for_each(|disk| twin.fault(*disk, OFF));
    // Gossip has not noticed yet: what requests learn has to suffice.
    for n in 0..12 {
        let bytes = random_bytes(9_000 + n, n as u64);
        twin.put(&format!("new-{n}"), &bytes).await.unwrap();
        assert_eq!(twin.get_all(&format!("new-{n}")).await.unwrap(), bytes);
        assert_eq!(twin.get_all("old").await.unwrap(), old);
        assert_eq!(twin.get_all("old-small").await.unwrap(), old_small);
    }
    let gossip = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(rack, node)| (node_id(rack, node), Liveness::Dead));
    twin.placement.set_liveness(gossip);
    twin.put("last", &random_bytes(9_000, 3)).await.unwrap();
    let mut durable: HashMap<(BlobId, u32), Vec<DiskId>> = HashMap::new();
    for (disk, name) in twin.settled().await {
        if !before.contains(&(disk, name)) {
            durable.entry((name.blob, name.stripe)).or_default().push(disk);
        }
    }
    for ((blob, stripe), disks) in durable {
        assert!(disks.len() >= 5, "stripe {stripe} of {blob} has {} durable fragments", disks.len());
        for rack in 0..6 {
            assert!(disks.iter().filter(|disk| disk.0[0] == rack).count() <= 2, "PLC-1");
        }
    }
    // Whole groups were formed, so nothing of the last write is missing.
    let last = twin.meta.locate(BUCKET, "last", VersionSelector::Current, RangeRequest::All).await.unwrap();
    let ledger = twin.ledger().await;
    assert!(!ledger.iter().any(|entry| entry.fragment.blob == last.parts[0].slices[0].blob.id));
    // Bounded: what each disk that lives needs, not one group for each request.
    let groups = twin.meta.groups().await.unwrap().into_iter().filter(|group| group.scheme == twin.policy.scheme);
    assert!(groups.count() <= 12 + 6);
}

/// A body that runs `then` when all its bytes have been taken.
fn body_then(bytes: Bytes, then: impl Future<Output = ()> + Send + 'static) -> cairn_actors::store::BodyIn {
    let tail = futures::stream::once(async move {
        then.await;
        Ok(Bytes::new())
    });
    body_of(bytes, 1000).chain(tail).boxed()
}

async fn change_under_a_write(moved: usize) -> (Twin, Result<Committed, StoreError>) {
    let twin = twin(Shape { disks_per_node: 2, ..Shape::default() }).await;
    let (meta, fragments) = (twin.meta.clone(), twin.fragments.clone());
    let change = async move {
        // Both stripes are written before their group changes.
        let written = || fragments.all().iter().map(|(_, name)| (name.group, name.stripe)).collect::<Vec<_>>();
        while written().len() < 12 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut groups: Vec<_> = written().into_iter().map(|(group, _)| group).collect();
        groups.dedup();
        for id in groups {
            let group = meta.group(id).await.unwrap().unwrap();
            let mut members = group.members.clone();
            members.iter_mut().take(moved).for_each(|disk| disk.0[2] ^= 1);
            meta.update_group(id, group.epoch, members, GroupState::Open).await.unwrap();
        }
    };
    let bytes = random_bytes(8_000, 1);
    let result = twin.store.put(put_request("key", None, body_then(bytes, change))).await;
    (twin, result)
}

#[tokio::test]
async fn a_group_that_changes_under_a_write_costs_ledger_rows_if_the_quorum_still_holds() {
    let (twin, result) = change_under_a_write(1).await;
    result.unwrap();
    let ledger = twin.ledger().await;
    let missing: Vec<_> = ledger.iter().map(|entry| (entry.fragment.stripe, entry.fragment.position)).collect();
    assert_eq!(missing, [(0, 0), (1, 0)]);
    assert_eq!(twin.get_all("key").await.unwrap(), random_bytes(8_000, 1));
}

#[tokio::test]
async fn a_group_that_changes_too_much_under_a_write_fails_it_and_leaves_nothing() {
    let (twin, result) = change_under_a_write(2).await;
    let error = result.unwrap_err();
    assert!(matches!(error, StoreError::NotEnoughFragments { durable: 4, needed: 5, .. }), "{error}");
    assert_eq!(twin.settled().await, []);
}

#[tokio::test]
async fn bnd_1_memory_in_flight_stays_within_the_budget_whatever_the_object_size() {
    let memory = 1 << 20;
    let limits = StoreLimits { memory_wait: Duration::from_secs(20), ..StoreLimits::default() };
    let twin = Arc::new(twin(Shape { fragment_bytes: 16 << 10, memory, limits, ..Shape::default() }).await);
    (0..6).for_each(|disk| twin.fault(disk, Fault { write_delay: Duration::from_millis(3), ..Fault::default() }));
    let peak = Arc::new(AtomicU64::new(0));
    let writers = (0..12u64).map(|n| {
        let (twin, peak) = (twin.clone(), peak.clone());
        async move {
            let bytes = random_bytes(3 << 20, n);
            let watched = body_of(bytes.clone(), 32 << 10)
                .inspect({
                    let twin = twin.clone();
                    move |_| {
                        peak.fetch_max(twin.store.memory().0, Ordering::SeqCst);
                    }
                })
                .boxed();
            twin.store.put(put_request(&format!("key-{n}"), None, watched)).await.unwrap();
            assert_eq!(twin.get_all_streamed(&format!("key-{n}")).await, bytes);
        }
    });
    futures::future::join_all(writers).await;
    let (in_use, capacity) = twin.store.memory();
    assert_eq!(in_use, 0);
    assert!(capacity <= memory && peak.load(Ordering::SeqCst) <= capacity);
    // What the twin saw under way is what the budget allowed, parity included.
    assert!(twin.fragments.peak_in_flight.load(Ordering::SeqCst) <= memory);
}

impl Twin {
    /// As a client reads: one piece at a time, copied out.
    async fn get_all_streamed(&self, key: &str) -> Vec<u8> {
        let located = self.store.locate(BUCKET, key, VersionSelector::Current, RangeRequest::All).await.unwrap();
        let mut got = self.store.open(&Requester::default(), located).await.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = got.body.next().await {
            all.extend_from_slice(&piece.unwrap());
            assert!(self.store.memory().0 <= self.store.memory().1);
        }
        all
    }
}

#[tokio::test]
async fn bnd_1_a_full_budget_refuses_new_bodies_as_busy_and_finishes_the_old() {
    let limits = StoreLimits { memory_wait: Duration::from_millis(50), ..StoreLimits::default() };
    let twin = twin(Shape { memory: 8 << 10, limits, ..Shape::default() }).await;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let bytes = random_bytes(12_000, 1);
    let held = body_then(bytes.clone(), async { wait.await.unwrap() });
    let store = twin.store.clone();
    let first = tokio::spawn(async move { store.put(put_request("first", None, held)).await });
    let deadline = Instant::now() + Duration::from_secs(10);
    while twin.fragments.all().len() < 12 {
        assert!(Instant::now() < deadline, "the first body was not taken in");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let error = twin.put("second", &bytes).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy(_)), "{error}");
    go.send(()).unwrap();
    first.await.unwrap().unwrap();
    twin.put("second", &bytes).await.unwrap();
    assert_eq!(twin.get_all_streamed("first").await, bytes);
}

/// A node with two disks in a rack of its own, as the metadata knows them; nothing answers for them.
async fn register_rack(twin: &Twin, rack: u8) {
    let node = Node {
        id: node_id(rack, 0),
        rack: format!("r{rack}"),
        zone: "z".into(),
        address: "127.0.0.1:1".parse().unwrap(),
    };
    twin.meta.register_node(node).await.unwrap();
    for disk in 0..2 {
        let row = Disk {
            id: disk_id(rack, 0, disk),
            node: node_id(rack, 0),
            rack: format!("r{rack}"),
            zone: "z".into(),
            capacity_bytes: 1 << 40,
            state: DiskState::Up,
            since_ms: 0,
        };
        twin.meta.register_disk(row).await.unwrap();
    }
}

fn racks_of(group: &Group) -> usize {
    group.members.iter().map(|disk| disk.0[0]).collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn groups_are_made_once_however_many_nodes_want_them() {
    let twin = twin(Shape { racks: 0, ..Shape::default() }).await;
    for rack in 0..6 {
        register_rack(&twin, rack).await;
    }
    let error = twin.put("key", &random_bytes(9_000, 1)).await;
    assert!(error.is_err(), "no disk of the twin exists: {error:?}");
    let nodes: Vec<_> = (0..6).map(|rack| Placement::new(twin.meta.clone(), node_id(rack, 0), twin.policy)).collect();
    futures::future::join_all(nodes.iter().map(|node| node.ensure_groups()))
        .await
        .into_iter()
        .for_each(|made| assert!(made.unwrap() < 100));
    for node in &nodes {
        node.ensure_groups().await.unwrap();
    }
    let groups = twin.meta.groups().await.unwrap();
    for scheme in twin.policy.schemes() {
        let mut per_disk: HashMap<DiskId, usize> = HashMap::new();
        for group in groups.iter().filter(|group| group.scheme == scheme) {
            group.members.iter().for_each(|disk| *per_disk.entry(*disk).or_default() += 1);
            assert_eq!(racks_of(group), group.members.len(), "one rack each while there are enough");
        }
        assert_eq!(per_disk.len(), 12);
        assert!(per_disk.values().all(|count| (4..=9).contains(count)), "{scheme}: {per_disk:?}");
    }
}

/// Each group of a lost disk gets another disk instead of it.
#[tokio::test]
async fn in_a_large_cluster_a_disk_is_in_so_many_groups_that_many_take_its_data() {
    let twin = twin(Shape { racks: 0, ..Shape::default() }).await;
    for rack in 0..64 {
        register_rack(&twin, rack).await;
    }
    let placement = Placement::new(twin.meta.clone(), node_id(0, 0), twin.policy);
    while placement.ensure_groups().await.unwrap() > 0 {}
    let mut of_disk: HashMap<DiskId, usize> = HashMap::new();
    let mut beside: HashMap<DiskId, HashSet<DiskId>> = HashMap::new();
    for group in placement.topology().healthy_groups(twin.policy.scheme) {
        for disk in &group.members {
            *of_disk.entry(*disk).or_default() += 1;
            beside.entry(*disk).or_default().extend(&group.members);
        }
    }
    assert_eq!(of_disk.len(), 128);
    assert!(of_disk.values().all(|groups| (14..=19).contains(groups)), "{of_disk:?}");
    let fewest = beside.values().map(HashSet::len).min().unwrap();
    assert!(fewest > 40, "one that is lost would be rebuilt from {fewest} disks");
}

#[tokio::test]
async fn plc_1_groups_from_before_a_rack_came_take_nothing_new_once_wider_ones_can_be() {
    let twin = twin(Shape { racks: 0, ..Shape::default() }).await;
    let scheme = twin.policy.scheme;
    let placement = Placement::new(twin.meta.clone(), node_id(0, 0), twin.policy);
    for rack in 0..4 {
        register_rack(&twin, rack).await;
    }
    placement.ensure_groups().await.unwrap();
    let narrow = placement.choose(scheme, &[]).await.unwrap();
    assert_eq!(racks_of(&narrow), 4);
    for rack in 4..6 {
        register_rack(&twin, rack).await;
    }
    placement.refresh().await.unwrap();
    // At once: nothing else has formed groups since.
    assert_eq!(racks_of(&placement.choose(scheme, &[]).await.unwrap()), 6);
    placement.ensure_groups().await.unwrap();
    for group in placement.topology().healthy_groups(scheme) {
        assert_eq!(racks_of(group), 6, "{group:?}");
    }
    // With a rack silent, the old ones serve again, as well as any that could be formed.
    placement.set_liveness([(node_id(5, 0), Liveness::Dead)]);
    let healthy = placement.topology().healthy_groups(scheme).to_vec();
    assert!(healthy.iter().any(|group| group.id == narrow.id), "{healthy:?}");
}

#[tokio::test]
async fn without_enough_domains_the_error_says_what_to_add() {
    let twin = twin(Shape { racks: 2, nodes_per_rack: 3, ..Shape::default() }).await;
    let error = twin.put("key", &random_bytes(9_000, 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::NoPlacement { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("4+2") && text.contains("at most 2 in a rack") && text.contains("add at least 2 more"),
        "{text}"
    );
    twin.put("small", &random_bytes(100, 1)).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_leaves_placement() {
    let twin = twin(Shape { disks_per_node: 2, ..Shape::default() }).await;
    twin.fault(4, Fault { full: true, ..Fault::default() });
    twin.placement.poll_loads(&Bounded::new(twin.fragments.clone()), Duration::from_secs(1)).await;
    for n in 0..20 {
        twin.put(&format!("key-{n}"), &random_bytes(5_000, n)).await.unwrap();
    }
    assert_eq!(twin.ledger().await, []);
    assert!(twin.settled().await.iter().all(|(disk, _)| *disk != twin.disks[4]));
}

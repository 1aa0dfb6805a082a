//! Whole nodes over real QUIC, gossip and disks: they die, return, stay away, rot, and the data stays whole.
#![allow(clippy::unwrap_used)]

mod forged;
mod policy;
mod rates;
mod support;

use std::{
    io::{Read, Seek, SeekFrom, Write},
    time::{Duration, Instant},
};

use cairn_actors::{policy::Timings, runtime::ReachStatus, supervisor::ChildState};
use cairn_schema::record::*;
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dur_1_red_2_two_racks_die_return_and_the_ledger_drains() {
    let mut cluster = Cluster::start(6, timings()).await;
    let mut kept = objects(1);
    for (key, body) in &kept {
        cluster.put(0, key, body).await;
    }
    cluster.check(&[0, 5], &kept).await;

    cluster.kill(4);
    cluster.kill(5);
    // At once, before anybody has noticed, and again when the cluster knows.
    let at_once = objects(2);
    for (key, body) in &at_once {
        cluster.put(1, key, body).await;
    }
    cluster.check(&[0], &kept).await;
    for node in [4, 5] {
        cluster.until_node(node, DiskState::Down).await;
    }
    let later = objects(3);
    for (key, body) in &later {
        cluster.put(2, key, body).await;
    }
    let before = kept.len();
    kept.extend(at_once);
    kept.extend(later);
    cluster.check(&[0, 3], &kept).await;
    let deadline = Instant::now() + LIMIT;
    loop {
        // Each node's gossip notices in its own time; the metadata had it from whichever was first.
        let status = cluster.status(0).await;
        let silent = status.nodes.iter().filter(|node| node.gossip != "alive");
        if silent.map(|node| node.id.as_str()).eq(["n4", "n5"]) {
            break;
        }
        assert!(Instant::now() < deadline, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    cluster.start_node(4).await;
    cluster.start_node(5).await;
    for node in [4, 5] {
        cluster.until_node(node, DiskState::Up).await;
    }
    cluster.until_ledger_empty().await;
    // Redundancy is really back: another rack may go, and for what was written when all six lived a second one. (What
    // was written while four racks lived has two fragments in some of them, which is as many as any two racks may
    // cost.)
    cluster.kill(0);
    cluster.check(&[2, 5], &kept).await;
    cluster.kill(1);
    cluster.check(&[2, 5], &kept[..before]).await;
    cluster.stop_all().await;
}

/// A node that no call reaches is told as such, although gossip calls it alive: clients would meet errors and the
/// status would see nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_gossips_and_is_not_reached_is_told() {
    let mut cluster = Cluster::start(2, timings()).await;
    let stranger = cluster.start_stranger().await;
    let deadline = Instant::now() + LIMIT;
    loop {
        let told = [(0, stranger), (stranger, 0)].map(|(from, to)| (from, format!("n{to}")));
        let mut seen = Vec::new();
        for (from, to) in &told {
            let status = cluster.status(*from).await;
            let node = status.nodes.into_iter().find(|node| node.id.as_str() == to).unwrap();
            seen.push(node.reach);
        }
        let cut_off = |reach: &Option<ReachStatus>| {
            reach.as_ref().is_some_and(|reach| reach.cut_off.is_some() && reach.answered_seconds_ago.is_none())
        };
        if seen.iter().all(cut_off) {
            break;
        }
        assert!(Instant::now() < deadline, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The others reach each other, and nobody calls itself.
    let status = cluster.status(0).await;
    let reach = |id: &str| status.nodes.iter().find(|node| node.id.as_str() == id).unwrap().reach.clone();
    assert!(reach("n0").is_none(), "{:?}", reach("n0"));
    assert!(reach("n1").is_some_and(|reach| reach.cut_off.is_none() && reach.answered_seconds_ago.is_some()));
    // It gossips like any other, and that helps it nothing: nobody reaches its disks.
    cluster.until_node(stranger, DiskState::Down).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plc_1_lost_disks_leave_their_groups_and_their_fragments_are_rebuilt_elsewhere() {
    let timings = Timings { down_to_lost: Duration::from_secs(1), ..timings() };
    let mut cluster = Cluster::start(6, timings).await;
    let kept = objects(1);
    for (key, body) in &kept {
        cluster.put(0, key, body).await;
    }
    cluster.kill(5);
    cluster.until_node(5, DiskState::Lost).await;
    let lost: Vec<_> = cluster.meta.disks().await.unwrap();
    let lost: Vec<_> = lost.iter().filter(|disk| disk.state == DiskState::Lost).map(|disk| disk.id).collect();
    assert_eq!(lost.len(), 2);
    let deadline = Instant::now() + LIMIT;
    loop {
        let groups = cluster.meta.groups().await.unwrap();
        let wounded = groups.iter().filter(|group| group.members.iter().any(|disk| lost.contains(disk))).count();
        if wounded == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{wounded} groups still have lost members");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.until_ledger_empty().await;
    let racks = cluster.meta.disks().await.unwrap();
    for group in cluster.meta.groups().await.unwrap() {
        for rack in 0..6 {
            let name = format!("r{rack}");
            let inside = |disk: &cairn_schema::ids::DiskId| racks.iter().any(|row| row.id == *disk && row.rack == name);
            let count = group.members.iter().filter(|disk| inside(disk)).count();
            assert!(count <= group.scheme.parity(), "{group:?} has {count} members in {name}");
        }
    }
    // With one rack gone for good another may die.
    cluster.kill(0);
    cluster.check(&[1, 4], &kept).await;
    cluster.stop_all().await;
}

/// One row for each of its groups counts what it held, and whoever repairs a group goes on where another stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn red_1_a_lost_rack_is_counted_by_its_groups_and_heals_while_those_who_repair_are_killed() {
    let mut cluster = Cluster::start(6, timings()).await;
    let mut kept = Vec::new();
    // Groups are chosen by chance: it is written until the node's disks hold enough to be told apart by.
    let (mut gone, mut missing) = (Vec::new(), 0);
    for seed in 0..50 {
        kept.extend(objects(seed));
        for (key, body) in &kept[kept.len() - 5..] {
            cluster.put(0, key, body).await;
        }
        (gone, missing) = cluster.held_by(5).await;
        if missing > 100 {
            break;
        }
    }
    assert!(missing > 100, "node 5 got only {missing} fragments");
    cluster.kill(5);
    cluster.until_node(5, DiskState::Down).await;
    let before = cluster.meta.ledger_len().await.unwrap();
    let changes = gone.iter().map(|disk| (*disk, DiskState::Down, DiskState::Lost)).collect();
    cluster.meta.set_disk_states(changes).await.unwrap();
    let held = |group: &Group| group.members.iter().any(|member| gone.contains(member));
    let (mut most, mut rows, mut kills) = (0, 0, 0);
    let deadline = Instant::now() + LIMIT;
    loop {
        let length = cluster.meta.ledger_len().await.unwrap();
        most = most.max(length);
        rows = rows.max(cluster.meta.ledger(None, 1000).await.unwrap().len());
        let wounded = cluster.meta.groups().await.unwrap().iter().filter(|group| held(group)).count();
        if wounded == 0 && length == 0 {
            break;
        }
        if wounded == 0 && kills < 2 {
            kills += 1;
            cluster.kill(kills);
            cluster.start_node(kills).await;
        }
        assert!(Instant::now() < deadline, "{length} fragments are still missing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(most <= missing + before, "{most} counted, and {missing} were lost");
    assert!(rows < 20, "{rows} rows of single fragments: what was lost has one for each group");
    cluster.until_ledger_empty().await;
    let audit = cluster.meta.audit().await.unwrap();
    assert_eq!(audit.problems, 0, "{:?}", audit.first_problems);
    // DUR-1: of the five racks that are left any may go.
    cluster.kill(0);
    cluster.check(&[1, 4], &kept).await;
    cluster.stop_all().await;
}

/// The rack then holds three fragments of a stripe, which is one more than may be lost, until a member has moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plc_1_a_node_that_was_moved_to_another_rack_crowds_it_no_longer_than_it_takes_to_mend() {
    let mut cluster = Cluster::start(6, timings()).await;
    let kept = objects(1);
    for (key, body) in &kept {
        cluster.put(0, key, body).await;
    }
    for (moved, rack) in [(5, "r0"), (4, "r0")] {
        cluster.stop(moved).await;
        cluster.racks[moved] = rack.to_owned();
        cluster.start_node(moved).await;
    }
    cluster.until_disks("all up", |disks| disks.iter().all(|disk| disk.state == DiskState::Up)).await;
    let deadline = Instant::now() + LIMIT;
    loop {
        let status = cluster.status(0).await;
        let crowded = status.groups.iter().filter(|group| group.crowded).count();
        if crowded == 0 && status.missing_fragments == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{crowded} groups are crowded, {} missing", status.missing_fragments);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let disks = cluster.meta.disks().await.unwrap();
    for group in cluster.meta.groups().await.unwrap() {
        for rack in ["r0", "r1", "r2", "r3"] {
            let inside = |id: &cairn_schema::ids::DiskId| disks.iter().any(|disk| disk.id == *id && disk.rack == rack);
            let count = group.members.iter().filter(|disk| inside(disk)).count();
            assert!(count <= group.scheme.parity(), "{group:?} has {count} members in {rack}");
        }
    }
    cluster.check(&[1, 5], &kept).await;
    let (made, copied) = ("cairn_repair_fragments_total", "cairn_repair_copied_fragments_total");
    assert!(cluster.counted(copied) > 0.0, "the disks before still had what moved");
    assert!(cluster.counted(copied) <= cluster.counted(made));
    // Any rack may go, the crowded one above all.
    for node in [0, 4, 5] {
        cluster.kill(node);
    }
    cluster.check(&[1], &kept).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn int_1_gc_2_rot_is_found_and_mended_and_deleted_objects_leave_nothing() {
    let second = Duration::from_secs(1);
    let timings = Timings { scrub_interval: second, reclaim_grace: 10 * second, ..timings() };
    let cluster = Cluster::start(6, timings).await;
    let kept = objects(1);
    for (key, body) in &kept {
        cluster.put(0, key, body).await;
    }
    let whole = cluster.fragments(0).await;
    let marker = &kept[2].1[5000..5032];
    let mut damaged = None;
    for (node, disk) in (0..6).flat_map(|node| [(node, 0), (node, 1)]) {
        if let Some(file) = flip(&cluster.disk_dir(node, disk), marker) {
            damaged = Some((node, file));
            break;
        }
    }
    let (node, file) = damaged.expect("a copy of the object on some disk");
    // The damaged copy is neither served nor left: the bytes are on that disk again.
    cluster.check(&[node], &kept).await;
    let deadline = Instant::now() + LIMIT;
    while !contains(file.parent().unwrap(), marker) {
        assert!(Instant::now() < deadline, "the damage in {} was not mended", file.display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.until_ledger_empty().await;
    cluster.check(&[0, node], &kept).await;
    assert_eq!(cluster.fragments(0).await, whole);

    for (key, _) in &kept {
        cluster.delete(key).await;
    }
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = cluster.fragments(0).await;
        if left == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{left} fragments of deleted objects are still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn con_1_a_cluster_stopped_in_order_finds_its_data_again() {
    let mut cluster = Cluster::start(6, timings()).await;
    let kept = objects(1);
    for (key, body) in &kept {
        cluster.put(3, key, body).await;
    }
    for node in 0..6 {
        cluster.stop(node).await;
    }
    cluster.until_disks("all down", |disks| disks.iter().all(|disk| disk.state == DiskState::Down)).await;
    for node in 0..6 {
        cluster.start_node(node).await;
    }
    cluster.until_disks("all up", |disks| disks.iter().all(|disk| disk.state == DiskState::Up)).await;
    cluster.check(&[0, 1, 2, 3, 4, 5], &kept).await;
    cluster.until_ledger_empty().await;
    let status = cluster.status(2).await;
    assert!(status.actors.iter().all(|actor| actor.state == "running" && actor.restarts == 0), "{:#?}", status.actors);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_who_stops_a_node_waits_until_it_has_stopped() {
    let cluster = Cluster::start(1, timings()).await;
    let node = cluster.runtime(0);
    let second = async {
        node.stop(Duration::from_secs(5)).await;
        let running: Vec<_> = node.actors().into_iter().filter(|actor| actor.state == ChildState::Running).collect();
        assert!(running.is_empty(), "{running:#?}");
    };
    // Polled in order: the second call comes while the first has begun.
    futures::join!(node.stop(Duration::from_secs(5)), second);
}

/// Flips one bit of the first occurrence of `marker` in the files below; which file.
fn flip(dir: &std::path::Path, marker: &[u8]) -> Option<std::path::PathBuf> {
    for path in segments(dir) {
        let Some(at) = find(&path, marker) else { continue };
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[marker[0] ^ 1]).unwrap();
        file.sync_all().unwrap();
        return Some(path);
    }
    None
}

fn contains(dir: &std::path::Path, marker: &[u8]) -> bool {
    segments(dir).iter().any(|path| find(path, marker).is_some())
}

fn find(path: &std::path::Path, marker: &[u8]) -> Option<u64> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).ok()?;
    bytes.windows(marker.len()).position(|window| window == marker).map(|at| at as u64)
}

fn segments(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path.extension().is_some_and(|extension| extension == "seg") {
            found.push(path);
        }
    }
    found
}

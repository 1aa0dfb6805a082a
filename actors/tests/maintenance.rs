//! Nodes under maintenance: what is written goes elsewhere at once, and nothing is refused that would have been taken.
#![allow(clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_actors::{
    placement::{DiskLoad, Placement},
    policy::Policy,
};
use cairn_schema::{Meta, ids::*, record::*};

const LIMIT: Duration = Duration::from_secs(30);

fn node(number: u8) -> NodeId {
    format!("n{number}").parse().unwrap()
}

fn scheme() -> Scheme {
    "2+1".parse().unwrap()
}

/// Nodes with one disk each, every one a failure domain, all of which take writes.
async fn cluster(nodes: u8, write_margin: u8) -> (Meta, Arc<Placement>) {
    let meta = Meta::in_memory();
    let policy = Policy { write_margin, ..Policy::new(scheme(), scheme(), FailureDomain::Node) };
    meta.cluster(policy).await.unwrap();
    let placement = Placement::new(meta.clone(), node(0), policy);
    for number in 0..nodes {
        let (id, rack, zone) = (node(number), "r".to_owned(), "z".to_owned());
        let address = "127.0.0.1:1".parse().unwrap();
        meta.register_node(Node { id: id.clone(), rack: rack.clone(), zone: zone.clone(), address }).await.unwrap();
        let (disk, state) = (DiskId([number; 16]), DiskState::Up);
        let row = Disk { id: disk, node: id, rack, zone, capacity_bytes: 1 << 30, state, since_ms: 0 };
        meta.register_disk(row).await.unwrap();
    }
    placement.refresh().await.unwrap();
    let load = DiskLoad { free_bytes: 1 << 30, used_bytes: 0, writable: true, read_us: 1, write_us: 1 };
    placement.set_loads((0..nodes).map(|number| (DiskId([number; 16]), load)));
    (meta, placement)
}

async fn maintain(meta: &Meta, placement: &Placement, numbers: &[u8], for_ms: u64) -> ClusterMaintenance {
    let kept = meta.maintenance().await.unwrap();
    let mut wanted = kept.without(|_| true);
    for number in numbers {
        wanted = wanted.started(node(*number), for_ms, cairn_schema::clock::now_ms());
    }
    let windows = wanted.windows.into_iter().map(|window| MaintenanceWindow { serial: kept.serial + 1, ..window });
    let set = meta.set_maintenance(kept.serial, windows.collect()).await.unwrap();
    placement.refresh().await.unwrap();
    set
}

#[tokio::test]
async fn writes_go_elsewhere_at_once_and_come_back_when_it_is_over() {
    let (meta, placement) = cluster(5, 1).await;
    for _ in 0..20 {
        placement.choose(scheme(), &[]).await.unwrap();
    }
    maintain(&meta, &placement, &[1], 3_600_000).await;
    for _ in 0..50 {
        let group = placement.choose(scheme(), &[]).await.unwrap();
        assert!(!group.members.contains(&DiskId([1; 16])), "{group:?}");
    }
    assert!(placement.end_windows().is_none(), "it is not over");
    maintain(&meta, &placement, &[], 0).await;
    placement.ensure_groups().await.unwrap();
    let deadline = Instant::now() + LIMIT;
    while !placement.choose(scheme(), &[]).await.unwrap().members.contains(&DiskId([1; 16])) {
        assert!(Instant::now() < deadline, "nothing is written there any more");
    }
}

/// Three nodes, all of which each write needs: who works on one still has it, and loses no write by saying so.
#[tokio::test]
async fn no_write_is_refused_because_of_it() {
    let (meta, placement) = cluster(3, 1).await;
    placement.choose(scheme(), &[]).await.unwrap();
    maintain(&meta, &placement, &[0, 1, 2], 3_600_000).await;
    let group = placement.choose(scheme(), &[]).await.unwrap();
    assert_eq!(group.members.len(), 3);
    // One that is down is another matter.
    meta.set_disk_state(DiskId([1; 16]), DiskState::Up, DiskState::Down).await.unwrap();
    placement.refresh().await.unwrap();
    let refused = placement.choose(scheme(), &[]).await.unwrap_err();
    assert!(refused.to_string().contains("2+1"), "{refused}");
}

#[tokio::test]
async fn a_window_ends_by_itself_and_for_all() {
    let (meta, placement) = cluster(4, 0).await;
    let set = maintain(&meta, &placement, &[1], 1000).await;
    assert!(placement.topology().rows.maintained.contains(&node(1)));
    let (window, left) = placement.windows().remove(0);
    assert!(window == set.windows[0] && left <= Duration::from_secs(1));
    let deadline = Instant::now() + LIMIT;
    let (serial, wanted) = loop {
        if let Some(end) = placement.end_windows() {
            break end;
        }
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(placement.topology().rows.maintained.is_empty(), "before the metadata say so");
    assert_eq!((serial, wanted.windows.len()), (set.serial, 0));
    let kept = meta.set_maintenance(serial, wanted.windows).await.unwrap();
    assert_eq!(kept.serial, set.serial + 1);
    placement.refresh().await.unwrap();
    assert!(placement.end_windows().is_none() && placement.windows().is_empty());
}

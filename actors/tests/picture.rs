//! One picture of the cluster: whoever learns of a disk first, everybody on the node can reach it.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../net/tests/transport/support.rs"]
mod support;

use std::sync::Arc;

use cairn_actors::{
    background::{BackgroundMemory, Context, Courtesy, HealingMetrics, Inconsistent, placement::PlacementKeeper},
    fragment::{Bounded, Fragments},
    placement::Placement,
    policy::{Policy, Timings},
    supervisor::Worker,
    transport::{
        LocalDisks, Router,
        quic::{Endpoint, QuicOptions},
    },
};
use cairn_schema::{Meta, ids::*, record};

use support::{Node, bytes, ca, fragment, loopback, name, node, soon};

/// A node without disks, whose calls find their way by its picture of the cluster.
struct Observer {
    meta: Meta,
    placement: Arc<Placement>,
    router: Router,
    _endpoint: Endpoint,
}

fn scheme() -> record::Scheme {
    record::Scheme::Replicated { copies: 2 }
}

impl Observer {
    async fn start(ca: &cairn_actors::tls::PemPair) -> Self {
        let meta = Meta::in_memory();
        let identity = cairn_actors::tls::Identity::issue(ca, &node("observer"), &[]).unwrap();
        let endpoint = Endpoint::bind(loopback(), &identity, QuicOptions::default()).await.unwrap();
        let policy = Policy { write_margin: 0, ..Policy::new(scheme(), scheme(), record::FailureDomain::Node) };
        let placement = Placement::new(meta.clone(), node("observer"), policy);
        let router = Router::new(endpoint.client().clone(), LocalDisks::default(), placement.clone());
        Self { meta, placement, router, _endpoint: endpoint }
    }

    async fn register(&self, other: &Node) -> DiskId {
        let (rack, zone, address) = ("r".to_owned(), "z".to_owned(), other.endpoint.local_addr());
        let row = record::Node { id: other.id.clone(), rack: rack.clone(), zone: zone.clone(), address };
        self.meta.register_node(row).await.unwrap();
        let (id, node, state) = (other.disk.id, other.id.clone(), record::DiskState::Up);
        let row = record::Disk { id, node, rack, zone, capacity_bytes: 1 << 30, state, since_ms: 0 };
        self.meta.register_disk(row).await.unwrap().id
    }

    fn keeper(&self) -> PlacementKeeper {
        PlacementKeeper::new(Context {
            node: node("observer"),
            meta: self.meta.clone(),
            fragments: Bounded::new(Arc::new(self.router.clone())),
            placement: self.placement.clone(),
            timings: Arc::new(Timings::default()),
            memory: BackgroundMemory::new(64 << 20),
            courtesy: Courtesy::new(|| false),
            inconsistent: Inconsistent::default(),
            metrics: HealingMetrics::new(&prometheus::Registry::new()).unwrap(),
        })
    }
}

#[tokio::test]
async fn who_asks_first_for_a_change_takes_it_from_nobody() {
    let ca = ca();
    let observer = Observer::start(&ca).await;
    let mut keeper = observer.keeper();
    let (b, c) = (Node::start(&ca, "b", 2).await, Node::start(&ca, "c", 3).await);
    let disks = [observer.register(&b).await, observer.register(&c).await];
    // A write finds no group, reads the rows and forms one; the keeper comes after it.
    let group = observer.placement.choose(scheme(), &[]).await.unwrap();
    keeper.step().await.unwrap();
    for disk in disks {
        assert!(group.members.contains(&disk));
        observer.router.put(disk, fragment(1, bytes(1, 1000)), soon()).await.unwrap();
    }
    assert_eq!(b.disk.fragments.lock().len() + c.disk.fragments.lock().len(), 2);

    // So is the other way round, and for groups that are made in quiet times.
    let d = Node::start(&ca, "d", 4).await;
    let disk = observer.register(&d).await;
    assert!(observer.placement.ensure_groups().await.unwrap() > 0);
    keeper.step().await.unwrap();
    observer.router.put(disk, fragment(2, bytes(2, 1000)), soon()).await.unwrap();
    assert!(d.disk.fragments.lock().contains_key(&name(2)));

    // Everyone who reads the rows gets them whole, whoever read them before.
    let (first, second) = (observer.placement.refresh().await.unwrap(), observer.placement.refresh().await.unwrap());
    assert_eq!((first.revision, first.disks.len()), (second.revision, second.disks.len()));
    assert_eq!(first.disks.len(), 3);
}

#[tokio::test]
async fn a_group_that_is_newer_than_the_picture_brings_its_disks_along() {
    let ca = ca();
    let observer = Observer::start(&ca).await;
    let (b, c) = (Node::start(&ca, "b", 2).await, Node::start(&ca, "c", 3).await);
    observer.register(&b).await;
    observer.placement.refresh().await.unwrap();
    // Another node sees the newcomer first and forms a group with it.
    let late = observer.register(&c).await;
    let made = observer.meta.create_group(scheme(), vec![b.disk.id, late]).await.unwrap();
    let group = observer.placement.group(made.id).await.unwrap().unwrap();
    assert_eq!(group.members, made.members);
    observer.router.put(late, fragment(1, bytes(1, 10)), soon()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_moved_is_called_where_it_is_now() {
    let ca = ca();
    let observer = Observer::start(&ca).await;
    let before = Node::start(&ca, "b", 2).await;
    let disk = observer.register(&before).await;
    observer.placement.refresh().await.unwrap();
    observer.router.put(disk, fragment(1, bytes(1, 10)), soon()).await.unwrap();
    before.endpoint.close(std::time::Duration::ZERO).await;

    let after = Node::start(&ca, "b", 2).await;
    observer.register(&after).await;
    observer.placement.refresh().await.unwrap();
    observer.router.put(disk, fragment(2, bytes(2, 10)), soon()).await.unwrap();
    assert!(after.disk.fragments.lock().contains_key(&name(2)));
}

//! Gossip is a hint: whoever forges it, over the network and with a node's name, neither keeps a dead node from being
//! condemned nor a live one from coming up.

use std::time::{Duration, Instant};

use cairn_actors::membership::{Gossip, GossipOptions};
use cairn_schema::record::*;

use super::support::*;

/// Gossips with the name of a node, from an address that is not the node's.
async fn forger(cluster: &Cluster, name: usize) -> Gossip {
    let options = GossipOptions {
        node: format!("n{name}").parse().unwrap(),
        cluster: cluster.id,
        listen: "127.0.0.1:0".parse().unwrap(),
        seeds: vec![cluster.runtime(0).addresses().1.to_string()],
        interval: timings().gossip_interval,
        quic: "127.0.0.1:1".parse().unwrap(),
        rack: "r".into(),
        zone: "z".into(),
        version: "0.0.0".into(),
    };
    Gossip::start(options).await.unwrap()
}

async fn until_gossip(gossip: &Gossip, what: &str, holds: impl Fn(&cairn_actors::membership::View) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds(&gossip.view(|_| true).await.unwrap()) {
        assert!(Instant::now() < deadline, "not in time: {what}; {:#?}", gossip.view(|_| true).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_condemned_though_gossip_calls_it_alive() {
    let mut cluster = Cluster::start(6, timings()).await;
    let kept = objects(1);
    for (key, body) in &kept {
        cluster.put(0, key, body).await;
    }
    cluster.kill(5);
    // From then on somebody else speaks for it.
    let forger = forger(&cluster, 5).await;
    until_gossip(&forger, "the others hear the forger", |view| {
        view.peers.values().filter(|peer| peer.alive).count() == 5
    })
    .await;
    cluster.until_node(5, DiskState::Down).await;
    let deadline = Instant::now() + LIMIT;
    loop {
        let status = cluster.status(0).await;
        if status.nodes.iter().any(|node| node.id.as_str() == "n5" && node.gossip == "dead") {
            break;
        }
        assert!(Instant::now() < deadline, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.check(&[0], &kept).await;
    // And when it comes back it is there again.
    cluster.start_node(5).await;
    cluster.until_node(5, DiskState::Up).await;
    cluster.put(5, "back", &kept[4].1).await;
    forger.stop().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_come_up_though_gossip_calls_all_others_dead() {
    let mut cluster = Cluster::start(6, timings()).await;
    cluster.stop(5).await;
    cluster.until_node(5, DiskState::Down).await;
    // Lives of all nodes that are later than the real ones, and end.
    let (begun, mut forgers) = (cairn_schema::clock::now_ms(), Vec::new());
    for name in 0..5 {
        forgers.push(forger(&cluster, name).await);
    }
    for (name, forger) in forgers.iter().enumerate() {
        until_gossip(forger, "the forgers are heard", |view| {
            let later = |other: usize| {
                let peer = view.peers.get(&format!("n{other}").parse().unwrap());
                peer.is_some_and(|peer| peer.alive && peer.generation >= begun)
            };
            (0..5).filter(|other| *other != name).all(later)
        })
        .await;
    }
    for forger in forgers {
        forger.stop().await;
    }
    cluster.start_node(5).await;
    cluster.until_node(5, DiskState::Up).await;
    // Nobody else is taken for dead either.
    let disks = cluster.meta.disks().await.unwrap();
    assert!(disks.iter().all(|disk| disk.state == DiskState::Up), "{disks:#?}");
    cluster.put(5, "written", &body(1, 1 << 20)).await;
    cluster.stop_all().await;
}

//! Rates that an operator sets for all nodes while they run.

use std::time::Instant;

use cairn_actors::runtime::RuntimeError;
use cairn_schema::{MetaError, record::*};

use super::support::*;

const NODES: usize = 3;

/// Until each node's status tells these rates of repair, and of the disks' time in percent, and whose they are.
async fn until_told(cluster: &Cluster, generation: u64, (repair, percent): (u64, u8), of_cluster: &[&str]) {
    let deadline = Instant::now() + LIMIT;
    for node in 0..NODES {
        loop {
            let rates = cluster.status(node).await.rates;
            let told = (rates.generation, rates.repair_bytes, rates.background_percent);
            if told == (generation, repair, percent) && rates.of_cluster == of_cluster {
                break;
            }
            assert!(Instant::now() < deadline, "not in time on n{node}: {rates:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_are_set_for_all_nodes_while_they_run_outlive_a_restart_and_are_reset() {
    let mut cluster = Cluster::start(NODES, timings()).await;
    until_told(&cluster, 0, (256 << 20, 20), &[]).await;

    let rates = RateOverrides { repair_bytes: Some(64 << 20), background_percent: Some(35), scrub_bytes: None };
    let set = cluster.runtime(1).set_rates(0, rates).await.unwrap();
    assert_eq!(set, ClusterRates { generation: 1, rates });
    // At once where it was said, soon everywhere.
    assert_eq!(cluster.runtime(1).rates().in_force().repair_bytes, 64 << 20);
    let of_cluster = ["repair", "background_percent"];
    until_told(&cluster, 1, (64 << 20, 35), &of_cluster).await;

    // What is refused changes nothing.
    let slow = RateOverrides { scrub_bytes: Some(1), ..rates };
    let refused = cluster.runtime(0).set_rates(1, slow).await;
    assert!(matches!(&refused, Err(RuntimeError::Meta(MetaError::Invalid { what: "rates.scrub", .. }))), "{refused:?}");
    let stale = cluster.runtime(0).set_rates(0, RateOverrides::default()).await;
    assert!(matches!(&stale, Err(RuntimeError::Meta(MetaError::Stale("rates")))), "{stale:?}");
    assert_eq!(cluster.runtime(0).kept_rates().await.unwrap(), set);

    cluster.stop(2).await;
    cluster.start_node(2).await;
    let back = cluster.runtime(2).rates();
    assert_eq!((back.kept, back.in_force().repair_bytes), (set, 64 << 20), "from the first moment");
    until_told(&cluster, 1, (64 << 20, 35), &of_cluster).await;

    cluster.runtime(2).set_rates(1, RateOverrides::default()).await.unwrap();
    until_told(&cluster, 2, (256 << 20, 20), &[]).await;
    cluster.stop_all().await;
}

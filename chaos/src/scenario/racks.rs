//! Twelve nodes in six racks; any two racks die by `kill -9` while boto3 writes and reads.
//!
//! What must hold: every acknowledged object stays readable (DUR-1), new writes succeed on groups formed from what
//! lives, and the nodes return, are reconciled and serve again until nothing is missing (RED-2).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;

use super::workload::Workload;
use crate::{
    ChaosError, admin,
    cluster::{Cluster, Metadata, Spec},
    setting::Setting,
};

const RACKS: usize = 6;
const NODES_PER_RACK: usize = 2;
const DISKS: usize = 1;
/// Objects that must be acknowledged in each phase before it ends.
const OBJECTS_A_PHASE: u64 = 60;
/// Detection, new groups, clients' own retries: on a small busy machine.
const PHASE: Duration = Duration::from_secs(150);
/// Two racks' worth of missing fragments are written again at the repair's throttle.
const HEALED: Duration = Duration::from_secs(240);
/// How long a reader tries again before an object counts as lost.
const READABLE: Duration = Duration::from_secs(60);

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let spec = Spec {
        racks: RACKS,
        nodes_per_rack: NODES_PER_RACK,
        disks: DISKS,
        scheme: "4+2".into(),
        metadata: setting.fdb.as_deref().map_or(Metadata::Remote, Metadata::fdb),
        reclaim_grace: "1 h".into(),
        scrub_interval: "1 h".into(),
    };
    let mut cluster = Cluster::start(&setting.binary, folder.path(), &spec)?;
    println!("   {} nodes serve", cluster.nodes.len());
    let mut workload = Workload::start(setting, &cluster.nodes[0].s3)?;
    workload.ask(&format!("endpoints {}", cluster.endpoints().join(" ")))?;
    workload.ask("start")?;
    phase(&mut workload, "all racks live").await?;

    let racks: Vec<_> = (1..=RACKS).map(|rack| format!("r{rack}")).collect();
    let victims: Vec<_> = racks.choose_multiple(&mut StdRng::seed_from_u64(setting.seed), 2).cloned().collect();
    println!("   kill -9 of racks {} and {}", victims[0], victims[1]);
    victims.iter().for_each(|rack| cluster.kill_rack(rack));
    // What a load balancer's health check does for clients.
    workload.ask(&format!("endpoints {}", cluster.endpoints().join(" ")))?;
    phase(&mut workload, "two racks dead").await?;
    verify(&mut workload, "while two racks are dead")?;
    let down = 2 * NODES_PER_RACK * DISKS;
    let status = admin::until(
        "the dead disks to be called down",
        PHASE,
        async || cluster.status().await,
        |status: &Value| admin::disks_in(status, "down") == down,
    )
    .await?;
    println!("   {} disks down, {} fragments in the ledger", down, status["missing_fragments"]);

    cluster.revive()?;
    admin::until(
        "all disks to be up again",
        PHASE,
        async || cluster.status().await,
        |status: &Value| admin::disks_in(status, "up") == RACKS * NODES_PER_RACK * DISKS,
    )
    .await?;
    let returned = cluster.nodes.iter().filter(|node| victims.contains(&node.rack)).map(|node| node.s3.clone());
    let returned: Vec<_> = returned.collect();
    workload.ask(&format!("endpoints {}", returned.join(" ")))?;
    verify(&mut workload, "through the nodes that returned")?;
    admin::until(
        "the ledger to empty",
        HEALED,
        async || cluster.status().await,
        |status: &Value| status["missing_fragments"] == 0,
    )
    .await?;
    println!("   nothing is missing any more");
    verify(&mut workload, "after healing")?;
    drop(workload);
    cluster.stop()
}

/// What the workload did since it was last asked.
#[derive(Default)]
struct Tally {
    puts: u64,
    gets: u64,
    errors: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, mark: &Value) -> Result<(), ChaosError> {
        if mark["wrong"].as_array().is_none_or(|wrong| !wrong.is_empty()) {
            return Err(ChaosError::Violated {
                invariant: "INT-1",
                what: format!("wrong bytes read: {}", mark["wrong"]),
            });
        }
        for (name, count) in mark["counts"].as_object().into_iter().flatten() {
            let count = count.as_u64().unwrap_or(0);
            match name.as_str() {
                "put" => self.puts += count,
                "get" => self.gets += count,
                _ => *self.errors.entry(name.clone()).or_default() += count,
            }
        }
        Ok(())
    }
}

/// Lets the load run until enough new objects were acknowledged.
async fn phase(workload: &mut Workload, name: &str) -> Result<(), ChaosError> {
    workload.ask("mark")?;
    let mut tally = Tally::default();
    let ends = Instant::now() + PHASE;
    while tally.puts < OBJECTS_A_PHASE {
        if Instant::now() > ends {
            let detail =
                format!("{} writes and {} reads succeeded; errors: {:?}", tally.puts, tally.gets, tally.errors);
            return Err(ChaosError::NotInTime { what: format!("{OBJECTS_A_PHASE} writes with {name}"), detail });
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        tally.add(&workload.ask("mark")?)?;
    }
    println!("   {name}: {} writes and {} reads; errors the client saw: {:?}", tally.puts, tally.gets, tally.errors);
    Ok(())
}

/// DUR-1, CON-1: every acknowledged object reads back whole.
fn verify(workload: &mut Workload, when: &str) -> Result<(), ChaosError> {
    let answer = workload.ask(&format!("verify {}", READABLE.as_secs()))?;
    let empty = |field: &str| match &answer[field] {
        Value::Array(some) => some.is_empty(),
        Value::Object(some) => some.is_empty(),
        _ => false,
    };
    if !empty("wrong") {
        return Err(ChaosError::Violated { invariant: "INT-1", what: format!("{when}: {}", answer["wrong"]) });
    }
    if !empty("unread") {
        return Err(ChaosError::Violated { invariant: "DUR-1", what: format!("{when}: {}", answer["unread"]) });
    }
    println!("   {} acknowledged objects read back {when}", answer["verified"]);
    Ok(())
}

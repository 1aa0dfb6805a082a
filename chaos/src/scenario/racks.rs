//! Twelve nodes in six racks; any two racks die by `kill -9` while boto3 writes and reads.
//!
//! What must hold: every acknowledged object stays readable (DUR-1), new writes succeed on groups formed from what
//! lives, and the nodes return, are reconciled and serve again until nothing is missing (RED-2).

use std::{
    collections::BTreeMap,
    fmt,
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

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let metadata = setting.fdb.as_deref().map_or(Metadata::Remote, Metadata::fdb);
    let spec = Spec { nodes_per_rack: NODES_PER_RACK, disks: DISKS, ..Spec::six_racks(metadata) };
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
    workload.verify("while two racks are dead")?;
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
    workload.verify("through the nodes that returned")?;
    admin::until(
        "the ledger to empty",
        HEALED,
        async || cluster.status().await,
        |status: &Value| status["missing_fragments"] == 0,
    )
    .await?;
    println!("   nothing is missing any more");
    workload.verify("after healing")?;
    drop(workload);
    cluster.stop()
}

/// What the workload did since it was last asked.
#[derive(Default)]
pub(super) struct Tally {
    puts: u64,
    gets: u64,
    errors: BTreeMap<String, u64>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} writes and {} reads; errors the client saw: {:?}", self.puts, self.gets, self.errors)
    }
}

impl Tally {
    /// Whether more than one request in twenty failed: what a busy machine is too slow for is less.
    pub(super) fn many_failed(&self) -> bool {
        self.errors.values().sum::<u64>() * 20 > self.puts + self.gets
    }

    pub(super) fn add(&mut self, mark: &Value) -> Result<(), ChaosError> {
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
    println!("   {name}: {tally}");
    Ok(())
}

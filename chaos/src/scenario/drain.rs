//! Seven nodes in seven racks, one of which is drained while boto3 writes and reads; the node that moves is killed on
//! the way. Then the rack's node is stopped for good.
//!
//! Clients must not notice, whatever is moved (DUR-1, CON-1). That the rack is empty, and every stripe whole elsewhere,
//! is not taken from the job: every disk is looked at, fragment by fragment (RED-2, PLC-1).

use std::time::{Duration, Instant};

use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;

use super::{racks::Tally, workload::Workload};
use crate::{
    ChaosError, admin,
    cluster::{Cluster, Metadata, Spec},
    inspect,
    setting::Setting,
};

const RACKS: usize = 7;
const DISKS: usize = 2;
/// In turn: replicated ones, erasure-coded ones of one stripe and of several.
const SIZES: [usize; 6] = [700, 65_536, 300_000, 1_048_576, 4_718_592, 9_437_184];
const OBJECTS: usize = 60;
const WRITTEN: Duration = Duration::from_secs(120);
const UP: Duration = Duration::from_secs(90);
const DRAINED: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(100);
/// How many of the problems that an audit found are told.
const TOLD: usize = 5;

pub async fn run(setting: &Setting) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let metadata = setting.fdb.as_deref().map_or(Metadata::Remote, Metadata::fdb);
    let spec = Spec { racks: RACKS, disks: DISKS, ..Spec::six_racks(metadata) };
    let mut cluster = Cluster::start(&setting.binary, folder.path(), &spec)?;
    until(&cluster, "all disks to be up", UP, |status| admin::disks_in(status, "up") == RACKS * DISKS).await?;
    let mut workload = Workload::start(setting, &cluster.nodes[0].s3)?;
    workload.ask(&format!("endpoints {}", cluster.endpoints().join(" ")))?;
    let sizes: Vec<String> = SIZES.iter().map(usize::to_string).collect();
    workload.ask(&format!("write {OBJECTS} {} {}", WRITTEN.as_secs(), sizes.join(" ")))?;
    workload.ask("start")?;

    let racks: Vec<String> = cluster.nodes.iter().map(|node| node.rack.clone()).collect();
    let rack = racks.choose(&mut StdRng::seed_from_u64(setting.seed)).cloned().unwrap_or_default();
    let others: Vec<String> =
        cluster.nodes.iter().filter(|node| node.rack != rack).map(|node| node.s3.clone()).collect();
    // What a load balancer is told before a machine is taken out.
    workload.ask(&format!("endpoints {}", others.join(" ")))?;
    workload.ask("mark")?;
    let named = format!("z1/{rack}");
    println!("   {}", ask(&cluster, &["plan", "drain", "--rack", &named])?.trim_end().replace('\n', "\n   "));
    println!("   {}", ask(&cluster, &["apply", "drain", "--rack", &named])?.lines().next().unwrap_or_default());

    let begun = Instant::now();
    until(&cluster, "some groups to be moved", DRAINED, |status| moved(status) > 0).await?;
    let mut tally = Tally::default();
    tally.add(&workload.ask("mark")?)?;
    let mover = mover(&cluster).await?;
    println!("   {tally} before kill -9 of {}, which moves, and is started again", cluster.nodes[mover].id);
    if tally.many_failed() {
        let what = format!("while nothing but groups moved: {tally}");
        return Err(ChaosError::Violated { invariant: "DUR-1", what });
    }
    cluster.restart(&[mover])?;
    until(&cluster, "the job to be done", DRAINED, |status| job(status)["state"] == "done").await?;
    tally.add(&workload.ask("mark")?)?;
    let status = cluster.status().await?;
    println!("   {} positions moved in {:.0} s; {tally}", moved(&status), begun.elapsed().as_secs_f64());
    workload.verify("after the drain")?;
    until(&cluster, "nothing to be missing", DRAINED, |status| status["missing_fragments"] == 0).await?;

    let audit = inspect::running(&cluster, folder.path())?;
    let mut problems = audit.problems();
    let left = audit.lost(|home| home.rack == rack, |_| true).fragments;
    if left > 0 {
        problems.push(format!("{left} fragments belong to rack {rack} still"));
    }
    if !problems.is_empty() {
        let first = problems.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
        return Err(ChaosError::Violated { invariant: "RED-2", what: format!("{} problems: {first}", problems.len()) });
    }
    println!("   {audit}; every stripe whole, PLC-1 kept, none in rack {rack}");

    println!("   {}", ask(&cluster, &["remove", "--rack", &named])?.lines().next().unwrap_or_default());
    println!("   kill -9 of rack {rack}, for good");
    cluster.kill_rack(&rack);
    workload.ask(&format!("write {} {} {}", OBJECTS * 2, WRITTEN.as_secs(), sizes.join(" ")))?;
    workload.verify("without the rack")?;
    let removed = |status: &Value| admin::disks_in(status, "removed") == DISKS && status["missing_fragments"] == 0;
    until(&cluster, "nothing to be missing without it", DRAINED, removed).await?;
    println!("   {}", cluster.check_metadata()?.trim_end());
    drop(workload);
    cluster.stop()
}

/// Runs `cairn admin` with a node that runs.
fn ask(cluster: &Cluster, arguments: &[&str]) -> Result<String, ChaosError> {
    let node = cluster.nodes.iter().find(|node| node.is_running());
    let node = node.ok_or_else(|| ChaosError::Workload("no node runs".into()))?;
    cluster.cairn(&[&["admin"], arguments, &["--admin", &node.admin]].concat())
}

fn job(status: &Value) -> &Value {
    &status["work"]["jobs"][0]
}

fn moved(status: &Value) -> u64 {
    job(status)["moved"]["positions"].as_u64().unwrap_or(0)
}

/// The node that has moved members: there is one at a time.
async fn mover(cluster: &Cluster) -> Result<usize, ChaosError> {
    // It counts a move a moment after the metadata has it.
    let moved = |index: &Option<usize>| index.is_some();
    let index =
        admin::until("a node to say that it moved something", UP, async || counted(cluster).await, moved).await?;
    index.ok_or_else(|| ChaosError::Workload("no node says that it moved anything".into()))
}

async fn counted(cluster: &Cluster) -> Result<Option<usize>, ChaosError> {
    for (index, node) in cluster.nodes.iter().enumerate() {
        let metrics = admin::get(&format!("{}/metrics", node.admin)).await?;
        let text = String::from_utf8_lossy(&metrics).into_owned();
        let lines = text.lines().filter(|line| line.starts_with("cairn_group_members_moved_total"));
        if lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).any(|count| count > 0.0) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

async fn until(
    cluster: &Cluster,
    what: &str,
    within: Duration,
    holds: impl Fn(&Value) -> bool,
) -> Result<(), ChaosError> {
    let ends = Instant::now() + within;
    loop {
        let status = cluster.status().await;
        if status.as_ref().is_ok_and(&holds) {
            return Ok(());
        }
        if Instant::now() > ends {
            let detail = status.map_or_else(
                |error| error.to_string(),
                |status| format!("{} missing; {}", status["missing_fragments"], status["work"]),
            );
            return Err(ChaosError::NotInTime { what: what.into(), detail });
        }
        tokio::time::sleep(POLL).await;
    }
}

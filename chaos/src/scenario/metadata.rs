//! `kill -9` of the metadata's server under load, again and again: `cairn meta`, or a FoundationDB of our own.
//!
//! What must hold: while it is down every request ends in time with an error; once it is back, service resumes by
//! itself; every acknowledged PUT is there, byte for byte, every acknowledged DELETE is gone, and the usage counters
//! equal a recount.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::{
    ChaosError, admin,
    cluster::{ACCESS_KEY, Cluster, Metadata, SECRET_KEY, Spec},
    fdb::FdbServer,
    registers::{BUCKET, Registers},
    s3::{Account, S3},
    setting::Setting,
};

const CLIENTS: usize = 12;
/// No request may take longer: a read of the metadata gives up after 10 s, a commit whose outcome is unknown is asked
/// about for twice that, and the machine may be busy.
const REQUEST_BOUND: Duration = Duration::from_secs(40);
/// Changes that must be acknowledged before each kill.
const CHANGES: usize = 60;
/// In which that many are.
const LOADED: Duration = Duration::from_secs(60);
/// From the server's start to the first change acknowledged: FoundationDB's recovery, our clients' connections.
const RESUMED: Duration = Duration::from_secs(30);
/// How long a read is repeated before an object counts as lost.
const READABLE: Duration = Duration::from_secs(30);
/// Longer than a request waits for the metadata, so that clients see errors.
const LONG: Duration = Duration::from_secs(12);

enum Server {
    Meta,
    Fdb(FdbServer),
}

impl Server {
    fn kill(&mut self, cluster: &mut Cluster) {
        match self {
            Self::Meta => cluster.kill_meta(),
            Self::Fdb(server) => server.kill(),
        }
    }

    fn revive(&mut self, cluster: &mut Cluster) -> Result<(), ChaosError> {
        match self {
            Self::Meta => cluster.revive_meta(),
            Self::Fdb(server) => server.revive(),
        }
    }
}

/// Kills the server `rounds` times; with `fdb_server` it is a FoundationDB that is started for it.
pub async fn run(setting: &Setting, rounds: u32, fdb_server: Option<&Path>) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let (mut server, metadata) = match fdb_server {
        None => (Server::Meta, Metadata::Remote),
        Some(binary) => {
            let server = FdbServer::start(binary, &folder.path().join("fdb"))?;
            let metadata = Metadata::fdb(&server.cluster_file());
            (Server::Fdb(server), metadata)
        }
    };
    let spec = Spec { metadata, ..Spec::small() };
    let mut cluster = Cluster::start(&setting.binary, folder.path(), &spec)?;
    let endpoints: Vec<S3> = cluster.endpoints().into_iter().map(client).collect();
    let Some(first) = endpoints.first() else { return Err(ChaosError::Workload("no node serves".into())) };
    first.create_bucket(BUCKET).await?;
    println!("   {} nodes serve, {CLIENTS} clients write and read", cluster.nodes.len());

    let registers = Registers::start(&endpoints, CLIENTS, setting.seed);
    let mut rng = StdRng::seed_from_u64(setting.seed);
    for round in 1..=rounds {
        let begun = changes(&registers)?;
        until_changes(&registers, begun + CHANGES, LOADED, "load before a kill").await?;
        // At no particular moment.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..500))).await;
        let down = if round == 1 { LONG } else { Duration::from_millis(rng.random_range(500..5000)) };
        let failed = || registers.look(|outcomes| outcomes.failed.values().sum::<u64>());
        let failed_before = failed()?;
        server.kill(&mut cluster);
        let killed = Instant::now();
        tokio::time::sleep(down).await;
        if down == LONG {
            let node = &cluster.nodes[0].admin;
            admin::get(&format!("{node}/healthz")).await?;
            if admin::get(&format!("{node}/readyz")).await.is_ok() {
                return Err(ChaosError::Workload("a node calls itself ready without its metadata".into()));
            }
        }
        let (at_kill, failed_down) = (acknowledged_after(&registers, killed + Duration::from_millis(500))?, failed()?);
        if at_kill > 0 {
            let what = format!("{at_kill} changes were acknowledged half a second after kill -9 and later");
            return Err(ChaosError::Violated { invariant: "DUR-2", what });
        }
        let started = Instant::now();
        server.revive(&mut cluster)?;
        let first = first_after(&registers, started).await?;
        println!(
            "   kill -9 number {round}: down for {:.1} s, {} requests failed meanwhile, first change acknowledged {:.1} s after the restart",
            (started - killed).as_secs_f64(),
            failed_down - failed_before,
            first.as_secs_f64()
        );
    }
    let begun = changes(&registers)?;
    until_changes(&registers, begun + CHANGES, LOADED, "load after the last restart").await?;
    let ready = format!("{}/readyz", cluster.nodes[0].admin);
    admin::until("a node to call itself ready", RESUMED, async || admin::get(&ready).await, |_| true).await?;
    let summary = registers.look(|outcomes| {
        format!(
            "{} changes acknowledged; succeeded {:?}; failed {:?}; the longest request took {:.1} s ({})",
            outcomes.acknowledged.len(),
            outcomes.succeeded,
            outcomes.failed,
            outcomes.longest.0.as_secs_f64(),
            outcomes.longest.1
        )
    })?;
    println!("   {summary}");
    let (objects, absent) = registers.finish(&endpoints, READABLE).await?;
    println!("   {objects} acknowledged objects read back through every node, {absent} acknowledged deletes hold");
    let status = async || cluster.status().await;
    let healed = |status: &Value| status["missing_fragments"] == 0 && admin::disks_in(status, "up") == 6;
    admin::until("every disk up and the ledger empty", Duration::from_secs(120), status, healed).await?;
    println!("   {}", cluster.check_metadata()?.trim_end());
    cluster.stop()
}

fn client(endpoint: String) -> S3 {
    let account = Account { endpoint, access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() };
    S3::new(account).with_deadline(REQUEST_BOUND)
}

fn changes(registers: &Registers) -> Result<usize, ChaosError> {
    registers.look(|outcomes| outcomes.acknowledged.len())
}

fn acknowledged_after(registers: &Registers, time: Instant) -> Result<usize, ChaosError> {
    registers.look(|outcomes| outcomes.acknowledged.iter().filter(|when| **when > time).count())
}

async fn until_changes(registers: &Registers, wanted: usize, within: Duration, what: &str) -> Result<(), ChaosError> {
    let enough = |count: &Result<usize, ChaosError>| count.as_ref().map_or(true, |count| *count >= wanted);
    admin::until(what, within, async || Ok(changes(registers)), enough).await?.map(drop)
}

/// From `start` to the first change acknowledged after it.
async fn first_after(registers: &Registers, start: Instant) -> Result<Duration, ChaosError> {
    let first = || registers.look(|outcomes| outcomes.acknowledged.iter().find(|when| **when > start).copied());
    let is_there = |first: &Result<Option<Instant>, ChaosError>| first.as_ref().map_or(true, Option::is_some);
    let acknowledged = admin::until("service to resume", RESUMED, async || Ok(first()), is_there).await??;
    Ok(acknowledged.map_or(RESUMED, |when| when - start))
}

//! Runs a scenario: a cluster, load, faults, then rest until everything is whole, then judgement. What was seen is
//! written down whatever comes of it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::Value;

use crate::{
    admin,
    cluster::{ACCESS_KEY, Cluster, Metadata, Outfit, SECRET_KEY, Spec},
    error::ChaosError,
    history::picture::MOST,
    inject::{Injector, Shared, watch},
    inspect,
    judge::{self, Held, Verdict},
    lab::{Lab, clock::Library},
    report::{self, Report, data},
    s3::{Account, S3},
    script::{Drawn, MetadataKind, Needs, Place, Scenario, Step, schedule, units::Span},
    traffic::{
        self, Book, Endpoints,
        client::{PLAIN, VERSIONED},
    },
};

const UP: Duration = Duration::from_secs(120);
/// Load before the first fault and after the last one is part of what is compared in the pictures.
const REST: Duration = Duration::from_secs(2);
/// How many of the problems that an audit found are told.
const TOLD: usize = 5;

/// How a scenario is run.
#[derive(Clone, Debug)]
pub struct Order {
    pub binary: PathBuf,
    pub name: String,
    /// The scenario's file, as it is.
    pub text: String,
    pub seed: u64,
    /// Instead of what the file says.
    pub duration: Option<Span>,
    pub metadata: Option<MetadataKind>,
    /// The cluster file of the FoundationDB, if the metadata are in one.
    pub fdb: Option<PathBuf>,
    /// An older program, which nodes run until they are upgraded.
    pub before: Option<PathBuf>,
    /// Of the schedule just these steps, by their numbers.
    pub only: Option<Vec<usize>>,
    /// Where the report goes.
    pub report: Option<PathBuf>,
}

impl Order {
    /// What is asked for, as it is run.
    pub fn scenario(&self) -> Result<Scenario, ChaosError> {
        let refused = |error: crate::script::FileError| ChaosError::Workload(error.to_string());
        let mut scenario = Scenario::parse(Path::new(&self.name), &self.text).map_err(refused)?;
        if let Some(metadata) = self.metadata {
            scenario.topology.metadata = metadata;
            if let (MetadataKind::Fdb, Some(random)) = (metadata, &mut scenario.random) {
                random.faults.retain(|Drawn(_, place)| *place != Place::Metadata);
            }
            scenario.check(Path::new(&self.name)).map_err(refused)?;
        }
        if scenario.needs(Needs::Before) && self.before.is_none() {
            let why = "upgrade needs --program-before PATH: an older cairn, which runs until it is upgraded";
            return Err(ChaosError::Workload(format!("{}: {why}", self.name)));
        }
        Ok(scenario)
    }

    fn steps(&self, scenario: &Scenario, duration: Span) -> Vec<Step> {
        let mut steps = schedule(scenario, duration, self.seed);
        if let Some(only) = &self.only {
            steps.retain(|step| only.contains(&step.number));
        }
        steps
    }
}

/// Runs it. Whether all held, as the report says. `lab`: whether this process has entered namespaces of its own, which
/// it must have done for scenarios that need them.
pub async fn run(order: &Order, lab: &Lab) -> Result<Report, ChaosError> {
    let scenario = order.scenario()?;
    let duration = order.duration.unwrap_or(scenario.duration);
    let steps = order.steps(&scenario, duration);
    println!("   {} clients for {duration}, {} steps:", scenario.workload.clients, steps.len());
    steps.iter().for_each(|step| println!("   {step}"));

    let (began, start) = (time::OffsetDateTime::now_utc(), Instant::now());
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let (outfit, lacking) = outfit(order, &scenario, lab, folder.path());
    let spec = Spec { lab: outfit, ..spec(&scenario, order.fdb.as_deref())? };
    let cluster = Cluster::start(&order.binary, folder.path(), &spec)?;
    let version = cluster.cairn(&["--version"])?;
    until_up(&cluster, &scenario).await?;
    let s3 = |node: &crate::cluster::Node| {
        let (endpoint, access_key, secret_key) = (node.s3.clone(), ACCESS_KEY.into(), SECRET_KEY.into());
        S3::new(Account { endpoint, access_key, secret_key }).with_deadline(scenario.must.answer_within.0)
    };
    let endpoints = Endpoints::new(cluster.nodes.iter().map(s3).collect());
    prepare(&endpoints).await?;
    println!("   {} nodes serve, by {}", cluster.nodes.len(), version.trim());

    let (book, shared) = (Book::new(), Shared::default());
    let looking = tokio::spawn(watch(shared.clone(), book.clone()));
    let load = traffic::start(&endpoints, &book, &scenario.workload, order.seed);
    let told = (endpoints.clone(), book.clone(), shared.clone());
    let mut injector = Injector::new(cluster, &scenario, steps, told, folder.path().into(), lacking);
    tokio::time::sleep(REST).await;
    let ran = injector.run(duration.0).await;
    // Clients go on while what was hurt is healed.
    let healed = injector.heal().await;
    load.stop().await?;
    let loaded_ms = book.now() / 1000;
    println!("   the load ended after {:.0} s; everything is looked at", loaded_ms as f64 / 1000.0);
    let mut verdicts = vec![convergence(&scenario, &healed)];
    if let Err(error) = ran {
        verdicts.push(Verdict::of("the faults", "each can be done and ended", vec![error.to_string()], String::new()));
    }
    let finals = judge::look(&injector.cluster, &endpoints, &book, &scenario.workload, order.seed).await;
    shared.stop();
    looking.await.map_err(|error| ChaosError::Workload(error.to_string()))?;
    verdicts.push(redundancy(&mut injector, &healed));
    verdicts.push(recount(&mut injector));
    for fallen in injector.cluster.fallen() {
        book.broken("CRASH", fallen.to_string());
    }
    let events = injector.events;
    if let Err(error) = injector.cluster.stop() {
        book.broken("STOP", error.to_string());
    }

    let pages = book.pages();
    let mut unread = Vec::new();
    match finals {
        Ok(finals) => {
            unread = finals.unread;
            verdicts.extend(finals.verdicts);
        }
        Err(error) => {
            let must = "listings, versions and counters can be looked at";
            verdicts.push(Verdict::of("the last look", must, vec![error.to_string()], String::new()));
        }
    }
    let scene = shared.scene();
    verdicts.push(judge::figures(&scenario.must, memory(&scenario), &scene.most, &pages.broken));
    verdicts.push(judge::silence(&scenario.must, &pages.samples, &events, loaded_ms));
    let mut all = tokio::task::block_in_place(|| judge::histories(&pages.histories, &pages.broken, &unread)).to_vec();
    all.extend(judge::answers(&pages.broken, &pages.samples, &events));
    all.extend(verdicts);
    let report = Report {
        format: Report::FORMAT,
        name: order.name.clone(),
        about: scenario.about.clone(),
        file: order.text.clone(),
        seed: order.seed,
        duration: duration.to_string(),
        metadata: scenario.topology.metadata,
        before: order.before.clone(),
        only: order.only.clone(),
        version,
        began: began.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
        took_seconds: start.elapsed().as_secs_f64(),
        healed_seconds: healed.ok().map(|took| took.as_secs_f64()),
        is_good: all.iter().all(Verdict::is_good),
        verdicts: all,
        events,
        tallies: data::tallies(&pages.samples),
        series: data::series(&pages.samples),
        seconds: scene.seconds.clone(),
        most: scene.most.clone(),
    };
    tell(&report);
    if let Some(folder) = &order.report {
        report::write(&report, folder)?;
        println!("   report: {}", folder.join("report.html").display());
    }
    Ok(report)
}

fn spec(scenario: &Scenario, fdb: Option<&Path>) -> Result<Spec, ChaosError> {
    let topology = &scenario.topology;
    let no_fdb = || ChaosError::Workload("metadata in a FoundationDB: --fdb names its cluster file".into());
    Ok(Spec {
        racks: topology.racks,
        nodes_per_rack: topology.nodes_per_rack,
        disks: topology.disks,
        scheme: topology.scheme.clone(),
        metadata: match topology.metadata {
            MetadataKind::Embedded => Metadata::Embedded,
            MetadataKind::Remote => Metadata::Remote,
            MetadataKind::Fdb => Metadata::fdb(fdb.ok_or_else(no_fdb)?),
        },
        reclaim_grace: topology.reclaim_grace.to_string(),
        scrub_interval: topology.scrub_interval.to_string(),
        repair_rate: None,
        memory: topology.memory.to_string(),
        lab: Outfit::default(),
    })
}

/// What the cluster is given of what the scenario needs, and what cannot be given to it, and why.
fn outfit(order: &Order, scenario: &Scenario, lab: &Lab, folder: &Path) -> (Outfit, Vec<(Needs, String)>) {
    let mut lacking = Vec::new();
    let mut outfit = Outfit { before: order.before.clone(), ..Outfit::default() };
    if scenario.needs(Needs::Network) {
        match lab {
            Ok(()) => outfit.network = true,
            Err(why) => lacking.push((Needs::Network, why.clone())),
        }
    }
    if let Some(size) = scenario.topology.disk_size {
        match lab {
            Ok(()) => outfit.disk_bytes = Some(size.0),
            Err(why) => lacking.push((Needs::FileSystems, why.clone())),
        }
    }
    if scenario.needs(Needs::Clocks) {
        match Library::compile(folder) {
            Ok(library) => outfit.clocks = Some(library),
            Err(why) => lacking.push((Needs::Clocks, format!("clocks need a C compiler: {why}"))),
        }
    }
    let network = if outfit.network { "a network namespace for each process" } else { "loopback addresses" };
    let disks = if outfit.disk_bytes.is_some() { "a file system for each disk" } else { "folders for disks" };
    println!("   {network}, {disks}");
    lacking.iter().for_each(|(_, why)| println!("   SKIPPED is what needs more: {why}"));
    (outfit, lacking)
}

fn memory(scenario: &Scenario) -> u64 {
    scenario.topology.memory.0
}

async fn until_up(cluster: &Cluster, scenario: &Scenario) -> Result<(), ChaosError> {
    let disks = cluster.nodes.len() * scenario.topology.disks;
    let up = |status: &Value| admin::disks_in(status, "up") == disks;
    for node in &cluster.nodes {
        let ask = async || admin::json(&format!("{}/v1/status", node.admin)).await;
        admin::until("all disks to be up", UP, ask, up).await?;
    }
    Ok(())
}

/// The buckets, and an object that is erasure-coded through each node: from then on errors are faults' errors.
async fn prepare(endpoints: &Endpoints) -> Result<(), ChaosError> {
    for bucket in [PLAIN, VERSIONED] {
        endpoints.s3(0).create_bucket(bucket).await?;
    }
    endpoints.s3(0).enable_versioning(VERSIONED).await?;
    for node in 0..endpoints.len() {
        let s3 = endpoints.s3(node);
        let put = async || Ok(s3.put(PLAIN, "ready", Bytes::from(vec![7; 1 << 20])).await?);
        admin::until("an object to be written", UP, put, |()| true).await?;
    }
    Ok(endpoints.s3(0).delete(PLAIN, "ready").await?)
}

fn convergence(scenario: &Scenario, healed: &Result<Duration, ChaosError>) -> Verdict {
    let must = format!(
        "everything is whole within {} after the last fault: every disk up, nothing missing",
        scenario.must.heal_within
    );
    match healed {
        Ok(took) => Verdict::of("convergence", &must, Vec::new(), format!("it took {:.1} s", took.as_secs_f64())),
        Err(error) => Verdict::of("convergence", &must, vec![error.to_string()], String::new()),
    }
}

/// Stops all nodes and looks at every disk.
fn redundancy(injector: &mut Injector, healed: &Result<Duration, ChaosError>) -> Verdict {
    let name = "redundancy (RED-2, PLC-1)";
    let must = "the ledger is empty, and on the disks every stripe has all its fragments, whole, no rack more than it can lose";
    if healed.is_err() {
        return Verdict::unchecked(name, must, "the cluster was not whole in time, so something is missing anyway");
    }
    match tokio::task::block_in_place(|| inspect::stopped(&mut injector.cluster)) {
        Ok(audit) => {
            let problems = audit.problems();
            let first = problems.iter().take(TOLD).cloned().collect::<Vec<_>>();
            Verdict::of(name, must, first, format!("{audit}; {} problems", problems.len()))
        }
        Err(error) => Verdict { held: Held::No, ..Verdict::unchecked(name, must, &error.to_string()) },
    }
}

/// What in the metadata is counted, by their own recount, for which an embedded store must be free.
fn recount(injector: &mut Injector) -> Verdict {
    let must = "counters, references, heads, queues and the ledger of the metadata equal a recount";
    let checked = tokio::task::block_in_place(|| {
        injector.cluster.stop_nodes()?;
        injector.cluster.check_metadata()
    });
    match checked {
        Ok(said) => Verdict::of("the metadata", must, Vec::new(), said.trim().to_owned()),
        Err(error) => Verdict::of("the metadata", must, vec![error.to_string()], String::new()),
    }
}

fn tell(report: &Report) {
    for (name, tally) in &report.tallies {
        println!("   {name:<18} {:?}, p50 {:.0} ms, p99 {:.0} ms", tally.by_class, tally.p50_ms, tally.p99_ms);
    }
    for verdict in &report.verdicts {
        let word = match verdict.held {
            Held::Yes => "held",
            Held::No => "BROKEN",
            Held::Undecided => "UNDECIDED",
            Held::Unchecked => "NOT LOOKED AT",
        };
        println!("   {word:<9} {}: {}", verdict.name, verdict.evidence.last().map_or("", |last| last));
        if !verdict.is_good() {
            for line in verdict.evidence.iter().take(MOST) {
                println!("      {}", line.replace('\n', "\n      "));
            }
        }
    }
}

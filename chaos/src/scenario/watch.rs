//! Prometheus looks at a cluster under load while a rack is lost for good and what it held is made anew.
//!
//! What must hold: the rules of `ops/prometheus` can all be evaluated, and name only what there is; every query of
//! every panel of `ops/grafana` has data; the alerts of the loss are raised, and end with it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;

use super::workload::Workload;
use crate::{
    ChaosError, admin,
    cluster::{Cluster, Metadata, Spec},
    prometheus::Prometheus,
    setting::Setting,
};

const DISKS: usize = 2;
/// So slow that Prometheus sees what is missing.
const REPAIR_RATE: &str = "4 MiB";
const OBJECTS: usize = 60;
const SIZES: &str = "4096 1048576 65536 1048576";
const WRITTEN: Duration = Duration::from_secs(120);
const NOTICED: Duration = Duration::from_secs(120);
const HEALED: Duration = Duration::from_secs(240);
/// Rates want two looks, recording rules another, and scrub begins some time after its node.
const SEEN: Duration = Duration::from_secs(90);
/// Raised while the rack is away, and while what it held is missing.
const AWAY: [&str; 2] = ["CairnDiskDown", "CairnNodeDown"];
const MISSING: &str = "CairnRedundancyMissing";

/// `ops` is the folder with `prometheus`, `grafana` and `runbook` in it.
pub async fn run(setting: &Setting, prometheus: &Path, ops: &Path) -> Result<(), ChaosError> {
    let folder = tempfile::tempdir().map_err(ChaosError::io("make a temporary folder"))?;
    let metadata = setting.fdb.as_deref().map_or(Metadata::Remote, Metadata::fdb);
    let spec = Spec { disks: DISKS, repair_rate: Some(REPAIR_RATE.into()), ..Spec::six_racks(metadata) };
    let cluster = Cluster::start(&setting.binary, folder.path(), &spec)?;
    let rules = ops.join("prometheus/cairn.rules.yml");
    let server = Prometheus::start(prometheus, &folder.path().join("prometheus"), &cluster, &rules).await?;
    let workload = Workload::start(setting, &cluster.nodes[0].s3)?;
    let mut watch = Watch { cluster, server, workload };
    watch.load()?;
    watch.lose_a_rack(setting.seed).await?;
    watch.rules(ops).await?;
    watch.panels(&dashboards(&ops.join("grafana"))?).await?;
    watch.workload.verify("without the rack")?;
    watch.cluster.stop()
}

struct Watch {
    cluster: Cluster,
    server: Prometheus,
    workload: Workload,
}

impl Watch {
    fn load(&mut self) -> Result<(), ChaosError> {
        self.endpoints()?;
        self.workload.ask(&format!("write {OBJECTS} {} {SIZES}", WRITTEN.as_secs()))?;
        self.workload.ask("start").map(|_| ())
    }

    fn endpoints(&mut self) -> Result<(), ChaosError> {
        self.workload.ask(&format!("endpoints {}", self.cluster.endpoints().join(" "))).map(|_| ())
    }

    /// From the kill to the end of the repair, with an eye on the alerts.
    async fn lose_a_rack(&mut self, seed: u64) -> Result<(), ChaosError> {
        let racks: Vec<String> = self.cluster.nodes.iter().map(|node| node.rack.clone()).collect();
        let rack = racks.choose(&mut StdRng::seed_from_u64(seed)).cloned().unwrap_or_default();
        println!("   kill -9 of rack {rack}, for good");
        self.cluster.kill_rack(&rack);
        self.endpoints()?;
        self.until_raised("the alerts of a rack that is away", |raised| AWAY.iter().all(|name| raised.contains(*name)))
            .await?;
        self.cluster.give_up(&["--rack", &format!("z1/{rack}")])?;
        self.until_raised("the alert of what is missing", |raised| raised.contains(MISSING)).await?;
        println!("   raised: {}, {MISSING}", AWAY.join(", "));
        admin::until(
            "the ledger to empty",
            HEALED,
            async || self.cluster.status().await,
            |status: &Value| status["missing_fragments"] == 0,
        )
        .await?;
        self.until_raised("the alerts to end", |raised| !raised.contains(MISSING) && !raised.contains("CairnDiskDown"))
            .await
    }

    async fn until_raised(&self, what: &str, holds: impl Fn(&BTreeSet<String>) -> bool) -> Result<(), ChaosError> {
        let ask = async || self.server.raised().await.map(BTreeSet::from_iter);
        admin::until(what, NOTICED, ask, holds).await.map(|_| ())
    }

    /// All can be evaluated, name metrics that there are, and send people to pages that there are.
    async fn rules(&self, ops: &Path) -> Result<(), ChaosError> {
        let amiss = async || self.amiss(ops).await;
        admin::until("rules that name what there is", SEEN, amiss, |amiss: &Vec<String>| amiss.is_empty()).await?;
        println!("   {} rules can be evaluated, and name what there is", self.server.rules().await?.len());
        Ok(())
    }

    async fn amiss(&self, ops: &Path) -> Result<Vec<String>, ChaosError> {
        let rules = self.server.rules().await?;
        let known: BTreeSet<String> = self.server.metrics().await?.into_iter().collect();
        let mut amiss = Vec::new();
        if rules.is_empty() {
            amiss.push("there are no rules".to_owned());
        }
        for rule in &rules {
            amiss.extend(rule.error.as_ref().map(|error| format!("{}: {error}", rule.name)));
            let absent = metrics_in(&rule.query).filter(|name| !known.contains(*name));
            amiss.extend(absent.map(|name| format!("{}: there is no {name}", rule.name)));
            let page = rule.runbook.as_ref().and_then(|page| page.strip_prefix("ops").ok()).map(|page| ops.join(page));
            if rule.alerts && !page.is_some_and(|page| page.is_file()) {
                amiss.push(format!("{}: its page {:?} is not there", rule.name, rule.runbook));
            }
        }
        Ok(amiss)
    }

    async fn panels(&self, queries: &[(String, String)]) -> Result<(), ChaosError> {
        let empty = async || {
            let mut empty = Vec::new();
            for (panel, query) in queries {
                if !self.server.has_data(query).await? {
                    empty.push(format!("{panel}: {query}"));
                }
            }
            Ok(empty)
        };
        admin::until("every panel's data", SEEN, empty, |empty: &Vec<String>| empty.is_empty()).await?;
        println!("   {} queries of panels have data", queries.len());
        Ok(())
    }
}

/// The names of metrics in a query: ours, and a process's.
fn metrics_in(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_' || char == ':'));
    words.filter(|word| ["cairn_", "cairn:", "process_"].iter().any(|prefix| word.starts_with(prefix)))
}

/// Every query of every panel, with the variables that Grafana would fill in.
fn dashboards(folder: &Path) -> Result<Vec<(String, String)>, ChaosError> {
    let failed = || ChaosError::io(format!("read the dashboards in {}", folder.display()));
    let files: Vec<PathBuf> =
        fs::read_dir(folder).map_err(failed())?.filter_map(|file| Some(file.ok()?.path())).collect();
    let mut queries = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "json")) {
        let text = fs::read(file).map_err(failed())?;
        let dashboard: Value = serde_json::from_slice(&text).map_err(|error| failed()(error.into()))?;
        for panel in dashboard["panels"].as_array().into_iter().flatten() {
            let title = format!("{}, {}", dashboard["title"], panel["title"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap_or_default();
                queries.push((title.clone(), query.replace("$__rate_interval", "30s").replace("$node", ".*")));
            }
        }
    }
    if queries.is_empty() {
        return Err(ChaosError::Workload(format!("there is no dashboard in {}", folder.display())));
    }
    Ok(queries)
}

//! A real Prometheus that looks at a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{
    admin,
    cluster::{Cluster, free_tcp},
    error::ChaosError,
    process::Process,
};

/// What a query looks back over.
const WINDOW: Duration = Duration::from_secs(300);

/// A server that dies with this value.
pub struct Prometheus {
    address: String,
    _process: Process,
}

/// A rule as the server has it.
#[derive(Debug)]
pub struct Rule {
    pub name: String,
    pub query: String,
    /// Why the server cannot evaluate it, if it cannot.
    pub error: Option<String>,
    /// The page that an alert sends people to; None for recording rules and alerts without one.
    pub runbook: Option<PathBuf>,
    pub alerts: bool,
}

impl Prometheus {
    /// Looks at every node of the cluster each second, and goes by the `rules`.
    pub async fn start(binary: &Path, folder: &Path, cluster: &Cluster, rules: &Path) -> Result<Self, ChaosError> {
        let rules = fs::canonicalize(rules).map_err(ChaosError::io(format!("find {}", rules.display())))?;
        let targets: Vec<&str> = cluster.nodes.iter().map(|node| node.admin.trim_start_matches("http://")).collect();
        // JSON is YAML.
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{"job_name": "cairn", "static_configs": [{"targets": targets}]}],
        });
        fs::create_dir_all(folder).map_err(ChaosError::io("create Prometheus's folder"))?;
        let file = folder.join("prometheus.yml");
        fs::write(&file, config.to_string()).map_err(ChaosError::io("write prometheus.yml"))?;
        let address = free_tcp()?;
        let mut command = Command::new(binary);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let process = Process::start("prometheus", command, &folder.join("log"))?;
        let server = Self { address, _process: process };
        let ready = format!("http://{}/-/ready", server.address);
        admin::until("Prometheus to be ready", Duration::from_secs(60), async || admin::get(&ready).await, |_| true)
            .await?;
        Ok(server)
    }

    async fn ask(&self, path: &str) -> Result<Value, ChaosError> {
        Ok(admin::json(&format!("http://{}/api/v1/{path}", self.address)).await?["data"].take())
    }

    /// Whether a query has a number to show within the last minutes.
    ///
    /// # Errors
    /// Also a query that Prometheus does not understand.
    pub async fn has_data(&self, query: &str) -> Result<bool, ChaosError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (start, end) = (now.saturating_sub(WINDOW).as_secs(), now.as_secs());
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let data = self.ask(&format!("query_range?query={query}&start={start}&end={end}&step=1")).await?;
        let series = data["result"].as_array().map(Vec::as_slice).unwrap_or_default();
        let values = series.iter().filter_map(|series| series["values"].as_array()).flatten();
        let mut numbers = values.filter_map(|value| value[1].as_str()?.parse::<f64>().ok());
        Ok(numbers.any(f64::is_finite))
    }

    /// The names of all metrics that there are.
    pub async fn metrics(&self) -> Result<Vec<String>, ChaosError> {
        let names = self.ask("label/__name__/values").await?;
        let names = names.as_array().into_iter().flatten();
        Ok(names.filter_map(|name| Some(name.as_str()?.to_owned())).collect())
    }

    pub async fn rules(&self) -> Result<Vec<Rule>, ChaosError> {
        let data = self.ask("rules").await?;
        let groups = data["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(rules
            .map(|rule| Rule {
                name: text(&rule["name"]),
                query: text(&rule["query"]),
                error: (rule["health"] != "ok").then(|| format!("{} {}", rule["health"], text(&rule["lastError"]))),
                runbook: rule["annotations"]["runbook"].as_str().map(PathBuf::from),
                alerts: rule["type"] == "alerting",
            })
            .collect())
    }

    /// The alerts whose condition holds, for however short a time.
    pub async fn raised(&self) -> Result<Vec<String>, ChaosError> {
        let data = self.ask("alerts").await?;
        let alerts = data["alerts"].as_array().into_iter().flatten();
        Ok(alerts.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect())
    }
}

//! What an admin server speaks about: the nodes of its process, or a metadata server.

use std::time::{Duration, Instant};

use cairn_actors::runtime::{ActorStatus, ClusterStatus, NodeRuntime};
use cairn_gateway::{AccessDesk, EventTargets, KeyDesk};
use cairn_schema::Meta;
use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};

use super::desk::Desk;

/// A probe writes, so it is not repeated for every asker.
const PROBE_KEPT: Duration = Duration::from_secs(1);
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// A metadata server's own row. No node is called so, because an id begins with a letter or a digit.
const METADATA_SERVER: &str = "(metadata server)";
const STATUS_DEADLINE: Duration = Duration::from_secs(15);
const FORMAT: u32 = 1;

/// Set once the process serves.
pub(crate) enum Subject {
    /// The first node's store is the one the gateway uses, and its view of the cluster is the one shown. In the
    /// metadata so many bytes stand before every key.
    Nodes(Vec<NodeRuntime>, usize, AccessDesk, KeyDesk, Option<EventTargets>),
    Metadata(Meta),
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProcessStatus {
    pub version: &'static str,
    pub pid: u32,
    pub uptime_seconds: u64,
}

/// `/v1/status`: the cluster's status with a word about the process that answers.
#[derive(Debug, Serialize)]
pub(crate) struct StatusPage {
    /// Of this page's form: what a program may rely on stays while this does.
    pub format: u32,
    pub process: ProcessStatus,
    #[serde(flatten)]
    pub cluster: Option<ClusterStatus>,
}

impl Subject {
    /// Proves that the process can do its work now. Err says why it cannot.
    async fn probe(&self) -> Result<(), String> {
        let probe = async {
            match self {
                Self::Nodes(nodes, ..) => {
                    // All of them, though clients are served by the first: the others hold its fragments.
                    if let Some(failure) = nodes.iter().find_map(NodeRuntime::failure) {
                        return Err(format!("a node cannot go on: {failure}"));
                    }
                    let Some(first) = nodes.first() else { return Err("no node runs here".to_owned()) };
                    first.store().probe_write().await.map_err(|error| error.to_string())
                }
                Self::Metadata(meta) => meta.prove(METADATA_SERVER).await.map_err(|error| error.to_string()),
            }
        };
        match timeout(PROBE_DEADLINE, probe).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer to a probe within {PROBE_DEADLINE:?}")),
        }
    }

    /// None of a metadata server: nodes go by the policy and the rates, not it.
    pub(super) fn desk(&self) -> Option<Desk<'_>> {
        match self {
            Self::Nodes(nodes, prefix_bytes, access, keys, targets) => {
                let targets = targets.as_ref();
                Some(Desk { nodes, prefix_bytes: *prefix_bytes, access, keys, targets })
            }
            Self::Metadata(_) => None,
        }
    }

    pub(crate) async fn status(&self, process: ProcessStatus) -> Result<StatusPage, String> {
        let Self::Nodes(nodes, ..) = self else { return Ok(StatusPage { format: FORMAT, process, cluster: None }) };
        let Some((first, others)) = nodes.split_first() else { return Err("no node runs here".to_owned()) };
        let mut cluster = match timeout(STATUS_DEADLINE, first.status()).await {
            Ok(status) => status.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("the status took longer than {STATUS_DEADLINE:?}")),
        };
        cluster.actors.extend(others.iter().flat_map(NodeRuntime::actors).map(|actor| ActorStatus {
            name: actor.name,
            state: actor.state.as_str().to_owned(),
            restarts: actor.restarts,
            last_failure: actor.last_failure,
        }));
        others.iter().for_each(|node| cluster.scrub.add(node.scrub_ages()));
        Ok(StatusPage { format: FORMAT, process, cluster: Some(cluster) })
    }
}

/// The last probe's result, shared by everyone who asks within [`PROBE_KEPT`].
#[derive(Default)]
pub(super) struct Readiness {
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Readiness {
    pub(super) async fn check(&self, subject: &Subject) -> Result<(), String> {
        // Held across the probe on purpose: askers that come meanwhile wait for its result instead of probing too.
        let mut last = self.last.lock().await;
        if let Some((when, result)) = last.as_ref()
            && when.elapsed() < PROBE_KEPT
        {
            return result.clone();
        }
        let result = subject.probe().await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

//! The cluster as one node sees it: the metadata's rows, and what each disk says of itself if it answers soon.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use cairn_fragment::DiskStatus;
use cairn_net::transport::quic::Reach;
use cairn_schema::{MetaError, ids::*, record::*};
use serde::Serialize;

use super::{
    boot::Running,
    health::{Besides, HealthStatus, RepairStatus, ScrubStatus, SpaceStatus, health, repairing, space},
    jobs::JobsStatus,
    maintenance::MaintenanceStatus,
    options::RuntimeError,
    survey::{Depth, Survey},
};
use crate::{
    background::{Homeless, Room, Space, crowded, homeless},
    placement::{
        PolicyView, Rows,
        tolerance::{Tolerance, tolerances},
    },
    policy::RatesView,
};

/// What `cairn status` shows: the cluster as this node sees it.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterStatus {
    pub health: HealthStatus,
    pub repair: RepairStatus,
    pub space: SpaceStatus,
    pub scrub: ScrubStatus,
    pub maintenance: Vec<MaintenanceStatus>,
    pub cluster: String,
    pub seen_by: NodeId,
    pub scheme: String,
    pub small_scheme: String,
    pub failure_domain: FailureDomain,
    pub policy: PolicyStatus,
    pub rates: RatesStatus,
    pub nodes: Vec<NodeStatus>,
    pub groups: Vec<GroupStatus>,
    /// Fragments in the ledger.
    pub missing_fragments: u64,
    /// By scheme, how many failure domains the stripes could lose. None if the metadata store is older than the
    /// counters of stripes.
    pub tolerance: Option<Vec<ToleranceStatus>>,
    pub ledger_by_cause: Vec<(MissingCause, u64)>,
    /// Blobs that the scrubs of this node's disks found not to be what was written, and that cannot be mended.
    pub inconsistent_blobs: Vec<String>,
    /// Members of groups that are lost and have no stand-in yet: what they held is not in the ledger.
    pub lost_members: u64,
    /// Those of them that cannot have one because no disk has room for what they held.
    pub members_without_room: u64,
    /// Operators' jobs, and the disks that are to be empty.
    pub work: JobsStatus,
    pub actors: Vec<ActorStatus>,
}

/// The cluster's policy as this node goes by it.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyStatus {
    pub generation: u64,
    pub write_margin: u8,
    pub small_below_bytes: u64,
    pub fragment_bytes: u32,
    /// Where this node was told otherwise.
    pub differences: Vec<PolicyDifference>,
    /// Why this node takes no writes: it has too little memory for the policy.
    pub too_large: Option<String>,
}

/// The rates that this node goes by.
#[derive(Clone, Debug, Serialize)]
pub struct RatesStatus {
    pub generation: u64,
    pub scrub_bytes: u64,
    pub repair_bytes: u64,
    pub background_percent: u8,
    /// The names of those that the cluster has for all nodes; the others are this node's own.
    pub of_cluster: Vec<&'static str>,
}

impl From<RatesView> for RatesStatus {
    fn from(view: RatesView) -> Self {
        let rates = view.in_force();
        Self {
            generation: view.kept.generation,
            scrub_bytes: rates.scrub_bytes,
            repair_bytes: rates.repair_bytes,
            background_percent: rates.background_percent(),
            of_cluster: view.kept.rates.named(),
        }
    }
}

/// A node as this one sees it.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    pub id: NodeId,
    pub rack: String,
    pub zone: String,
    pub address: SocketAddr,
    /// "alive", "suspect" or "dead", by gossip and probes here.
    pub gossip: String,
    /// Of its program; None if it does not tell.
    pub version: Option<String>,
    /// How calls from here to the node ended last; None for this node itself, and for one that was not called yet.
    pub reach: Option<ReachStatus>,
    pub disks: Vec<DiskLine>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ReachStatus {
    /// Why it cannot be reached, if the last call ended without an answer.
    pub cut_off: Option<String>,
    /// Seconds since it last answered a call; None if it never did.
    pub answered_seconds_ago: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ToleranceStatus {
    pub scheme: String,
    /// Domains that a stripe written now could lose, if every disk that is not lost took part.
    pub possible: usize,
    /// How many stripes could lose 0, 1, 2, … domains, whichever these are, and be read.
    pub stripes: Vec<u64>,
    /// Stripes that could lose fewer domains than is possible.
    pub thin: u64,
}

/// A disk in the status.
#[derive(Clone, Debug, Serialize)]
pub struct DiskLine {
    pub id: String,
    pub state: DiskState,
    pub capacity_bytes: u64,
    /// None when the disk's node did not answer.
    pub used_bytes: Option<u64>,
    /// Without its reserve.
    pub free_bytes: Option<u64>,
    pub fragments: Option<u64>,
    pub writable: Option<bool>,
    /// Why it does not work, in its node's words; None if it does, or if its node did not answer.
    pub failed: Option<String>,
}

/// A placement group in the status.
#[derive(Clone, Debug, Serialize)]
pub struct GroupStatus {
    pub id: GroupId,
    pub scheme: String,
    pub state: GroupState,
    pub epoch: u64,
    /// Members whose disk is up, of how many.
    pub up: usize,
    pub width: usize,
    /// A failure domain holds more of its members than a stripe can lose (PLC-1).
    pub crowded: bool,
}

/// A supervised actor of this node.
#[derive(Clone, Debug, Serialize)]
pub struct ActorStatus {
    pub name: String,
    pub state: String,
    pub restarts: u64,
    pub last_failure: Option<String>,
}

/// As many rows of single fragments as a person waits for.
const DEPTH: Depth = Depth { rows: 50_000, time: Duration::from_secs(2) };
/// Rows read to tell causes apart; of a longer ledger only the length is exact.
const LEDGER_ROWS: usize = 10_000;
const LEDGER_PAGE: usize = 1000;

pub(super) async fn gather(running: &Running) -> Result<ClusterStatus, RuntimeError> {
    let meta = &running.meta;
    let (cluster, missing, survey) =
        futures::try_join!(meta.existing_cluster(), meta.ledger_len(), Survey::read(running, DEPTH))?;
    let rows = survey.rows.clone();
    let topology = running.placement.topology();
    let (view, policy) = (topology.policy.clone(), rows.policy.map_or_else(|| topology.policy(), |kept| kept.policy));
    let level = policy.failure_domain;
    let of_stripes = |stripes: &_| tolerances(&rows, level, stripes).iter().map(tolerance_status).collect();
    let tolerance: Option<Vec<ToleranceStatus>> = survey.stripes.as_ref().map(of_stripes);
    let crowded: HashSet<GroupId> = crowded(&rows, level).into_iter().collect();
    let mut disks: Vec<Disk> = rows.disks.values().cloned().collect();
    disks.sort_unstable_by_key(|disk| disk.id);
    let (causes, work) = futures::join!(causes(running, &survey.repairs), running.jobs());
    let causes = causes?;
    let thin = tolerance.iter().flatten().map(|tolerance| tolerance.thin).sum();
    let inconsistent = running.inconsistent.all();
    let besides = Besides { inconsistent: inconsistent.len(), crowded: crowded.len(), thin };
    let health = health(&survey, &running.node, level, besides);
    let Survey { stripes, repairs, reports, .. } = survey;
    let Homeless { members: lost_members, without_room } = lost(&rows, &policy, stripes, &repairs, &reports);
    let space = space(&disks, &reports);
    let kept = disks.iter().filter(|disk| disk.state != DiskState::Removed).count();
    let scrub = ScrubStatus::of(&running.metrics, kept);
    let states: HashMap<DiskId, DiskState> = disks.iter().map(|disk| (disk.id, disk.state)).collect();
    let mut by_node: HashMap<NodeId, Vec<DiskLine>> = HashMap::new();
    for disk in disks {
        let report = reports.get(&disk.id);
        let line = DiskLine {
            id: disk.id.to_string(),
            state: disk.state,
            capacity_bytes: disk.capacity_bytes,
            used_bytes: report.map(|report| report.used_bytes),
            free_bytes: report.map(|report| report.free_bytes),
            writable: report.map(|report| report.writable),
            fragments: report.map(|report| report.fragments),
            failed: report.and_then(|report| report.failed.clone()),
        };
        by_node.entry(disk.node).or_default().push(line);
    }
    let reach = running.router.reach();
    let node_status = |node: Node| NodeStatus {
        version: running.version_of(&node.id),
        reach: reach.get(&node.id).map(reach_status),
        gossip: topology.liveness(&node.id).as_str().to_owned(),
        disks: by_node.remove(&node.id).unwrap_or_default(),
        id: node.id,
        rack: node.rack,
        zone: node.zone,
        address: node.address,
    };
    let mut nodes: Vec<NodeStatus> = rows.nodes.values().cloned().map(node_status).collect();
    nodes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let group = |group: &Arc<Group>| group_status(group, &states, crowded.contains(&group.id));
    let mut groups: Vec<GroupStatus> = rows.groups.values().map(group).collect();
    groups.sort_unstable_by_key(|group| group.id);
    Ok(ClusterStatus {
        health,
        repair: repairing(&running.metrics),
        space,
        scrub,
        maintenance: MaintenanceStatus::of(running),
        cluster: cluster.map(|id| id.to_string()).unwrap_or_default(),
        seen_by: running.node.clone(),
        scheme: policy.scheme.to_string(),
        small_scheme: policy.small_scheme.to_string(),
        failure_domain: level,
        policy: policy_status(&policy, &view),
        rates: running.rates.view().into(),
        nodes,
        groups,
        missing_fragments: missing,
        tolerance,
        ledger_by_cause: causes,
        inconsistent_blobs: inconsistent.iter().map(ToString::to_string).collect(),
        lost_members,
        members_without_room: without_room,
        work: work?,
        actors: actors(running),
    })
}

fn policy_status(policy: &Policy, view: &PolicyView) -> PolicyStatus {
    PolicyStatus {
        generation: view.generation,
        write_margin: policy.write_margin,
        small_below_bytes: policy.small_below,
        fragment_bytes: policy.fragment_bytes,
        differences: view.differences.clone(),
        too_large: view.too_large.clone(),
    }
}

fn tolerance_status(tolerance: &Tolerance) -> ToleranceStatus {
    ToleranceStatus {
        scheme: tolerance.scheme.to_string(),
        possible: tolerance.possible,
        stripes: tolerance.stripes.clone(),
        thin: tolerance.thin(),
    }
}

fn reach_status(reach: &Reach) -> ReachStatus {
    ReachStatus {
        cut_off: reach.cut_off().map(str::to_owned),
        answered_seconds_ago: reach.answered.map(|when| when.elapsed().as_secs()),
    }
}

fn group_status(group: &Group, states: &HashMap<DiskId, DiskState>, crowded: bool) -> GroupStatus {
    let up = group.members.iter().filter(|disk| states.get(disk).is_some_and(|state| state.serves())).count();
    GroupStatus {
        id: group.id,
        scheme: group.scheme.to_string(),
        state: group.state,
        epoch: group.epoch,
        up,
        width: group.members.len(),
        crowded,
    }
}

fn actors(running: &Running) -> Vec<ActorStatus> {
    let of = |child: crate::supervisor::ChildStatus| ActorStatus {
        name: child.name,
        state: child.state.as_str().to_owned(),
        restarts: child.restarts,
        last_failure: child.last_failure,
    };
    running.actors().into_iter().map(of).collect()
}

/// Lost members of groups that have no stand-in. Of a disk that does not answer no room is known.
fn lost(
    rows: &Rows,
    policy: &Policy,
    stripes: Option<BTreeMap<GroupId, u64>>,
    repairs: &[GroupRepair],
    reports: &HashMap<DiskId, DiskStatus>,
) -> Homeless {
    let space = |disk| {
        let report = reports.get(&disk)?;
        Some(Space { used: report.used_bytes, free: if report.writable { report.free_bytes } else { 0 } })
    };
    let room = Room::new(rows, policy, stripes.unwrap_or_default(), repairs, space);
    homeless(rows, &room, policy.failure_domain, |disk| space(disk).map_or(0, |space| space.free))
}

async fn causes(running: &Running, repairs: &[GroupRepair]) -> Result<Vec<(MissingCause, u64)>, MetaError> {
    let mut counts: HashMap<MissingCause, u64> = HashMap::new();
    let (mut after, mut read) = (None, 0);
    while read < LEDGER_ROWS {
        let page = running.meta.ledger(after, LEDGER_PAGE).await?;
        read += page.len();
        after = page.last().map(|entry| entry.fragment);
        if page.is_empty() {
            break;
        }
        for entry in page {
            *counts.entry(entry.cause).or_default() += 1;
        }
    }
    for position in repairs.iter().flat_map(|repair| &repair.positions) {
        *counts.entry(position.cause).or_default() += position.missing;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    Ok(counts)
}

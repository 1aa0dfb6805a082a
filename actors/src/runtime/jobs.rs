//! Jobs as an operator sees them: what one would move and what it would cost, what those under way have come to, and
//! which disks are empty by now. What is foretold is worked out by the functions that choose what moves.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use cairn_schema::{MetaError, clock::now_ms, ids::*, record::*};
use serde::Serialize;

use super::{boot::Running, options::RuntimeError};
use crate::{
    background::{Draft, Room, Space, Stock, at_once, drain, rebalance, under_way, why_stuck},
    placement::{Rows, Topology, all_group_repairs, tolerance::tolerances},
};

const DISK_DEADLINE: Duration = Duration::from_millis(1500);
/// Of what stands against a plan so much is told.
const MOST_PROBLEMS: usize = 10;
/// A plan has no more moves than this: more are of a cluster whose operator plans for a part of it at a time.
const MOST_MOVES: usize = 100_000;

/// What a job is to be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobAsk {
    pub kind: JobKind,
    pub targets: Vec<JobTarget>,
}

/// What a job would do, worked out before anything moves.
#[derive(Clone, Debug, Serialize)]
pub struct PlanStatus {
    pub kind: JobKind,
    pub targets: Vec<String>,
    /// The disks that would be emptied; of a rebalance none.
    pub disks: Vec<String>,
    pub positions: u64,
    pub bytes: u64,
    /// Groups that would be moved, and how many at a time.
    pub groups: u64,
    pub groups_at_once: u64,
    /// What the node that moves reads and writes a second, at most.
    pub bytes_per_second: u64,
    /// How long that takes at least, if nothing else is to be done first.
    pub seconds: u64,
    pub failure_domain: FailureDomain,
    /// By scheme of which there are stripes.
    pub tolerance: Vec<PlanTolerance>,
    /// Groups that wait for disks that are away, or for repair.
    pub waiting_groups: u64,
    /// Why it cannot be done. A job is begun only where there is nothing.
    pub problems: Vec<String>,
}

/// How many failure domains the stripes of a scheme could lose that can lose least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanTolerance {
    pub scheme: String,
    pub before: usize,
    /// Until its new members have everything a group keeps its old ones.
    pub during: usize,
    pub after: usize,
}

/// All jobs that are kept, and the disks that are to be empty.
#[derive(Clone, Debug, Default, Serialize)]
pub struct JobsStatus {
    pub jobs: Vec<JobStatus>,
    pub draining: Vec<DrainingDisk>,
}

#[derive(Clone, Debug, Serialize)]
pub struct JobStatus {
    pub id: u64,
    pub kind: JobKind,
    pub targets: Vec<String>,
    /// The node that was told.
    pub by: String,
    pub created_ms: u64,
    /// running, blocked, paused, done or cancelled.
    pub state: String,
    pub state_since_ms: u64,
    /// Why nothing moves.
    pub reason: Option<String>,
    pub planned: Moved,
    pub moved: Moved,
    /// None of a job that is over.
    pub left: Option<Moved>,
    /// Groups under way.
    pub groups_moving: u64,
    /// None while that cannot be told.
    pub bytes_per_second: Option<u64>,
    pub eta_seconds: Option<u64>,
}

/// A disk that is drained, or was.
#[derive(Clone, Debug, Serialize)]
pub struct DrainingDisk {
    pub id: String,
    pub node: NodeId,
    /// draining, drained, or how it is if it does not serve.
    pub state: String,
    /// Positions of groups that it still has.
    pub positions: u64,
}

/// What everything here is worked out from.
struct Survey {
    rows: Rows,
    policy: Policy,
    stripes: Option<BTreeMap<GroupId, u64>>,
    repairs: Vec<GroupRepair>,
    moves: Vec<GroupMove>,
    jobs: Vec<Job>,
}

impl Survey {
    async fn of(meta: &cairn_schema::Meta, topology: &Topology) -> Result<Self, MetaError> {
        let (rows, stripes, moves, jobs) =
            futures::try_join!(Rows::read(meta), meta.group_stripes(), meta.group_moves(), meta.jobs())?;
        let repairs = all_group_repairs(meta).await?;
        let policy = rows.policy.map_or_else(|| topology.policy(), |kept| kept.policy);
        Ok(Self { rows, policy, stripes, repairs, moves, jobs })
    }

    fn room(&self, topology: &Topology) -> Room {
        let space = |disk| {
            let load = topology.disk(disk)?.load?;
            Some(Space { used: load.used_bytes, free: load.free_bytes })
        };
        let stripes = self.stripes.clone().unwrap_or_default();
        let mut room = Room::new(&self.rows, &self.policy, stripes, &self.repairs, space);
        room.promise_moves(&self.rows, &self.moves);
        room
    }

    fn draft(&self, rows: &Rows, topology: &Topology, ask: &JobAsk) -> Draft {
        let free = |disk| topology.free_for_moves(disk);
        let then = under_way(rows, &self.moves);
        let mut stock = Stock::new(self.policy.failure_domain, self.room(topology), &then, &free);
        match ask.kind {
            JobKind::Drain => {
                let drained = |disk| then.disks.get(&disk).is_some_and(|disk| means(ask, disk));
                drain(&then, drained, &HashSet::new(), &mut stock, MOST_MOVES)
            }
            JobKind::Rebalance => rebalance(&then, &HashSet::new(), &mut stock, MOST_MOVES),
        }
    }

    /// How many domains the stripes of each scheme could lose that can lose least.
    fn tolerance(&self, rows: &Rows) -> BTreeMap<String, usize> {
        let stripes = self.stripes.clone().unwrap_or_default();
        let least = |stripes: &[u64]| stripes.iter().position(|count| *count > 0);
        let tolerances = tolerances(rows, self.policy.failure_domain, &stripes);
        tolerances.iter().filter_map(|of| Some((of.scheme.to_string(), least(&of.stripes)?))).collect()
    }

    fn job_status(&self, job: &Job, room: &Room) -> JobStatus {
        let now = now_ms();
        let moving = self.moves.iter().filter(|moved| moved.job == job.id);
        let underway: u64 = moving.clone().map(|moved| moved.bytes).fold(0, u64::saturating_add);
        let left = job.state.is_active().then(|| self.left(job, room, underway));
        let speed = job.bytes_a_second(now);
        let eta = left.and_then(|left| match (left.positions, speed) {
            (0, _) => Some(0),
            (_, Some(speed)) if job.blocked.is_none() => Some(left.bytes.div_ceil(speed.max(1))),
            _ => None,
        });
        let state = if job.state == JobState::Running && job.blocked.is_some() {
            "blocked".to_owned()
        } else {
            job.state.to_string()
        };
        JobStatus {
            id: job.id.0,
            kind: job.kind,
            targets: job.targets.iter().map(ToString::to_string).collect(),
            by: job.by.clone(),
            created_ms: job.created_ms,
            state,
            state_since_ms: job.state_ms,
            reason: job.blocked.clone(),
            planned: job.planned,
            moved: job.moved,
            left,
            groups_moving: moving.count() as u64,
            bytes_per_second: speed,
            eta_seconds: eta,
        }
    }

    /// Of a drain what its disks are still members of; of a rebalance what is left of what was planned.
    fn left(&self, job: &Job, room: &Room, underway: u64) -> Moved {
        let (planned, moved) = (job.planned, job.moved);
        if job.kind == JobKind::Rebalance {
            let positions = planned.positions.saturating_sub(moved.positions);
            return Moved { positions, bytes: planned.bytes.saturating_sub(moved.bytes.saturating_add(underway)) };
        }
        let means = |disk: &DiskId| self.rows.disks.get(disk).is_some_and(|disk| job.means(disk));
        let mut left = Moved::default();
        for group in self.rows.groups.values() {
            let positions = group.members.iter().filter(|disk| means(disk)).count() as u64;
            left += Moved { positions, bytes: room.needed(group).saturating_mul(positions) };
        }
        left.bytes = left.bytes.saturating_sub(underway);
        left
    }

    fn draining(&self) -> Vec<DrainingDisk> {
        let to_be_empty = |disk: &&Disk| {
            disk.state == DiskState::Draining
                || (disk.state != DiskState::Removed && self.jobs.iter().any(|job| job.drains() && job.means(disk)))
        };
        let mut positions: BTreeMap<DiskId, u64> =
            self.rows.disks.values().filter(to_be_empty).map(|disk| (disk.id, 0)).collect();
        for member in self.rows.groups.values().flat_map(|group| &group.members) {
            positions.entry(*member).and_modify(|count| *count += 1);
        }
        let copied: BTreeSet<DiskId> =
            self.repairs.iter().flat_map(|repair| &repair.positions).map(|position| position.from).collect();
        let disk = |(id, positions): (DiskId, u64)| {
            let disk = self.rows.disks.get(&id)?;
            let state = match disk.state {
                DiskState::Up => "draining",
                DiskState::Draining if positions == 0 && !copied.contains(&id) => "drained",
                state => state.name(),
            };
            Some(DrainingDisk { id: id.to_string(), node: disk.node.clone(), state: state.to_owned(), positions })
        };
        positions.into_iter().filter_map(disk).collect()
    }
}

fn means(ask: &JobAsk, disk: &Disk) -> bool {
    disk.state != DiskState::Removed && ask.targets.iter().any(|target| target.means(disk))
}

fn refused(why: impl Into<String>) -> RuntimeError {
    RuntimeError::JobRefused(why.into())
}

impl Running {
    pub(super) async fn jobs(&self) -> Result<JobsStatus, RuntimeError> {
        let topology = self.placement.topology();
        let survey = Survey::of(&self.meta, &topology).await?;
        let room = survey.room(&topology);
        let jobs = survey.jobs.iter().map(|job| survey.job_status(job, &room)).collect();
        Ok(JobsStatus { jobs, draining: survey.draining() })
    }

    pub(super) async fn plan_job(&self, ask: &JobAsk) -> Result<PlanStatus, RuntimeError> {
        let new = NewJob {
            attempt: AttemptId::random(),
            kind: ask.kind,
            targets: ask.targets.clone(),
            by: self.node.to_string(),
            planned: Moved::default(),
        };
        if let Some(problem) = new.problem() {
            return Err(refused(problem.to_string()));
        }
        // An operator decides by it: not by what disks said a while ago.
        self.placement.poll_loads(&self.fragments, DISK_DEADLINE).await;
        let topology = self.placement.topology();
        let survey = Survey::of(&self.meta, &topology).await?;
        for target in &ask.targets {
            if !survey.rows.disks.values().any(|disk| disk.state != DiskState::Removed && target.means(disk)) {
                return Err(refused(format!("there is no disk of {target}: see `cairn status`")));
            }
        }
        let (ask, rate) = (ask.clone(), self.rates.view().in_force().repair_bytes);
        // Every group is compared with every disk.
        let planned = tokio::task::spawn_blocking(move || plan(&survey, &topology, &ask, rate)).await;
        planned.map_err(|error| refused(format!("the plan was not made: {error}")))
    }

    pub(super) async fn start_job(&self, ask: JobAsk) -> Result<JobStatus, RuntimeError> {
        let plan = self.plan_job(&ask).await?;
        if !plan.problems.is_empty() {
            return Err(refused(plan.problems.join("; ")));
        }
        let planned = Moved { positions: plan.positions, bytes: plan.bytes };
        let JobAsk { kind, targets } = ask;
        let new = NewJob { attempt: AttemptId::random(), kind, targets, by: self.node.to_string(), planned };
        let job = self.meta.start_job(new).await?;
        tracing::warn!(node = %self.node, job = %job.id, kind = %job.kind, targets = ?plan.targets, "a job was begun here");
        self.look_again().await;
        self.job(job.id).await
    }

    pub(super) async fn set_job_state(&self, id: JobId, state: JobState) -> Result<JobStatus, RuntimeError> {
        let job = self.meta.set_job_state(id, state).await?;
        tracing::warn!(node = %self.node, job = %id, state = %job.state, "the state of a job was set here");
        self.look_again().await;
        self.job(id).await
    }

    async fn job(&self, id: JobId) -> Result<JobStatus, RuntimeError> {
        let found = self.jobs().await?.jobs.into_iter().find(|job| job.id == id.0);
        Ok(found.ok_or_else(|| MetaError::NoSuchEntry { what: "job", name: id.to_string() })?)
    }

    /// Takes disks out that are drained; their ids.
    pub(super) async fn remove_disks(&self, targets: &[JobTarget]) -> Result<Vec<String>, RuntimeError> {
        let disks = self.meta.disks().await?;
        let mut ids = Vec::new();
        for target in targets {
            let meant: Vec<DiskId> = disks.iter().filter(|disk| target.means(disk)).map(|disk| disk.id).collect();
            if meant.is_empty() {
                return Err(refused(format!("there is no disk of {target}: see `cairn status`")));
            }
            ids.extend(meant);
        }
        ids.sort_unstable();
        ids.dedup();
        let removed = self.meta.remove_disks(&ids).await?;
        let removed: Vec<String> = removed.iter().map(|disk| disk.id.to_string()).collect();
        tracing::warn!(node = %self.node, ?removed, "disks were taken out here");
        self.look_again().await;
        Ok(removed)
    }
}

fn plan(survey: &Survey, topology: &Topology, ask: &JobAsk, bytes_per_second: u64) -> PlanStatus {
    let level = survey.policy.failure_domain;
    let mut rows = survey.rows.clone();
    for disk in rows.disks.values_mut().filter(|disk| disk.state == DiskState::Up && means(ask, disk)) {
        disk.state = DiskState::Draining;
    }
    let draft = survey.draft(&rows, topology, ask);
    let mut after = under_way(&rows, &survey.moves);
    for moved in &draft.moves {
        let Some(group) = after.groups.get_mut(&moved.group) else { continue };
        let group = std::sync::Arc::make_mut(group);
        for (position, disk) in &moved.to {
            group.members[usize::from(*position)] = *disk;
        }
    }
    let (before, after) = (survey.tolerance(&survey.rows), survey.tolerance(&after));
    let tolerance = before.into_iter().map(|(scheme, before)| {
        let after = after.get(&scheme).copied().unwrap_or(before);
        PlanTolerance { scheme, before, during: before.min(after), after }
    });
    let disks: Vec<&Disk> = rows.disks.values().filter(|disk| means(ask, disk)).collect();
    let groups_at_once = at_once(rows.groups.len()) as u64;
    let Moved { positions, bytes } = draft.sum();
    let groups = draft.moves.len() as u64;
    // Read and written; and each group rests a while before it is copied.
    let copying = bytes.saturating_mul(2).div_ceil(bytes_per_second.max(1));
    let settling = groups.div_ceil(groups_at_once).saturating_mul(3);
    let mut ids: Vec<String> = disks.iter().map(|disk| disk.id.to_string()).collect();
    ids.sort_unstable();
    PlanStatus {
        kind: ask.kind,
        targets: ask.targets.iter().map(ToString::to_string).collect(),
        disks: if ask.kind == JobKind::Drain { ids } else { Vec::new() },
        positions,
        bytes,
        groups,
        groups_at_once,
        bytes_per_second,
        seconds: copying.max(settling),
        failure_domain: level,
        tolerance: tolerance.collect(),
        waiting_groups: draft.waiting.len() as u64,
        problems: problems(survey, &rows, ask, &draft),
    }
}

/// What stands against it, in an operator's words.
fn problems(survey: &Survey, rows: &Rows, ask: &JobAsk, draft: &Draft) -> Vec<String> {
    let mut problems = Vec::new();
    if ask.kind == JobKind::Drain {
        let disks: Vec<Disk> = rows.disks.values().cloned().collect();
        let left = survey
            .policy
            .problems_with(&disks)
            .into_iter()
            .map(|problem| format!("the disks that are left could take no new stripes: {problem}"));
        problems.extend(left);
    } else if survey.stripes.is_none() {
        problems.push(
            "this metadata store does not count the stripes of groups: export it, and import it into a new one"
                .to_owned(),
        );
    }
    let stuck = draft.stuck.iter().take(MOST_PROBLEMS).map(|(group, position, lacking)| {
        format!("position {position} of group {group}: {}", why_stuck(*lacking, survey.policy.failure_domain))
    });
    problems.extend(stuck);
    if draft.stuck.len() > MOST_PROBLEMS {
        problems.push(format!("and {} more positions", draft.stuck.len() - MOST_PROBLEMS));
    }
    problems
}

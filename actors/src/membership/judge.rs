//! Decides: which disks of silent nodes are down, which of those are lost, and when this node's own disks are up again.
//!
//! Every decision is one compare-and-set in the metadata, so any number of judges agree; a lease per suspect keeps them
//! from all probing it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cairn_fragment::Probes;
use cairn_schema::{Meta, MetaError, clock::now_ms, ids::*, record::*};
use futures::FutureExt;
use tokio_util::task::AbortOnDropHandle;

use super::{
    View,
    confirm::{Finding, confirm},
    gossip::Views,
    losses::{Candidate, Held, Limits, losses},
    quorum::{Sight, Tally, in_company, may_give_up, may_judge},
};
use crate::{
    background::{Context, inventory},
    placement::{Liveness, Rows, topology::domain_of},
    supervisor::{Step, StepError, Worker},
};

/// Suspects looked at in one step; the rest wait for the next.
const SUSPECTS_PER_STEP: usize = 8;
/// Gossip needs a few rounds before silence means anything.
const START_ROUNDS: u32 = 12;
const LEAST_START_GRACE: Duration = Duration::from_secs(3);
/// A suspect that answered a probe is left alone for so many rounds of gossip.
const ROUNDS_AFTER_ANSWER: u32 = 5;
/// How long a returning disk's inventory may take before the disk is called up regardless; scrub finds what is left.
const RECONCILE_LIMIT: Duration = Duration::from_secs(30);
/// How long a step of the judge waits for those of all its disks.
const RECONCILE_PATIENCE: Duration = Duration::from_millis(200);

/// Decides with the others, through the metadata, whose disks are down.
pub struct Judge {
    ctx: Context,
    probes: Arc<dyn Probes>,
    /// This node's open disks.
    own: Vec<DiskId>,
    views: Views,
    started: Instant,
    heard: HashSet<NodeId>,
    /// Suspects that answered a probe, until when they are left alone.
    answered: HashMap<NodeId, Instant>,
    silent: HashSet<NodeId>,
    /// When this judge first saw each disk that is down now.
    down_since: HashMap<DiskId, Instant>,
    /// Own disks that are being compared with what they should hold.
    returning: HashMap<DiskId, AbortOnDropHandle<Result<(), StepError>>>,
    /// Why disks are not given up, as it was told last.
    held: Vec<Held>,
}

impl Judge {
    pub fn new(ctx: Context, probes: Arc<dyn Probes>, own: Vec<DiskId>, views: Views) -> Self {
        Self {
            ctx,
            probes,
            own,
            views,
            started: Instant::now(),
            heard: HashSet::new(),
            answered: HashMap::new(),
            silent: HashSet::new(),
            down_since: HashMap::new(),
            returning: HashMap::new(),
            held: Vec::new(),
        }
    }

    fn start_grace(&self) -> Duration {
        (self.ctx.timings.gossip_interval * START_ROUNDS).max(LEAST_START_GRACE)
    }

    fn suspected(&self, node: &NodeId, view: &View) -> bool {
        if *node == self.ctx.node || view.is_alive(node) {
            return false;
        }
        // Silence of a node that was never heard means something only after gossip has had time.
        self.heard.contains(node) || self.started.elapsed() > self.start_grace()
    }

    /// Updates what is remembered about each node, and says in the node's picture of the cluster who is alive.
    fn publish(&mut self, rows: &Rows, view: &View) {
        let now = Instant::now();
        self.answered.retain(|_, until| *until > now);
        let mut liveness = HashMap::new();
        for node in rows.nodes.keys() {
            if view.is_alive(node) {
                self.heard.insert(node.clone());
                self.silent.remove(node);
            }
            let seems = if !self.suspected(node, view) || self.answered.contains_key(node) {
                Liveness::Alive
            } else if self.silent.contains(node) {
                Liveness::Dead
            } else {
                Liveness::Suspect
            };
            liveness.insert(node.clone(), seems);
        }
        let suspects = liveness.values().filter(|seems| **seems != Liveness::Alive).count();
        self.ctx.metrics.suspects.set(suspects as i64);
        self.ctx.placement.set_liveness(liveness);
    }

    fn sight(&self, rows: &Rows, view: &View) -> Sight {
        let mut voters: HashSet<&NodeId> =
            rows.disks.values().filter(|disk| disk.state == DiskState::Up).map(|disk| &disk.node).collect();
        voters.insert(&self.ctx.node);
        let alive = voters.iter().filter(|node| ***node == self.ctx.node || view.is_alive(node)).count();
        let mine: Vec<_> = self.own.iter().filter_map(|id| rows.disks.get(id)).collect();
        let accused = !mine.is_empty() && mine.iter().all(|disk| disk.state != DiskState::Up);
        Sight { voters: voters.len(), alive, accused }
    }

    /// Own disks: a broken one goes down, a whole one comes up.
    async fn tend_own(&mut self, rows: &Rows, sight: Sight) -> Result<(), StepError> {
        let of_mine = |disk: &&Disk| disk.node == self.ctx.node && disk.state == DiskState::Up;
        let mut down = Vec::new();
        for disk in rows.disks.values().filter(of_mine).filter(|disk| !self.own.contains(&disk.id)) {
            tracing::error!(disk = %disk.id, "a disk registered on this node is not open here");
            down.push(disk);
        }
        let until = Instant::now() + RECONCILE_PATIENCE;
        for id in self.own.clone() {
            let Some(disk) = rows.disks.get(&id) else { continue };
            let failure = match self.ctx.fragments.disk_status(id, self.ctx.deadline()).await {
                Ok(status) => status.failed,
                Err(error) => Some(error.to_string()),
            };
            match (disk.state, failure) {
                (DiskState::Up, Some(why)) => {
                    tracing::error!(disk = %id, %why, "own disk failed");
                    down.push(disk);
                }
                (DiskState::Down | DiskState::Lost, None) if in_company(sight) => {
                    self.call_up(rows, disk, until).await?
                }
                _ => drop(self.returning.remove(&id)),
            }
        }
        Ok(self.change(&down, DiskState::Down).await?)
    }

    /// Has a disk that was away compared with what it should hold, which takes its time and keeps nobody else waiting;
    /// once that is done, it is up (RED-1).
    async fn call_up(&mut self, rows: &Rows, disk: &Disk, until: Instant) -> Result<(), StepError> {
        let returning = self.returning.entry(disk.id).or_insert_with(|| {
            let comparing = reconcile(self.ctx.clone(), rows.positions_of(disk.id), disk.id);
            AbortOnDropHandle::new(tokio::spawn(comparing))
        });
        // What is quickly done is not to wait for the next step.
        let Ok(compared) = tokio::time::timeout_at(until.into(), returning).await else { return Ok(()) };
        self.returning.remove(&disk.id);
        compared??;
        Ok(self.change(&[disk], DiskState::Up).await?)
    }

    async fn condemn(&mut self, rows: &Rows, view: &View) -> Result<(), StepError> {
        let has_up = |node: &NodeId| rows.disks.values().any(|disk| disk.node == *node && disk.state == DiskState::Up);
        let waits = |node: &NodeId| self.answered.contains_key(node);
        let suspects: Vec<NodeId> = rows
            .nodes
            .keys()
            .filter(|node| self.suspected(node, view) && has_up(node) && !waits(node))
            .take(SUSPECTS_PER_STEP)
            .cloned()
            .collect();
        // Together: each waits for the deadlines of probes that are not answered.
        let examined = suspects.iter().map(|suspect| self.examine(rows, view, suspect).boxed());
        let findings = futures::future::join_all(examined.collect::<Vec<_>>()).await;
        for (suspect, finding) in suspects.into_iter().zip(findings) {
            match finding? {
                Some(Finding::Answers) => {
                    let until = Instant::now() + self.ctx.timings.gossip_interval * ROUNDS_AFTER_ANSWER;
                    self.answered.insert(suspect, until);
                }
                Some(Finding::Silent) => {
                    self.silent.insert(suspect);
                }
                Some(Finding::Unsure) | None => {}
            }
        }
        Ok(())
    }

    /// None: another node is at it.
    async fn examine(&self, rows: &Rows, view: &View, suspect: &NodeId) -> Result<Option<Finding>, StepError> {
        let limit = self.ctx.timings.probe_timeout;
        let ttl = limit * 6 + Duration::from_secs(1);
        let name = format!("membership/{suspect}");
        let Some(lease) = self.ctx.lease(&name, ttl).await? else { return Ok(None) };
        let others = rows.nodes.keys().filter(|node| *node != suspect && **node != self.ctx.node);
        let peers: Vec<NodeId> = others.clone().filter(|node| view.is_alive(node)).cloned().collect();
        let alone = others.count() == 0;
        let finding = confirm(&*self.probes, suspect, &peers, alone, limit).await;
        tracing::info!(%suspect, finding = finding.as_str(), "gossip hears nothing of a node, so it was asked");
        match finding {
            Finding::Answers => {}
            Finding::Silent => {
                let of_it = |disk: &&Disk| disk.node == *suspect && disk.state == DiskState::Up;
                self.change(&rows.disks.values().filter(of_it).collect::<Vec<_>>(), DiskState::Down).await?;
            }
            // The lease is left to run out: asking again at once would find the same.
            Finding::Unsure => return Ok(Some(finding)),
        }
        self.ctx.release(lease).await;
        Ok(Some(finding))
    }

    /// Disks down for too long are given up, so that their groups repair without them; see [`losses`].
    async fn declare_lost(&mut self, rows: &Rows, view: &View) -> Result<(), StepError> {
        let candidates = self.candidates(rows);
        let timings = &self.ctx.timings;
        let limits = Limits { single: timings.down_to_lost, domain: timings.domain_down_to_lost };
        let mut losses = losses(&candidates, self.ctx.policy().failure_domain, limits);
        if !may_give_up(self.tally(rows, view)) {
            losses.give_up.clear();
        }
        self.tell(losses.held);
        let lost: Vec<&Disk> = losses.give_up.iter().filter_map(|id| rows.disks.get(id)).collect();
        Ok(self.change(&lost, DiskState::Lost).await?)
    }

    /// The time counts from when this judge saw a disk down, too: a cluster that was switched off for a week must not
    /// give up its slower nodes when it is switched on.
    fn candidates(&mut self, rows: &Rows) -> Vec<Candidate> {
        let (now_ms, now) = (now_ms(), Instant::now());
        let topology = self.ctx.placement.topology();
        let level = self.ctx.policy().failure_domain;
        let members: HashSet<DiskId> = rows.groups.values().flat_map(|group| group.members.iter().copied()).collect();
        self.down_since.retain(|id, _| rows.state(*id) == Some(DiskState::Down));
        let count = |disk: &&Disk| disk.state != DiskState::Removed;
        let candidate = |disk: &Disk| {
            let in_state = Duration::from_millis(now_ms.saturating_sub(disk.since_ms));
            let away_for = match disk.state {
                DiskState::Down => now.duration_since(*self.down_since.entry(disk.id).or_insert(now)).min(in_state),
                DiskState::Lost => in_state,
                DiskState::Up | DiskState::Draining | DiskState::Removed => Duration::ZERO,
            };
            let load = topology.disk(disk.id).and_then(|view| view.load);
            Candidate {
                id: disk.id,
                node: disk.node.clone(),
                domain: domain_of(disk, level),
                state: disk.state,
                away_for,
                used: load.map_or(0, |load| load.used_bytes),
                free: load.map_or(disk.capacity_bytes, |load| if load.writable { load.free_bytes } else { 0 }),
                member: members.contains(&disk.id),
            }
        };
        rows.disks.values().filter(count).map(candidate).collect()
    }

    /// Says why disks are not given up, once for each reason.
    fn tell(&mut self, held: Vec<Held>) {
        for kind in Held::KINDS {
            let count = held.iter().filter(|held| held.label() == kind).count();
            self.ctx.metrics.losses_held.with_label_values(&[kind]).set(count as i64);
        }
        for why in held.iter().filter(|why| !self.held.iter().any(|told| told.is_about(why))) {
            tracing::error!(%why, "disks that are down are not given up");
        }
        self.held = held;
    }

    fn tally(&self, rows: &Rows, view: &View) -> Tally {
        let with = |states: &[DiskState]| -> HashSet<&NodeId> {
            rows.disks.values().filter(|disk| states.contains(&disk.state)).map(|disk| &disk.node).collect()
        };
        let present = with(&[DiskState::Up, DiskState::Draining]);
        let alive = present.iter().filter(|node| ***node == self.ctx.node || view.is_alive(node)).count();
        let all = with(&[DiskState::Up, DiskState::Draining, DiskState::Down]);
        Tally { all: all.len(), alive }
    }

    /// Of those that somebody else has decided about meanwhile, the rows are read again in the next step.
    async fn change(&self, disks: &[&Disk], to: DiskState) -> Result<(), MetaError> {
        if disks.is_empty() {
            return Ok(());
        }
        let changes = disks.iter().map(|disk| (disk.id, disk.state, to)).collect();
        for disk in self.ctx.meta.set_disk_states(changes).await? {
            log_change(&disk, to);
            self.ctx.metrics.disk_changes.with_label_values(&[state_name(to)]).inc();
        }
        Ok(())
    }
}

/// A disk that was away is compared with what it should hold before it counts again (RED-1).
async fn reconcile(ctx: Context, positions: Vec<(GroupId, u8)>, disk: DiskId) -> Result<(), StepError> {
    let until = Instant::now() + RECONCILE_LIMIT;
    let mut missing = 0;
    for (group, position) in positions {
        let mut check = inventory::GroupCheck::new(disk, group, position);
        while let Some(page) = check.page(&ctx).await? {
            missing += page.missing;
            if Instant::now() > until {
                tracing::warn!(%disk, missing, "comparing the disk with what it should hold takes long; scrub will finish it");
                return Ok(());
            }
        }
    }
    tracing::info!(%disk, missing, "the disk was compared with what it should hold");
    Ok(())
}

/// A disk that comes up is ordinary, as after every start of its node; one that goes without its node having said so is
/// not.
fn log_change(Disk { id, node, .. }: &Disk, to: DiskState) {
    match to {
        DiskState::Up => tracing::info!(disk = %id, %node, "a disk is up"),
        DiskState::Down => tracing::warn!(disk = %id, %node, "a disk is down"),
        DiskState::Lost => {
            tracing::warn!(disk = %id, %node, "a disk was down for too long and counts as lost: what it held is made anew elsewhere");
        }
        DiskState::Draining | DiskState::Removed => tracing::info!(disk = %id, %node, "a disk is {}", state_name(to)),
    }
}

fn state_name(state: DiskState) -> &'static str {
    match state {
        DiskState::Up => "up",
        DiskState::Draining => "draining",
        DiskState::Down => "down",
        DiskState::Lost => "lost",
        DiskState::Removed => "removed",
    }
}

#[async_trait]
impl Worker for Judge {
    async fn step(&mut self) -> Result<Step, StepError> {
        let view = self.views.borrow().clone();
        // Before anything is asked, for the metadata may be away: writers must learn at once who is silent.
        let known = self.ctx.placement.topology().rows.clone();
        self.publish(&known, &view);
        let rows = self.ctx.placement.refresh().await?;
        self.publish(&rows, &view);
        let result = self.judge(&rows, &view).await;
        self.publish(&rows, &view);
        result.map(|()| Step::Idle)
    }
}

impl Judge {
    async fn judge(&mut self, rows: &Rows, view: &View) -> Result<(), StepError> {
        let sight = self.sight(rows, view);
        self.tend_own(rows, sight).await?;
        if may_judge(sight) {
            self.condemn(rows, view).await?;
            self.declare_lost(rows, view).await?;
        }
        Ok(())
    }
}

/// Calls this node's disks down when it stops on purpose, so that nobody waits for them.
pub async fn leave(meta: &Meta, own: &[DiskId]) -> Result<(), MetaError> {
    let changes = own.iter().map(|id| (*id, DiskState::Up, DiskState::Down)).collect();
    meta.set_disk_states(changes).await.map(drop)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

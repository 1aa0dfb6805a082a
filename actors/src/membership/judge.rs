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

use super::{
    View,
    confirm::{Finding, confirm},
    gossip::Views,
    quorum::{Sight, Tally, in_company, may_give_up, may_judge},
};
use crate::{
    background::{Context, inventory},
    placement::{Liveness, Rows},
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
    async fn tend_own(&self, rows: &Rows, sight: Sight) -> Result<(), StepError> {
        let of_mine = |disk: &&Disk| disk.node == self.ctx.node && disk.state == DiskState::Up;
        for disk in rows.disks.values().filter(of_mine).filter(|disk| !self.own.contains(&disk.id)) {
            tracing::error!(disk = %disk.id, "a disk registered on this node is not open here");
            self.change(disk, DiskState::Down).await?;
        }
        for id in &self.own {
            let Some(disk) = rows.disks.get(id) else { continue };
            let failure = match self.ctx.fragments.disk_status(*id, self.ctx.deadline()).await {
                Ok(status) => status.failed,
                Err(error) => Some(error.to_string()),
            };
            match (disk.state, failure) {
                (DiskState::Up, Some(why)) => {
                    tracing::error!(disk = %id, %why, "own disk failed");
                    self.change(disk, DiskState::Down).await?;
                }
                (DiskState::Down | DiskState::Lost, None) if in_company(sight) => {
                    self.reconcile(rows, *id).await?;
                    self.change(disk, DiskState::Up).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A disk that was away is compared with what it should hold before it counts again (RED-1).
    async fn reconcile(&self, rows: &Rows, disk: DiskId) -> Result<(), StepError> {
        let until = Instant::now() + RECONCILE_LIMIT;
        let mut missing = 0;
        for (group, position) in rows.positions_of(disk) {
            let mut check = inventory::GroupCheck::new(disk, group, position);
            while let Some(page) = check.page(&self.ctx).await? {
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
                for disk in rows.disks.values().filter(|disk| disk.node == *suspect && disk.state == DiskState::Up) {
                    self.change(disk, DiskState::Down).await?;
                }
            }
            // The lease is left to run out: asking again at once would find the same.
            Finding::Unsure => return Ok(Some(finding)),
        }
        self.ctx.release(lease).await;
        Ok(Some(finding))
    }

    /// Disks down for too long are given up, so that their groups repair without them. The time counts from when this
    /// judge saw them down, too: a cluster that was switched off for a week must not give up its slower nodes when it
    /// is switched on.
    async fn declare_lost(&mut self, rows: &Rows, view: &View) -> Result<(), StepError> {
        let limit = self.ctx.timings.down_to_lost;
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let (now_ms, now) = (now_ms(), Instant::now());
        let down: Vec<&Disk> = rows.disks.values().filter(|disk| disk.state == DiskState::Down).collect();
        self.down_since.retain(|id, _| down.iter().any(|disk| disk.id == *id));
        for disk in down {
            let noticed = *self.down_since.entry(disk.id).or_insert(now);
            let long = now_ms.saturating_sub(disk.since_ms) > limit_ms && now.duration_since(noticed) > limit;
            if long && may_give_up(self.tally(rows, view)) {
                self.change(disk, DiskState::Lost).await?;
            }
        }
        Ok(())
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

    async fn change(&self, disk: &Disk, to: DiskState) -> Result<(), MetaError> {
        match self.ctx.meta.set_disk_state(disk.id, disk.state, to).await {
            Ok(_) => {
                log_change(disk, to);
                self.ctx.metrics.disk_changes.with_label_values(&[state_name(to)]).inc();
                Ok(())
            }
            // Somebody else decided meanwhile; the rows are read again in the next step.
            Err(MetaError::Stale(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
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
    for id in own {
        match meta.set_disk_state(*id, DiskState::Up, DiskState::Down).await {
            Ok(_) | Err(MetaError::Stale(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

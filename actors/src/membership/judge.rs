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
use futures::{FutureExt, StreamExt, future::BoxFuture};

use super::{
    View,
    confirm::{Finding, confirm},
    contacts::{Contacts, Signs},
    gossip::Views,
    losses::{Candidate, Held, Limits, losses},
    quorum::{Sight, Tally, in_company, may_give_up, may_judge},
    returning::Returning,
};
use crate::{
    background::Context,
    placement::{DiskView, Liveness, Rows},
    supervisor::{Step, StepError, Worker},
};

/// Suspects that others are asked about in one step; the rest wait for the next.
const SUSPECTS_PER_STEP: usize = 8;
/// Nodes that are asked at a time.
const ASKED_AT_ONCE: usize = 64;
/// For so long this node need not be told again that the others reach it.
const REACHED_FOR: Duration = Duration::from_secs(5);
/// How long a step of the judge waits for comparisons of disks that return, of all its disks together.
const RECONCILE_PATIENCE: Duration = Duration::from_millis(200);

/// Decides with the others, through the metadata, whose disks are down.
pub struct Judge {
    ctx: Context,
    probes: Arc<dyn Probes>,
    /// This node's open disks.
    own: Vec<DiskId>,
    views: Views,
    contacts: Contacts,
    /// When most of the others last said that they reach this node.
    reached: Option<Instant>,
    /// When this judge first saw each disk that is down now.
    down_since: HashMap<DiskId, Instant>,
    returning: Returning,
    /// Why disks are not given up, as it was told last.
    held: Vec<Held>,
}

impl Judge {
    pub fn new(ctx: Context, probes: Arc<dyn Probes>, own: Vec<DiskId>, views: Views) -> Self {
        let contacts = Contacts::new(ctx.timings.gossip_interval, Instant::now());
        Self {
            ctx,
            probes,
            own,
            views,
            contacts,
            reached: None,
            down_since: HashMap::new(),
            returning: Returning::default(),
            held: Vec::new(),
        }
    }

    /// Says in the node's picture of the cluster who is alive.
    fn publish(&mut self, rows: &Rows, view: &View) {
        let now = Instant::now();
        let heard = rows.nodes.keys().filter(|node| view.is_alive(node)).cloned();
        self.contacts.hear(heard, |node| rows.nodes.contains_key(node));
        let seems = |node: &NodeId| match *node == self.ctx.node {
            true => Liveness::Alive,
            false => self.contacts.seems(node, view.is_alive(node), now),
        };
        let liveness: HashMap<NodeId, Liveness> = rows.nodes.keys().map(|node| (node.clone(), seems(node))).collect();
        let suspects = liveness.values().filter(|seems| **seems != Liveness::Alive).count();
        self.ctx.metrics.suspects.set(suspects as i64);
        self.ctx.placement.set_liveness(liveness);
    }

    /// Asks those who are in doubt, and one more in its turn, whatever gossip says of them.
    async fn ask(&mut self, rows: &Rows, view: &View) {
        let topology = self.ctx.placement.topology();
        let mut has_up: HashSet<&NodeId> = HashSet::new();
        has_up.extend(rows.disks.values().filter(|disk| disk.state.serves()).map(|disk| &disk.node));
        let fails = |view: &&DiskView| view.shunned_reads > 0 || view.shunned_writes > 0;
        let failing: HashSet<&NodeId> = topology.disks.values().filter(fails).map(|view| &view.disk.node).collect();
        let others = rows.nodes.keys().filter(|node| **node != self.ctx.node);
        let signs = |node: &NodeId| Signs {
            alive: view.is_alive(node),
            has_up: has_up.contains(node),
            failing: failing.contains(node),
        };
        let others: Vec<(NodeId, Signs)> = others.map(|node| (node.clone(), signs(node))).collect();
        let asked = self.contacts.ask_now(&others, Instant::now());
        let limit = self.ctx.timings.probe_timeout;
        let probes = &self.probes;
        // Boxed here: the compiler cannot see through the adapters that these futures may move between threads.
        let calls: Vec<BoxFuture<'_, _>> = asked
            .into_iter()
            .map(|node| async move { (probes.probe(&node, Instant::now() + limit).await.is_ok(), node) }.boxed())
            .collect();
        // Many silent ones are asked in several steps: the others wait for the verdict.
        let calls = futures::stream::iter(calls).buffer_unordered(ASKED_AT_ONCE);
        let answers: Vec<(bool, NodeId)> = calls.take_until(Box::pin(tokio::time::sleep(limit * 2))).collect().await;
        let now = Instant::now();
        for (answered, node) in answers {
            match answered {
                true => self.contacts.answers(&node, now),
                false => self.contacts.leaves_unanswered(&node, now),
            }
        }
        // Of these nothing is left to be called down, so only this node's own picture is at stake.
        for (node, signs) in others.iter().filter(|(_, signs)| !signs.has_up) {
            if self.contacts.is_overdue(node, signs.alive, now) {
                self.contacts.found_silent(node);
            }
        }
    }

    fn sight(&self, rows: &Rows, view: &View) -> Sight {
        let mut voters: HashSet<&NodeId> =
            rows.disks.values().filter(|disk| disk.state.serves()).map(|disk| &disk.node).collect();
        voters.insert(&self.ctx.node);
        let alive = voters.iter().filter(|node| self.counts(node, view)).count();
        let mine: Vec<_> = self.own.iter().filter_map(|id| rows.disks.get(id)).collect();
        let accused = !mine.is_empty() && mine.iter().all(|disk| !disk.state.serves());
        Sight { voters: voters.len(), alive, accused }
    }

    fn counts(&self, node: &NodeId, view: &View) -> bool {
        *node == self.ctx.node || self.contacts.counts(node, view.is_alive(node), Instant::now())
    }

    /// Whether most of the cluster reaches this node, by the others' own word: what gossip says of them is no sign
    /// of that. Nobody's disks come up whom the others would have to call down again.
    async fn is_reached(&mut self, rows: &Rows) -> bool {
        if self.reached.is_some_and(|when| when.elapsed() < REACHED_FOR) {
            return true;
        }
        let others: HashSet<&NodeId> =
            rows.disks.values().filter(|disk| disk.state.serves()).map(|disk| &disk.node).collect();
        let others = others.into_iter().filter(|node| **node != self.ctx.node);
        // A peer needs its own time to probe.
        let (probes, me, limit) = (&self.probes, &self.ctx.node, self.ctx.timings.probe_timeout * 2);
        let calls: Vec<BoxFuture<'_, _>> = others
            .map(|peer| {
                async move { matches!(probes.probe_through(peer, me, Instant::now() + limit).await, Ok(true)) }.boxed()
            })
            .collect();
        let voters = calls.len() + 1;
        let mut reaching = 1;
        let mut calls = futures::stream::iter(calls)
            .buffer_unordered(ASKED_AT_ONCE)
            .take_until(Box::pin(tokio::time::sleep(limit)));
        while !in_company(Sight { voters, alive: reaching, accused: false }) {
            match calls.next().await {
                Some(reached) => reaching += usize::from(reached),
                None => return false,
            }
        }
        drop(calls);
        self.reached = Some(Instant::now());
        true
    }

    /// Own disks: a broken one goes down, a whole one comes up.
    async fn tend_own(&mut self, rows: &Rows) -> Result<(), StepError> {
        let of_mine = |disk: &&Disk| disk.node == self.ctx.node && disk.state.serves();
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
                (DiskState::Up | DiskState::Draining, Some(why)) => {
                    tracing::error!(disk = %id, %why, "own disk failed");
                    down.push(disk);
                }
                (DiskState::Down | DiskState::Lost, None) => {
                    if self.is_reached(rows).await && self.returning.is_compared(&self.ctx, id, until).await {
                        self.call_up(disk).await?;
                    }
                }
                _ => self.returning.forget(id),
            }
        }
        Ok(self.change(&down, DiskState::Down).await?)
    }

    async fn call_up(&mut self, disk: &Disk) -> Result<(), StepError> {
        // One that is to be empty is not given anything in the moment until it is drained again.
        let draining = self.ctx.meta.drain_disks(vec![(disk.id, disk.state)]).await?;
        if draining.is_empty() {
            return Ok(self.change(&[disk], DiskState::Up).await?);
        }
        draining.iter().for_each(|disk| self.note_change(disk, DiskState::Draining));
        Ok(())
    }

    async fn condemn(&mut self, rows: &Rows, view: &View) -> Result<(), StepError> {
        let has_up = |node: &NodeId| rows.disks.values().any(|disk| disk.node == *node && disk.state.serves());
        let now = Instant::now();
        let overdue = |node: &NodeId| self.contacts.is_overdue(node, view.is_alive(node), now);
        let suspects: Vec<NodeId> =
            rows.nodes.keys().filter(|node| overdue(node) && has_up(node)).take(SUSPECTS_PER_STEP).cloned().collect();
        // Together: each waits for the deadlines of probes that are not answered.
        let examined = suspects.iter().map(|suspect| self.examine(rows, view, suspect).boxed());
        let findings = futures::future::join_all(examined.collect::<Vec<_>>()).await;
        for (suspect, finding) in suspects.into_iter().zip(findings) {
            match finding? {
                Some(Finding::Answers) => self.contacts.answers(&suspect, Instant::now()),
                Some(Finding::Silent) => self.contacts.found_silent(&suspect),
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
        let may_know = |node: &&NodeId| self.contacts.may_know(node, view.is_alive(node), Instant::now());
        let peers: Vec<NodeId> = others.clone().filter(may_know).cloned().collect();
        let alone = others.count() == 0;
        let finding = confirm(&*self.probes, suspect, &peers, alone, limit).await;
        tracing::info!(%suspect, finding = finding.as_str(), "a node left a probe unanswered, so it and others were asked");
        match finding {
            Finding::Answers => {}
            Finding::Silent => {
                let of_it = |disk: &&Disk| disk.node == *suspect && disk.state.serves();
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
                // Not from before somebody worked on it either: it may take its time to return.
                DiskState::Down if rows.maintained.contains(&disk.node) => {
                    self.down_since.remove(&disk.id);
                    Duration::ZERO
                }
                DiskState::Down => now.duration_since(*self.down_since.entry(disk.id).or_insert(now)).min(in_state),
                DiskState::Lost => in_state,
                DiskState::Up | DiskState::Draining | DiskState::Removed => Duration::ZERO,
            };
            let load = topology.disk(disk.id).and_then(|view| view.load);
            Candidate {
                id: disk.id,
                node: disk.node.clone(),
                domain: disk.domain(level),
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
        let alive = present.iter().filter(|node| self.counts(node, view)).count();
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
            self.note_change(&disk, to);
        }
        Ok(())
    }

    fn note_change(&self, disk: &Disk, to: DiskState) {
        log_change(disk, to);
        self.ctx.metrics.disk_changes.with_label_values(&[to.name()]).inc();
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
        DiskState::Draining | DiskState::Removed => tracing::info!(disk = %id, %node, "a disk is {}", to.name()),
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
        self.ask(rows, view).await;
        self.publish(rows, view);
        let sight = self.sight(rows, view);
        self.tend_own(rows).await?;
        if may_judge(sight) {
            self.condemn(rows, view).await?;
            self.declare_lost(rows, view).await?;
        }
        Ok(())
    }
}

/// Calls this node's disks down when it stops on purpose, so that nobody waits for them.
pub async fn leave(meta: &Meta, own: &[DiskId]) -> Result<(), MetaError> {
    let down = |id: &DiskId| [DiskState::Up, DiskState::Draining].map(|from| (*id, from, DiskState::Down));
    let changes = own.iter().flat_map(down).collect();
    meta.set_disk_states(changes).await.map(drop)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

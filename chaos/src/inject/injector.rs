//! The one who does the faults of a schedule, ends them, and knows what is hurt until it is whole again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    atlas,
    cables::{self, Cutting},
    disks,
    event::{Event, Outcome},
    glut::glut,
    scene::{Shared, brief, scrub_ages},
};
use crate::{
    admin,
    cluster::Cluster,
    disk_files::segments,
    error::ChaosError,
    lab::{clock::Clock, volume::Volume},
    script::{Kind, MetadataKind, Needs, Scenario, Step, Target},
    strace::Injection,
    traffic::{Book, Endpoints},
};

const TICK: Duration = Duration::from_millis(100);
/// A load balancer sees so late that a node does not answer; until then clients meet what that does to requests.
const NOTICED: Duration = Duration::from_secs(1);
/// A step that cannot be done for so long is left out.
const PATIENCE: Duration = Duration::from_secs(60);
/// A group that is new since then has members of what worked then, no more of a rack than it can lose.
const PLACED: Duration = Duration::from_millis(500);
/// What clients do by itself, such as filling the cluster, must end in this time.
const DEEDS: Duration = Duration::from_secs(1800);
/// How wrong a clock is.
const OFF: Duration = Duration::from_secs(24 * 3600);
/// How many seconds a clock that is too fast gains in each.
const FAST: i64 = 3600;
/// After a fault it takes a moment until others see what it did; what they say before that is not believed.
const SEEN: Duration = Duration::from_secs(3);

struct Active {
    event: usize,
    began: Instant,
    ends: Instant,
    nodes: Vec<usize>,
    injection: Option<Injection>,
    cutting: Option<Cutting>,
    /// What it does by itself; it is over when that is done.
    deed: Option<tokio::task::JoinHandle<String>>,
}

/// A node whose fault is over, until everything on it is whole.
struct Mending {
    events: Vec<usize>,
    since: Instant,
    /// Whether only a pass of scrub finds what was done.
    by_scrub: bool,
}

pub struct Injector {
    pub cluster: Cluster,
    pub events: Vec<Event>,
    scenario: Scenario,
    endpoints: Endpoints,
    book: Book,
    shared: Shared,
    aside: PathBuf,
    /// Of what faults need, what is not there, and why.
    lacking: Vec<(Needs, String)>,
    steps: VecDeque<Step>,
    active: Vec<Active>,
    mending: BTreeMap<usize, Mending>,
    /// Since when the next step waits, and for what at first.
    waits: Option<(Instant, String)>,
    /// What the metadata said last of where everything is.
    placed: Option<(Instant, String)>,
    asked_whole: Option<Instant>,
}

impl Injector {
    pub fn new(
        cluster: Cluster,
        scenario: &Scenario,
        steps: Vec<Step>,
        (endpoints, book, shared): (Endpoints, Book, Shared),
        aside: PathBuf,
        lacking: Vec<(Needs, String)>,
    ) -> Self {
        let mut injector = Self {
            cluster,
            events: Vec::new(),
            scenario: scenario.clone(),
            endpoints,
            book,
            shared,
            aside,
            lacking,
            steps: steps.into(),
            active: Vec::new(),
            mending: BTreeMap::new(),
            waits: None,
            placed: None,
            asked_whole: None,
        };
        injector.tell();
        injector
    }

    /// Does the steps of the time, and at its end ends what goes on; what could not be done is told as skipped.
    pub async fn run(&mut self, duration: Duration) -> Result<(), ChaosError> {
        let begin = Instant::now();
        while begin.elapsed() < duration {
            self.tick().await?;
            while let Some(step) = self.steps.front().filter(|step| step.at.0 <= begin.elapsed()).cloned() {
                if let Some((_, why)) = self.lacking.iter().find(|(needs, _)| step.what.needs().contains(needs)) {
                    let why = why.clone();
                    self.steps.pop_front();
                    self.skip(step, why);
                    continue;
                }
                match self.choose(&step)? {
                    Ok(step) => self.begin(step).await?,
                    Err(why) => {
                        let (since, _) = self.waits.get_or_insert_with(|| (Instant::now(), why.clone()));
                        if since.elapsed() < PATIENCE {
                            break;
                        }
                        self.skip(step, why);
                    }
                }
                self.waits = None;
                self.steps.pop_front();
            }
            tokio::time::sleep(TICK).await;
        }
        for step in std::mem::take(&mut self.steps) {
            let why = match self.blocked(&step)? {
                Some(why) => why,
                None => "its turn did not come before the end".into(),
            };
            self.skip(step, why);
        }
        Ok(())
    }

    /// Ends all that goes on, and waits until everything is whole.
    pub async fn heal(&mut self) -> Result<Duration, ChaosError> {
        // What clients do by itself is no healing, and takes as long as the machine makes it.
        let deeds_end = Instant::now() + DEEDS;
        while self.active.iter().any(|active| active.deed.is_some()) && Instant::now() < deeds_end {
            self.tick().await?;
            tokio::time::sleep(TICK).await;
        }
        let now = Instant::now();
        self.active.iter_mut().for_each(|active| active.ends = now);
        let within = self.scenario.must.heal_within.0;
        loop {
            self.tick().await?;
            if self.active.is_empty() && self.mending.is_empty() && self.cluster.meta_serves() && self.is_whole(now) {
                return Ok(now.elapsed());
            }
            if now.elapsed() > within {
                let names: Vec<&str> = self.mending.keys().map(|node| &*self.cluster.nodes[*node].id).collect();
                let status = self.shared.scene().status.clone().map(|(_, status)| brief(&status));
                let detail = format!("not whole yet: {names:?}; the last status: {}", status.unwrap_or_default());
                return Err(ChaosError::NotInTime {
                    what: format!("everything to be whole within {within:?}"),
                    detail,
                });
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn skip(&mut self, step: Step, why: String) {
        println!("   skipped {step}: {why}");
        let (began_ms, outcome) = (self.now(), Outcome::Skipped(why));
        self.events.push(Event { step, began_ms, ended_ms: None, healed_ms: None, waited: None, outcome });
    }

    fn now(&self) -> u64 {
        self.book.now() / 1000
    }

    /// Ends what is over, and looks who is whole.
    async fn tick(&mut self) -> Result<(), ChaosError> {
        for fallen in self.cluster.fallen() {
            self.book.broken("CRASH", fallen.to_string());
        }
        for active in &self.active {
            let what = self.events[active.event].step.what;
            let is_away = matches!(what, Kind::Kill | Kind::Freeze | Kind::PowerCut);
            let is_doubtful = what.is_partition() || what.is_of_clocks();
            if (is_away || is_doubtful) && active.began.elapsed() > NOTICED {
                active.nodes.iter().for_each(|node| self.endpoints.set_fit(*node, false));
                active.nodes.iter().for_each(|node| self.endpoints.set_doubtful(*node, is_doubtful));
            }
        }
        let over = |active: &Active| match &active.deed {
            Some(deed) => deed.is_finished(),
            None => Instant::now() >= active.ends,
        };
        for active in self.active.extract_if(.., |active| over(active)).collect::<Vec<_>>() {
            self.end(active).await?;
        }
        // Whoever fell by itself goes on, so that there is more to be seen.
        if !self.active.iter().any(|active| self.is_of_meta(active)) {
            self.cluster.begin_meta()?;
        }
        let held: BTreeSet<usize> = self.active.iter().flat_map(|active| active.nodes.clone()).collect();
        for node in (0..self.cluster.nodes.len()).filter(|node| !held.contains(node)) {
            self.cluster.begin(node)?;
        }
        for node in self.mending.keys().copied().filter(|node| !held.contains(node)).collect::<Vec<_>>() {
            if self.cluster.is_serving(node) {
                self.endpoints.set_fit(node, true);
            }
        }
        self.tell();
        let mended: Vec<usize> = self.mending.keys().copied().collect();
        for node in mended {
            if self.mended(node).await {
                let healed = Some(self.now());
                for event in self.mending.remove(&node).into_iter().flat_map(|mending| mending.events) {
                    self.events[event].healed_ms = healed;
                }
            }
        }
        Ok(())
    }

    /// Tells the one who looks.
    fn tell(&mut self) {
        let held: BTreeSet<usize> = self.active.iter().flat_map(|active| active.nodes.clone()).collect();
        let answers = |node: &usize| self.cluster.is_serving(*node) && !held.contains(node);
        let answering = (0..self.cluster.nodes.len()).filter(answers);
        let answering = answering.map(|node| self.cluster.nodes[node].admin.clone()).collect();
        let meta_is_away = !self.cluster.meta_serves() || self.active.iter().any(|active| self.is_of_meta(active));
        let lonely = |active: &&Active| self.events[active.event].step.what.is_partition();
        let lonely: BTreeSet<usize> = self.active.iter().filter(lonely).flat_map(|one| one.nodes.clone()).collect();
        let mut scene = self.shared.scene();
        let admins: BTreeSet<String> = lonely.into_iter().map(|node| self.cluster.nodes[node].admin.clone()).collect();
        scene.lonely.retain(|admin, _| admins.contains(admin));
        for admin in admins {
            scene.lonely.entry(admin).or_insert_with(Instant::now);
        }
        scene.processes = self.cluster.processes();
        scene.answering = answering;
        scene.metadata_away_since = meta_is_away.then(|| scene.metadata_away_since.unwrap_or_else(Instant::now));
    }

    /// Whether it takes the metadata away.
    fn is_of_meta(&self, active: &Active) -> bool {
        let step = &self.events[active.event].step;
        match step.target {
            Target::Metadata => !step.what.is_of_clocks(),
            Target::All => step.what == Kind::PowerCut && self.scenario.topology.metadata == MetadataKind::Remote,
            _ => false,
        }
    }

    /// Whether all that was hurt on a node is whole, as the cluster tells it a while after the fault.
    async fn mended(&mut self, node: usize) -> bool {
        let Some((since, by_scrub)) = self.mending.get(&node).map(|mending| (mending.since, mending.by_scrub)) else {
            return true;
        };
        if !self.cluster.is_serving(node) || !self.is_whole(since) {
            return false;
        }
        if !by_scrub {
            return true;
        }
        // Not at each tick.
        if self.asked_whole.is_some_and(|asked| asked.elapsed() < Duration::from_secs(1)) {
            return false;
        }
        self.asked_whole = Some(Instant::now());
        let ages = scrub_ages(&self.cluster.nodes[node].admin).await.unwrap_or_default();
        let disks = self.scenario.topology.disks;
        ages.len() == disks && ages.iter().all(|age| *age < since.elapsed().as_secs_f64() - 1.0)
    }

    /// By a status that was asked for a while after `since`.
    fn is_whole(&self, since: Instant) -> bool {
        let all = self.cluster.nodes.len() * self.scenario.topology.disks;
        let away: usize =
            self.active.iter().map(|active| active.nodes.len()).sum::<usize>() * self.scenario.topology.disks;
        let scene = self.shared.scene();
        let Some((_, status)) = scene.status.as_ref().filter(|(asked, _)| *asked > since + SEEN) else { return false };
        let up = admin::disks_in(status, "up");
        // One that is being emptied works as others do.
        let up = if self.is_drained() { up + admin::disks_in(status, "draining") } else { up };
        status["missing_fragments"] == 0
            && status["lost_members"] == 0
            // Disks of what goes on may be called up still.
            && if self.active.is_empty() { up == all } else { up + away >= all }
    }

    /// The step as it can be done now, or why it cannot.
    fn choose(&mut self, step: &Step) -> Result<Result<Step, String>, ChaosError> {
        let Some(why) = self.blocked(step)? else { return Ok(Ok(step.clone())) };
        for target in &step.instead {
            let other = Step { target: target.clone(), ..step.clone() };
            if self.blocked(&other)?.is_none() {
                return Ok(Ok(other));
            }
        }
        Ok(Err(why))
    }

    /// Where everything is, as of a moment ago.
    fn placement(&mut self) -> Result<&str, ChaosError> {
        let is_old = |(asked, _): &(Instant, String)| asked.elapsed() > PLACED;
        if self.placed.as_ref().is_none_or(is_old) {
            let held: BTreeSet<usize> = self.active.iter().flat_map(|active| active.nodes.clone()).collect();
            let node = (0..self.cluster.nodes.len()).find(|node| !held.contains(node)).unwrap_or(0);
            let placement = tokio::task::block_in_place(|| self.cluster.placement_by(node))?;
            self.placed = Some((Instant::now(), placement));
        }
        Ok(self.placed.as_ref().map_or("", |(_, placement)| placement))
    }

    /// Why a step cannot be done now.
    fn blocked(&mut self, step: &Step) -> Result<Option<String>, ChaosError> {
        let (per_rack, all) = (self.scenario.topology.nodes_per_rack, self.cluster.nodes.len());
        let nodes = step.target.nodes(per_rack, all);
        let held: BTreeSet<usize> = self.active.iter().flat_map(|active| active.nodes.clone()).collect();
        let is_quiet = held.is_empty() && self.mending.is_empty();
        if step.when_whole && !is_quiet {
            return Ok(Some("something is not whole yet".into()));
        }
        if let Some(node) = nodes.iter().find(|node| held.contains(node)) {
            return Ok(Some(format!("something goes on at {} already", self.cluster.nodes[*node].id)));
        }
        let meta_is_away = !self.cluster.meta_serves() || self.active.iter().any(|active| self.is_of_meta(active));
        match step.target {
            Target::Metadata => {
                let busy =
                    meta_is_away || self.active.iter().any(|one| self.events[one.event].step.target == step.target);
                return Ok(busy.then(|| "something goes on at the metadata server already".into()));
            }
            Target::All => {
                let why = "all nodes are done at once only when nothing else goes on";
                return Ok((!self.active.is_empty()).then(|| why.into()));
            }
            _ => {}
        }
        if let Some(node) = nodes.iter().find(|node| !self.cluster.is_serving(**node)) {
            return Ok(Some(format!("{} does not serve yet", self.cluster.nodes[*node].id)));
        }
        if step.what == Kind::Drain {
            return Ok(self.is_drained().then(|| "something is drained already".into()));
        }
        if is_quiet && !matches!(step.target, Target::Racks(_)) {
            // PLC-1: any one failure domain may go.
            return Ok(None);
        }
        if self.scenario.topology.metadata == MetadataKind::Embedded {
            return Ok(Some("something is not whole yet, and which disks hold what is not known".into()));
        }
        let hurt: BTreeSet<usize> = held.into_iter().chain(self.mending.keys().copied()).chain(nodes).collect();
        let racks: BTreeSet<usize> = hurt.iter().map(|node| node / per_rack).collect();
        if racks.len() == 1 {
            return Ok(None);
        }
        let budget = self.scenario.budget();
        if racks.len() > budget {
            return Ok(Some(format!("{} racks would be hurt at once, and {budget} may be", racks.len())));
        }
        if meta_is_away {
            return Ok(Some("without the metadata nobody knows what it would hurt".into()));
        }
        if self.is_drained() {
            return Ok(Some("where things are changes while something is drained".into()));
        }
        let names = hurt.iter().map(|node| self.cluster.nodes[*node].id.clone()).collect();
        match self.placement() {
            Ok(placement) => atlas::excess(placement, &names),
            Err(error) => Ok(Some(format!("where things are is not known: {error}"))),
        }
    }

    async fn begin(&mut self, step: Step) -> Result<(), ChaosError> {
        let waited = self.waits.take().map(|(_, why)| why);
        let late = waited.as_ref().map(|why| format!(", which waited: {why}")).unwrap_or_default();
        println!("   {:>6.1} s  {step}{late}", self.now() as f64 / 1000.0);
        let nodes = step.target.nodes(self.scenario.topology.nodes_per_rack, self.cluster.nodes.len());
        let (event, began_ms) = (self.events.len(), self.now());
        let (step_again, outcome) = (step.clone(), Outcome::Done);
        self.events.push(Event { step: step_again, began_ms, ended_ms: None, healed_ms: None, waited, outcome });
        let (mut injection, mut deed) = (None, None);
        let cutting =
            Cutting::of(step.what, &step.target, self.scenario.topology.nodes_per_rack, self.cluster.nodes.len());
        match step.what {
            Kind::Kill if step.target == Target::Metadata => self.cluster.kill_meta(),
            Kind::Freeze if step.target == Target::Metadata => self.cluster.freeze_meta(),
            Kind::Kill => nodes.iter().for_each(|node| self.cluster.kill_node(*node)),
            Kind::Freeze => nodes.iter().for_each(|node| self.cluster.nodes[*node].freeze()),
            Kind::Restart => self.restart(&nodes)?,
            Kind::Upgrade => {
                if step.target == Target::Metadata {
                    self.restart_meta()?;
                }
                self.cluster.upgrade(&nodes);
                self.restart(&nodes)?;
            }
            Kind::Fill => disks::volumes(&self.cluster, &step.target, Volume::fill)?,
            Kind::ReadOnly => disks::volumes(&self.cluster, &step.target, Volume::turn_read_only)?,
            Kind::Glut => {
                let (endpoints, book) = (self.endpoints.clone(), self.book.clone());
                deed = Some(tokio::spawn(glut(endpoints, book, self.scenario.must.heal_within.0)));
            }
            Kind::PowerCut => {
                let of_meta = step.target == Target::All;
                tokio::task::block_in_place(|| self.cluster.cut_power(&nodes, of_meta))?;
            }
            Kind::Cut | Kind::Deaf | Kind::Mute | Kind::CutMetadata | Kind::Part | Kind::Loss => {
                self.cables(cutting.as_ref())?;
            }
            Kind::Delay => {
                let slowed = match (self.cluster.net(), &cutting) {
                    (Some(net), Some(cutting)) => cables::slow(net, cutting),
                    _ => Ok(()),
                };
                if let Err(why) = slowed {
                    println!("   SKIPPED: {why}");
                    self.events[event].outcome = Outcome::Skipped(why);
                    return Ok(());
                }
            }
            Kind::ClockAhead => disks::clocks(&self.cluster, &step.target, &nodes, |clock| clock.jump(OFF, true))?,
            Kind::ClockBehind => disks::clocks(&self.cluster, &step.target, &nodes, |clock| clock.jump(OFF, false))?,
            Kind::ClockFast => disks::clocks(&self.cluster, &step.target, &nodes, |clock| clock.drift(FAST))?,
            Kind::Eio | Kind::Slow | Kind::Hang => match disks::sicken(&self.cluster, &step, &self.disk(&step)) {
                Ok(made) => injection = Some(made),
                Err(why) => {
                    println!("   SKIPPED: {why}");
                    self.events[event].outcome = Outcome::Skipped(why);
                    return Ok(());
                }
            },
            Kind::Rot => disks::rot(&self.cluster, &step, &self.disk(&step), &self.aside)?,
            Kind::Drain => {
                if let Err(error) = self.drain(&step) {
                    let why = error.to_string();
                    println!("   skipped: {why}");
                    self.events[event].outcome = Outcome::Skipped(why);
                    return Ok(());
                }
            }
            Kind::LoseSegments => {
                for file in segments(&self.disk(&step))?.values() {
                    fs::remove_file(file).map_err(ChaosError::io("delete a segment file"))?;
                }
            }
        }
        let lasts = if step.what.is_momentary() { Duration::ZERO } else { step.lasts.0 };
        let began = Instant::now();
        // What is drained, or filled by clients, works on.
        let nodes = if matches!(step.what, Kind::Drain | Kind::Glut) { Vec::new() } else { nodes };
        self.active.push(Active { event, began, ends: began + lasts, nodes, injection, cutting, deed });
        self.tell();
        Ok(())
    }

    /// Cuts what those that go on cut, and this one.
    fn cables(&self, also: Option<&Cutting>) -> Result<(), ChaosError> {
        let Some(net) = self.cluster.net() else { return Ok(()) };
        let cuttings: Vec<&Cutting> =
            self.active.iter().filter_map(|active| active.cutting.as_ref()).chain(also).collect();
        tokio::task::block_in_place(|| cables::cut(net, &cuttings, self.cluster.nodes.len() + 1))
    }

    /// As an operator does whose disk came back read-only: the node is stopped, the disk mounted anew.
    fn mount_again(&mut self, step: &Step) -> Result<(), ChaosError> {
        let Target::Disk(node, disk) = step.target else { return Ok(()) };
        tokio::task::block_in_place(|| {
            if let Err(error) = self.cluster.stop_node(node) {
                self.book.broken("STOP", error.to_string());
            }
            self.cluster.disk_volume(node, disk).map_or(Ok(()), Volume::mount_again)
        })?;
        self.cluster.begin(node)
    }

    async fn end(&mut self, mut active: Active) -> Result<(), ChaosError> {
        let step = self.events[active.event].step.clone();
        if step.what == Kind::Drain && self.cancel().is_err() {
            // While the metadata are away nothing can be cancelled.
            self.active.push(Active { ends: Instant::now() + Duration::from_secs(1), ..active });
            return Ok(());
        }
        match (step.what, &step.target) {
            (Kind::Kill, Target::Metadata) => self.cluster.begin_meta()?,
            (Kind::Freeze, Target::Metadata) => self.cluster.thaw_meta(),
            (Kind::Kill, _) => active.nodes.iter().try_for_each(|node| self.cluster.begin(*node))?,
            (Kind::Freeze, _) => active.nodes.iter().for_each(|node| self.cluster.nodes[*node].thaw()),
            (Kind::Fill, _) => disks::volumes(&self.cluster, &step.target, Volume::relieve)?,
            (Kind::ReadOnly, _) => self.mount_again(&step)?,
            (Kind::PowerCut, target) => {
                let of_meta = *target == Target::All;
                tokio::task::block_in_place(|| self.cluster.restore_power(&active.nodes, of_meta))?;
                if of_meta {
                    self.cluster.begin_meta()?;
                }
                active.nodes.iter().try_for_each(|node| self.cluster.begin(*node))?;
            }
            (Kind::Delay, _) => {
                if let (Some(net), Some(cutting)) = (self.cluster.net(), &active.cutting) {
                    cables::hasten(net, cutting)?;
                }
            }
            (kind, _) if kind.needs() == [Needs::Network] => self.cables(None)?,
            (kind, _) if kind.is_of_clocks() => {
                disks::clocks(&self.cluster, &step.target, &active.nodes, Clock::set_right)?
            }
            _ => tokio::task::block_in_place(|| drop(active.injection)),
        }
        if let Some(deed) = active.deed.take() {
            println!("   {}", deed.await.unwrap_or_else(|error| error.to_string()));
        }
        active.nodes.iter().for_each(|node| self.endpoints.set_doubtful(*node, false));
        self.events[active.event].ended_ms = Some(self.now());
        let by_scrub = matches!(step.what, Kind::Rot | Kind::LoseSegments);
        for node in active.nodes {
            let fresh = || Mending { events: Vec::new(), since: Instant::now(), by_scrub: false };
            let mending = self.mending.entry(node).or_insert_with(fresh);
            mending.events.push(active.event);
            mending.since = Instant::now();
            mending.by_scrub |= by_scrub;
        }
        Ok(())
    }

    fn admin(&self, arguments: &[&str]) -> Result<String, ChaosError> {
        let held: BTreeSet<usize> = self.active.iter().flat_map(|active| active.nodes.clone()).collect();
        let answers = |node: &usize| self.cluster.is_serving(*node) && !held.contains(node);
        let node = (0..self.cluster.nodes.len()).find(answers);
        let node = node.ok_or_else(|| ChaosError::Workload("no node answers".into()))?;
        tokio::task::block_in_place(|| self.cluster.cairn_at(node, &[&["admin"], arguments].concat()))
    }

    fn drain(&self, step: &Step) -> Result<String, ChaosError> {
        match step.target {
            Target::Rack(rack) => self.admin(&["apply", "drain", "--rack", &format!("z1/r{}", rack + 1)]),
            Target::Node(node) => self.admin(&["apply", "drain", "--node", &self.cluster.nodes[node].id]),
            _ => Err(ChaosError::Workload("only nodes and racks are drained".into())),
        }
    }

    /// Ends every drain, so that its disks are as others again.
    fn cancel(&self) -> Result<(), ChaosError> {
        let list: Value = serde_json::from_str(&self.admin(&["jobs", "list", "--json"])?)
            .map_err(|error| ChaosError::Workload(format!("the list of jobs: {error}")))?;
        for job in list["jobs"].as_array().into_iter().flatten() {
            if job["kind"] == "drain" && job["state"] != "cancelled" {
                println!("   a drain is cancelled, {}; it moved {}", job["state"], job["moved"]);
                self.admin(&["jobs", "cancel", &job["id"].to_string()])?;
            }
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.active.iter().any(|active| self.events[active.event].step.what == Kind::Drain)
    }

    fn restart_meta(&mut self) -> Result<(), ChaosError> {
        if let Err(error) = tokio::task::block_in_place(|| self.cluster.stop_meta()) {
            self.book.broken("STOP", error.to_string());
        }
        self.cluster.upgrade_meta();
        self.cluster.begin_meta()
    }

    /// One after another, as an operator does.
    fn restart(&mut self, nodes: &[usize]) -> Result<(), ChaosError> {
        for node in nodes {
            self.endpoints.set_fit(*node, false);
            if let Err(error) = tokio::task::block_in_place(|| self.cluster.stop_node(*node)) {
                self.book.broken("STOP", error.to_string());
            }
            self.cluster.begin(*node)?;
        }
        Ok(())
    }

    fn disk(&self, step: &Step) -> PathBuf {
        let Target::Disk(node, disk) = step.target else { return PathBuf::new() };
        self.cluster.nodes[node].folder().join(format!("disk{disk}"))
    }
}

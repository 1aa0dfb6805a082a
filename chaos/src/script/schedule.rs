//! What a seed makes of a scenario: which fault is done to what, and when. A function of the scenario and the seed
//! alone; when a step waits for the budget, what follows stays as it is.

use std::fmt;

use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use serde::{Deserialize, Serialize};

use super::{
    file::{Fault, Scenario},
    kind::{Drawn, Kind, Place},
    units::Span,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Number of the node, and of its disk from 1.
    Disk(usize, usize),
    Node(usize),
    Rack(usize),
    /// Several racks: two between which something is, or all that are on one side.
    Racks(Vec<usize>),
    All,
    Metadata,
}

impl Target {
    /// The nodes that it concerns, of clusters with so many in a rack.
    pub fn nodes(&self, nodes_per_rack: usize, all: usize) -> Vec<usize> {
        match self {
            Self::Disk(node, _) | Self::Node(node) => vec![*node],
            Self::Rack(rack) => (rack * nodes_per_rack..(rack + 1) * nodes_per_rack).collect(),
            Self::Racks(racks) => {
                racks.iter().flat_map(|rack| rack * nodes_per_rack..(rack + 1) * nodes_per_rack).collect()
            }
            Self::All => (0..all).collect(),
            Self::Metadata => Vec::new(),
        }
    }
}

/// One fault with its time and target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub number: usize,
    pub at: Span,
    pub what: Kind,
    pub target: Target,
    /// Whom else the seed would have, in this order, if the budget forbids that one.
    #[serde(default)]
    pub instead: Vec<Target>,
    pub lasts: Span,
    /// Decides what it chooses when it is done, such as bits.
    pub seed: u64,
    pub when_whole: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, at, what, lasts, .. } = self;
        match &self.target {
            Target::Disk(node, disk) => write!(f, "{number}: at {at} {what} of disk {disk} of node {}", node + 1)?,
            Target::Node(node) => write!(f, "{number}: at {at} {what} of node {}", node + 1)?,
            Target::Rack(rack) => write!(f, "{number}: at {at} {what} of rack r{}", rack + 1)?,
            Target::Racks(racks) => {
                let names: Vec<String> = racks.iter().map(|rack| format!("r{}", rack + 1)).collect();
                write!(f, "{number}: at {at} {what} of racks {}", names.join(" and "))?;
            }
            Target::All => write!(f, "{number}: at {at} {what} of all nodes")?,
            Target::Metadata => write!(f, "{number}: at {at} {what} of the metadata server")?,
        }
        if what.is_momentary() { Ok(()) } else { write!(f, " for {lasts}") }
    }
}

/// The same for the same scenario, duration and seed.
pub fn schedule(scenario: &Scenario, duration: Span, seed: u64) -> Vec<Step> {
    let mut draw = Draw { scenario, rng: StdRng::seed_from_u64(seed), steps: Vec::new() };
    scenario.fault.iter().for_each(|fault| draw.timed(fault));
    if let Some(random) = &scenario.random {
        let every = random.every.millis();
        let mut at = draw.rng.random_range(every / 4..=every);
        while at < duration.millis() {
            if let Some(Drawn(what, place)) = random.faults.choose(&mut draw.rng).copied() {
                let lasts = draw.rng.random_range(random.shortest.millis()..=random.longest.millis());
                // In tenths of a second, as people read them.
                let tenths = |millis: u64| span(millis.div_ceil(100) * 100);
                draw.timed(&Fault { at: tenths(at), lasts: tenths(lasts), ..plain(what, place) });
            }
            at += draw.rng.random_range(every / 2..=every + every / 2).max(1);
        }
    }
    let mut steps = draw.steps;
    // Of the timeline, what a shorter run does not come to.
    steps.retain(|step| step.at < duration);
    steps.sort_by_key(|step| step.at);
    steps.iter_mut().enumerate().for_each(|(index, step)| step.number = index + 1);
    steps
}

fn plain(what: Kind, place: Place) -> Fault {
    let nothing = Span::seconds(0);
    Fault { at: nothing, what, place, name: None, lasts: nothing, times: 1, pause: nothing, when_whole: false }
}

fn span(millis: u64) -> Span {
    Span(std::time::Duration::from_millis(millis))
}

struct Draw<'a> {
    scenario: &'a Scenario,
    rng: StdRng,
    steps: Vec<Step>,
}

impl Draw<'_> {
    fn timed(&mut self, fault: &Fault) {
        if fault.place == Place::Each {
            // One after another, each when the one before is whole again. Servers of metadata are upgraded first.
            if fault.what == Kind::Upgrade {
                self.push(fault, Target::Metadata, fault.at, true);
            }
            for node in 0..self.nodes() {
                self.push(fault, Target::Node(node), fault.at, true);
            }
            return;
        }
        let target = self.target(fault);
        for turn in 0..fault.times {
            let at = fault.at.millis() + u64::from(turn) * (fault.lasts.millis() + fault.pause.millis());
            self.push(fault, target.clone(), span(at), fault.when_whole && turn == 0);
        }
    }

    fn push(&mut self, fault: &Fault, target: Target, at: Span, when_whole: bool) {
        let (what, lasts, seed) = (fault.what, fault.lasts, self.rng.random());
        let is_free = fault.name.is_none() && fault.times == 1 && fault.place != Place::Each;
        let instead = if is_free { self.others(&target) } else { Vec::new() };
        self.steps.push(Step { number: 0, at, what, target, instead, lasts, seed, when_whole });
    }

    fn others(&mut self, target: &Target) -> Vec<Target> {
        let mut others: Vec<Target> = match target {
            Target::Rack(_) => (0..self.scenario.topology.racks).map(Target::Rack).collect(),
            Target::Node(_) => (0..self.nodes()).map(Target::Node).collect(),
            Target::Disk(_, disk) => (0..self.nodes()).map(|node| Target::Disk(node, *disk)).collect(),
            Target::Racks(racks) => self.groups(racks.len()),
            Target::All | Target::Metadata => Vec::new(),
        };
        others.retain(|other| other != target);
        others.shuffle(&mut self.rng);
        others
    }

    fn nodes(&self) -> usize {
        self.scenario.topology.racks * self.scenario.topology.nodes_per_rack
    }

    /// What is named, or one of those that no step before it hurts at that time.
    fn target(&mut self, fault: &Fault) -> Target {
        let (per_rack, disks) = (self.scenario.topology.nodes_per_rack, self.scenario.topology.disks);
        let number = |text: &str| text.parse::<usize>().unwrap_or(1).saturating_sub(1);
        let named = fault.name.as_deref().map(|name| {
            let (rack, node) =
                name.trim_start_matches('r').split_once('n').unwrap_or((name.trim_start_matches('r'), "1"));
            (number(rack), number(node))
        });
        match fault.place {
            Place::All => Target::All,
            Place::Metadata => Target::Metadata,
            Place::Pair => self.any_racks(2),
            // As many as may be away at once.
            Place::Minority => self.any_racks(self.scenario.budget().min(self.scenario.topology.racks.div_ceil(2) - 1)),
            Place::Rack => Target::Rack(named.map_or_else(|| self.free_node(fault) / per_rack, |(rack, _)| rack)),
            Place::Node | Place::Each => {
                Target::Node(named.map_or_else(|| self.free_node(fault), |(rack, node)| rack * per_rack + node))
            }
            Place::Disk => {
                let node = named.map_or_else(|| self.free_node(fault), |(rack, node)| rack * per_rack + node);
                Target::Disk(node, self.rng.random_range(1..=disks))
            }
        }
    }

    fn any_racks(&mut self, count: usize) -> Target {
        let mut racks: Vec<usize> = (0..self.scenario.topology.racks).collect();
        racks.shuffle(&mut self.rng);
        racks.truncate(count);
        racks.sort_unstable();
        Target::Racks(racks)
    }

    /// All choices of so many racks, if they are one or two; of more, none.
    fn groups(&self, count: usize) -> Vec<Target> {
        let racks = self.scenario.topology.racks;
        match count {
            1 => (0..racks).map(|rack| Target::Racks(vec![rack])).collect(),
            2 => (0..racks).flat_map(|one| (one + 1..racks).map(move |two| Target::Racks(vec![one, two]))).collect(),
            _ => Vec::new(),
        }
    }

    /// Of a rack that is not hurt then, as far as the schedule knows; else any.
    fn free_node(&mut self, fault: &Fault) -> usize {
        let (per_rack, all) = (self.scenario.topology.nodes_per_rack, self.nodes());
        let (from, to) = (fault.at.millis(), fault.at.millis() + fault.lasts.millis());
        let at_once = |step: &&Step| step.at.millis() < to && from < step.at.millis() + step.lasts.millis();
        let hurt: Vec<usize> = self
            .steps
            .iter()
            .filter(at_once)
            .flat_map(|step| step.target.nodes(per_rack, all))
            .map(|node| node / per_rack)
            .collect();
        let free: Vec<usize> = (0..all).filter(|node| !hurt.contains(&(node / per_rack))).collect();
        free.choose(&mut self.rng).copied().unwrap_or_else(|| self.rng.random_range(0..all))
    }
}

//! The trial: years of failures in virtual time, of a cluster whose groups were formed as the real one forms them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use cairn_schema::{ids::DiskId, record::Scheme};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom};

use super::{Assumptions, DurabilityError, YEAR, outlook::Repair};
use crate::placement::{
    members::Candidate,
    share_out::{groups_per_disk, share_out},
};

/// What befell the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    pub groups: usize,
    pub disks_failed: u64,
    pub domains_lost: u64,
    /// Groups that lost more members than their scheme takes.
    pub groups_lost: u64,
}

/// Groups are formed by comparing each with every disk.
const MOST_DISKS: usize = 2000;
/// Some minutes' worth.
const MOST_FAILURES: f64 = 1e7;

/// So many years of a cluster with data of one scheme. The same seed gives the same years.
///
/// Groups are formed by [`share_out`], as the cluster's are. Nodes walk one group at a time, those that can lose least
/// first; what a failure takes gets another disk of its domain. Unreadable sectors are not tried.
///
/// # Errors
/// Also for more than 2,000 disks, and for more than ten million failures of disks.
pub fn trial(of: &Assumptions, scheme: Scheme, years: f64, seed: u64) -> Result<Trial, DurabilityError> {
    let repair = Repair::of(of, scheme)?;
    let disks = of.disks();
    if disks > MOST_DISKS {
        return Err(DurabilityError::TooManyDisks { disks, limit: MOST_DISKS, what: "a trial" });
    }
    // A domain's loss fails all of its disks.
    let failures = years * disks as f64 * (of.disk_failures + of.domain_losses);
    if failures > MOST_FAILURES {
        return Err(DurabilityError::TooLong { failures, limit: MOST_FAILURES });
    }
    let mut world = World::new(of, scheme, seed, repair.group)?;
    let end = years * YEAR;
    world.outcome.groups = world.groups.len();
    for disk in 0..of.disks() {
        world.again(Event::Disk(disk), of.disk_failures);
    }
    let (domains, disks_of_domain) = of.domains();
    for domain in (0..domains).filter(|_| disks_of_domain > 1 && of.domain_losses > 0.0) {
        world.again(Event::Domain(domain), of.domain_losses);
    }
    while let Some(Reverse((Moment(now), _, event))) = world.events.pop() {
        if now > end {
            break;
        }
        world.now = now;
        world.meet(event);
    }
    Ok(world.outcome)
}

/// Seconds since the beginning, in order.
#[derive(Clone, Copy, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Disk(usize),
    Domain(usize),
    /// What was lost of groups is given up.
    GivenUp(Vec<(usize, Loss)>),
    /// A node has made anew what a group had lost.
    Made(usize, Vec<Loss>),
}

/// A position that was lost, and the how manieth loss it was: it may be lost again before what was begun for it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Loss {
    position: usize,
    number: u64,
}

struct Group {
    members: Vec<usize>,
    /// What is lost of it, and whether it was given up by now.
    lost: BTreeMap<Loss, bool>,
    walked: bool,
}

struct World<'a> {
    of: &'a Assumptions,
    parity: usize,
    /// One position of a group takes a node so long.
    seconds: f64,
    rng: StdRng,
    now: f64,
    events: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    count: u64,
    groups: Vec<Group>,
    of_disk: Vec<BTreeSet<usize>>,
    /// What waits for a node, by what it can lose.
    queue: BTreeSet<(usize, usize)>,
    idle: usize,
    outcome: Trial,
}

impl<'a> World<'a> {
    fn new(of: &'a Assumptions, scheme: Scheme, seed: u64, seconds: f64) -> Result<Self, DurabilityError> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut candidates: Vec<Candidate> = (0..of.disks()).map(|disk| candidate(of, disk)).collect();
        let formed = share_out(scheme, of.level, &mut candidates, groups_per_disk(of.disks()), usize::MAX, &mut rng)?;
        let mut of_disk = vec![BTreeSet::new(); of.disks()];
        let groups: Vec<Group> = formed
            .iter()
            .enumerate()
            .map(|(number, members)| {
                let members: Vec<usize> = members.iter().map(|id| u128::from_be_bytes(id.0) as usize).collect();
                for disk in &members {
                    of_disk[*disk].insert(number);
                }
                Group { members, lost: BTreeMap::new(), walked: false }
            })
            .collect();
        Ok(Self {
            of,
            parity: scheme.parity(),
            seconds,
            rng,
            now: 0.0,
            events: BinaryHeap::new(),
            count: 0,
            groups,
            of_disk,
            queue: BTreeSet::new(),
            idle: of.nodes(),
            outcome: Trial::default(),
        })
    }

    fn at(&mut self, after: f64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((Moment(self.now + after), self.count, event)));
    }

    /// An event that comes so often in a year, whatever was before.
    fn again(&mut self, event: Event, in_a_year: f64) {
        let after = -f64::ln(1.0 - self.rng.random::<f64>()) * YEAR / in_a_year;
        self.at(after, event);
    }

    fn meet(&mut self, event: Event) {
        match event {
            Event::Disk(disk) => {
                self.outcome.disks_failed += 1;
                self.lose(vec![disk], self.of.disk_given_up);
                // An empty one takes its slot.
                self.again(event, self.of.disk_failures);
            }
            Event::Domain(domain) => {
                self.outcome.domains_lost += 1;
                let of_domain = self.of.domains().1;
                self.lose((domain * of_domain..(domain + 1) * of_domain).collect(), self.of.domain_given_up);
                self.again(event, self.of.domain_losses);
            }
            Event::GivenUp(members) => {
                for (group, loss) in members {
                    if let Some(given_up) = self.groups[group].lost.get_mut(&loss) {
                        *given_up = true;
                        self.enqueue(group);
                    }
                }
            }
            Event::Made(group, losses) => {
                self.idle += 1;
                self.groups[group].walked = false;
                for loss in losses {
                    if self.groups[group].lost.remove(&loss).is_some() {
                        self.stand_in(group, loss.position);
                    }
                }
                self.enqueue(group);
            }
        }
        self.work();
    }

    fn lose(&mut self, disks: Vec<usize>, given_up: f64) {
        let mut members = Vec::new();
        for disk in disks {
            for number in std::mem::take(&mut self.of_disk[disk]) {
                let Some(position) = self.groups[number].members.iter().position(|member| *member == disk) else {
                    continue;
                };
                self.dequeue(number);
                self.count += 1;
                let loss = Loss { position, number: self.count };
                self.groups[number].lost.insert(loss, false);
                members.push((number, loss));
                self.enqueue(number);
            }
        }
        let touched: BTreeSet<usize> = members.iter().map(|(group, _)| *group).collect();
        for group in touched {
            if self.groups[group].lost.len() <= self.parity {
                continue;
            }
            self.outcome.groups_lost += 1;
            self.begin_anew(group);
            members.retain(|(number, _)| *number != group);
        }
        if !members.is_empty() {
            self.at(given_up, Event::GivenUp(members));
        }
    }

    /// A group that was lost is whole again, so that the next loss counts like the first.
    fn begin_anew(&mut self, group: usize) {
        self.dequeue(group);
        for loss in std::mem::take(&mut self.groups[group].lost).into_keys() {
            self.stand_in(group, loss.position);
        }
    }

    fn stand_in(&mut self, group: usize, position: usize) {
        let of_domain = self.of.domains().1;
        let members = &self.groups[group].members;
        let first = members[position] / of_domain * of_domain;
        let others = (first..first + of_domain).filter(|disk| !members.contains(disk));
        // The slot itself, where there is no other disk: an empty one stands there.
        let disk = others.choose(&mut self.rng).unwrap_or(members[position]);
        self.groups[group].members[position] = disk;
        self.of_disk[disk].insert(group);
    }

    fn key(&self, group: usize) -> (usize, usize) {
        (self.parity.saturating_sub(self.groups[group].lost.len()), group)
    }

    fn dequeue(&mut self, group: usize) {
        self.queue.remove(&self.key(group));
    }

    fn enqueue(&mut self, group: usize) {
        let Group { lost, walked, .. } = &self.groups[group];
        if !walked && lost.values().any(|given_up| *given_up) {
            self.queue.insert(self.key(group));
        }
    }

    fn work(&mut self) {
        while self.idle > 0
            && let Some((_, number)) = self.queue.pop_first()
        {
            self.idle -= 1;
            let group = &mut self.groups[number];
            group.walked = true;
            let losses: Vec<Loss> =
                group.lost.iter().filter(|(_, given_up)| **given_up).map(|(loss, _)| *loss).collect();
            self.at(self.seconds * losses.len() as f64, Event::Made(number, losses));
        }
    }
}

fn candidate(of: &Assumptions, disk: usize) -> Candidate {
    let node = disk / of.disks_per_node;
    let rack = node / of.nodes_per_rack;
    Candidate {
        id: DiskId((disk as u128).to_be_bytes()),
        node: format!("{rack}/{node}"),
        rack: rack.to_string(),
        zone: "z".to_owned(),
        weight: 1,
        groups: 0,
    }
}

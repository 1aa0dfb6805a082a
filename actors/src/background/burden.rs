//! Whom a lost disk leaves its positions in groups to, and a member that crowds a failure domain: the disks that may
//! take its place, best first.

use std::collections::HashMap;

use cairn_schema::{ids::*, record::*};

use crate::placement::{Rows, members::domain_cap};

/// Where disks are, and how many groups each is a member of: found out once for many groups that get new members,
/// and kept true while they do, so that what a lost disk had comes to lie on many.
#[derive(Debug, Default)]
pub(crate) struct Burden {
    /// In order of id.
    places: Vec<Place>,
    numbers: HashMap<DiskId, usize>,
    sites: Vec<Site>,
    /// How many things there are that disks fail with.
    domains: usize,
}

/// A disk, and what it fails with: numbers instead of names, for it is compared with the members of every group.
#[derive(Debug)]
struct Place {
    id: DiskId,
    state: DiskState,
    capacity_bytes: u64,
    groups: u64,
    at: Whereabouts,
}

impl Place {
    /// In proportion to the disk's size, as if it had one group more already.
    fn burden_with_one_more(&self) -> u128 {
        u128::from(self.groups + 1) * u128::from(u64::MAX) / u128::from(self.capacity_bytes.max(1))
    }
}

/// The numbers of what a disk fails with besides itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Whereabouts {
    node: usize,
    rack: usize,
    zone: usize,
}

/// The disks of a node that are up: all of them crowd a group alike, so that the group is compared with nodes, and
/// not with every disk there is.
#[derive(Debug)]
struct Site {
    at: Whereabouts,
    up: Vec<usize>,
}

/// The best of a few disks drawn at random is nearly as good as the best of all (Mitzenmacher, "The power of two
/// choices in randomized load balancing", 1996), and what one disk held does not come to lie on the few that have
/// least.
const CHOICES: usize = 8;
/// Draws that meet a disk that was drawn before, or a member, are in vain: so many are made at most.
const DRAWS: u32 = 32;

impl Burden {
    pub(crate) fn of(rows: &Rows) -> Self {
        let mut disks: Vec<&Disk> = rows.disks.values().collect();
        disks.sort_unstable_by_key(|disk| disk.id);
        let mut domains: HashMap<_, usize> = HashMap::new();
        let mut number = |disk: &'_ Disk, level| {
            let next = domains.len();
            *domains.entry((level, disk.domain(level))).or_insert(next)
        };
        let place = |disk: &&Disk| Place {
            id: disk.id,
            state: disk.state,
            capacity_bytes: disk.capacity_bytes,
            groups: 0,
            at: Whereabouts {
                node: number(disk, FailureDomain::Node),
                rack: number(disk, FailureDomain::Rack),
                zone: number(disk, FailureDomain::Zone),
            },
        };
        let places: Vec<Place> = disks.iter().map(place).collect();
        let numbers = places.iter().enumerate().map(|(number, place)| (place.id, number)).collect();
        let (sites, domains) = (sites(&places), domains.len());
        let mut burden = Self { places, numbers, sites, domains };
        rows.groups.values().flat_map(|group| &group.members).for_each(|member| burden.add(*member));
        burden
    }

    pub(super) fn add(&mut self, disk: DiskId) {
        if let Some(number) = self.numbers.get(&disk) {
            self.places[*number].groups += 1;
        }
    }

    fn place(&self, disk: DiskId) -> Option<&Place> {
        self.numbers.get(&disk).map(|number| &self.places[*number])
    }
}

fn sites(places: &[Place]) -> Vec<Site> {
    let (mut sites, mut numbers): (Vec<Site>, HashMap<Whereabouts, usize>) = Default::default();
    for (number, place) in places.iter().enumerate().filter(|(_, place)| place.state == DiskState::Up) {
        let site = *numbers.entry(place.at).or_insert_with(|| {
            sites.push(Site { at: place.at, up: Vec::new() });
            sites.len() - 1
        });
        sites[site].up.push(number);
    }
    sites
}

/// How many members of a group each thing holds that disks fail with.
struct Crowds {
    level: FailureDomain,
    /// By the domain's number.
    counts: Vec<u8>,
}

impl Crowds {
    fn of<'a>(burden: &Burden, level: FailureDomain, members: impl Iterator<Item = &'a Place>) -> Self {
        let mut counts = vec![0u8; burden.domains];
        for Whereabouts { node, rack, zone } in members.map(|place| place.at) {
            [node, rack, zone].into_iter().for_each(|domain| counts[domain] = counts[domain].saturating_add(1));
        }
        Self { level, counts }
    }

    fn at(&self, at: Whereabouts, level: FailureDomain) -> u8 {
        match level {
            // Of a disk that is no member.
            FailureDomain::Disk => 0,
            FailureDomain::Node => self.counts[at.node],
            FailureDomain::Rack => self.counts[at.rack],
            FailureDomain::Zone => self.counts[at.zone],
        }
    }

    /// At the failure domain's level, then at the others from the widest; None where one more would break PLC-1.
    fn if_taken(&self, at: Whereabouts, cap: usize) -> Option<[u8; 4]> {
        let levels = [self.level, FailureDomain::Zone, FailureDomain::Rack, FailureDomain::Node];
        let crowds = levels.map(|level| self.at(at, level));
        (usize::from(crowds[0]) < cap).then_some(crowds)
    }
}

/// Disks that may take `position` without any domain of `level` holding more than the scheme's parity (PLC-1), best
/// first: least crowded at that level, then at the others from the widest. Some that are least so are drawn for this
/// group, and come in the order of how burdened they are with groups for their size.
pub(super) fn candidates<'a>(
    burden: &'a Burden,
    group: &Group,
    level: FailureDomain,
    members: &'a [DiskId],
    position: usize,
) -> Candidates<'a> {
    let others = members.iter().enumerate().filter(|(at, _)| *at != position).filter_map(|(_, id)| burden.place(*id));
    let others = others.filter(|place| !matches!(place.state, DiskState::Lost | DiskState::Removed));
    let crowds = Crowds::of(burden, level, others);
    let (cap, seed) = (domain_cap(group.scheme), u64::from(group.id.0) << 8 | position as u64);
    let terms = Terms { burden, members, crowds, cap, seed };
    let drawn = terms.draw();
    Candidates { next: 0, drawn, rest: None, terms }
}

/// See [`candidates`].
pub(super) struct Candidates<'a> {
    terms: Terms<'a>,
    drawn: Vec<DiskId>,
    next: usize,
    /// Nearly always one that was drawn is taken: the others are looked for only when they are asked for.
    rest: Option<std::vec::IntoIter<DiskId>>,
}

impl Iterator for Candidates<'_> {
    type Item = DiskId;

    fn next(&mut self) -> Option<DiskId> {
        if let Some(disk) = self.drawn.get(self.next) {
            self.next += 1;
            return Some(*disk);
        }
        self.rest.get_or_insert_with(|| self.terms.all_but(&self.drawn).into_iter()).next()
    }
}

/// Who may take a position of a group.
struct Terms<'a> {
    burden: &'a Burden,
    members: &'a [DiskId],
    crowds: Crowds,
    cap: usize,
    /// For draws that are this position's own, and the same whoever makes them.
    seed: u64,
}

impl Terms<'_> {
    fn draw(&self) -> Vec<DiskId> {
        // The sites that are crowded least, with the number of disks on them and all before.
        let (mut best, mut open): (_, Vec<(usize, &Site)>) = ([u8::MAX; 4], Vec::new());
        for site in &self.burden.sites {
            let Some(crowds) = self.crowds.if_taken(site.at, self.cap).filter(|crowds| *crowds <= best) else {
                continue;
            };
            if crowds < best {
                open.clear();
                best = crowds;
            }
            let before = open.last().map_or(0, |(disks, _)| *disks);
            open.push((before + site.up.len(), site));
        }
        let disks = open.last().map_or(0, |(disks, _)| *disks);
        let mut drawn: Vec<&Place> = Vec::with_capacity(CHOICES);
        for turn in 0..if disks == 0 { 0 } else { DRAWS } {
            let number = xxhash_rust::xxh3::xxh3_64_with_seed(&turn.to_le_bytes(), self.seed);
            let number = ((u128::from(number) * disks as u128) >> 64) as usize;
            let site = open.partition_point(|(disks, _)| *disks <= number);
            let before = site.checked_sub(1).map_or(0, |before| open[before].0);
            let place = &self.burden.places[open[site].1.up[number - before]];
            if self.members.contains(&place.id) || drawn.iter().any(|other| other.id == place.id) {
                continue;
            }
            drawn.push(place);
            if drawn.len() == CHOICES {
                break;
            }
        }
        drawn.sort_by_key(|place| place.burden_with_one_more());
        drawn.into_iter().map(|place| place.id).collect()
    }

    fn all_but(&self, drawn: &[DiskId]) -> Vec<DiskId> {
        let sites = self.burden.sites.iter();
        let open = sites.filter_map(|site| Some((self.crowds.if_taken(site.at, self.cap)?, site)));
        let disks = open.flat_map(|(crowds, site)| site.up.iter().map(move |number| (crowds, *number)));
        let disks = disks.map(|(crowds, number)| (crowds, self.burden.places[number].id));
        let mut left: Vec<_> = disks
            .filter(|(_, id)| !self.members.contains(id) && !drawn.contains(id))
            .map(|(crowds, id)| (crowds, xxhash_rust::xxh3::xxh3_64_with_seed(&id.0, self.seed), id))
            .collect();
        left.sort_unstable();
        left.into_iter().map(|(.., id)| id).collect()
    }
}

/// Whether a disk may take `position` without PLC-1 being broken, and without any domain holding more of the group than
/// the one that the position is in now: nothing that is moved for the sake of balance can lose less than before.
pub(super) fn keeps_spread(
    burden: &Burden,
    (scheme, level): (Scheme, FailureDomain),
    members: &[DiskId],
    position: usize,
    to: DiskId,
) -> bool {
    let from = members.get(position).and_then(|from| burden.place(*from));
    let (Some(from), Some(to)) = (from, burden.place(to)) else { return false };
    let others = members.iter().enumerate().filter(|(at, _)| *at != position).filter_map(|(_, id)| burden.place(*id));
    let crowds = Crowds::of(burden, level, others);
    let levels = [FailureDomain::Zone, FailureDomain::Rack, FailureDomain::Node];
    to.state == DiskState::Up
        && !members.contains(&to.id)
        && crowds.if_taken(to.at, domain_cap(scheme)).is_some()
        && levels.into_iter().all(|at| crowds.at(to.at, at) <= crowds.at(from.at, at))
}

#[cfg(test)]
#[path = "burden_tests.rs"]
mod tests;

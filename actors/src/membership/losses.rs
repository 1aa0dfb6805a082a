//! Which disks that are down are given up for good, so that what they held is made anew elsewhere. Pure, so that every
//! case is a line of a test.
//!
//! To give up a disk moves as much data as it held. So whatever looks like a switch or a power cut rather than broken
//! machines waits for longer, or for an operator; only one failure domain is given up at a time; and nothing is that
//! the remaining disks have no room for.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    time::Duration,
};

use cairn_schema::{ids::*, record::*};

/// For how long a disk must have been down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Alone, or with its node.
    pub single: Duration,
    /// With all of its failure domain, if that is more than one node.
    pub domain: Duration,
}

/// A disk, as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub id: DiskId,
    pub node: NodeId,
    /// The failure domain it is in.
    pub domain: String,
    pub state: DiskState,
    /// How long it has been down, or lost; zero of others.
    pub away_for: Duration,
    /// Bytes that it holds, as far as is known.
    pub used: u64,
    /// Bytes that it could take.
    pub free: u64,
    /// A group has it among its members.
    pub member: bool,
}

/// Why disks that have been down for long are not given up. Its text is for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// All nodes of a failure domain are away together.
    Domain {
        domain: String,
        nodes: usize,
        limit: Duration,
    },
    Space {
        domain: String,
        needed: u64,
        free: u64,
    },
}

impl Held {
    pub(super) const KINDS: [&str; 2] = ["domain", "space"];

    /// Whether the two are the same reason for the same domain, whatever the figures.
    pub(super) fn is_about(&self, other: &Self) -> bool {
        self.label() == other.label() && self.domain() == other.domain()
    }

    fn domain(&self) -> &str {
        match self {
            Self::Domain { domain, .. } | Self::Space { domain, .. } => domain,
        }
    }

    /// For metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Domain { .. } => "domain",
            Self::Space { .. } => "space",
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain { domain, nodes, limit } => write!(
                f,
                "all {nodes} nodes of {domain} are away together, which may be a switch or a power cut: they are given up \
                 after {limit:?}, or when an operator says so (`cairn admin give-up`)"
            ),
            Self::Space { domain, needed, free } => write!(
                f,
                "what was on the disks that are down in {domain} would take {} MiB, and the disks that are left have room \
                 for {} MiB: add disks, or bring those back",
                needed >> 20,
                free >> 20
            ),
        }
    }
}

/// What to do about the disks that are down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub give_up: Vec<DiskId>,
    pub held: Vec<Held>,
}

/// `disks` are all of the cluster that count; `level` is what their domains are.
pub(super) fn losses(disks: &[Candidate], level: FailureDomain, limits: Limits) -> Losses {
    let mut domains: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
    for disk in disks {
        domains.entry(&disk.domain).or_default().push(disk);
    }
    // Given up already, and still to be replaced in their groups.
    let replaced: Vec<&Candidate> = disks.iter().filter(|disk| disk.state == DiskState::Lost && disk.member).collect();
    let owed: u64 = replaced.iter().map(|disk| disk.used).sum();
    // One that finds no stand-ins must not keep the others waiting for ever: only for a while it comes first.
    let recent = replaced.iter().find(|disk| disk.away_for <= limits.single);
    let mut in_flight: Option<&str> = recent.map(|disk| disk.domain.as_str());
    let free: u64 = disks.iter().filter(|disk| disk.state == DiskState::Up).map(|disk| disk.free).sum();

    let mut losses = Losses::default();
    for (domain, disks) in domains {
        let due: Vec<&Candidate> = disks
            .iter()
            .filter(|disk| disk.state == DiskState::Down && disk.away_for > limits.single)
            .copied()
            .collect();
        let nodes = nodes_if_silent(&disks, level);
        let ready: Vec<&Candidate> = match nodes {
            Some(_) => due.iter().filter(|disk| disk.away_for > limits.domain).copied().collect(),
            None => due.clone(),
        };
        if due.is_empty() {
            continue;
        }
        if ready.is_empty() {
            let (domain, nodes) = (domain.to_owned(), nodes.unwrap_or(0));
            losses.held.push(Held::Domain { domain, nodes, limit: limits.domain });
            continue;
        }
        if in_flight.is_some_and(|other| other != domain) {
            continue;
        }
        let needed = owed + ready.iter().filter(|disk| disk.member).map(|disk| disk.used).sum::<u64>();
        if needed > free {
            losses.held.push(Held::Space { domain: domain.to_owned(), needed, free });
            continue;
        }
        if ready.iter().any(|disk| disk.member) {
            in_flight = Some(domain);
        }
        losses.give_up.extend(ready.iter().map(|disk| disk.id));
    }
    losses
}

/// The number of the domain's nodes, if it is more than one and none of its disks is there.
fn nodes_if_silent(disks: &[&Candidate], level: FailureDomain) -> Option<usize> {
    if matches!(level, FailureDomain::Disk | FailureDomain::Node) {
        return None;
    }
    let nodes: HashSet<&NodeId> = disks.iter().map(|disk| &disk.node).collect();
    let silent = disks.iter().all(|disk| matches!(disk.state, DiskState::Down | DiskState::Lost));
    (silent && nodes.len() > 1).then_some(nodes.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMITS: Limits = Limits { single: Duration::from_secs(900), domain: Duration::from_secs(86_400) };
    const DUE: Duration = Duration::from_secs(1000);
    const LONG: Duration = Duration::from_secs(100_000);

    /// Racks of two nodes with one disk each, of which some are down for as long as is said.
    fn cluster(racks: u8, down: &[(u8, Duration)]) -> Vec<Candidate> {
        let disk = |number: u8| {
            let down_for = down.iter().find(|(other, _)| *other == number).map(|(_, down_for)| *down_for);
            Candidate {
                id: DiskId([number; 16]),
                node: format!("n{number}").parse().unwrap(),
                domain: format!("z/r{}", number / 2),
                state: if down_for.is_some() { DiskState::Down } else { DiskState::Up },
                away_for: down_for.unwrap_or_default(),
                used: 100,
                free: 100,
                member: true,
            }
        };
        (0..racks * 2).map(disk).collect()
    }

    fn judged(disks: &[Candidate]) -> (Vec<u8>, Vec<Held>) {
        let Losses { give_up, held } = losses(disks, FailureDomain::Rack, LIMITS);
        (give_up.iter().map(|id| id.0[0]).collect(), held)
    }

    #[test]
    fn a_disk_or_a_node_is_given_up_after_its_time() {
        assert_eq!(judged(&cluster(6, &[(2, DUE)])), (vec![2], vec![]));
        assert_eq!(judged(&cluster(6, &[(2, LIMITS.single)])), (vec![], vec![]));
    }

    #[test]
    fn a_whole_domain_waits_for_longer_or_for_an_operator() {
        let silent = cluster(6, &[(2, DUE), (3, DUE)]);
        let held = Held::Domain { domain: "z/r1".into(), nodes: 2, limit: LIMITS.domain };
        assert_eq!(judged(&silent), (vec![], vec![held]));
        assert_eq!(judged(&cluster(6, &[(2, LONG), (3, LONG)])), (vec![2, 3], vec![]));
        // Also when one of them was given up before the other went.
        let mut second = silent.clone();
        second[2].state = DiskState::Lost;
        second[2].member = false;
        assert_eq!(judged(&second).0, Vec::<u8>::new());
        // A rack that is one node is a node.
        let mut alone = silent;
        alone[3].node = alone[2].node.clone();
        assert_eq!(judged(&alone).0, [2, 3]);
        assert_eq!(losses(&cluster(6, &[(2, DUE), (3, DUE)]), FailureDomain::Node, LIMITS).give_up.len(), 2);
    }

    #[test]
    fn one_domain_is_given_up_at_a_time() {
        let mut disks = cluster(6, &[(2, DUE), (4, DUE)]);
        assert_eq!(judged(&disks).0, [2]);
        disks[2].state = DiskState::Lost;
        disks[2].away_for = Duration::ZERO;
        assert_eq!(judged(&disks).0, Vec::<u8>::new(), "what the first held has no other place yet");
        // It may have none for long.
        disks[2].away_for = DUE;
        assert_eq!(judged(&disks).0, [4]);
        disks[2].away_for = Duration::ZERO;
        disks[2].member = false;
        assert_eq!(judged(&disks).0, [4]);
        // Disks that hold nothing keep nobody waiting.
        let mut disks = cluster(6, &[(2, DUE), (4, DUE)]);
        disks[2].member = false;
        assert_eq!(judged(&disks).0, [2, 4]);
    }

    #[test]
    fn nothing_is_given_up_that_the_rest_has_no_room_for() {
        let mut disks = cluster(3, &[(2, DUE)]);
        disks.iter_mut().for_each(|disk| disk.free = 15);
        let held = Held::Space { domain: "z/r1".into(), needed: 100, free: 75 };
        assert_eq!(judged(&disks), (vec![], vec![held]));
        disks[0].free = 40;
        assert_eq!(judged(&disks).0, [2]);
        // What was given up before needs room as well.
        disks[3].state = DiskState::Lost;
        disks[3].node = disks[2].node.clone();
        let held = Held::Space { domain: "z/r1".into(), needed: 200, free: 85 };
        assert_eq!(judged(&disks), (vec![], vec![held]));
    }
}

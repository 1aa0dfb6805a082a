//! Which disks a new group is made of: a pure function, so that tests, simulations and the running cluster use the same
//! one.

use std::collections::{BTreeMap, HashMap};

use cairn_schema::{ids::DiskId, record::*};
use rand::Rng;

/// A disk that may become a member, with what the choice depends on.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: DiskId,
    /// Names, qualified by those of the levels above, of what it fails with.
    pub node: String,
    pub rack: String,
    pub zone: String,
    /// Its share of the data it should carry, in any unit; at least 1.
    pub weight: u64,
    /// Groups of the same scheme that it is in already.
    pub groups: usize,
}

impl Candidate {
    fn domain(&self, level: FailureDomain) -> String {
        match level {
            FailureDomain::Disk => self.id.to_string(),
            FailureDomain::Node => self.node.clone(),
            FailureDomain::Rack => self.rack.clone(),
            FailureDomain::Zone => self.zone.clone(),
        }
    }

    /// How much more than its share it carries once it is in one more group.
    fn load_if_taken(&self) -> f64 {
        (self.groups + 1) as f64 / self.weight.max(1) as f64
    }
}

/// Most fragments of a stripe that one failure domain may hold (PLC-1). A scheme without redundancy loses with any disk
/// wherever it lies, so there the rule has nothing to protect.
pub fn domain_cap(scheme: Scheme) -> usize {
    scheme.parity().max(1)
}

/// Why no group can be formed, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotForm(pub String);

/// The members of one new group, in order of position.
///
/// No domain of `level` gets more than the scheme's parity (PLC-1); within that, the domains are used as evenly as they
/// can be, then zones, racks and nodes, then the disks that carry least for their weight; what is still equal is
/// decided by `rng`.
pub fn pick_members(
    scheme: Scheme,
    level: FailureDomain,
    candidates: &[Candidate],
    rng: &mut impl Rng,
) -> Result<Vec<DiskId>, CannotForm> {
    let width = scheme.width();
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for candidate in candidates {
        *sizes.entry(candidate.domain(level)).or_default() += 1;
    }
    let cap = domain_cap(scheme);
    let spread = even_spread(scheme, level, &sizes)?;

    let mut used = Used::default();
    let mut left: Vec<(f64, &Candidate)> = candidates.iter().map(|candidate| (rng.random(), candidate)).collect();
    let mut members = Vec::with_capacity(width);
    while members.len() < width {
        let open = left.iter().enumerate().filter(|(_, (_, disk))| used.at(&disk.domain(level)) < spread);
        let best = open.min_by(|(_, a), (_, b)| {
            let key = |(chance, disk): &(f64, &Candidate)| (used.crowding(disk, level), disk.load_if_taken(), *chance);
            let (a, b) = (key(a), key(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
        });
        // A partition matroid: as long as `room` sufficed at the start, any choice under the cap can be completed.
        let Some((index, _)) = best else { return Err(cannot_form(scheme, level, &sizes, cap)) };
        let (_, disk) = left.swap_remove(index);
        used.take(disk, level);
        members.push(disk.id);
    }
    Ok(members)
}

/// The least number of members that some domain must hold when a group is formed from domains of these sizes; None when
/// that would be more than PLC-1 allows.
pub(super) fn spread(scheme: Scheme, sizes: &BTreeMap<String, usize>) -> Option<usize> {
    (1..=domain_cap(scheme)).find(|most| room(sizes, *most) >= scheme.width())
}

/// As [`spread`], or why no group can be formed.
pub fn even_spread(scheme: Scheme, level: FailureDomain, sizes: &BTreeMap<String, usize>) -> Result<usize, CannotForm> {
    spread(scheme, sizes).ok_or_else(|| cannot_form(scheme, level, sizes, domain_cap(scheme)))
}

/// Fragments that fit when each domain takes at most `most`.
fn room(sizes: &BTreeMap<String, usize>, most: usize) -> usize {
    sizes.values().map(|size| (*size).min(most)).sum()
}

/// How many members each thing that can fail holds so far.
#[derive(Default)]
struct Used {
    counts: HashMap<String, usize>,
}

impl Used {
    fn at(&self, name: &str) -> usize {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Compared in order: the configured level first, then from the widest level down.
    fn crowding(&self, disk: &Candidate, level: FailureDomain) -> (usize, usize, usize, usize) {
        (
            self.at(&disk.domain(level)),
            self.at(&key('z', &disk.zone)),
            self.at(&key('r', &disk.rack)),
            self.at(&key('n', &disk.node)),
        )
    }

    fn take(&mut self, disk: &Candidate, level: FailureDomain) {
        for name in [disk.domain(level), key('z', &disk.zone), key('r', &disk.rack), key('n', &disk.node)] {
            *self.counts.entry(name).or_default() += 1;
        }
    }
}

/// The levels share one map; a slash cannot begin a domain's name.
fn key(level: char, name: &str) -> String {
    format!("/{level}/{name}")
}

fn cannot_form(scheme: Scheme, level: FailureDomain, sizes: &BTreeMap<String, usize>, cap: usize) -> CannotForm {
    let width = scheme.width();
    let disks: usize = sizes.values().sum();
    let word = match level {
        FailureDomain::Disk => "disk",
        FailureDomain::Node => "node",
        FailureDomain::Rack => "rack",
        FailureDomain::Zone => "zone",
    };
    let short = width - room(sizes, cap).min(width);
    if level == FailureDomain::Disk {
        return CannotForm(format!(
            "{scheme} needs {width} disks that can take writes and there are {disks}: add {short} more, or bring them back"
        ));
    }
    CannotForm(format!(
        "{scheme} needs {width} disks that can take writes with at most {cap} in a {word}; there are {disks} in {} {word}s, of which \
         {} can be used: add at least {short} more in {}",
        sizes.len(),
        room(sizes, cap),
        if sizes.values().all(|size| *size >= cap) {
            format!("other {word}s")
        } else {
            format!("{word}s with fewer than {cap}")
        },
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    /// Racks of nodes of disks; the numbers say how many disks each node has and each disk's weight.
    fn cluster(racks: &[Vec<Vec<u64>>]) -> Vec<Candidate> {
        let mut all = Vec::new();
        for (r, nodes) in racks.iter().enumerate() {
            for (n, weights) in nodes.iter().enumerate() {
                for (d, weight) in weights.iter().enumerate() {
                    let mut id = [0; 16];
                    id[..3].copy_from_slice(&[r as u8, n as u8, d as u8]);
                    all.push(Candidate {
                        id: DiskId(id),
                        node: format!("r{r}n{n}"),
                        rack: format!("z{}/r{r}", r % 2),
                        zone: format!("z{}", r % 2),
                        weight: *weight,
                        groups: 0,
                    });
                }
            }
        }
        all
    }

    fn per_domain(candidates: &[Candidate], members: &[DiskId], level: FailureDomain) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for id in members {
            let disk = candidates.iter().find(|candidate| candidate.id == *id).unwrap();
            *counts.entry(disk.domain(level)).or_default() += 1;
        }
        counts
    }

    fn rs(data: u8, parity: u8) -> Scheme {
        Scheme::Rs { data, parity, code: ErasureCode::Gf256 }
    }

    fn levels() -> impl Strategy<Value = FailureDomain> {
        prop::sample::select(vec![FailureDomain::Disk, FailureDomain::Node, FailureDomain::Rack, FailureDomain::Zone])
    }

    proptest! {
        /// PLC-1, and completeness: a group is formed exactly when one exists.
        #[test]
        fn plc_1_no_domain_holds_more_than_m(
            racks in prop::collection::vec(prop::collection::vec(prop::collection::vec(1u64..100, 0..4), 0..4), 0..8),
            (data, parity) in (1u8..9, 1u8..5),
            replicated in any::<bool>(),
            level in levels(),
            seed in any::<u64>(),
        ) {
            let scheme = if replicated { Scheme::Replicated { copies: parity + 1 } } else { rs(data, parity) };
            let candidates = cluster(&racks);
            let mut sizes = BTreeMap::new();
            for candidate in &candidates { *sizes.entry(candidate.domain(level)).or_default() += 1; }
            let possible = room(&sizes, scheme.parity()) >= scheme.width();
            match pick_members(scheme, level, &candidates, &mut StdRng::seed_from_u64(seed)) {
                Ok(members) => {
                    prop_assert!(possible);
                    prop_assert_eq!(members.len(), scheme.width());
                    let mut distinct = members.clone();
                    distinct.sort();
                    distinct.dedup();
                    prop_assert_eq!(distinct.len(), members.len());
                    let most = per_domain(&candidates, &members, level).into_values().max().unwrap();
                    prop_assert!(most <= scheme.parity());
                    // As wide as it can be: one fewer in a domain would not do.
                    prop_assert!(most == 1 || room(&sizes, most - 1) < scheme.width());
                    let again = pick_members(scheme, level, &candidates, &mut StdRng::seed_from_u64(seed)).unwrap();
                    prop_assert_eq!(again, members);
                }
                Err(error) => prop_assert!(!possible, "{}", error),
            }
        }
    }

    #[test]
    fn four_live_racks_of_two_nodes_take_4_2_with_two_in_a_rack_on_different_nodes() {
        let candidates = cluster(&vec![vec![vec![1], vec![1]]; 4]);
        for seed in 0..50 {
            let members =
                pick_members(rs(4, 2), FailureDomain::Rack, &candidates, &mut StdRng::seed_from_u64(seed)).unwrap();
            assert!(per_domain(&candidates, &members, FailureDomain::Rack).into_values().all(|count| count <= 2));
            assert!(per_domain(&candidates, &members, FailureDomain::Node).into_values().all(|count| count == 1));
        }
    }

    #[test]
    fn six_disks_of_one_node_suffice_when_only_disks_must_differ() {
        let candidates = cluster(&[vec![vec![1; 6]]]);
        let rng = &mut StdRng::seed_from_u64(1);
        assert_eq!(pick_members(rs(4, 2), FailureDomain::Disk, &candidates, rng).unwrap().len(), 6);
        let error = pick_members(rs(4, 2), FailureDomain::Node, &candidates, rng).unwrap_err().to_string();
        assert!(error.contains("at most 2 in a node") && error.contains("add at least 4 more"), "{error}");
        let error = pick_members(rs(6, 2), FailureDomain::Disk, &candidates, rng).unwrap_err().to_string();
        assert!(error.contains("needs 8 disks") && error.contains("add 2 more"), "{error}");
    }

    #[test]
    fn a_disk_with_twice_the_space_gets_about_twice_the_groups() {
        let mut candidates = cluster(&vec![vec![vec![100, 200, 100]]; 9]);
        let rng = &mut StdRng::seed_from_u64(7);
        for _ in 0..300 {
            for id in pick_members(rs(4, 2), FailureDomain::Rack, &candidates, rng).unwrap() {
                candidates.iter_mut().find(|candidate| candidate.id == id).unwrap().groups += 1;
            }
        }
        let mean = |weight: u64| {
            let groups: Vec<_> =
                candidates.iter().filter(|disk| disk.weight == weight).map(|disk| disk.groups).collect();
            groups.iter().sum::<usize>() as f64 / groups.len() as f64
        };
        let ratio = mean(200) / mean(100);
        assert!((1.8..2.2).contains(&ratio), "{ratio}");
    }
}

//! Which cables are cut: what every member of the network hears of every other, as long as some faults go on.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::ChaosError,
    lab::net::{Fate, Net},
    script::{Kind, Target},
};

/// Of a hundred packets.
const LOST: u32 = 20;

/// What a fault does to the network; members are the nodes in their order, and after them the metadata server.
#[derive(Clone, Debug)]
pub struct Cutting {
    kind: Kind,
    inside: BTreeSet<usize>,
    /// Of two racks, the other one.
    other: BTreeSet<usize>,
}

impl Cutting {
    /// None: not a matter of the network.
    pub fn of(kind: Kind, target: &Target, nodes_per_rack: usize, nodes: usize) -> Option<Self> {
        if !kind.needs().contains(&crate::script::Needs::Network) {
            return None;
        }
        let all = |target: &Target| target.nodes(nodes_per_rack, nodes).into_iter().collect();
        let (inside, other) = match (kind, target) {
            (_, Target::Metadata) => (BTreeSet::from([nodes]), BTreeSet::new()),
            (Kind::Part, Target::Racks(racks)) => {
                let of = |rack: Option<&usize>| rack.map(|rack| all(&Target::Rack(*rack))).unwrap_or_default();
                (of(racks.first()), of(racks.last()))
            }
            (_, target) => (all(target), BTreeSet::new()),
        };
        Some(Self { kind, inside, other })
    }

    /// What becomes of a packet from one member to another.
    fn fate(&self, from: usize, to: usize, meta: usize) -> Option<Fate> {
        let (sends, hears) = (self.inside.contains(&from), self.inside.contains(&to));
        let is_cut = match self.kind {
            Kind::Cut => sends != hears,
            Kind::Deaf => hears && !sends,
            Kind::Mute => sends && !hears,
            Kind::CutMetadata => sends && to == meta || hears && from == meta,
            Kind::Part => sends && self.other.contains(&to) || hears && self.other.contains(&from),
            Kind::Loss => return (sends || hears).then_some(Fate::Lost(LOST)),
            _ => false,
        };
        is_cut.then_some(Fate::Dropped)
    }
}

/// Of each receiver, from whom packets do not all come; the worst that is done to each.
pub fn fates(cuttings: &[&Cutting], members: usize) -> Vec<Vec<(usize, Fate)>> {
    let meta = members - 1;
    let to = |to: usize| {
        let mut worst: BTreeMap<usize, Fate> = BTreeMap::new();
        for cutting in cuttings {
            for from in (0..members).filter(|from| *from != to) {
                if let Some(fate) = cutting.fate(from, to, meta) {
                    let known = worst.entry(from).or_insert(fate);
                    *known = fate.max(*known);
                }
            }
        }
        worst.into_iter().collect()
    };
    (0..members).map(to).collect()
}

/// Makes it so.
pub fn cut(net: &Net, cuttings: &[&Cutting], members: usize) -> Result<(), ChaosError> {
    fates(cuttings, members).iter().enumerate().try_for_each(|(to, fates)| net.hears(to, fates))
}

/// Makes what members of a fault send slow; Err says why it cannot be done here.
pub fn slow(net: &Net, cutting: &Cutting) -> Result<(), String> {
    cutting.inside.iter().try_for_each(|member| net.slow(*member))
}

pub fn hasten(net: &Net, cutting: &Cutting) -> Result<(), ChaosError> {
    cutting.inside.iter().try_for_each(|member| net.hasten(*member))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Three racks of one node, and the metadata server as the fourth: from whom nothing comes to each.
    fn silent(faults: &[(Kind, Target)]) -> Vec<Vec<usize>> {
        let cuttings: Vec<Cutting> =
            faults.iter().map(|(kind, target)| Cutting::of(*kind, target, 1, 3).unwrap()).collect();
        let fates = fates(&cuttings.iter().collect::<Vec<_>>(), 4);
        let dropped = |fates: &Vec<(usize, Fate)>| {
            fates.iter().filter(|(_, fate)| *fate == Fate::Dropped).map(|(from, _)| *from).collect()
        };
        fates.iter().map(dropped).collect()
    }

    #[test]
    fn each_kind_cuts_just_what_it_says() {
        let first = Target::Rack(0);
        for (kind, target, told) in [
            (Kind::Cut, first.clone(), [vec![1, 2, 3], vec![0], vec![0], vec![0]]),
            (Kind::Cut, Target::Racks(vec![0, 1]), [vec![2, 3], vec![2, 3], vec![0, 1], vec![0, 1]]),
            (Kind::Cut, Target::Metadata, [vec![3], vec![3], vec![3], vec![0, 1, 2]]),
            (Kind::Deaf, first.clone(), [vec![1, 2, 3], vec![], vec![], vec![]]),
            (Kind::Mute, first.clone(), [vec![], vec![0], vec![0], vec![0]]),
            (Kind::CutMetadata, first.clone(), [vec![3], vec![], vec![], vec![0]]),
            (Kind::Part, Target::Racks(vec![0, 2]), [vec![2], vec![], vec![0], vec![]]),
            (Kind::Loss, first.clone(), [vec![], vec![], vec![], vec![]]),
        ] {
            assert_eq!(silent(&[(kind, target)]), told, "{kind}");
        }
        // Who is cut off by one of two faults is cut off.
        let both = silent(&[(Kind::Loss, Target::All), (Kind::Mute, first.clone())]);
        assert_eq!(both, [vec![], vec![0], vec![0], vec![0]]);
        assert!(Cutting::of(Kind::Kill, &first, 1, 3).is_none());
        let lossy = [Cutting::of(Kind::Loss, &first, 1, 3).unwrap()];
        assert_eq!(fates(&[&lossy[0]], 4)[0], [1, 2, 3].map(|from| (from, Fate::Lost(LOST))));
        assert_eq!(fates(&[&lossy[0]], 4)[1], [(0, Fate::Lost(LOST))]);
    }
}

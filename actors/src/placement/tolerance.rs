//! How many whole failure domains the stripes could lose. What was written while some domains were away lies crowded in
//! those that were there, and stays so: it is counted here, from the rows of the groups and the stripes that each of
//! them holds.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use cairn_schema::{ids::*, record::*};

use super::rows::Rows;

/// The stripes of one scheme, by what they could lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tolerance {
    pub scheme: Scheme,
    /// Domains that a stripe written now could lose, if every disk that is not lost took part.
    pub possible: usize,
    /// How many stripes could lose 0, 1, 2, … domains, whichever these are, and be read.
    pub stripes: Vec<u64>,
}

impl Tolerance {
    /// Stripes that could lose fewer domains than is possible.
    pub fn thin(&self) -> u64 {
        self.stripes.iter().take(self.possible).sum()
    }
}

/// The tolerance of every scheme of which there are stripes, in order of scheme. `stripes` is how many each group
/// holds.
///
/// A disk that is down counts as there, because it may return; one that is lost does not. Fragments that are missing on
/// a disk that is there are the ledger's business, not this one's.
pub fn tolerances(rows: &Rows, level: FailureDomain, stripes: &BTreeMap<GroupId, u64>) -> Vec<Tolerance> {
    let layout = Layout::of(rows, level);
    let mut schemes: BTreeMap<Scheme, Vec<u64>> = BTreeMap::new();
    for (id, count) in stripes {
        let Some(group) = rows.groups.get(id) else { continue };
        let tolerance = layout.of_members(group.scheme, &group.members);
        let by_tolerance = schemes.entry(group.scheme).or_default();
        if by_tolerance.len() <= tolerance {
            by_tolerance.resize(tolerance + 1, 0);
        }
        by_tolerance[tolerance] += count;
    }
    schemes
        .into_iter()
        .map(|(scheme, stripes)| Tolerance { scheme, possible: layout.possible(scheme), stripes })
        .collect()
}

fn holds_fragments(disk: &Disk) -> bool {
    !matches!(disk.state, DiskState::Lost | DiskState::Removed)
}

/// In which failure domain each disk is that holds fragments, and how many there are of each.
pub(crate) struct Layout {
    domains: HashMap<DiskId, usize>,
    sizes: Vec<usize>,
}

impl Layout {
    pub(crate) fn of(rows: &Rows, level: FailureDomain) -> Self {
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let (mut domains, mut sizes) = (HashMap::new(), Vec::new());
        for disk in rows.disks.values().filter(|disk| holds_fragments(disk)) {
            let next = numbers.len();
            let number = *numbers.entry(disk.domain(level)).or_insert(next);
            sizes.resize(numbers.len(), 0);
            sizes[number] += 1;
            domains.insert(disk.id, number);
        }
        Self { domains, sizes }
    }

    /// How many domains a group with these members could lose, whichever these are.
    pub(crate) fn of_members(&self, scheme: Scheme, members: &[DiskId]) -> usize {
        let mut crowds: HashMap<usize, usize> = HashMap::new();
        let mut gone = 0;
        for member in members {
            match self.domains.get(member) {
                Some(domain) => *crowds.entry(*domain).or_default() += 1,
                None => gone += 1,
            }
        }
        domains_to_lose(scheme.parity().saturating_sub(gone), crowds.into_values())
    }

    /// What a group could lose at best that is formed from all of them: as even as they let it be.
    pub(crate) fn possible(&self, scheme: Scheme) -> usize {
        let mut crowds = vec![0; self.sizes.len()];
        for _ in 0..scheme.width() {
            let open = crowds.iter_mut().zip(&self.sizes).filter(|(crowd, size)| *crowd < *size);
            let Some((least, _)) = open.min_by_key(|(crowd, _)| **crowd) else { return 0 };
            *least += 1;
        }
        domains_to_lose(scheme.parity(), crowds.into_iter())
    }
}

/// The largest number of domains of which any can be lost together when `spare` fragments can be: the most crowded
/// decide.
fn domains_to_lose(spare: usize, crowds: impl Iterator<Item = usize>) -> usize {
    let mut crowds: Vec<usize> = crowds.filter(|crowd| *crowd > 0).collect();
    crowds.sort_unstable_by_key(|crowd| Reverse(*crowd));
    let mut lost = 0;
    crowds
        .into_iter()
        .take_while(|crowd| {
            lost += crowd;
            lost <= spare
        })
        .count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    fn disk_id(rack: u8, number: u8) -> DiskId {
        DiskId([rack, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// Racks with so many disks each, every disk on a node of its own.
    fn rows(racks: &[u8]) -> Rows {
        let mut rows = Rows::default();
        for (rack, disks) in (1..).zip(racks) {
            for number in 0..*disks {
                let disk = Disk {
                    id: disk_id(rack, number),
                    node: format!("n{rack}-{number}").parse().unwrap(),
                    rack: format!("r{rack}"),
                    zone: "z".into(),
                    capacity_bytes: 1,
                    state: DiskState::Up,
                    since_ms: 0,
                };
                rows.disks.insert(disk.id, disk);
            }
        }
        rows
    }

    fn group(rows: &mut Rows, id: u32, scheme: &str, members: &[(u8, u8)]) {
        let members = members.iter().map(|(rack, number)| disk_id(*rack, *number)).collect();
        let (id, scheme) = (GroupId(id), scheme.parse().unwrap());
        let group = Group { id, scheme, members, epoch: 1, state: GroupState::Open };
        rows.groups.insert(id, Arc::new(group));
    }

    fn told(rows: &Rows, stripes: &[(u32, u64)]) -> Vec<(String, usize, Vec<u64>, u64)> {
        let stripes = stripes.iter().map(|(id, count)| (GroupId(*id), *count)).collect();
        let tolerances = tolerances(rows, FailureDomain::Rack, &stripes);
        let plain = |t: Tolerance| (t.scheme.to_string(), t.possible, t.stripes.clone(), t.thin());
        tolerances.into_iter().map(plain).collect()
    }

    /// Six racks of two disks, 4+2: what was written while two racks were away has two fragments in each of two racks.
    #[test]
    fn what_was_written_while_racks_were_away_is_thin() {
        let mut rows = rows(&[2; 6]);
        group(&mut rows, 1, "4+2", &[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)]);
        group(&mut rows, 2, "4+2", &[(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (4, 0)]);
        group(&mut rows, 3, "replicated(3)", &[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(
            told(&rows, &[(1, 100), (2, 7), (3, 5), (99, 3)]),
            [("replicated(3)".into(), 2, vec![0, 0, 5], 0), ("4+2".into(), 2, vec![0, 7, 100], 7)]
        );
        // A disk that is down may return; one that is lost has taken its fragments along.
        let state = |rows: &mut Rows, state| rows.disks.get_mut(&disk_id(6, 0)).unwrap().state = state;
        state(&mut rows, DiskState::Down);
        assert_eq!(told(&rows, &[(1, 100)]), [("4+2".into(), 2, vec![0, 0, 100], 0)]);
        state(&mut rows, DiskState::Lost);
        assert_eq!(told(&rows, &[(1, 100)]), [("4+2".into(), 2, vec![0, 100], 100)]);
    }

    /// Nothing is thin for lacking what the layout does not have: with three racks, one is all that can be lost.
    #[test]
    fn thin_is_less_than_the_layout_allows() {
        let mut rows = rows(&[2; 3]);
        group(&mut rows, 1, "4+2", &[(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]);
        assert_eq!(told(&rows, &[(1, 10)]), [("4+2".into(), 1, vec![0, 10], 0)]);
        // With another rack still only one; with six, two.
        for (racks, possible, thin) in [(4, 1, 0), (5, 1, 0), (6, 2, 10)] {
            let wider = self::rows(&vec![2; racks]);
            rows.disks = wider.disks;
            assert_eq!(told(&rows, &[(1, 10)]), [("4+2".into(), possible, vec![0, 10], thin)], "{racks} racks");
        }
    }

    #[test]
    fn the_most_crowded_domains_decide() {
        assert_eq!(domains_to_lose(2, [1, 1, 1, 1, 1, 1].into_iter()), 2);
        assert_eq!(domains_to_lose(2, [2, 1, 1, 1, 1].into_iter()), 1);
        assert_eq!(domains_to_lose(2, [3, 3].into_iter()), 0);
        assert_eq!(domains_to_lose(4, [1; 12].into_iter()), 4);
        assert_eq!(domains_to_lose(0, [1, 1].into_iter()), 0);
        assert_eq!(domains_to_lose(2, [].into_iter()), 0);
    }
}

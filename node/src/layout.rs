//! The shape of a development cluster: which nodes in which racks with how many disks, and whether a scheme fits it.

use std::collections::BTreeMap;

use cairn_schema::record::{FailureDomain, Policy, Scheme};

use crate::words::plural;

/// Bounds of what one process can sensibly play.
const MAX_NODES: u32 = 64;
const MAX_DISKS_PER_NODE: u32 = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DevNode {
    pub id: String,
    pub rack: String,
    pub zone: String,
    pub disks: u32,
}

/// Everything that must stay the same, or only grow, from one start to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub scheme: Scheme,
    pub small_scheme: Scheme,
    pub failure_domain: FailureDomain,
    pub nodes: Vec<DevNode>,
}

/// What the command line asks for; None: the default at birth, what is recorded afterwards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub racks: Option<u32>,
    pub nodes_per_rack: Option<u32>,
    pub disks: Option<u32>,
    pub zones: Option<u32>,
    pub scheme: Option<Scheme>,
    pub small_scheme: Option<Scheme>,
    pub failure_domain: Option<FailureDomain>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("{flag} {value} is out of bounds: use 1 to {most}")]
    Bounds { flag: &'static str, value: u32, most: u32 },
    #[error("{0} nodes are too many for one process: use at most {MAX_NODES} (--racks times --nodes-per-rack)")]
    TooManyNodes(u32),
    #[error("{flag} {scheme} keeps nothing in reserve, so no disk could fail; use replicated(2) or more, or k+m")]
    NoRedundancy { flag: &'static str, scheme: Scheme },
    #[error("{flag} {scheme} does not fit: {why}; {advice}")]
    DoesNotFit { flag: &'static str, scheme: Scheme, why: String, advice: String },
    #[error(
        "{flag} {asked} differs from the {recorded} that this data was created with; leave {flag} out to go on with \
         it, and change it with `cairn admin policy set` while it runs, or start another cluster with --data"
    )]
    Differs { flag: &'static str, asked: String, recorded: String },
    #[error("{flag} {asked} is less than the {recorded} recorded with this data: a cluster here can only grow")]
    Shrinks { flag: &'static str, asked: u32, recorded: u32 },
}

const DEFAULT_RACKS: u32 = 6;
const DEFAULT_DISKS: u32 = 2;

impl Layout {
    /// The layout of a new cluster.
    pub(crate) fn create(wanted: &Wanted) -> Result<Self, LayoutError> {
        let default_scheme = Scheme::Rs { data: 4, parity: 2, code: cairn_schema::record::ErasureCode::Gf256 };
        let empty = Self {
            scheme: wanted.scheme.unwrap_or(default_scheme),
            small_scheme: wanted.small_scheme.unwrap_or(Scheme::Replicated { copies: 3 }),
            failure_domain: wanted.failure_domain.unwrap_or(FailureDomain::Rack),
            nodes: Vec::new(),
        };
        let filled = Wanted {
            racks: wanted.racks.or(Some(DEFAULT_RACKS)),
            nodes_per_rack: wanted.nodes_per_rack.or(Some(1)),
            disks: wanted.disks.or(Some(DEFAULT_DISKS)),
            ..wanted.clone()
        };
        let layout = empty.grown(&filled)?;
        layout.check()?;
        Ok(layout)
    }

    /// The recorded layout with what was asked for besides: more racks, nodes or disks are added, less is refused.
    pub(crate) fn adopt(&self, wanted: &Wanted) -> Result<Self, LayoutError> {
        same("--scheme", wanted.scheme, self.scheme)?;
        same("--small-scheme", wanted.small_scheme, self.small_scheme)?;
        same("--failure-domain", wanted.failure_domain, self.failure_domain)?;
        not_less("--racks", wanted.racks, self.racks().len())?;
        not_less("--nodes-per-rack", wanted.nodes_per_rack, self.most_nodes_in_a_rack())?;
        not_less("--disks", wanted.disks, self.nodes.iter().map(|node| node.disks as usize).max().unwrap_or(0))?;
        let layout = self.grown(wanted)?;
        layout.check()?;
        Ok(layout)
    }

    fn grown(&self, wanted: &Wanted) -> Result<Self, LayoutError> {
        let racks = wanted.racks.unwrap_or(self.racks().len() as u32);
        let per_rack = wanted.nodes_per_rack.unwrap_or(self.most_nodes_in_a_rack() as u32);
        bounds("--racks", racks, MAX_NODES)?;
        bounds("--nodes-per-rack", per_rack, MAX_NODES)?;
        let most_disks = self.nodes.iter().map(|node| node.disks).max().unwrap_or(DEFAULT_DISKS);
        let disks = wanted.disks.unwrap_or(most_disks);
        bounds("--disks", disks, MAX_DISKS_PER_NODE)?;
        let total = racks.saturating_mul(per_rack);
        if total > MAX_NODES {
            return Err(LayoutError::TooManyNodes(total));
        }
        // With zones as failure domain and nothing else said, every rack is a zone of its own.
        let by_default = if self.failure_domain == FailureDomain::Zone { racks } else { 1 };
        let zones = wanted.zones.unwrap_or(by_default);
        bounds("--zones", zones, racks)?;

        let mut grown = self.clone();
        for node in &mut grown.nodes {
            node.disks = node.disks.max(disks);
        }
        for rack_number in 1..=racks {
            let rack = format!("r{rack_number}");
            let there: Vec<_> = self.nodes.iter().filter(|node| node.rack == rack).collect();
            // A rack stays in its zone.
            let zone =
                there.first().map_or_else(|| format!("z{}", (rack_number - 1) % zones + 1), |node| node.zone.clone());
            for _ in there.len() as u32..per_rack {
                let id = format!("n{}", grown.nodes.len() + 1);
                grown.nodes.push(DevNode { id, rack: rack.clone(), zone: zone.clone(), disks });
            }
        }
        Ok(grown)
    }

    /// What a new cluster is told.
    pub(crate) fn policy(&self) -> Policy {
        Policy::new(self.scheme, self.small_scheme, self.failure_domain)
    }

    /// Both schemes must fit, or no object of that kind could ever be written.
    pub(crate) fn check(&self) -> Result<(), LayoutError> {
        self.check_scheme("--scheme", self.scheme)?;
        self.check_scheme("--small-scheme", self.small_scheme)
    }

    fn check_scheme(&self, flag: &'static str, scheme: Scheme) -> Result<(), LayoutError> {
        if scheme.parity() == 0 {
            return Err(LayoutError::NoRedundancy { flag, scheme });
        }
        let room = self.room(scheme, self.failure_domain);
        if room >= scheme.width() {
            return Ok(());
        }
        let domain = self.failure_domain.to_string();
        let why = format!(
            "of its {} fragments no {domain} may hold more than {}, so {} with {} take only {room}",
            scheme.width(),
            scheme.parity(),
            plural(self.disks_by_domain(self.failure_domain).len(), &domain),
            plural(self.total_disks(), "disk"),
        );
        Err(LayoutError::DoesNotFit { flag, scheme, why, advice: self.advice(scheme) })
    }

    /// Fragments of one stripe that can be placed with no more than m in any domain (PLC-1), each on a disk of its own.
    fn room(&self, scheme: Scheme, domain: FailureDomain) -> usize {
        self.disks_by_domain(domain).values().map(|disks| (*disks).min(scheme.parity())).sum()
    }

    fn advice(&self, scheme: Scheme) -> String {
        let fitting = [FailureDomain::Rack, FailureDomain::Node, FailureDomain::Disk]
            .into_iter()
            .find(|domain| *domain < self.failure_domain && self.room(scheme, *domain) >= scheme.width());
        let needed = scheme.width().div_ceil(scheme.parity());
        let mut advice = match (self.failure_domain, self.total_disks() < scheme.width()) {
            (FailureDomain::Disk, _) => format!("give it {} disks (--disks)", scheme.width()),
            (_, true) => format!("it needs {} disks in all (--racks, --nodes-per-rack, --disks)", scheme.width()),
            (FailureDomain::Node, _) => format!("use {needed} nodes or more (--racks, --nodes-per-rack)"),
            (FailureDomain::Rack, _) => format!("use {needed} racks or more (--racks {needed})"),
            (FailureDomain::Zone, _) => format!("use {needed} zones or more (--zones {needed})"),
        };
        if let Some(domain) = fitting {
            advice.push_str(&format!(", or --failure-domain {domain}, which fits as it is"));
        }
        advice.push_str(", or a scheme with fewer fragments");
        advice
    }

    fn disks_by_domain(&self, domain: FailureDomain) -> BTreeMap<String, usize> {
        let mut disks = BTreeMap::new();
        for node in &self.nodes {
            for disk in 0..node.disks {
                let name = match domain {
                    FailureDomain::Disk => format!("{}/d{disk}", node.id),
                    FailureDomain::Node => node.id.clone(),
                    FailureDomain::Rack => format!("{}/{}", node.zone, node.rack),
                    FailureDomain::Zone => node.zone.clone(),
                };
                *disks.entry(name).or_insert(0) += 1;
            }
        }
        disks
    }

    pub(crate) fn total_disks(&self) -> usize {
        self.nodes.iter().map(|node| node.disks as usize).sum()
    }

    /// Racks with the number of their nodes.
    pub(crate) fn racks(&self) -> BTreeMap<&str, usize> {
        let mut racks = BTreeMap::new();
        for node in &self.nodes {
            *racks.entry(node.rack.as_str()).or_insert(0) += 1;
        }
        racks
    }

    fn most_nodes_in_a_rack(&self) -> usize {
        self.racks().into_values().max().unwrap_or(0)
    }
}

fn same<T: PartialEq + std::fmt::Display>(
    flag: &'static str,
    asked: Option<T>,
    recorded: T,
) -> Result<(), LayoutError> {
    match asked {
        Some(asked) if asked != recorded => {
            Err(LayoutError::Differs { flag, asked: asked.to_string(), recorded: recorded.to_string() })
        }
        _ => Ok(()),
    }
}

fn not_less(flag: &'static str, asked: Option<u32>, recorded: usize) -> Result<(), LayoutError> {
    let recorded = recorded as u32;
    match asked {
        Some(asked) if asked < recorded => Err(LayoutError::Shrinks { flag, asked, recorded }),
        _ => Ok(()),
    }
}

fn bounds(flag: &'static str, value: u32, most: u32) -> Result<(), LayoutError> {
    if value == 0 || value > most { Err(LayoutError::Bounds { flag, value, most }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wanted(racks: u32, nodes_per_rack: u32, disks: u32, scheme: &str, domain: FailureDomain) -> Wanted {
        Wanted {
            racks: Some(racks),
            nodes_per_rack: Some(nodes_per_rack),
            disks: Some(disks),
            scheme: Some(scheme.parse().unwrap()),
            failure_domain: Some(domain),
            ..Wanted::default()
        }
    }

    #[test]
    fn the_default_is_six_nodes_in_six_racks_with_two_disks_each() {
        let layout = Layout::create(&Wanted::default()).unwrap();
        assert_eq!(layout.nodes.len(), 6);
        assert_eq!(layout.racks().len(), 6);
        assert_eq!(layout.total_disks(), 12);
        assert_eq!(layout.scheme.to_string(), "4+2");
    }

    #[test]
    fn layouts_that_can_hold_a_stripe_are_taken() {
        use FailureDomain::*;
        for (racks, nodes, disks, scheme, domain) in [
            (1, 1, 6, "4+2", Disk),
            (3, 1, 2, "4+2", Rack),
            (3, 4, 1, "8+4", Rack),
            (1, 6, 1, "4+2", Node),
            (6, 1, 2, "4+2", Zone),
        ] {
            Layout::create(&wanted(racks, nodes, disks, scheme, domain)).unwrap();
        }
    }

    #[test]
    fn plc_1_layouts_that_cannot_hold_a_stripe_say_what_to_change() {
        use FailureDomain::*;
        for (racks, nodes, disks, scheme, domain, advice) in [
            (1, 1, 6, "4+2", Rack, "--racks 3"),
            (1, 1, 6, "4+2", Rack, "--failure-domain disk, which fits as it is"),
            (1, 1, 5, "4+2", Disk, "give it 6 disks"),
            (2, 1, 2, "8+4", Rack, "12 disks in all"),
            (6, 1, 1, "8+4", Rack, "12 disks in all"),
            (1, 2, 6, "4+2", Node, "3 nodes or more"),
        ] {
            let error = Layout::create(&wanted(racks, nodes, disks, scheme, domain)).unwrap_err().to_string();
            assert!(error.contains("does not fit") && error.contains(advice), "{error}");
        }
        let single = Wanted { small_scheme: Some("replicated(1)".parse().unwrap()), ..Wanted::default() };
        assert!(matches!(Layout::create(&single), Err(LayoutError::NoRedundancy { flag: "--small-scheme", .. })));
    }

    #[test]
    fn a_recorded_layout_grows_but_never_shrinks_or_changes() {
        let first = Layout::create(&Wanted::default()).unwrap();
        assert_eq!(first.adopt(&Wanted::default()).unwrap(), first);
        let more = Wanted { racks: Some(7), nodes_per_rack: Some(2), disks: Some(3), ..Wanted::default() };
        let grown = first.adopt(&more).unwrap();
        assert_eq!((grown.nodes.len(), grown.total_disks()), (14, 42));
        for (old, new) in first.nodes.iter().zip(&grown.nodes) {
            assert_eq!((&old.id, &old.rack, &old.zone), (&new.id, &new.rack, &new.zone), "nodes keep their place");
        }
        let ids: std::collections::BTreeSet<_> = grown.nodes.iter().map(|node| &node.id).collect();
        assert_eq!(ids.len(), 14);
        for (wrong, flag) in [
            (Wanted { racks: Some(5), ..Wanted::default() }, "--racks"),
            (Wanted { disks: Some(1), ..Wanted::default() }, "--disks"),
            (Wanted { scheme: Some("8+4".parse().unwrap()), ..Wanted::default() }, "--scheme"),
            (Wanted { failure_domain: Some(FailureDomain::Disk), ..Wanted::default() }, "--failure-domain"),
        ] {
            assert!(first.adopt(&wrong).unwrap_err().to_string().starts_with(flag));
        }
        assert!(first.adopt(&Wanted { racks: Some(65), ..Wanted::default() }).is_err());
    }
}

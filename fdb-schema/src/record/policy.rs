//! What must be the same on every node: how data is cut, made redundant and spread. It is kept in the metadata, and
//! nodes obey that, whatever their own configuration says.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    error::MetaError,
    record::{Disk, DiskState, FailureDomain, Scheme},
    text::Size,
};

/// How data is cut, made redundant and spread. Each blob remembers how it was written, so a change is for what is
/// written from then on; the failure domain holds for what there is as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// For objects of at least `small_below` bytes.
    pub scheme: Scheme,
    /// For smaller ones.
    pub small_scheme: Scheme,
    pub small_below: u64,
    /// No domain of this level holds more than m fragments of a stripe (PLC-1).
    pub failure_domain: FailureDomain,
    /// Fragments beyond k that must be durable before a stripe counts as safe.
    pub write_margin: u8,
    /// Data bytes per fragment of a full stripe: the stripe has k times as many.
    pub fragment_bytes: u32,
}

/// The policy of a cluster as the metadata keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPolicy {
    /// 1 at the cluster's birth, and one more with every change.
    pub generation: u64,
    pub policy: Policy,
}

/// Why a cluster cannot have a policy, or rates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    /// As it is called in a node's configuration, such as `policy.scheme` or `rates.repair`.
    pub field: &'static str,
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.field, self.what, self.fix)
    }
}

impl From<SettingProblem> for MetaError {
    fn from(SettingProblem { field, what, fix }: SettingProblem) -> Self {
        Self::Invalid { what: field, why: format!("{what} ({fix})") }
    }
}

/// A field of which one policy says otherwise than another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyDifference {
    /// As it is called in a node's configuration, such as `policy.scheme`.
    pub field: &'static str,
    /// What the node was told.
    pub told: String,
    /// What holds in the cluster.
    pub holds: String,
}

impl fmt::Display for PolicyDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} here and {} in the cluster", self.field, self.told, self.holds)
    }
}

impl Policy {
    pub const SMALL_BELOW: u64 = 128 << 10;
    pub const WRITE_MARGIN: u8 = 1;
    pub const FRAGMENT_BYTES: u32 = 1 << 20;
    /// Fragments are read in blocks of this, and have a whole number of them.
    pub const LEAST_FRAGMENT_BYTES: u32 = 64 << 10;
    /// A stripe of them is held in memory.
    pub const MOST_FRAGMENT_BYTES: u32 = 16 << 20;

    /// With sizes and a margin that suit most clusters.
    pub fn new(scheme: Scheme, small_scheme: Scheme, failure_domain: FailureDomain) -> Self {
        Self {
            scheme,
            small_scheme,
            small_below: Self::SMALL_BELOW,
            failure_domain,
            write_margin: Self::WRITE_MARGIN,
            fragment_bytes: Self::FRAGMENT_BYTES,
        }
    }

    /// Every scheme that stripes are written with, each once.
    pub fn schemes(&self) -> impl Iterator<Item = Scheme> + use<> {
        let small = (self.small_scheme != self.scheme).then_some(self.small_scheme);
        std::iter::once(self.scheme).chain(small)
    }

    /// Bytes of the largest stripe with all its fragments, and at least of what is taken in before a body of unknown
    /// length is known not to be small: as much memory must be there at once.
    pub fn largest_stripe_bytes(&self) -> u64 {
        let of = |scheme: Scheme| u64::from(self.fragment_bytes).saturating_mul(scheme.width() as u64);
        self.schemes().map(of).max().unwrap_or(0).max(self.small_below)
    }

    /// The fields by their names in a node's configuration, and their values as they are written there.
    pub fn fields(&self) -> [(&'static str, String); 6] {
        [
            ("policy.scheme", self.scheme.to_string()),
            ("policy.small_scheme", self.small_scheme.to_string()),
            ("policy.small_below", Size(self.small_below).to_string()),
            ("policy.failure_domain", self.failure_domain.to_string()),
            ("policy.write_margin", self.write_margin.to_string()),
            ("policy.fragment", Size(self.fragment_bytes.into()).to_string()),
        ]
    }

    /// Where this, which a node was told, is not what `holds` in the cluster.
    pub fn differences(&self, holds: &Self) -> Vec<PolicyDifference> {
        let both = self.fields().into_iter().zip(holds.fields());
        let different = both.filter(|((_, told), (_, holds))| told != holds);
        different.map(|((field, told), (_, holds))| PolicyDifference { field, told, holds }).collect()
    }

    /// What is wrong with it, whatever the cluster.
    pub fn problems(&self) -> Vec<SettingProblem> {
        let mut problems = Vec::new();
        let (least, most) = (Self::LEAST_FRAGMENT_BYTES, Self::MOST_FRAGMENT_BYTES);
        let fragment = self.fragment_bytes;
        if fragment < least || fragment > most || !fragment.is_multiple_of(least) {
            let (fragment, least, most) = (Size(fragment.into()), Size(least.into()), Size(most.into()));
            problems.push(SettingProblem {
                field: "policy.fragment",
                what: format!("{fragment} is not a multiple of {least} up to {most}"),
                fix: "leave it out for the default, 1 MiB".to_owned(),
            });
        }
        for (field, scheme) in self.named_schemes() {
            if scheme.data() == 0 || scheme.width() > 255 || scheme.width() == 0 {
                let what = format!("\"{scheme}\" is not a scheme");
                problems.push(SettingProblem { field, what, fix: "use k+m, or replicated(n)".to_owned() });
            } else if usize::from(self.write_margin) > scheme.parity() {
                problems.push(SettingProblem {
                    field: "policy.write_margin",
                    what: format!(
                        "{} fragments beyond {} can never be durable with {field} = \"{scheme}\"",
                        self.write_margin,
                        scheme.data()
                    ),
                    fix: format!("use at most {}", scheme.parity()),
                });
            }
        }
        problems
    }

    /// What is wrong with it in a cluster of these disks: no stripe could ever be placed by it. Disks that are down are
    /// taken to come back.
    pub fn problems_with(&self, disks: &[Disk]) -> Vec<SettingProblem> {
        let stays = |disk: &&Disk| !matches!(disk.state, DiskState::Draining | DiskState::Lost | DiskState::Removed);
        let mut domains: BTreeMap<String, usize> = BTreeMap::new();
        for disk in disks.iter().filter(stays) {
            *domains.entry(disk.domain(self.failure_domain)).or_default() += 1;
        }
        let schemes = self.named_schemes().into_iter();
        schemes.filter_map(|(field, scheme)| self.unplaceable(field, scheme, &domains)).collect()
    }

    fn unplaceable(
        &self,
        field: &'static str,
        scheme: Scheme,
        domains: &BTreeMap<String, usize>,
    ) -> Option<SettingProblem> {
        let (width, level) = (scheme.width(), self.failure_domain);
        // PLC-1. Without redundancy it has nothing to protect.
        let most = scheme.parity().max(1);
        let room: usize = domains.values().map(|disks| (*disks).min(most)).sum();
        let of = |count: usize, what: &dyn fmt::Display| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        (room < width).then(|| SettingProblem {
            field,
            what: format!(
                "of the {} of \"{scheme}\" no {level} may hold more than {most}, so {} with {} take only {room}",
                of(width, &"fragment"),
                of(domains.len(), &level),
                of(domains.values().sum(), &"disk")
            ),
            fix: "add disks first, or use a scheme of fewer fragments or a lower failure domain".to_owned(),
        })
    }

    fn named_schemes(&self) -> [(&'static str, Scheme); 2] {
        [("policy.scheme", self.scheme), ("policy.small_scheme", self.small_scheme)]
    }
}

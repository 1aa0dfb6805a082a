//! How the memory of the process is divided (BND-1).
//!
//! `memory` is what the whole process may have resident, `cairn dev` with all its nodes as well as one `cairn node`. It
//! is divided once, here, and every part is held to its share by whoever spends it. First the program itself; of what
//! that leaves:
//!
//! | Part | What it is | Share | At least | Held by |
//! |---|---|---|---|---|
//! | program | code, threads, connections, sockets | 48 MiB, 6 MiB a node, 3 MiB a disk | | bounds on each |
//! | metadata cache | blocks of the embedded store | 1/16, if it is embedded | | the store's cache |
//! | metadata changes | its rows that are in no table yet | 1/16, if it is embedded | | the store: commits wait |
//! | index cache | blocks of the disks' indexes | 1/32 | 1 MiB | one cache of all disks |
//! | index changes | fragments that no checkpoint knows | 1/16 | 256 KiB a disk | each disk: writes wait |
//! | served | fragments from and for other nodes | 1/8 | 4 fragments a node | the QUIC endpoints: requests wait |
//! | background | fragments that repair reads and makes | 1/16 | a stripe a node | repair waits |
//! | stripes | what requests have in flight | the rest | 4 stripes | the store: requests wait, then 503 |
//!
//! A quarter more is tolerated for what comes and goes between two looks at the heap. A bound that leaves a part less
//! than its least is refused.

use std::fmt;

use cairn_actors::{
    disk::{IndexMemory, LEAST_CHANGES},
    policy::{NodeMemory, Policy},
};
use cairn_schema::kv::embedded::EmbeddedOptions;

use super::Size;

const PROGRAM: u64 = 48 << 20;
/// Sockets with their buffers, peers, workers.
const NODE: u64 = 6 << 20;
/// A writer and its helpers, the numbers of its segments, what a compaction is moving.
const DISK: u64 = 3 << 20;
const LEAST_INDEX_CACHE: u64 = 1 << 20;
const LEAST_SERVED: u64 = NodeMemory::LEAST_SERVED;
const LEAST_STRIPES: u64 = NodeMemory::LEAST_STRIPES;
/// Parts of the metadata's changes: rows gather in one, one or two are being written, one is spare for what rows take
/// beside their bytes.
pub(super) const CHANGES_PARTS: u64 = 4;

/// Who shares the memory of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sharers {
    pub nodes: u64,
    /// Of all nodes together.
    pub disks: u64,
    /// The metadata store is in this process.
    pub embedded: bool,
    /// Bytes of the largest fragment, and of all fragments of a stripe.
    pub fragment: u64,
    pub stripe: u64,
}

impl Sharers {
    /// For whichever of these policies needs more: that of the cluster, and one that its operator is preparing.
    pub(crate) fn of(nodes: usize, disks: usize, embedded: bool, policies: &[Policy]) -> Self {
        let most = |bytes: fn(&Policy) -> u64| policies.iter().map(bytes).max().unwrap_or(0);
        Self {
            nodes: nodes as u64,
            disks: disks as u64,
            embedded,
            fragment: most(|policy| policy.fragment_bytes.into()),
            stripe: most(Policy::largest_stripe_bytes),
        }
    }
}

/// What each part of the process may hold, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub bound: u64,
    pub program: u64,
    pub metadata_cache: u64,
    pub metadata_changes: u64,
    pub index_cache: u64,
    pub index_changes: u64,
    pub served: u64,
    pub background: u64,
    pub stripes: u64,
}

/// A bound that is too small for those who share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSmall {
    pub least: Size,
    nodes: u64,
    disks: u64,
    stripe: u64,
}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, disks, stripe, .. } = self;
        let of = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        write!(
            f,
            "is too little for {}, {} and {LEAST_STRIPES} stripes of {}",
            of(*nodes, "node"),
            of(*disks, "disk"),
            Size(*stripe)
        )
    }
}

impl Shares {
    pub(crate) fn divide(bound: Size, sharers: &Sharers) -> Result<Self, TooSmall> {
        Self::of(bound.0, sharers).ok_or_else(|| TooSmall {
            least: Size(least(sharers)),
            nodes: sharers.nodes,
            disks: sharers.disks,
            stripe: sharers.stripe,
        })
    }

    fn of(bound: u64, sharers: &Sharers) -> Option<Self> {
        let Sharers { nodes, disks, embedded, fragment, stripe } = *sharers;
        let program = PROGRAM + NODE.saturating_mul(nodes) + DISK.saturating_mul(disks);
        let left = bound.checked_sub(program)?;
        let metadata = if embedded { left / 16 } else { 0 };
        let index_cache = (left / 32).max(LEAST_INDEX_CACHE);
        let index_changes = (left / 16).max(LEAST_CHANGES.saturating_mul(disks));
        let served = (left / 8).max(fragment.saturating_mul(LEAST_SERVED).saturating_mul(nodes));
        let background = (left / 16).max(stripe.saturating_mul(nodes));
        let others = [metadata, metadata, index_cache, index_changes, served, background];
        let stripes = others.into_iter().try_fold(left, u64::checked_sub)?;
        (stripes >= stripe.saturating_mul(LEAST_STRIPES)).then_some(Self {
            bound,
            program,
            metadata_cache: metadata,
            metadata_changes: metadata,
            index_cache,
            index_changes,
            served,
            background,
            stripes,
        })
    }

    /// For the embedded metadata store.
    pub(crate) fn metadata(&self) -> EmbeddedOptions {
        EmbeddedOptions { cache_bytes: self.metadata_cache, memtable_bytes: self.metadata_changes / CHANGES_PARTS }
    }

    /// For the indexes of all `disks` together: give each a clone.
    pub(crate) fn index(&self, disks: usize) -> IndexMemory {
        IndexMemory::shared(self.index_cache, self.index_changes, disks)
    }

    /// For one of `nodes`, of which one has all the clients.
    pub(crate) fn node(&self, nodes: usize) -> NodeMemory {
        let nodes = nodes.max(1) as u64;
        NodeMemory { stripes: self.stripes, served: self.served / nodes, background: self.background / nodes }
    }

    /// Names of the parts, and what each may hold.
    pub(crate) fn parts(&self) -> [(&'static str, u64); 8] {
        [
            ("program", self.program),
            ("metadata_cache", self.metadata_cache),
            ("metadata_changes", self.metadata_changes),
            ("index_cache", self.index_cache),
            ("index_changes", self.index_changes),
            ("served", self.served),
            ("background", self.background),
            ("stripes", self.stripes),
        ]
    }
}

/// The smallest bound that suffices, in whole MiB.
fn least(sharers: &Sharers) -> u64 {
    let (mut too_small, mut enough) = (0, 1u64 << 44);
    while enough - too_small > 1 {
        let middle = too_small + (enough - too_small) / 2;
        match Shares::of(middle << 20, sharers) {
            Some(_) => enough = middle,
            None => too_small = middle,
        }
    }
    enough << 20
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MIB: u64 = 1 << 20;

    fn dev() -> Sharers {
        Sharers { nodes: 6, disks: 12, embedded: true, fragment: MIB, stripe: 6 * MIB }
    }

    #[test]
    fn bnd_1_the_parts_add_up_to_the_bound_whoever_shares_it() {
        for nodes in [1, 6, 12] {
            for disks in [1, 12, 60] {
                for embedded in [false, true] {
                    let sharers = Sharers { nodes, disks, embedded, ..dev() };
                    let least = least(&sharers);
                    for bound in [least, least + MIB, 2 * least, 64 << 30] {
                        let shares = Shares::divide(Size(bound), &sharers).unwrap();
                        let sum: u64 = shares.parts().iter().map(|(_, bytes)| bytes).sum();
                        assert_eq!(sum, bound, "{shares:?}");
                        assert!(shares.stripes >= 4 * sharers.stripe && shares.served >= 4 * sharers.fragment * nodes);
                    }
                    let refused = Shares::divide(Size(least - MIB), &sharers).unwrap_err();
                    assert_eq!(refused.least, Size(least));
                }
            }
        }
    }

    #[test]
    fn the_refusal_names_who_needs_it() {
        let refused = Shares::divide(Size::mib(64), &dev()).unwrap_err();
        assert_eq!(refused.to_string(), "is too little for 6 nodes, 12 disks and 4 stripes of 6 MiB");
        let one = Sharers { nodes: 1, disks: 1, ..dev() };
        assert!(Shares::divide(Size::mib(1), &one).unwrap_err().to_string().contains("1 node, 1 disk and"));
    }

    #[test]
    fn most_of_the_default_is_for_requests() {
        let one = Sharers { nodes: 1, disks: 2, embedded: false, ..dev() };
        assert!(Shares::divide(Size::mib(512), &one).unwrap().stripes > 300 * MIB);
        assert!(Shares::divide(Size::mib(512), &dev()).unwrap().stripes > 200 * MIB);
    }
}

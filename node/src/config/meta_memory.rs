//! How the memory of `cairn meta` is divided (BND-1), as [`super::memory`] does for a process of nodes.
//!
//! | Part | What it is | Share | At least | Held by |
//! |---|---|---|---|---|
//! | program | code, threads, connections, sockets | 64 MiB | | bounds on each |
//! | metadata cache | blocks of the store | 1/4 of the rest | 8 MiB | the store's cache |
//! | metadata changes | its rows that are in no table yet | 1/4 of the rest | 8 MiB | the store: commits wait |
//! | served | requests and answers under way | the rest | 32 MiB | the QUIC endpoint: requests wait |

use cairn_schema::kv::embedded::EmbeddedOptions;

use super::{Size, memory::CHANGES_PARTS};

const PROGRAM: u64 = 64 << 20;
/// What is divided. Its half holds some of the largest requests at once.
const LEAST_LEFT: u64 = 64 << 20;

/// What each part of a metadata server may hold, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MetaShares {
    pub bound: u64,
    cache: u64,
    changes: u64,
    pub served: u64,
}

impl MetaShares {
    /// The smallest bound that suffices.
    pub(crate) const LEAST: Size = Size(PROGRAM + LEAST_LEFT);

    /// None: the bound is below [`MetaShares::LEAST`].
    pub(crate) fn divide(bound: Size) -> Option<Self> {
        let left = bound.0.checked_sub(PROGRAM).filter(|left| *left >= LEAST_LEFT)?;
        let (cache, changes) = (left / 4, left / 4);
        Some(Self { bound: bound.0, cache, changes, served: left - cache - changes })
    }

    pub(crate) fn metadata(&self) -> EmbeddedOptions {
        EmbeddedOptions { cache_bytes: self.cache, memtable_bytes: self.changes / CHANGES_PARTS }
    }

    /// Names of the parts, and what each may hold.
    pub(crate) fn parts(&self) -> [(&'static str, u64); 4] {
        [
            ("program", PROGRAM),
            ("metadata_cache", self.cache),
            ("metadata_changes", self.changes),
            ("served", self.served),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bnd_1_the_parts_of_a_metadata_server_add_up_to_its_bound() {
        for bound in [MetaShares::LEAST, Size::mib(129), Size::mib(256), Size::mib(10_000)] {
            let shares = MetaShares::divide(bound).unwrap();
            assert_eq!(shares.parts().iter().map(|(_, bytes)| bytes).sum::<u64>(), bound.0);
            assert!(shares.served >= 32 << 20);
        }
        assert_eq!(MetaShares::divide(Size(MetaShares::LEAST.0 - 1)), None);
    }
}

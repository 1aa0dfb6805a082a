//! Blobs: immutable bytes written once, shared by reference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{BlobId, FragmentName, GroupId},
    record::Scheme,
};

/// Where a blob's bytes are. Immutable: a disk's loss changes the group's row, never this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub id: BlobId,
    pub scheme: Scheme,
    /// Bytes of the blob.
    pub length: u64,
    /// Data bytes of a full stripe; the last stripe may be shorter.
    pub stripe_bytes: u32,
    /// Which group holds which stripes, in order; the counts add up to the number of stripes.
    pub runs: Vec<StripeRun>,
    /// xxh3-64 of the blob's bytes, with seed 0.
    pub checksum: u64,
}

impl Blob {
    /// How many of its stripes each of its groups holds.
    pub fn stripes_by_group(&self) -> BTreeMap<GroupId, u64> {
        let mut stripes = BTreeMap::new();
        for run in &self.runs {
            *stripes.entry(run.group).or_default() += u64::from(run.stripes);
        }
        stripes
    }
}

/// A run of consecutive stripes in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StripeRun {
    pub group: GroupId,
    pub stripes: u32,
}

/// A blob about to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBlob {
    pub blob: Blob,
    /// The epoch of each group of `runs` under which its fragments were written; the commit fails with
    /// [`crate::MetaError::GroupChanged`] when one has moved on, because a fragment may have gone to a disk that no
    /// longer counts.
    pub epochs: Vec<(GroupId, u64)>,
    /// Fragments that did not become durable: the ledger's rows, written in the same transaction.
    pub missing: Vec<FragmentName>,
    /// The generation of the policy by which it was judged safe, 0 of one that is not kept; the commit fails with
    /// [`crate::MetaError::Stale`] when another holds by now, so that nothing is acknowledged by a rule that is over.
    /// None: by no policy.
    pub policy: Option<u64>,
}

//! The ledger of missing redundancy and the reclaim queue.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{FragmentName, GroupId},
    record::Blob,
};

/// Why a fragment is in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingCause {
    /// Its disk did not acknowledge when the stripe was written.
    WriteAbsent,
    /// A scrub or a read found it damaged.
    Corrupt,
    /// A scrub or a read did not find it.
    NotFound,
    /// Its disk was lost.
    DiskLost,
}

/// One fragment known to be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    pub fragment: FragmentName,
    pub cause: MissingCause,
    pub since_ms: u64,
}

/// The first of a group's rows of single fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLedger {
    pub group: GroupId,
    /// In order of name, and never none.
    pub entries: Vec<LedgerEntry>,
    /// The group has more than these.
    pub more: bool,
}

/// A blob that nothing references, waiting for its grace period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    pub blob: Blob,
    /// When the last reference went, in milliseconds since the Unix epoch.
    pub queued_ms: u64,
}

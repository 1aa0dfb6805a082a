//! Transactions over an ordered map of bytes, shaped like FoundationDB's, and the backends that run them.
//!
//! - [`mem`]: a map in memory, for tests.
//! - [`embedded`]: one machine; an LSM tree with a synced journal that concurrent commits share.
//! - [`remote`]: an embedded store on another node.
//! - `fdb` (cargo feature `fdb`): FoundationDB.
//!
//! The first three share [`occ`]: buffered writes, reads at one version, conflicts decided at commit.

pub mod embedded;
#[cfg(feature = "fdb")]
pub mod fdb;
pub mod inject;
mod life;
pub mod mem;
pub mod occ;
pub mod remote;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

/// FoundationDB's limits, held by every backend so that what works on one works on all.
pub mod limits {
    use super::Duration;

    pub const KEY_BYTES: usize = 10_000;
    pub const VALUE_BYTES: usize = 100_000;
    /// What a store that is shared with others may have before every key; leaves nearly all of the limit to the keys.
    pub const PREFIX_BYTES: usize = 100;
    /// What the writes and conflict ranges of one transaction may take together, counted as below.
    pub const TRANSACTION_BYTES: usize = 10_000_000;
    /// From the beginning to the last read and the commit.
    pub const TRANSACTION_LIFE: Duration = Duration::from_secs(5);

    /// What FoundationDB keeps for each write and its conflict range besides keys and values, rounded up.
    const WRITE_OVERHEAD: usize = 96;

    /// What a write of a row counts: the write itself, and the conflict range that goes with it, whose bounds are the
    /// key twice.
    pub const fn write_bytes(key: usize, value: usize) -> usize {
        3 * key + value + WRITE_OVERHEAD
    }

    /// What clearing a range counts: its bounds, for the write and for the conflict range.
    pub const fn clear_range_bytes(begin: usize, end: usize) -> usize {
        2 * (begin + end) + WRITE_OVERHEAD
    }

    /// What a conflict range counts that was read or declared.
    pub const fn conflict_bytes(begin: usize, end: usize) -> usize {
        begin + end + WRITE_OVERHEAD / 2
    }
}

/// Why an operation of a transaction failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// What was read has changed since: run the transaction again.
    #[error("conflict with another transaction")]
    Conflict,
    /// The transaction outlived the versions that the store keeps: run it again.
    #[error("transaction is too old")]
    TooOld,
    /// The commit may have happened, or may yet happen.
    #[error("commit result unknown: {0}")]
    CommitUnknown(String),
    #[error("{what} is over its limit: {actual} > {limit}")]
    TooLarge { what: &'static str, actual: usize, limit: usize },
    /// A write of the row without a key, which not every backend can have.
    #[error("a row needs a key of at least one byte")]
    EmptyKey,
    #[error("no answer in time: {0}")]
    Timeout(String),
    /// The store did not take the operation, so it was not done.
    #[error("store cannot be reached: {0}")]
    Unavailable(String),
    #[error("store failed: {0}")]
    Storage(String),
}

/// Rows of `begin..end` in key order, or in reverse.
#[derive(Clone, Debug)]
pub struct RangeQuery {
    /// Inclusive.
    pub begin: Bytes,
    /// Exclusive.
    pub end: Bytes,
    /// At most so many rows; at least 1.
    pub limit: usize,
    pub reverse: bool,
    /// Whether the rows read, and the gaps between them, must be unchanged at commit.
    pub snapshot: bool,
}

impl RangeQuery {
    pub fn new(begin: impl Into<Bytes>, end: impl Into<Bytes>, limit: usize) -> Self {
        Self { begin: begin.into(), end: end.into(), limit, reverse: false, snapshot: false }
    }

    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>, limit: usize) -> Self {
        let begin = prefix.into();
        let end = prefix_end(&begin);
        Self::new(begin, end, limit)
    }

    pub fn reversed(self) -> Self {
        Self { reverse: true, ..self }
    }

    pub fn snapshot(self) -> Self {
        Self { snapshot: true, ..self }
    }
}

pub type Row = (Bytes, Bytes);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangePage {
    pub rows: Vec<Row>,
    /// The limit ended the page: there may be more rows.
    pub more: bool,
}

/// When a transaction was committed, on the store's own clock; grows with every commit that wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitVersion(pub u64);

/// An ordered, transactional store.
#[async_trait]
pub trait Kv: Send + Sync + 'static {
    /// A new transaction. Nothing is asked of the store before the first read or the commit unless a backend must.
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError>;

    /// A transaction for reading, of no matter how long a life, if the store keeps old versions for as long as one is
    /// read.
    async fn long_snapshot(&self) -> Result<Option<Box<dyn Transaction>>, KvError> {
        Ok(None)
    }

    /// Waits until the store has failed for good, and says why: until it is opened again it refuses every change. A
    /// store elsewhere may always come back, so for such a one this never ends.
    async fn failed(&self) -> String {
        std::future::pending().await
    }
}

/// One serializable transaction: reads see one version of the store and the transaction's own writes; at commit,
/// everything read without `snapshot` must be unchanged. Once it is older than [`limits::TRANSACTION_LIFE`], every read
/// and a commit of writes are refused as [`KvError::TooOld`]. Dropping it abandons it.
#[async_trait]
pub trait Transaction: Send {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Bytes>, KvError>;

    /// Several keys in one exchange with the store, in the order asked.
    async fn get_many(&mut self, keys: &[Bytes], snapshot: bool) -> Result<Vec<Option<Bytes>>, KvError>;

    async fn range(&mut self, query: RangeQuery) -> Result<RangePage, KvError>;

    fn set(&mut self, key: Bytes, value: Bytes);

    fn clear(&mut self, key: Bytes);

    /// Clears `begin..end`.
    fn clear_range(&mut self, begin: Bytes, end: Bytes);

    /// Adds to a little-endian 64-bit integer, wrapping; a missing row counts as 0. Reads nothing, so adds do not
    /// conflict with one another.
    fn add(&mut self, key: Bytes, delta: i64);

    /// Sets the row `prefix + versionstamp + suffix`, where the versionstamp is 10 bytes that grow with every commit.
    fn set_versionstamped(&mut self, prefix: Bytes, suffix: Bytes, value: Bytes);

    /// Conflict if anything in `begin..end` changed, as if it had been read.
    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes);

    /// Let others that read `begin..end` conflict, as if it had been written.
    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes);

    /// What the writes so far count towards [`limits::TRANSACTION_BYTES`].
    fn bytes(&self) -> usize;

    /// Commits. [`KvError::CommitUnknown`] means that it may have happened or may yet happen.
    async fn commit(self: Box<Self>) -> Result<CommitVersion, KvError>;
}

pub type SharedKv = Arc<dyn Kv>;

/// The first key after every key that starts with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    // Nothing sorts after an empty or all-0xff prefix: end where user keys end in FoundationDB.
    vec![0xff].into()
}

/// The first key after `key`.
pub fn key_after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// The value of a counter row, as [`Transaction::add`] sees it.
pub fn counter(value: Option<&[u8]>) -> i64 {
    let mut bytes = [0; 8];
    if let Some(value) = value {
        let taken = value.len().min(8);
        bytes[..taken].copy_from_slice(&value[..taken]);
    }
    i64::from_le_bytes(bytes)
}

//! Optimistic transactions over an engine that can read at a version and apply a batch: what mem, embedded and remote
//! share.
//!
//! A transaction buffers its writes and remembers what it read. Commit sends both to one place, which refuses it if a
//! later commit wrote what it read. We do this ourselves, rather than use fjall's own optimistic transactions, because
//! those count an atomic add as a read (every commit would conflict on the usage counters), mark the whole of a range
//! as read however little was taken from it, and cannot cross a network.

mod apply;
mod buffer;
mod overlay;
mod resolver;
mod transaction;

pub use apply::{Rows, RowsMut, apply};
pub use overlay::{Changes, Overlay};
pub use resolver::{Resolver, Verdict, Written};
pub use transaction::OccKv;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::kv::{CommitVersion, KvError, RangePage, limits};

/// A half-open range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    pub begin: Bytes,
    pub end: Bytes,
}

/// One change, in the order in which it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutation {
    Set(Bytes, Bytes),
    Clear(Bytes),
    ClearRange(Bytes, Bytes),
    Add(Bytes, i64),
    /// Prefix, suffix, value.
    SetVersionstamped(Bytes, Bytes, Bytes),
}

impl Mutation {
    /// Bytes of its longest key, and of its value.
    fn lengths(&self) -> (usize, usize) {
        match self {
            Self::Set(key, value) => (key.len(), value.len()),
            Self::Clear(key) | Self::Add(key, _) => (key.len(), 0),
            Self::ClearRange(begin, end) => (begin.len().max(end.len()), 0),
            Self::SetVersionstamped(prefix, suffix, value) => (prefix.len() + suffix.len() + 10, value.len()),
        }
    }
}

/// The limits of single keys and values.
pub(crate) fn check_limits(mutations: &[Mutation]) -> Result<(), KvError> {
    for mutation in mutations {
        let (key, value) = mutation.lengths();
        // The bounds of a range are no rows: it may begin before every key.
        if key == 0 && !matches!(mutation, Mutation::ClearRange(..)) {
            return Err(KvError::EmptyKey);
        }
        if key > limits::KEY_BYTES {
            return Err(KvError::TooLarge { what: "key", actual: key, limit: limits::KEY_BYTES });
        }
        if value > limits::VALUE_BYTES {
            return Err(KvError::TooLarge { what: "value", actual: value, limit: limits::VALUE_BYTES });
        }
    }
    Ok(())
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRequest {
    /// What the reads were made at; None if there were none.
    pub read_version: Option<u64>,
    pub reads: Vec<KeyRange>,
    /// Written as far as conflicts go, besides the mutations.
    pub extra_writes: Vec<KeyRange>,
    pub mutations: Vec<Mutation>,
}

impl CommitRequest {
    /// Roughly what it takes in memory.
    pub fn bytes(&self) -> usize {
        let ranges = self.reads.iter().chain(&self.extra_writes).map(|r| r.begin.len() + r.end.len() + 16);
        let mutations = self.mutations.iter().map(|mutation| {
            16 + match mutation {
                Mutation::Set(a, b) | Mutation::ClearRange(a, b) => a.len() + b.len(),
                Mutation::Clear(key) | Mutation::Add(key, _) => key.len() + 8,
                Mutation::SetVersionstamped(a, b, c) => a.len() + b.len() + c.len() + 10,
            }
        });
        ranges.sum::<usize>() + mutations.sum::<usize>()
    }
}

/// The store as it was at one version.
#[async_trait]
pub trait View: Send + Sync {
    /// None until the first read, for an engine that learns the version with it.
    fn version(&self) -> Option<u64>;

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, KvError>;

    /// May end before `limit` rows with `more` set, but never with no rows and `more` set.
    async fn range(&self, range: KeyRange, limit: usize, reverse: bool) -> Result<RangePage, KvError>;
}

/// What can be read at a version and takes commits.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    type View: View + 'static;

    /// Whether a view can be read for as long as it is held.
    const LONG_VIEWS: bool = true;

    /// The newest committed version: sees everything acknowledged before the call.
    async fn view(&self) -> Result<Self::View, KvError>;

    async fn commit(&self, request: CommitRequest) -> Result<CommitVersion, KvError>;

    /// As [`Kv::failed`](crate::kv::Kv::failed).
    async fn failed(&self) -> String {
        std::future::pending().await
    }
}

#[async_trait]
impl<E: Engine> Engine for std::sync::Arc<E> {
    type View = E::View;

    const LONG_VIEWS: bool = E::LONG_VIEWS;

    async fn view(&self) -> Result<Self::View, KvError> {
        E::view(self).await
    }

    async fn commit(&self, request: CommitRequest) -> Result<CommitVersion, KvError> {
        E::commit(self, request).await
    }

    async fn failed(&self) -> String {
        E::failed(self).await
    }
}

/// The 10 bytes of a versionstamp: the commit's version, then its place among those committed with it.
pub fn versionstamp(version: u64, place: u16) -> [u8; 10] {
    let mut stamp = [0; 10];
    stamp[..8].copy_from_slice(&version.to_be_bytes());
    stamp[8..].copy_from_slice(&place.to_be_bytes());
    stamp
}

pub(crate) fn versionstamped_key(prefix: &[u8], suffix: &[u8], stamp: [u8; 10]) -> Bytes {
    let mut key = Vec::with_capacity(prefix.len() + suffix.len() + stamp.len());
    key.extend_from_slice(prefix);
    key.extend_from_slice(&stamp);
    key.extend_from_slice(suffix);
    key.into()
}

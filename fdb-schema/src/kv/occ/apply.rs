//! Turns the mutations of a commit into rows.

use bytes::Bytes;

use crate::kv::{
    KvError, counter,
    occ::{CommitRequest, KeyRange, Mutation, Written, versionstamp, versionstamped_key},
};

/// The newest rows, while commits are applied one after the other.
pub trait Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;
    /// Keys that have a row in `begin..end`.
    fn keys(&self, begin: &Bytes, end: &Bytes) -> Result<Vec<Bytes>, KvError>;
}

impl<R: Rows> Rows for &R {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        R::get(self, key)
    }

    fn keys(&self, begin: &Bytes, end: &Bytes) -> Result<Vec<Bytes>, KvError> {
        R::keys(self, begin, end)
    }
}

/// Rows that take changes.
pub trait RowsMut: Rows {
    /// None removes the row.
    fn put(&mut self, key: Bytes, value: Option<Bytes>);
}

/// Applies a commit that may go ahead and returns what it wrote. After an error the rows have some of its changes.
pub fn apply(rows: &mut impl RowsMut, request: CommitRequest, version: u64, place: u16) -> Result<Written, KvError> {
    let mut written = Written { keys: Vec::with_capacity(request.mutations.len()), ranges: request.extra_writes };
    for mutation in request.mutations {
        match mutation {
            Mutation::Set(key, value) => {
                rows.put(key.clone(), Some(value));
                written.keys.push(key);
            }
            Mutation::Clear(key) => {
                rows.put(key.clone(), None);
                written.keys.push(key);
            }
            Mutation::ClearRange(begin, end) => {
                for key in rows.keys(&begin, &end)? {
                    rows.put(key, None);
                }
                written.ranges.push(KeyRange { begin, end });
            }
            Mutation::Add(key, delta) => {
                let sum = counter(rows.get(&key)?.as_deref()).wrapping_add(delta);
                rows.put(key.clone(), Some(Bytes::copy_from_slice(&sum.to_le_bytes())));
                written.keys.push(key);
            }
            Mutation::SetVersionstamped(prefix, suffix, value) => {
                let key = versionstamped_key(&prefix, &suffix, versionstamp(version, place));
                rows.put(key.clone(), Some(value));
                written.keys.push(key);
            }
        }
    }
    Ok(written)
}

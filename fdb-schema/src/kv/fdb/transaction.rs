//! One transaction of FoundationDB's.

use async_trait::async_trait;
use bytes::Bytes;
use foundationdb::{
    FdbError, KeySelector, RangeOption,
    options::{ConflictRangeType, MutationType, StreamingMode},
};
use futures::future::try_join_all;

use super::errors;
use crate::kv::{CommitVersion, KvError, RangePage, RangeQuery, Transaction, key_after, life::Life, limits};

pub(super) struct FdbTransaction {
    inner: foundationdb::Transaction,
    prefix: Bytes,
    bytes: usize,
    life: Life,
    /// Whether its commit changes anything, or lets others conflict.
    writes: bool,
    /// What the commit will answer: a write was over a limit.
    refused: Option<KvError>,
}

impl FdbTransaction {
    pub(super) fn new(inner: foundationdb::Transaction, prefix: Bytes) -> Self {
        Self { inner, prefix, bytes: 0, life: Life::begin(), writes: false, refused: None }
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(self.prefix.len() + key.len());
        full.extend_from_slice(&self.prefix);
        full.extend_from_slice(key);
        full
    }

    fn unprefixed(&self, key: &[u8]) -> Bytes {
        Bytes::copy_from_slice(key.get(self.prefix.len()..).unwrap_or_default())
    }

    /// Counts a write of `bytes`; one over the limits is refused at commit, as the other backends do.
    fn count(&mut self, key: usize, value: usize, bytes: usize) -> bool {
        self.bytes += bytes;
        self.writes = true;
        let over = |what, actual, limit| Some(KvError::TooLarge { what, actual, limit });
        // The prefix is ours, not the caller's, and FoundationDB counts it too.
        let refused = if key + self.prefix.len() > limits::KEY_BYTES {
            over("key", key, limits::KEY_BYTES)
        } else if value > limits::VALUE_BYTES {
            over("value", value, limits::VALUE_BYTES)
        } else if self.bytes > limits::TRANSACTION_BYTES {
            over("transaction", self.bytes, limits::TRANSACTION_BYTES)
        } else {
            return true;
        };
        self.refused = self.refused.take().or(refused);
        false
    }

    fn count_write(&mut self, key: usize, value: usize) -> bool {
        if key == 0 {
            self.refused = self.refused.take().or(Some(KvError::EmptyKey));
            return false;
        }
        self.count(key, value, limits::write_bytes(key + self.prefix.len(), value))
    }

    fn conflict(&mut self, begin: &[u8], end: &[u8], kind: ConflictRangeType) {
        if begin >= end {
            return;
        }
        let (begin, end) = (self.key(begin), self.key(end));
        if let Err(error) = self.inner.add_conflict_range(&begin, &end, kind) {
            self.refused = self.refused.take().or(Some(errors::of_read(error)));
        }
    }
}

#[async_trait]
impl Transaction for FdbTransaction {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Bytes>, KvError> {
        self.life.check()?;
        let value = self.inner.get(&self.key(key), snapshot).await.map_err(errors::of_read)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    async fn get_many(&mut self, keys: &[Bytes], snapshot: bool) -> Result<Vec<Option<Bytes>>, KvError> {
        self.life.check()?;
        let gets = keys.iter().map(|key| self.inner.get(&self.key(key), snapshot));
        let values = try_join_all(gets).await.map_err(errors::of_read)?;
        Ok(values.into_iter().map(|value| value.map(|value| Bytes::copy_from_slice(&value))).collect())
    }

    async fn range(&mut self, query: RangeQuery) -> Result<RangePage, KvError> {
        let mut page = RangePage::default();
        let (mut begin, mut end) = (query.begin, query.end);
        while begin < end && page.rows.len() < query.limit {
            self.life.check()?;
            let (first, last) = (self.key(&begin), self.key(&end));
            let option = RangeOption {
                limit: Some(query.limit - page.rows.len()),
                mode: StreamingMode::WantAll,
                reverse: query.reverse,
                begin: KeySelector::first_greater_or_equal(&first[..]),
                end: KeySelector::first_greater_or_equal(&last[..]),
                ..RangeOption::default()
            };
            let stored = self.inner.get_range(&option, 1, query.snapshot).await.map_err(errors::of_read)?;
            for row in stored.iter() {
                page.rows.push((self.unprefixed(row.key()), Bytes::copy_from_slice(row.value())));
            }
            if !stored.more() {
                break;
            }
            match page.rows.last().filter(|_| !stored.is_empty()) {
                Some((key, _)) if query.reverse => end = key.clone(),
                Some((key, _)) => begin = key_after(key),
                // Asking again from the same place might never end.
                None => return Err(KvError::Unavailable("FoundationDB promised more rows and sent none".into())),
            }
        }
        page.more = page.rows.len() >= query.limit;
        Ok(page)
    }

    fn set(&mut self, key: Bytes, value: Bytes) {
        if self.count_write(key.len(), value.len()) {
            self.inner.set(&self.key(&key), &value);
        }
    }

    fn clear(&mut self, key: Bytes) {
        if self.count_write(key.len(), 0) {
            self.inner.clear(&self.key(&key));
        }
    }

    fn clear_range(&mut self, begin: Bytes, end: Bytes) {
        let bytes = limits::clear_range_bytes(begin.len(), end.len()) + 4 * self.prefix.len();
        if begin < end && self.count(begin.len().max(end.len()), 0, bytes) {
            self.inner.clear_range(&self.key(&begin), &self.key(&end));
        }
    }

    fn add(&mut self, key: Bytes, delta: i64) {
        if self.count_write(key.len(), 8) {
            self.inner.atomic_op(&self.key(&key), &delta.to_le_bytes(), MutationType::Add);
        }
    }

    fn set_versionstamped(&mut self, prefix: Bytes, suffix: Bytes, value: Bytes) {
        if !self.count_write(prefix.len() + suffix.len() + 10, value.len()) {
            return;
        }
        // The place of the stamp follows the key, as 4 little-endian bytes.
        let mut key = self.key(&prefix);
        let place = u32::try_from(key.len()).unwrap_or(u32::MAX);
        key.extend_from_slice(&[0; 10]);
        key.extend_from_slice(&suffix);
        key.extend_from_slice(&place.to_le_bytes());
        self.inner.atomic_op(&key, &value, MutationType::SetVersionstampedKey);
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.conflict(&begin, &end, ConflictRangeType::Read);
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.writes = true;
        self.conflict(&begin, &end, ConflictRangeType::Write);
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    async fn commit(self: Box<Self>) -> Result<CommitVersion, KvError> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        if self.writes {
            self.life.check()?;
        }
        let committed = self.inner.commit().await.map_err(|error| errors::of_commit(FdbError::from(error)))?;
        // The version is negative if the transaction wrote nothing.
        let version = committed.committed_version().map_err(|error| KvError::CommitUnknown(error.to_string()))?;
        Ok(CommitVersion(u64::try_from(version).unwrap_or(0)))
    }
}

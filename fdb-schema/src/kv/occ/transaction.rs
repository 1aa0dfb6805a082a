//! A transaction over an [`Engine`].

use async_trait::async_trait;
use bytes::Bytes;

use crate::kv::{
    CommitVersion, Kv, KvError, RangePage, RangeQuery, Row, Transaction, counter, key_after,
    life::Life,
    limits,
    occ::{
        CommitRequest, Engine, KeyRange, View,
        buffer::{Lookup, WriteBuffer},
        check_limits,
    },
};

/// An engine as a transactional store.
pub struct OccKv<E>(pub E);

#[async_trait]
impl<E: Engine + Clone> Kv for OccKv<E> {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        Ok(Box::new(OccTransaction::new(self.0.clone(), Life::begin())))
    }

    async fn long_snapshot(&self) -> Result<Option<Box<dyn Transaction>>, KvError> {
        if !E::LONG_VIEWS {
            return Ok(None);
        }
        Ok(Some(Box::new(OccTransaction::new(self.0.clone(), Life::endless()))))
    }

    async fn failed(&self) -> String {
        self.0.failed().await
    }
}

struct OccTransaction<E: Engine> {
    engine: E,
    /// Opened by the first read.
    view: Option<E::View>,
    /// One that is endless cannot commit.
    life: Life,
    buffer: WriteBuffer,
    reads: Vec<KeyRange>,
    extra_writes: Vec<KeyRange>,
    conflict_bytes: usize,
}

impl<E: Engine> OccTransaction<E> {
    fn new(engine: E, life: Life) -> Self {
        Self {
            engine,
            view: None,
            life,
            buffer: WriteBuffer::default(),
            reads: Vec::new(),
            extra_writes: Vec::new(),
            conflict_bytes: 0,
        }
    }

    async fn view(&mut self) -> Result<&E::View, KvError> {
        self.life.check()?;
        if self.view.is_none() {
            self.view = Some(self.engine.view().await?);
        }
        self.view.as_ref().ok_or(KvError::TooOld)
    }

    fn read_range(&mut self, begin: Bytes, end: Bytes) {
        self.conflict_bytes += limits::conflict_bytes(begin.len(), end.len());
        self.reads.push(KeyRange { begin, end });
    }

    fn check_sizes(&self) -> Result<(), KvError> {
        let total = self.buffer.bytes() + self.conflict_bytes;
        if total > limits::TRANSACTION_BYTES {
            return Err(KvError::TooLarge { what: "transaction", actual: total, limit: limits::TRANSACTION_BYTES });
        }
        check_limits(self.buffer.mutations())
    }

    async fn read_rows(&mut self, query: &RangeQuery) -> Result<RangePage, KvError> {
        let mut rest = KeyRange { begin: query.begin.clone(), end: query.end.clone() };
        let mut rows: Vec<Row> = Vec::new();
        while rest.begin < rest.end {
            let (page, more) = self.stored_page(&mut rest, query.limit - rows.len(), query.reverse).await?;
            rows.extend(page);
            if rows.len() >= query.limit {
                rows.truncate(query.limit);
                return Ok(RangePage { rows, more: true });
            }
            if !more {
                break;
            }
        }
        Ok(RangePage { rows, more: false })
    }

    /// Reads a page of `rest`, with our writes over it, and takes it off `rest`; whether there is more in `rest`.
    async fn stored_page(
        &mut self,
        rest: &mut KeyRange,
        limit: usize,
        reverse: bool,
    ) -> Result<(Vec<Row>, bool), KvError> {
        // Clears of this transaction may hide stored rows: one row more spares most second pages.
        let touched = self.buffer.touches(&rest.begin, &rest.end);
        let page = self.view().await?.range(rest.clone(), limit + usize::from(touched), reverse).await?;
        let Some(last) = page.rows.last().filter(|_| page.more).map(|(key, _)| key.clone()) else {
            let merged = self.overlay(rest, page.rows, reverse);
            rest.begin = rest.end.clone();
            return Ok((merged, false));
        };
        let covered = if reverse {
            KeyRange { begin: last.clone(), end: std::mem::replace(&mut rest.end, last) }
        } else {
            let next = key_after(&last);
            KeyRange { begin: std::mem::replace(&mut rest.begin, next.clone()), end: next }
        };
        Ok((self.overlay(&covered, page.rows, reverse), true))
    }

    fn overlay(&self, covered: &KeyRange, mut rows: Vec<Row>, reverse: bool) -> Vec<Row> {
        if !self.buffer.touches(&covered.begin, &covered.end) {
            return rows;
        }
        if reverse {
            rows.reverse();
        }
        let mut merged = self.buffer.overlay(&covered.begin, &covered.end, rows);
        if reverse {
            merged.reverse();
        }
        merged
    }
}

#[async_trait]
impl<E: Engine + Clone> Transaction for OccTransaction<E> {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Bytes>, KvError> {
        let mut values = self.get_many(&[Bytes::copy_from_slice(key)], snapshot).await?;
        Ok(values.pop().flatten())
    }

    async fn get_many(&mut self, keys: &[Bytes], snapshot: bool) -> Result<Vec<Option<Bytes>>, KvError> {
        self.life.check()?;
        let mut values = vec![None; keys.len()];
        let mut asked = Vec::with_capacity(keys.len());
        let mut places = Vec::with_capacity(keys.len());
        for (place, key) in keys.iter().enumerate() {
            match self.buffer.lookup(key) {
                // The transaction's own write: it tells nothing of the store, so nothing can conflict.
                Lookup::Known(value) => values[place] = value,
                Lookup::Store => {
                    places.push((place, None));
                    asked.push(key.clone());
                }
                Lookup::StorePlus(delta) => {
                    places.push((place, Some(delta)));
                    asked.push(key.clone());
                }
            }
        }
        if asked.is_empty() {
            return Ok(values);
        }
        let stored = self.view().await?.get_many(&asked).await?;
        if stored.len() != asked.len() {
            return Err(KvError::Storage(format!("{} values for {} keys", stored.len(), asked.len())));
        }
        for ((place, delta), value) in places.into_iter().zip(stored) {
            values[place] = match delta {
                None => value,
                Some(delta) => {
                    let sum = counter(value.as_deref()).wrapping_add(delta);
                    Some(Bytes::copy_from_slice(&sum.to_le_bytes()))
                }
            };
        }
        if !snapshot {
            for key in asked {
                let after = key_after(&key);
                self.read_range(key, after);
            }
        }
        Ok(values)
    }

    async fn range(&mut self, query: RangeQuery) -> Result<RangePage, KvError> {
        if query.limit == 0 || query.begin >= query.end {
            return Ok(RangePage::default());
        }
        let page = self.read_rows(&query).await?;
        if !query.snapshot {
            // Only what was read can conflict: up to the last row, if the limit ended the page.
            let last = page.rows.last().filter(|_| page.more).map(|(key, _)| key.clone());
            let (begin, end) = match last {
                None => (query.begin, query.end),
                Some(last) if query.reverse => (last, query.end),
                Some(last) => (query.begin, key_after(&last)),
            };
            self.read_range(begin, end);
        }
        Ok(page)
    }

    fn set(&mut self, key: Bytes, value: Bytes) {
        self.buffer.set(key, value);
    }

    fn clear(&mut self, key: Bytes) {
        self.buffer.clear(key);
    }

    fn clear_range(&mut self, begin: Bytes, end: Bytes) {
        self.buffer.clear_range(begin, end);
    }

    fn add(&mut self, key: Bytes, delta: i64) {
        self.buffer.add(key, delta);
    }

    fn set_versionstamped(&mut self, prefix: Bytes, suffix: Bytes, value: Bytes) {
        self.buffer.set_versionstamped(prefix, suffix, value);
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.read_range(begin, end);
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.conflict_bytes += limits::conflict_bytes(begin.len(), end.len());
        self.extra_writes.push(KeyRange { begin, end });
    }

    fn bytes(&self) -> usize {
        self.buffer.bytes()
    }

    async fn commit(mut self: Box<Self>) -> Result<CommitVersion, KvError> {
        let read_version = self.view.as_ref().and_then(View::version);
        if self.buffer.is_empty() && self.extra_writes.is_empty() {
            // A transaction that only read was consistent at its version, and has nothing to commit.
            return Ok(CommitVersion(read_version.unwrap_or(0)));
        }
        if self.life.is_endless() {
            return Err(KvError::TooOld);
        }
        self.life.check()?;
        self.check_sizes()?;
        let read_version = match read_version {
            // Conflicts were declared without a read, so they count from the newest version.
            None if !self.reads.is_empty() => {
                let view = self.view().await?;
                if view.version().is_none() {
                    view.get_many(&[Bytes::new()]).await?;
                }
                view.version()
            }
            version => version,
        };
        let request = CommitRequest {
            read_version,
            reads: std::mem::take(&mut self.reads),
            extra_writes: std::mem::take(&mut self.extra_writes),
            mutations: std::mem::take(&mut self.buffer).into_mutations(),
        };
        // Nothing of the view is needed any more: let the store forget it before the commit waits for its turn.
        self.view = None;
        self.engine.commit(request).await
    }
}

//! What verbs are written with: a transaction of typed rows, run again until it is decided.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    keyspace::{self, Space},
    kv::{KvError, RangePage, RangeQuery, Row, SharedKv, Transaction, key_after},
    record::Bucket,
    verbs::{Meta, noted::Noted},
};

/// Conflicts are common on a hot key, where one of the waiting commits wins each round.
const MAX_TRIES: u32 = 128;
const FIRST_BACKOFF: Duration = Duration::from_millis(1);
const MAX_BACKOFF: Duration = Duration::from_millis(100);

/// Why a verb's body ended without an outcome: the store's trouble, which may pass, or the verb's answer.
#[derive(Debug)]
pub(crate) enum Abort {
    Kv(KvError),
    Meta(MetaError),
}

impl From<KvError> for Abort {
    fn from(error: KvError) -> Self {
        Self::Kv(error)
    }
}

impl From<MetaError> for Abort {
    fn from(error: MetaError) -> Self {
        Self::Meta(error)
    }
}

pub(crate) type Outcome<T> = Result<T, Abort>;

/// Runs `$body`, a future over a [`Tx`], until it is committed or fails for good.
macro_rules! transact {
    ($meta:expr, $name:literal, |$tx:ident| $body:expr) => {{
        let mut attempts = $meta.attempts($name);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = {
                let $tx = &mut transaction;
                $body.await
            };
            if let Some(done) = attempts.end(transaction, outcome).await? {
                break Result::<_, crate::error::MetaError>::Ok(done);
            }
        }
    }};
}
pub(crate) use transact;

/// A transaction with typed rows.
pub(crate) struct Tx {
    inner: Box<dyn Transaction>,
    deadline: Instant,
    /// Rows read ahead, until they are read or written.
    ahead: HashMap<Bytes, Option<Bytes>>,
    pub now_ms: u64,
    /// How many events may wait, of a bucket and of a target.
    pub event_limits: (u64, u64),
    pub noted: Noted,
}

impl Tx {
    async fn in_time<T>(deadline: Instant, read: impl Future<Output = Result<T, KvError>>) -> Result<T, KvError> {
        let answer = tokio::time::timeout_at(deadline, read).await;
        answer.unwrap_or_else(|_| Err(KvError::Timeout("read".into())))
    }

    /// Reads rows in one exchange, for the gets that follow; not those that were read ahead before.
    pub(crate) async fn prefetch(&mut self, keys: &[Bytes]) -> Outcome<()> {
        let unread: Vec<Bytes> = keys.iter().filter(|key| !self.ahead.contains_key(*key)).cloned().collect();
        if !unread.is_empty() {
            let values = Self::in_time(self.deadline, self.inner.get_many(&unread, false)).await?;
            self.ahead.extend(unread.into_iter().zip(values));
        }
        Ok(())
    }

    pub(crate) async fn raw(&mut self, key: &Bytes) -> Outcome<Option<Bytes>> {
        if let Some(value) = self.ahead.get(key) {
            return Ok(value.clone());
        }
        Ok(Self::in_time(self.deadline, self.inner.get(key, false)).await?)
    }

    /// As they were when the transaction began: they may be others at the commit. None are asked for if none are named.
    pub(crate) async fn raw_many_snapshot(&mut self, keys: &[Bytes]) -> Outcome<Vec<Option<Bytes>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        Ok(Self::in_time(self.deadline, self.inner.get_many(keys, true)).await?)
    }

    /// Conflict if a row changes before the commit, though it was read as it was when the transaction began.
    pub(crate) fn conflict_if_changed(&mut self, key: &Bytes) {
        self.inner.add_read_conflict(key.clone(), key_after(key));
    }

    pub(crate) async fn get<R: Stored>(&mut self, key: &Bytes) -> Outcome<Option<R>> {
        Ok(self.raw(key).await?.map(|bytes| R::read(key, &bytes)).transpose()?)
    }

    pub(crate) async fn get_many<R: Stored>(&mut self, keys: &[Bytes]) -> Outcome<Vec<Option<R>>> {
        let values = self.raw_many(keys).await?;
        let read = keys.iter().zip(values).map(|(key, value)| value.map(|bytes| R::read(key, &bytes)).transpose());
        Ok(read.collect::<Result<_>>()?)
    }

    pub(crate) async fn raw_many(&mut self, keys: &[Bytes]) -> Outcome<Vec<Option<Bytes>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        Ok(Self::in_time(self.deadline, self.inner.get_many(keys, false)).await?)
    }

    pub(crate) async fn range(&mut self, query: RangeQuery) -> Outcome<RangePage> {
        Ok(Self::in_time(self.deadline, self.inner.range(query)).await?)
    }

    pub(crate) fn set<R: Stored>(&mut self, key: Bytes, record: &R) {
        self.set_raw(key, record.encode());
    }

    pub(crate) fn set_raw(&mut self, key: Bytes, value: Bytes) {
        self.ahead.remove(&key);
        self.inner.set(key, value);
    }

    /// The row of `before`, the commit's stamp and `after`.
    pub(crate) fn set_versionstamped<R: Stored>(&mut self, before: Bytes, after: Bytes, record: &R) {
        self.inner.set_versionstamped(before, after, record.encode());
    }

    pub(crate) fn clear(&mut self, key: Bytes) {
        self.ahead.remove(&key);
        self.inner.clear(key);
    }

    pub(crate) fn clear_range(&mut self, begin: Bytes, end: Bytes) {
        self.ahead.retain(|key, _| *key < begin || *key >= end);
        self.inner.clear_range(begin, end);
    }

    pub(crate) fn add(&mut self, key: Bytes, delta: i64) {
        if delta != 0 {
            self.ahead.remove(&key);
            self.inner.add(key, delta);
        }
    }

    pub(crate) async fn bucket(&mut self, name: &str) -> Outcome<Bucket> {
        let bucket = self.get(&keyspace::bucket(name)).await?;
        bucket.ok_or_else(|| MetaError::NoSuchBucket(name.to_owned()).into())
    }
}

/// Rows of a small table that are read at a time.
const PAGE: usize = 500;

/// Every row of a small table.
pub(crate) async fn all_rows(tx: &mut Tx, space: Space) -> Outcome<Vec<Row>> {
    let (mut begin, end) = keyspace::space(space);
    let mut rows = Vec::new();
    loop {
        let page = tx.range(RangeQuery::new(begin, end.clone(), PAGE).snapshot()).await?;
        let last = page.rows.last().filter(|_| page.more).map(|(key, _)| key_after(key));
        rows.extend(page.rows);
        match last {
            Some(after) => begin = after,
            None => return Ok(rows),
        }
    }
}

/// Every record of a small table.
pub(crate) async fn all<R: Stored>(tx: &mut Tx, space: Space) -> Outcome<Vec<R>> {
    let rows = all_rows(tx, space).await?;
    Ok(rows.iter().map(|(key, value)| R::read(key, value)).collect::<Result<_>>()?)
}

/// Some records of a table, in the order of their keys; `after` is the key of the last one that is known.
pub(crate) async fn page<R: Stored>(tx: &mut Tx, space: Space, after: Option<&Bytes>, limit: usize) -> Outcome<Vec<R>> {
    let (begin, end) = keyspace::space(space);
    let begin = after.map_or(begin, |after| key_after(after));
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    Ok(page.rows.iter().map(|(key, value)| R::read(key, value)).collect::<Result<_>>()?)
}

impl Meta {
    pub(crate) fn attempts(&self, name: &'static str) -> Attempts {
        Attempts {
            kv: self.kv.clone(),
            clock_ms: (self.clock)(),
            event_limits: self.event_limits,
            name,
            deadline: Instant::now() + self.deadline,
            tries: 0,
            unknown: None,
        }
    }
}

/// The tries of one verb.
pub(crate) struct Attempts {
    kv: SharedKv,
    clock_ms: u64,
    event_limits: (u64, u64),
    name: &'static str,
    deadline: Instant,
    tries: u32,
    /// Why an earlier commit's result is unknown.
    unknown: Option<String>,
}

impl Attempts {
    pub(crate) async fn begin(&mut self) -> Result<Tx> {
        loop {
            match tokio::time::timeout_at(self.deadline, self.kv.begin()).await {
                Ok(Ok(inner)) => {
                    return Ok(Tx {
                        inner,
                        deadline: self.deadline,
                        ahead: HashMap::new(),
                        now_ms: self.clock_ms,
                        event_limits: self.event_limits,
                        noted: Noted::default(),
                    });
                }
                Ok(Err(error)) => self.again(error).await?,
                Err(_) => return Err(self.gave_up(KvError::Timeout("begin".into()))),
            }
        }
    }

    /// The verb's outcome if it is decided; None to try again.
    pub(crate) async fn end<T>(&mut self, tx: Tx, outcome: Outcome<T>) -> Result<Option<T>> {
        let error = match outcome {
            Err(Abort::Meta(error)) => return Err(error),
            Err(Abort::Kv(error)) => error,
            Ok(done) => match tokio::time::timeout_at(self.deadline, tx.inner.commit()).await {
                Ok(Ok(_)) => return Ok(Some(done)),
                Ok(Err(error)) => error,
                Err(_) => KvError::CommitUnknown(format!("{}: no answer to the commit in time", self.name)),
            },
        };
        self.again(error).await?;
        Ok(None)
    }

    /// Waits before the next try, or says why there is none.
    async fn again(&mut self, error: KvError) -> Result<()> {
        match &error {
            KvError::CommitUnknown(why) => self.unknown = Some(why.clone()),
            KvError::TooLarge { .. } | KvError::EmptyKey | KvError::Storage(_) => return Err(self.gave_up(error)),
            KvError::Conflict | KvError::TooOld | KvError::Timeout(_) | KvError::Unavailable(_) => {}
        }
        self.tries += 1;
        let most = FIRST_BACKOFF.saturating_mul(1 << self.tries.min(10)).min(MAX_BACKOFF);
        let wait = most.mul_f64(rand::random());
        if self.tries >= MAX_TRIES || Instant::now() + wait >= self.deadline {
            return Err(self.gave_up(error));
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn gave_up(&self, error: KvError) -> MetaError {
        // Whatever stopped the last try, an earlier one may have done the work.
        if let Some(why) = &self.unknown {
            return MetaError::CommitUnknown(why.clone());
        }
        match error {
            KvError::Conflict | KvError::TooOld => MetaError::Contention,
            KvError::CommitUnknown(why) => MetaError::CommitUnknown(why),
            KvError::TooLarge { what, actual, limit } => {
                MetaError::TooLarge { what, actual: actual as u64, limit: limit as u64 }
            }
            KvError::Timeout(why) => MetaError::Timeout(format!("{}: {why}", self.name)),
            KvError::Unavailable(why) => MetaError::Unavailable(why),
            // No verb writes such a row.
            KvError::EmptyKey => MetaError::Storage(error.to_string()),
            KvError::Storage(why) => MetaError::Storage(why),
        }
    }
}

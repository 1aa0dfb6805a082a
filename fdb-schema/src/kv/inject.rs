//! A store that fails on command: conflicts and unknown commits, for tests of everything above it.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;

use crate::kv::{CommitVersion, Kv, KvError, RangePage, RangeQuery, SharedKv, Transaction};

/// What happens to one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It goes ahead.
    None,
    /// Refused as a conflict, nothing written.
    Conflict,
    /// Not written, and the caller is not told.
    UnknownNotApplied,
    /// Written, and the caller is not told.
    UnknownApplied,
    /// The caller is not told, and it is written just before the next commit that is, whoever makes that.
    UnknownBeforeNext,
    /// The caller is not told, and it is written just after the next commit that is.
    UnknownAfterNext,
    /// Refused as unreachable, nothing written.
    Unavailable,
    /// Acknowledged and not written, as no store may: for whoever is to notice it.
    Lost,
}

/// Decides about every commit that would write.
pub type Decide = dyn FnMut() -> Fault + Send;

/// A commit on its way, and whether it arrives before the next one.
type Late = (bool, Box<dyn Transaction>);

/// What was asked of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub gets: usize,
    pub ranges: usize,
    /// That the ranges returned.
    pub rows: usize,
    /// What a FoundationDB would be asked: for the version that a transaction reads at, for each read that is waited
    /// for, of however many rows, and for each commit of writes.
    pub exchanges: usize,
}

#[derive(Clone)]
struct Faults {
    decide: Arc<Mutex<Box<Decide>>>,
    late: Arc<Mutex<Vec<Late>>>,
    interlude: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
    reads: Arc<Mutex<Reads>>,
}

impl Faults {
    /// Lets those late commits arrive that were to do so before (or after) the commit being made. Nobody is told what
    /// comes of them.
    async fn arrive(&self, before: bool) {
        let due: Vec<Late> = self.late.lock().extract_if(.., |(first, _)| *first == before).collect();
        for (_, transaction) in due {
            let _ = transaction.commit().await;
        }
    }
}

/// Wraps a store.
pub struct Injecting {
    inner: SharedKv,
    faults: Faults,
}

impl Injecting {
    pub fn new(inner: SharedKv, decide: impl FnMut() -> Fault + Send + 'static) -> Self {
        let faults = Faults {
            decide: Arc::new(Mutex::new(Box::new(decide))),
            late: Arc::default(),
            interlude: Arc::default(),
            reads: Arc::default(),
        };
        Self { inner, faults }
    }

    /// Runs `interlude`, as if by others, between the first commit whose result is unknown and the try after it.
    pub fn with_interlude(self, interlude: impl Future<Output = ()> + Send + 'static) -> Self {
        *self.faults.interlude.lock() = Some(interlude.boxed());
        self
    }

    pub fn reads(&self) -> Reads {
        *self.faults.reads.lock()
    }

    /// The faults in order, then none.
    pub fn script(inner: SharedKv, faults: impl IntoIterator<Item = Fault>) -> Self {
        let mut faults: VecDeque<Fault> = faults.into_iter().collect();
        Self::new(inner, move || faults.pop_front().unwrap_or(Fault::None))
    }
}

#[async_trait]
impl Kv for Injecting {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        let inner = self.inner.begin().await?;
        Ok(Box::new(InjectingTransaction { inner, faults: self.faults.clone(), versioned: false }))
    }

    async fn long_snapshot(&self) -> Result<Option<Box<dyn Transaction>>, KvError> {
        self.inner.long_snapshot().await
    }

    async fn failed(&self) -> String {
        self.inner.failed().await
    }
}

struct InjectingTransaction {
    inner: Box<dyn Transaction>,
    faults: Faults,
    /// Whether the version that it reads at has been asked for.
    versioned: bool,
}

impl InjectingTransaction {
    /// Counts an exchange, and the one before the first of a transaction.
    fn exchange(&mut self) {
        let first = !std::mem::replace(&mut self.versioned, true);
        self.faults.reads.lock().exchanges += 1 + usize::from(first);
    }
}

#[async_trait]
impl Transaction for InjectingTransaction {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Bytes>, KvError> {
        self.exchange();
        self.faults.reads.lock().gets += 1;
        self.inner.get(key, snapshot).await
    }

    async fn get_many(&mut self, keys: &[Bytes], snapshot: bool) -> Result<Vec<Option<Bytes>>, KvError> {
        self.exchange();
        self.faults.reads.lock().gets += keys.len();
        self.inner.get_many(keys, snapshot).await
    }

    async fn range(&mut self, query: RangeQuery) -> Result<RangePage, KvError> {
        self.exchange();
        let page = self.inner.range(query).await?;
        let mut reads = self.faults.reads.lock();
        reads.ranges += 1;
        reads.rows += page.rows.len();
        Ok(page)
    }

    fn set(&mut self, key: Bytes, value: Bytes) {
        self.inner.set(key, value);
    }

    fn clear(&mut self, key: Bytes) {
        self.inner.clear(key);
    }

    fn clear_range(&mut self, begin: Bytes, end: Bytes) {
        self.inner.clear_range(begin, end);
    }

    fn add(&mut self, key: Bytes, delta: i64) {
        self.inner.add(key, delta);
    }

    fn set_versionstamped(&mut self, prefix: Bytes, suffix: Bytes, value: Bytes) {
        self.inner.set_versionstamped(prefix, suffix, value);
    }

    fn add_read_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.inner.add_read_conflict(begin, end);
    }

    fn add_write_conflict(&mut self, begin: Bytes, end: Bytes) {
        self.inner.add_write_conflict(begin, end);
    }

    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    async fn commit(mut self: Box<Self>) -> Result<CommitVersion, KvError> {
        if self.inner.bytes() == 0 {
            return self.inner.commit().await;
        }
        self.exchange();
        let faults = self.faults.clone();
        let done = self.commit_with_fault().await;
        if matches!(done, Err(KvError::CommitUnknown(_))) {
            let interlude = faults.interlude.lock().take();
            if let Some(interlude) = interlude {
                interlude.await;
            }
        }
        done
    }
}

impl InjectingTransaction {
    async fn commit_with_fault(self: Box<Self>) -> Result<CommitVersion, KvError> {
        let fault = (self.faults.decide.lock())();
        let injected = || "injected".to_owned();
        match fault {
            Fault::None | Fault::UnknownApplied => {
                self.faults.arrive(true).await;
                let done = self.inner.commit().await;
                self.faults.arrive(false).await;
                if fault == Fault::None { done } else { done.and(Err(KvError::CommitUnknown(injected()))) }
            }
            Fault::Conflict => Err(KvError::Conflict),
            Fault::UnknownNotApplied => Err(KvError::CommitUnknown(injected())),
            Fault::Unavailable => Err(KvError::Unavailable(injected())),
            Fault::Lost => Ok(CommitVersion(0)),
            Fault::UnknownBeforeNext | Fault::UnknownAfterNext => {
                self.faults.late.lock().push((fault == Fault::UnknownBeforeNext, self.inner));
                Err(KvError::CommitUnknown(injected()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kv::mem;

    /// Late commits arrive around the next one that reaches the store, whether or not its caller is told.
    #[tokio::test]
    async fn late_commits_arrive_around_the_next_that_is_applied() {
        for (late, first) in [(Fault::UnknownBeforeNext, "late"), (Fault::UnknownAfterNext, "next")] {
            for next in [Fault::None, Fault::UnknownApplied] {
                let store = Injecting::script(Arc::new(mem::kv()), [late, Fault::Conflict, next]);
                for (name, answered) in [("late", false), ("refused", false), ("next", next == Fault::None)] {
                    let mut tx = store.begin().await.unwrap();
                    tx.set_versionstamped(Bytes::new(), Bytes::from_static(name.as_bytes()), Bytes::new());
                    assert_eq!(tx.commit().await.is_ok(), answered, "{late:?}, {next:?}, {name}");
                }
                let all = RangeQuery::prefix(Bytes::new(), 10);
                let rows = store.begin().await.unwrap().range(all).await.unwrap().rows;
                let order: Vec<&[u8]> = rows.iter().map(|(key, _)| &key[10..]).collect();
                let second = if first == "late" { "next" } else { "late" };
                assert_eq!(order, [first.as_bytes(), second.as_bytes()], "{late:?}, {next:?}");
            }
        }
    }
}

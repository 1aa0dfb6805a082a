//! A store in memory, for tests: nothing survives the process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::kv::{
    CommitVersion, KvError, RangePage, Row,
    occ::{CommitRequest, Engine, KeyRange, OccKv, Resolver, Rows, RowsMut, Verdict, View, apply},
};

/// The values a key has had, oldest first; None where it was cleared.
type History = Vec<(u64, Option<Bytes>)>;

#[derive(Default)]
struct State {
    version: u64,
    rows: BTreeMap<Bytes, History>,
    resolver: Resolver,
    /// Versions being read, with the number of readers.
    readers: BTreeMap<u64, usize>,
    /// Keys cleared, oldest first, to be dropped once nobody reads what was before.
    cleared: VecDeque<(u64, Bytes)>,
}

#[derive(Clone, Default)]
pub struct MemEngine {
    state: Arc<Mutex<State>>,
}

/// A new, empty store.
pub fn kv() -> OccKv<MemEngine> {
    OccKv(MemEngine::default())
}

fn at(history: &History, version: u64) -> Option<&Bytes> {
    history.iter().rev().find(|(written, _)| *written <= version).and_then(|(_, value)| value.as_ref())
}

impl State {
    /// No reader needs what was superseded at or before this version.
    fn oldest_read(&self) -> u64 {
        self.readers.keys().next().copied().unwrap_or(self.version)
    }

    fn drop_cleared(&mut self) {
        let oldest = self.oldest_read();
        while self.cleared.front().is_some_and(|(version, _)| *version <= oldest) {
            let Some((version, key)) = self.cleared.pop_front() else { return };
            if self.rows.get(&key).is_some_and(|h| h.last().is_some_and(|(v, value)| *v == version && value.is_none()))
            {
                self.rows.remove(&key);
            }
        }
    }
}

struct Writer<'a> {
    state: &'a mut State,
    version: u64,
}

impl Rows for Writer<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.state.rows.get(key).and_then(|history| at(history, self.version)).cloned())
    }

    fn keys(&self, begin: &Bytes, end: &Bytes) -> Result<Vec<Bytes>, KvError> {
        if begin >= end {
            return Ok(Vec::new());
        }
        let rows = self.state.rows.range(begin.clone()..end.clone());
        Ok(rows.filter(|(_, history)| at(history, self.version).is_some()).map(|(key, _)| key.clone()).collect())
    }
}

impl RowsMut for Writer<'_> {
    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        let oldest = self.state.oldest_read();
        if value.is_none() {
            self.state.cleared.push_back((self.version, key.clone()));
        }
        let history = self.state.rows.entry(key).or_default();
        if history.last().is_some_and(|(version, _)| *version == self.version) {
            history.pop();
        }
        // Keep the newest value that the oldest reader sees, and all later ones.
        if let Some(oldest_kept) = history.iter().rposition(|(version, _)| *version <= oldest) {
            history.drain(..oldest_kept);
        }
        history.push((self.version, value));
    }
}

#[async_trait]
impl Engine for MemEngine {
    type View = MemView;

    async fn view(&self) -> Result<MemView, KvError> {
        let mut state = self.state.lock();
        let version = state.version;
        *state.readers.entry(version).or_default() += 1;
        Ok(MemView { state: Arc::clone(&self.state), version })
    }

    async fn commit(&self, request: CommitRequest) -> Result<CommitVersion, KvError> {
        let mut state = self.state.lock();
        match state.resolver.judge(&request) {
            Verdict::Conflict => return Err(KvError::Conflict),
            Verdict::TooOld => return Err(KvError::TooOld),
            Verdict::Go => {}
        }
        let version = state.version + 1;
        let written = apply(&mut Writer { state: &mut state, version }, request, version, 0)?;
        state.version = version;
        state.resolver.record(version, written);
        state.drop_cleared();
        Ok(CommitVersion(version))
    }
}

pub struct MemView {
    state: Arc<Mutex<State>>,
    version: u64,
}

impl Drop for MemView {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Some(readers) = state.readers.get_mut(&self.version) {
            *readers -= 1;
            if *readers == 0 {
                state.readers.remove(&self.version);
            }
        }
    }
}

#[async_trait]
impl View for MemView {
    fn version(&self) -> Option<u64> {
        Some(self.version)
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, KvError> {
        let state = self.state.lock();
        Ok(keys.iter().map(|key| state.rows.get(key).and_then(|h| at(h, self.version)).cloned()).collect())
    }

    async fn range(&self, range: KeyRange, limit: usize, reverse: bool) -> Result<RangePage, KvError> {
        if range.begin >= range.end {
            return Ok(RangePage::default());
        }
        let state = self.state.lock();
        let stored = state.rows.range(range.begin..range.end);
        let read = |(key, history): (&Bytes, &History)| at(history, self.version).map(|v| (key.clone(), v.clone()));
        let rows: Vec<Row> = if reverse {
            stored.rev().filter_map(read).take(limit).collect()
        } else {
            stored.filter_map(read).take(limit).collect()
        };
        let more = rows.len() == limit;
        Ok(RangePage { rows, more })
    }
}

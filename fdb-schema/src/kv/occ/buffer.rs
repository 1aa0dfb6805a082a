//! A transaction's own writes, kept so that its reads see them.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included},
};

use bytes::Bytes;

use crate::kv::{Row, counter, limits, occ::Mutation};

/// What the transaction has done to one key, as far as reading it goes.
#[derive(Clone, Debug)]
enum Pending {
    Value(Bytes),
    Cleared,
    /// To be added to what the store has.
    Added(i64),
}

/// Writes in order, for the commit, and folded by key, for reads.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    mutations: Vec<Mutation>,
    keys: BTreeMap<Bytes, Pending>,
    /// Cleared ranges, begin to end; they do not overlap.
    cleared: BTreeMap<Bytes, Bytes>,
    bytes: usize,
}

/// What a read of a key must still ask the store.
pub(super) enum Lookup {
    Known(Option<Bytes>),
    Store,
    StorePlus(i64),
}

impl WriteBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.mutations.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn into_mutations(self) -> Vec<Mutation> {
        self.mutations
    }

    pub(super) fn mutations(&self) -> &[Mutation] {
        &self.mutations
    }

    pub(super) fn set(&mut self, key: Bytes, value: Bytes) {
        self.bytes += limits::write_bytes(key.len(), value.len());
        self.keys.insert(key.clone(), Pending::Value(value.clone()));
        self.mutations.push(Mutation::Set(key, value));
    }

    pub(super) fn clear(&mut self, key: Bytes) {
        self.bytes += limits::write_bytes(key.len(), 0);
        self.keys.insert(key.clone(), Pending::Cleared);
        self.mutations.push(Mutation::Clear(key));
    }

    pub(super) fn clear_range(&mut self, begin: Bytes, end: Bytes) {
        if begin >= end {
            return;
        }
        self.bytes += limits::clear_range_bytes(begin.len(), end.len());
        let inside: Vec<Bytes> = self.keys.range(begin.clone()..end.clone()).map(|(key, _)| key.clone()).collect();
        for key in inside {
            self.keys.remove(&key);
        }
        self.mutations.push(Mutation::ClearRange(begin.clone(), end.clone()));
        self.join_cleared(begin, end);
    }

    fn join_cleared(&mut self, mut begin: Bytes, mut end: Bytes) {
        // The range that starts at or before `begin` may reach into it; those that start inside are swallowed.
        if let Some((before, reach)) = self.cleared.range(..=begin.clone()).next_back()
            && *reach >= begin
        {
            end = end.max(reach.clone());
            begin = before.clone();
        }
        let swallowed: Vec<Bytes> = self
            .cleared
            .range((Included(begin.clone()), Included(end.clone())))
            .map(|(start, _)| start.clone())
            .collect();
        for start in swallowed {
            if let Some(reach) = self.cleared.remove(&start) {
                end = end.max(reach);
            }
        }
        self.cleared.insert(begin, end);
    }

    pub(super) fn add(&mut self, key: Bytes, delta: i64) {
        self.bytes += limits::write_bytes(key.len(), 8);
        let folded = match self.lookup(&key) {
            Lookup::Known(value) => {
                let sum = counter(value.as_deref()).wrapping_add(delta);
                Pending::Value(Bytes::copy_from_slice(&sum.to_le_bytes()))
            }
            Lookup::Store => Pending::Added(delta),
            Lookup::StorePlus(earlier) => Pending::Added(earlier.wrapping_add(delta)),
        };
        self.keys.insert(key.clone(), folded);
        self.mutations.push(Mutation::Add(key, delta));
    }

    /// The row cannot be read back: its key is not known before the commit.
    pub(super) fn set_versionstamped(&mut self, prefix: Bytes, suffix: Bytes, value: Bytes) {
        self.bytes += limits::write_bytes(prefix.len() + suffix.len() + 10, value.len());
        self.mutations.push(Mutation::SetVersionstamped(prefix, suffix, value));
    }

    fn is_cleared(&self, key: &[u8]) -> bool {
        self.cleared
            .range::<[u8], _>((std::ops::Bound::Unbounded, Included(key)))
            .next_back()
            .is_some_and(|(_, end)| key < &end[..])
    }

    pub(super) fn lookup(&self, key: &[u8]) -> Lookup {
        match self.keys.get(key) {
            Some(Pending::Value(value)) => Lookup::Known(Some(value.clone())),
            Some(Pending::Cleared) => Lookup::Known(None),
            Some(Pending::Added(delta)) => Lookup::StorePlus(*delta),
            None if self.is_cleared(key) => Lookup::Known(None),
            None => Lookup::Store,
        }
    }

    /// The store's rows of a range, which must be all it has there, with this transaction's writes over them, in key
    /// order.
    pub(super) fn overlay(&self, begin: &[u8], end: &[u8], rows: Vec<Row>) -> Vec<Row> {
        let mut ours = self.keys.range::<[u8], _>((Included(begin), Excluded(end))).peekable();
        if ours.peek().is_none() && self.cleared.is_empty() {
            return rows;
        }
        let mut merged = Vec::with_capacity(rows.len());
        let mut rows = rows.into_iter().peekable();
        loop {
            let take_ours = match (ours.peek(), rows.peek()) {
                (None, None) => return merged,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((key, _)), Some((stored, _))) => *key <= stored,
            };
            if !take_ours {
                if let Some((key, value)) = rows.next()
                    && !self.is_cleared(&key)
                {
                    merged.push((key, value));
                }
                continue;
            }
            let Some((key, pending)) = ours.next() else { continue };
            let stored = rows.next_if(|(stored, _)| stored == key).map(|(_, value)| value);
            match pending {
                Pending::Value(value) => merged.push((key.clone(), value.clone())),
                Pending::Cleared => {}
                Pending::Added(delta) => {
                    let sum = counter(stored.as_deref()).wrapping_add(*delta);
                    merged.push((key.clone(), Bytes::copy_from_slice(&sum.to_le_bytes())));
                }
            }
        }
    }

    pub(super) fn touches(&self, begin: &[u8], end: &[u8]) -> bool {
        self.keys.range::<[u8], _>((Included(begin), Excluded(end))).next().is_some() || !self.cleared.is_empty()
    }
}

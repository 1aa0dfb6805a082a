//! What is remembered of the rules of buckets: little, and for seconds.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::rules::Rules;

/// How long rules (or their absence) are believed: the delay with which a change is seen on other nodes.
const TTL: Duration = Duration::from_secs(3);
/// Bounds the memory that made-up names of buckets can take.
const ENTRIES_MAX: usize = 4096;
/// Of the documents behind the rules, of which each may have 64 KiB.
const BYTES_MAX: usize = 8 << 20;

/// What a bucket has.
#[derive(Clone, Debug)]
pub(super) enum State {
    NoBucket,
    NoRules,
    Rules(Arc<Rules>),
}

#[derive(Default)]
pub(super) struct Known(Mutex<Buckets>);

#[derive(Default)]
struct Buckets {
    entries: HashMap<String, Entry>,
    bytes: usize,
}

struct Entry {
    state: State,
    bytes: usize,
    since: Instant,
}

impl Entry {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < TTL
    }
}

impl Known {
    pub(super) fn fresh(&self, bucket: &str) -> Option<State> {
        let buckets = self.0.lock();
        buckets.entries.get(bucket).filter(|entry| entry.is_fresh()).map(|entry| entry.state.clone())
    }

    pub(super) fn however_old(&self, bucket: &str) -> Option<State> {
        self.0.lock().entries.get(bucket).map(|entry| entry.state.clone())
    }

    /// `bytes`: of the document.
    pub(super) fn remember(&self, bucket: &str, state: State, bytes: usize) {
        let mut buckets = self.0.lock();
        buckets.remove(bucket);
        if !buckets.has_room(bytes) {
            buckets.entries.retain(|_, entry| entry.is_fresh());
            buckets.bytes = buckets.entries.values().map(|entry| entry.bytes).sum();
        }
        if !buckets.has_room(bytes) {
            *buckets = Buckets::default();
        }
        buckets.bytes += bytes;
        buckets.entries.insert(bucket.to_owned(), Entry { state, bytes, since: Instant::now() });
    }

    pub(super) fn forget(&self, bucket: &str) {
        self.0.lock().remove(bucket);
    }
}

impl Buckets {
    fn has_room(&self, bytes: usize) -> bool {
        self.entries.len() < ENTRIES_MAX && self.bytes + bytes <= BYTES_MAX
    }

    fn remove(&mut self, bucket: &str) {
        if let Some(entry) = self.entries.remove(bucket) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bnd_1_neither_names_nor_rules_fill_the_memory() {
        let known = Known::default();
        for number in 0..3 * ENTRIES_MAX {
            known.remember(&number.to_string(), State::NoBucket, 0);
            assert!(known.0.lock().entries.len() <= ENTRIES_MAX);
            assert!(known.fresh(&number.to_string()).is_some());
        }
        for number in 0..300 {
            known.remember(&number.to_string(), State::NoRules, 64 << 10);
            let buckets = known.0.lock();
            assert!(buckets.bytes <= BYTES_MAX);
            assert_eq!(buckets.bytes, buckets.entries.values().map(|entry| entry.bytes).sum::<usize>());
        }
        known.forget("299");
        assert!(known.however_old("299").is_none());
    }
}

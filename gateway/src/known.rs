//! What is remembered of the settings of buckets: little, and for seconds.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// No answer waits longer for settings that only concern its headers.
pub(crate) const LOOKUP_TIME: Duration = Duration::from_secs(1);
/// How long settings (or their absence) are believed: the delay with which a change is seen on other nodes.
const TTL: Duration = Duration::from_secs(3);
/// Bounds the memory that made-up names of buckets can take.
const ENTRIES_MAX: usize = 4096;
/// Of the documents behind them, of which each may have 1 MiB.
const BYTES_MAX: usize = 8 << 20;

/// By the names of buckets.
pub(crate) struct Known<T>(Mutex<Buckets<T>>);

struct Buckets<T> {
    entries: HashMap<String, Entry<T>>,
    bytes: usize,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), bytes: 0 }
    }
}

struct Entry<T> {
    state: T,
    bytes: usize,
    since: Instant,
}

impl<T> Entry<T> {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < TTL
    }
}

impl<T: Clone> Known<T> {
    pub(crate) fn fresh(&self, bucket: &str) -> Option<T> {
        let buckets = self.0.lock();
        buckets.entries.get(bucket).filter(|entry| entry.is_fresh()).map(|entry| entry.state.clone())
    }

    pub(crate) fn however_old(&self, bucket: &str) -> Option<T> {
        self.0.lock().entries.get(bucket).map(|entry| entry.state.clone())
    }

    /// `bytes`: of the document.
    pub(crate) fn remember(&self, bucket: &str, state: T, bytes: usize) {
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

    pub(crate) fn forget(&self, bucket: &str) {
        self.0.lock().remove(bucket);
    }
}

impl<T> Buckets<T> {
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
            known.remember(&number.to_string(), number, 0);
            assert!(known.0.lock().entries.len() <= ENTRIES_MAX);
            assert!(known.fresh(&number.to_string()).is_some());
        }
        for number in 0..300 {
            known.remember(&number.to_string(), number, 64 << 10);
            let buckets = known.0.lock();
            assert!(buckets.bytes <= BYTES_MAX);
            assert_eq!(buckets.bytes, buckets.entries.values().map(|entry| entry.bytes).sum::<usize>());
        }
        known.forget("299");
        assert!(known.however_old("299").is_none());
    }
}

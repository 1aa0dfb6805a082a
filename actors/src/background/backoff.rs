//! What failed, and when it is tried again.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// What failed is tried again after this, doubled each time.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Failures remembered.
const MOST: usize = 16 * 1024;

/// Remembers a bounded number of failures.
pub(super) struct Backoff<K> {
    failed: HashMap<K, (Instant, u32)>,
}

impl<K: Hash + Eq> Backoff<K> {
    pub(super) fn new() -> Self {
        Self { failed: HashMap::new() }
    }

    pub(super) fn waits(&self, what: &K, now: Instant) -> bool {
        self.failed.get(what).is_some_and(|(until, _)| *until > now)
    }

    /// Whether it failed and has not succeeded since.
    pub(super) fn knows(&self, what: &K) -> bool {
        self.failed.contains_key(what)
    }

    /// How often it had failed before.
    pub(super) fn failed(&mut self, what: K) -> u32 {
        if self.failed.len() >= MOST {
            self.failed.clear();
        }
        let tries = self.failed.get(&what).map_or(0, |(_, tries)| *tries);
        let wait = FIRST.saturating_mul(2u32.saturating_pow(tries)).min(LONGEST);
        self.failed.insert(what, (Instant::now() + wait, tries.saturating_add(1)));
        tries
    }

    pub(super) fn succeeded(&mut self, what: &K) {
        self.failed.remove(what);
    }

    pub(super) fn clear(&mut self) {
        self.failed.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }
}

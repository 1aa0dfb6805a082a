//! Data keys of a key management, believed for some minutes: so that neither each write of a bucket nor each read asks
//! it. Bounded by number and by age (BND-1); after that age it is asked again, and decides again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::secret::Secret;

const MOST_KEYS: usize = 1024;

/// A data key, and what the key management calls it.
#[derive(Clone, Debug)]
pub(super) struct DataKey {
    pub(super) key: Secret,
    pub(super) wrapped: String,
    pub(super) version: u32,
}

struct Entry {
    since: Instant,
    key: DataKey,
}

/// By name.
pub(super) struct DataKeys {
    age: Duration,
    entries: Mutex<HashMap<String, Entry>>,
}

impl DataKeys {
    pub(super) fn new(age: Duration) -> Self {
        Self { age, entries: Mutex::default() }
    }

    pub(super) fn get(&self, name: &str) -> Option<DataKey> {
        let entries = self.entries.lock();
        entries.get(name).filter(|entry| entry.since.elapsed() < self.age).map(|entry| entry.key.clone())
    }

    /// `since` is when the key management was asked.
    pub(super) fn put(&self, name: String, key: DataKey, since: Instant) {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| entry.since.elapsed() < self.age);
        if entries.len() >= MOST_KEYS
            && let Some(oldest) = entries.iter().min_by_key(|(_, entry)| entry.since).map(|(name, _)| name.clone())
        {
            entries.remove(&oldest);
        }
        entries.insert(name, Entry { since, key });
    }

    pub(super) fn len(&self) -> usize {
        let entries = self.entries.lock();
        entries.values().filter(|entry| entry.since.elapsed() < self.age).count()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn key(version: u32) -> DataKey {
        DataKey { key: Secret::of(&[1; 32]).unwrap(), wrapped: "w".into(), version }
    }

    #[test]
    fn bnd_1_keys_are_forgotten_by_age_and_by_number() {
        let keys = DataKeys::new(Duration::from_secs(60));
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        keys.put("old".into(), key(1), long_ago);
        assert!(keys.get("old").is_none());
        for number in 0..MOST_KEYS as u32 + 10 {
            keys.put(number.to_string(), key(number), Instant::now());
        }
        assert_eq!(keys.len(), MOST_KEYS);
        assert!(keys.get("0").is_none());
        assert_eq!(keys.get("1033").unwrap().version, 1033);
        assert!(DataKeys::new(Duration::ZERO).get("0").is_none());
    }
}

//! The leases of others, as this process has seen them: how long a row has stood unchanged.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::record::Lease;

/// Leases of others that are watched at once. More, and the one seen first is forgotten: its wait begins anew.
const MOST_WATCHED: usize = 4096;

/// The rows of leases that others hold, as they were when they were first seen like that.
pub(crate) struct Watched {
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    rows: Mutex<HashMap<String, Sighting>>,
}

struct Sighting {
    term: u64,
    renewal: u64,
    first: Duration,
}

impl Default for Watched {
    fn default() -> Self {
        let start = Instant::now();
        Self::by(move || start.elapsed())
    }
}

impl Watched {
    pub(crate) fn by(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), rows: Mutex::default() }
    }

    /// Whether the time of a lease that was just read is over. Remembers it if not.
    pub(super) fn is_over(&self, held: &Lease) -> bool {
        // Looked at after the read: the holder may have renewed it until then.
        let now = (self.clock)();
        let mut rows = self.rows.lock();
        match rows.get(&held.name) {
            Some(seen) if (seen.term, seen.renewal) == (held.term, held.renewal) => {
                now.saturating_sub(seen.first) >= Duration::from_millis(held.ttl_ms)
            }
            _ => {
                if rows.len() >= MOST_WATCHED
                    && let Some(oldest) = rows.iter().min_by_key(|(_, seen)| seen.first).map(|(name, _)| name.clone())
                {
                    rows.remove(&oldest);
                }
                let sighting = Sighting { term: held.term, renewal: held.renewal, first: now };
                rows.insert(held.name.clone(), sighting);
                false
            }
        }
    }

    pub(super) fn forget(&self, name: &str) {
        self.rows.lock().remove(name);
    }
}

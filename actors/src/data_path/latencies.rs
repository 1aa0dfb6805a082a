//! How long reads and writes of fragments usually take, and so when it is worth asking others.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use super::limits::StoreLimits;

/// Calls remembered for each class of size.
const REMEMBERED: usize = 256;
/// The percentile is worked out again after so many.
const EVERY: usize = 32;
/// Classes by size: up to 16 KiB, 64 KiB, 256 KiB, 1 MiB, 4 MiB, more.
const CLASSES: usize = 6;
/// Calls made by hedges may be one in this many, besides those of a few hedges: when everything is slow, asking more
/// makes it slower.
const ONE_HEDGE_IN: u64 = 8;
const FREE_HEDGES: u64 = 64;

/// Which calls are observed.
#[derive(Clone, Copy)]
enum Calls {
    /// One fragment more is asked for in place of a slow one.
    Reads,
    /// A whole stripe is sent again in place of a slow one, so that it must be slower to be worth it.
    Writes,
}

/// Latencies of recent calls of one kind.
pub(crate) struct Latencies {
    calls: Calls,
    classes: [Class; CLASSES],
    observed: AtomicU64,
    /// Calls that hedges have made.
    hedged: AtomicU64,
}

#[derive(Default)]
struct Class {
    recent: Mutex<Recent>,
    /// 0 while too little is known.
    percentile_us: AtomicU64,
}

#[derive(Default)]
struct Recent {
    us: Vec<u32>,
    next: usize,
}

impl Latencies {
    pub(crate) fn of_reads() -> Self {
        Self::of(Calls::Reads)
    }

    pub(crate) fn of_writes() -> Self {
        Self::of(Calls::Writes)
    }

    fn of(calls: Calls) -> Self {
        Self { calls, classes: Default::default(), observed: AtomicU64::new(0), hedged: AtomicU64::new(0) }
    }

    /// Slower than so many of a hundred calls is slow.
    fn percentile(&self) -> usize {
        match self.calls {
            Calls::Reads => 95,
            Calls::Writes => 99,
        }
    }

    pub(crate) fn observe(&self, bytes: usize, took: Duration) {
        self.observed.fetch_add(1, Ordering::Relaxed);
        let class = &self.classes[class_of(bytes)];
        let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut recent = class.recent.lock();
        if recent.us.len() < REMEMBERED {
            recent.us.push(us);
        } else {
            let next = recent.next % REMEMBERED;
            recent.us[next] = us;
        }
        recent.next = recent.next.wrapping_add(1);
        if recent.next.is_multiple_of(EVERY) {
            let mut sorted = recent.us.clone();
            drop(recent);
            sorted.sort_unstable();
            class.percentile_us.store(u64::from(sorted[sorted.len() * self.percentile() / 100]), Ordering::Relaxed);
        }
    }

    /// How long to wait for a fragment of `bytes` before asking others.
    pub(crate) fn hedge_after(&self, bytes: usize, limits: &StoreLimits) -> Duration {
        let (floor, ceiling) = match self.calls {
            Calls::Reads => (limits.hedge_floor, limits.hedge_ceiling),
            Calls::Writes => (limits.write_hedge_floor, limits.write_hedge_ceiling),
        };
        let slow = match self.classes[class_of(bytes)].percentile_us.load(Ordering::Relaxed) {
            // Nothing known yet: not too eager.
            0 => floor * 4,
            us => Duration::from_micros(us),
        };
        slow.max(floor).min(ceiling.max(floor))
    }

    /// Whether a hedge of so many calls may be made now; counts it if so.
    pub(crate) fn may_hedge(&self, calls: usize) -> bool {
        let calls = calls as u64;
        let hedged = self.hedged.fetch_add(calls, Ordering::Relaxed);
        let may = hedged < FREE_HEDGES * calls + self.observed.load(Ordering::Relaxed) / ONE_HEDGE_IN;
        if !may {
            self.hedged.fetch_sub(calls, Ordering::Relaxed);
        }
        may
    }
}

fn class_of(bytes: usize) -> usize {
    let mut class = 0;
    let mut most = 16 << 10;
    while bytes > most && class + 1 < CLASSES {
        class += 1;
        most <<= 2;
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedges_after_the_95th_percentile_within_bounds() {
        let (latencies, limits) = (Latencies::of_reads(), StoreLimits::default());
        for n in 0..256u64 {
            latencies.observe(1 << 20, Duration::from_millis(if n % 10 == 0 { 300 } else { 30 }));
            latencies.observe(100, Duration::from_micros(50));
            latencies.observe(64 << 20, Duration::from_secs(20));
        }
        assert_eq!(latencies.hedge_after(1 << 20, &limits), Duration::from_millis(300));
        assert_eq!(latencies.hedge_after(100, &limits), limits.hedge_floor);
        assert_eq!(latencies.hedge_after(64 << 20, &limits), limits.hedge_ceiling);
    }

    #[test]
    fn bnd_1_hedges_stay_a_fraction_of_calls() {
        for (latencies, calls) in [(Latencies::of_reads(), 1), (Latencies::of_writes(), 5)] {
            let free = (0..1000).filter(|_| latencies.may_hedge(calls)).count();
            assert_eq!(free as u64, FREE_HEDGES);
            (0..800).for_each(|_| latencies.observe(1, Duration::ZERO));
            assert_eq!((0..1000).filter(|_| latencies.may_hedge(calls)).count(), 100 / calls);
        }
    }
}

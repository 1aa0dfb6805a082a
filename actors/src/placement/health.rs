//! What this node learns about disks by using them: faster than gossip, and forgotten soon.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use cairn_schema::ids::DiskId;
use parking_lot::Mutex;

/// The first time a request fails its disk is avoided for this long, doubled for each failure after, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15);

/// Disks avoided for a while because requests to them failed.
pub(super) struct Shuns {
    disks: Mutex<HashMap<DiskId, Shun>>,
    start: Instant,
    /// Milliseconds after `start` when the next shun ends; `u64::MAX` when there is none. Lets the hot path skip the
    /// lock.
    next_end_ms: AtomicU64,
}

struct Shun {
    failures: u32,
    until: Instant,
    /// False while it is only remembered how often it failed.
    active: bool,
}

impl Default for Shuns {
    fn default() -> Self {
        Self { disks: Mutex::default(), start: Instant::now(), next_end_ms: AtomicU64::new(u64::MAX) }
    }
}

impl Shuns {
    /// True when the disk was not shunned before, so that the picture of the cluster changes.
    pub(super) fn failed(&self, disk: DiskId, now: Instant) -> bool {
        let mut disks = self.disks.lock();
        let shun = disks.entry(disk).or_insert(Shun { failures: 0, until: now, active: false });
        let was_active = shun.active;
        if !was_active {
            // Requests that were under way when the disk failed all fail together: they are one failure.
            shun.failures = shun.failures.saturating_add(1);
            shun.until = now + (FIRST * 2u32.saturating_pow(shun.failures.saturating_sub(1).min(8))).min(LONGEST);
            shun.active = true;
        } else {
            // It is still not answering: it is not to be chosen again the moment its time is up.
            shun.until = shun.until.max(now + FIRST);
        }
        self.plan(&disks);
        !was_active
    }

    /// True when the disk was shunned.
    pub(super) fn succeeded(&self, disk: DiskId) -> bool {
        if self.next_end_ms.load(Ordering::Relaxed) == u64::MAX {
            return false;
        }
        let mut disks = self.disks.lock();
        let was_active = disks.remove(&disk).is_some_and(|shun| shun.active);
        self.plan(&disks);
        was_active
    }

    /// Whether some shun has run out since it was last asked.
    pub(super) fn ended(&self, now: Instant) -> bool {
        if self.elapsed_ms(now) < self.next_end_ms.load(Ordering::Relaxed) {
            return false;
        }
        let mut disks = self.disks.lock();
        // Remembered for a while after its end, so that a disk that fails again at once is avoided for longer.
        disks.retain(|_, shun| now < shun.until + LONGEST);
        let mut ended = false;
        for shun in disks.values_mut().filter(|shun| shun.active && shun.until <= now) {
            shun.active = false;
            ended = true;
        }
        self.plan(&disks);
        ended
    }

    /// How often in a row a disk failed that is shunned now; 0 of one that is not.
    pub(super) fn failures(&self, disk: DiskId) -> u32 {
        self.disks.lock().get(&disk).filter(|shun| shun.active).map_or(0, |shun| shun.failures)
    }

    fn plan(&self, disks: &HashMap<DiskId, Shun>) {
        let ends = |shun: &Shun| if shun.active { shun.until } else { shun.until + LONGEST };
        let next = disks.values().map(ends).min().map_or(u64::MAX, |end| self.elapsed_ms(end));
        self.next_end_ms.store(next, Ordering::Relaxed);
    }

    fn elapsed_ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_disk_is_shunned_for_longer_each_time_and_forgiven_when_it_answers() {
        let (shuns, disk, start) = (Shuns::default(), DiskId([1; 16]), Instant::now());
        assert!(shuns.failed(disk, start));
        assert!(!shuns.failed(disk, start), "already shunned");
        assert!(!shuns.ended(start + FIRST / 2));
        let again = start + FIRST / 2;
        assert!(!shuns.failed(disk, again));
        assert!(!shuns.ended(start + FIRST + Duration::from_millis(1)), "what failed since keeps it away a little longer");
        assert_eq!(shuns.failures(disk), 1, "not a failure of its own");
        assert!(shuns.ended(again + FIRST + Duration::from_millis(1)));
        assert_eq!(shuns.failures(disk), 0);
        let second = start + FIRST * 2;
        assert!(shuns.failed(disk, second));
        assert_eq!(shuns.failures(disk), 2);
        assert!(!shuns.ended(second + FIRST + Duration::from_millis(1)), "the second time lasts longer");
        assert!(shuns.succeeded(disk));
        assert_eq!(shuns.failures(disk), 0);
        assert!(!shuns.succeeded(disk));
    }
}

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

/// What a disk is asked to do. Judged apart: a disk whose syncs hang may answer every read from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    Read,
    Write,
}

impl Use {
    fn other(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
        }
    }
}

/// How a request to a disk ended, as far as the disk's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Answer,
    /// It did not answer, or answered that it cannot.
    Nothing,
    /// Its node was not reached, whatever it was asked for.
    NoNode,
}

/// Disks avoided for a while because requests to them failed.
pub(super) struct Shuns {
    disks: Mutex<HashMap<(DiskId, Use), Shun>>,
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
    /// It failed for its node: any answer forgives that.
    no_node: bool,
}

impl Default for Shuns {
    fn default() -> Self {
        Self { disks: Mutex::default(), start: Instant::now(), next_end_ms: AtomicU64::new(u64::MAX) }
    }
}

impl Shuns {
    /// Takes note of how a request ended. True when the picture of the cluster changes by it.
    pub(super) fn heard(&self, disk: DiskId, asked: Use, heard: Heard, now: Instant) -> bool {
        match heard {
            Heard::Answer => self.succeeded(disk, asked),
            Heard::Nothing => self.failed(&[(disk, asked)], false, now),
            Heard::NoNode => self.failed(&[(disk, Use::Read), (disk, Use::Write)], true, now),
        }
    }

    fn failed(&self, failed: &[(DiskId, Use)], no_node: bool, now: Instant) -> bool {
        let mut disks = self.disks.lock();
        let mut changed = false;
        for key in failed {
            let shun = disks.entry(*key).or_insert(Shun { failures: 0, until: now, active: false, no_node });
            shun.no_node &= no_node;
            changed |= !shun.active;
            shun.fail(now);
        }
        self.plan(&disks);
        changed
    }

    fn succeeded(&self, disk: DiskId, asked: Use) -> bool {
        if self.next_end_ms.load(Ordering::Relaxed) == u64::MAX {
            return false;
        }
        let mut disks = self.disks.lock();
        let mut was_active = disks.remove(&(disk, asked)).is_some_and(|shun| shun.active);
        let other = (disk, asked.other());
        if disks.get(&other).is_some_and(|shun| shun.no_node) {
            was_active |= disks.remove(&other).is_some_and(|shun| shun.active);
        }
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

    /// How often in a row a disk that is shunned now failed at what it was asked for; 0 of one that is not.
    pub(super) fn failures(&self, disk: DiskId, asked: Use) -> u32 {
        self.disks.lock().get(&(disk, asked)).filter(|shun| shun.active).map_or(0, |shun| shun.failures)
    }

    fn plan(&self, disks: &HashMap<(DiskId, Use), Shun>) {
        let ends = |shun: &Shun| if shun.active { shun.until } else { shun.until + LONGEST };
        let next = disks.values().map(ends).min().map_or(u64::MAX, |end| self.elapsed_ms(end));
        self.next_end_ms.store(next, Ordering::Relaxed);
    }

    fn elapsed_ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Shun {
    fn fail(&mut self, now: Instant) {
        // One whose time is up may not have been noticed: nobody looked.
        if self.active && now < self.until {
            // Requests that were under way when the disk failed all fail together: they are one failure. But it is
            // still not answering, and is not to be chosen again the moment its time is up.
            self.until = self.until.max(now + FIRST);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.until = now + (FIRST * 2u32.saturating_pow(self.failures.saturating_sub(1).min(8))).min(LONGEST);
        self.active = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: DiskId = DiskId([1; 16]);
    const MOMENT: Duration = Duration::from_millis(1);

    fn failed(shuns: &Shuns, at: Instant) -> bool {
        shuns.heard(DISK, Use::Write, Heard::Nothing, at)
    }

    fn failures(shuns: &Shuns) -> (u32, u32) {
        (shuns.failures(DISK, Use::Read), shuns.failures(DISK, Use::Write))
    }

    #[test]
    fn a_failing_disk_is_shunned_for_longer_each_time_and_forgiven_when_it_answers() {
        let (shuns, start) = (Shuns::default(), Instant::now());
        assert!(failed(&shuns, start));
        assert!(!failed(&shuns, start), "already shunned");
        assert!(!shuns.ended(start + FIRST / 2));
        let again = start + FIRST / 2;
        assert!(!failed(&shuns, again));
        assert!(!shuns.ended(start + FIRST + MOMENT), "what failed since keeps it away a little longer");
        assert_eq!(failures(&shuns), (0, 1), "not a failure of its own");
        assert!(shuns.ended(again + FIRST + MOMENT));
        assert_eq!(failures(&shuns), (0, 0));
        let second = start + FIRST * 2;
        assert!(failed(&shuns, second));
        assert_eq!(failures(&shuns), (0, 2));
        assert!(!shuns.ended(second + FIRST + MOMENT), "the second time lasts longer");
        assert!(shuns.heard(DISK, Use::Write, Heard::Answer, second));
        assert_eq!(failures(&shuns), (0, 0));
        assert!(!shuns.heard(DISK, Use::Write, Heard::Answer, second));
    }

    #[test]
    fn a_failure_after_an_end_that_nobody_noticed_is_another() {
        let (shuns, start) = (Shuns::default(), Instant::now());
        assert!(failed(&shuns, start));
        let again = start + FIRST * 3;
        failed(&shuns, again);
        assert_eq!(failures(&shuns), (0, 2));
        assert!(!shuns.ended(again + FIRST + MOMENT), "and keeps it away for longer");
    }

    #[test]
    fn a_read_that_answers_forgives_no_write_that_hangs() {
        let (shuns, now) = (Shuns::default(), Instant::now());
        assert!(failed(&shuns, now));
        assert!(!shuns.heard(DISK, Use::Read, Heard::Answer, now));
        assert_eq!(failures(&shuns), (0, 1));
        assert!(shuns.heard(DISK, Use::Write, Heard::Answer, now));
        // A node that is not reached answers nothing, and whatever it answers shows that it is.
        assert!(shuns.heard(DISK, Use::Write, Heard::NoNode, now));
        assert_eq!(failures(&shuns), (1, 1));
        assert!(shuns.heard(DISK, Use::Read, Heard::Answer, now));
        assert_eq!(failures(&shuns), (0, 0));
        // But for what it did besides.
        assert!(shuns.heard(DISK, Use::Read, Heard::NoNode, now));
        assert!(!failed(&shuns, now));
        assert!(shuns.heard(DISK, Use::Read, Heard::Answer, now));
        assert_eq!(failures(&shuns), (0, 1));
    }
}

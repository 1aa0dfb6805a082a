//! What repair leaves to clients of a node that has too little processor for both.
//!
//! The disks see to their own time (the turns of `cairn_disk`). What a stripe costs besides, on this node and on those
//! it reads from, is encryption, hashing, copies: where processors are scarce for that, tasks run late, those of
//! clients too. So stripes are begun at intervals, and who begins one sleeps until its time has come and looks how late
//! it is woken: if it is late the interval is doubled, and if it is not it becomes a little shorter. Transfers in the
//! background yield to others by the delay of packets in the same way (LEDBAT, RFC 6817).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How long it sleeps at least to see whether it is woken late. Timers are exact to a millisecond.
const PROBE: Duration = Duration::from_millis(2);
/// Clients that are served this much late notice.
const LATE: Duration = Duration::from_millis(3);
/// The interval of a stripe with fragments of `UNIT` bytes, at most: nothing is put off for good. It begins with that
/// when clients come, or all nodes that learn of a loss would begin in one burst.
const LONGEST: Duration = Duration::from_millis(500);
const UNIT: u32 = 1 << 20;
/// What the smallest stripe counts, and the largest.
const LEAST: u32 = UNIT / 16;
const MOST: u32 = UNIT * 2;
/// Those that sleep at the same time are late for the same reason: it counts once in so long.
const SAME: Duration = Duration::from_millis(100);

/// The interval at which a node begins to repair stripes while clients use it. Cheap to clone; all clones have the
/// same.
#[derive(Clone)]
pub struct Courtesy {
    /// Whether there are clients.
    in_use: Arc<dyn Fn() -> bool + Send + Sync>,
    pace: Arc<Mutex<Pace>>,
}

struct Pace {
    /// Of fragments of `UNIT` bytes; in proportion of others.
    interval: Duration,
    /// When the next stripe may begin.
    next: Instant,
    /// When the interval was doubled last.
    doubled: Instant,
}

impl Courtesy {
    pub fn new(in_use: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { in_use: Arc::new(in_use), pace: Arc::new(Mutex::new(Pace::new(Instant::now()))) }
    }

    /// How many stripes a step may have that has so many without clients: a step must end well before its lease does.
    pub(super) fn batch(&self, usual: usize) -> usize {
        if (self.in_use)() { usual.div_ceil(4) } else { usual }
    }

    /// Waits until a stripe with fragments of so many bytes may be begun.
    pub(super) async fn wait(&self, fragment_bytes: u32) {
        if !(self.in_use)() {
            return self.pace.lock().begin_anew(Instant::now());
        }
        let due = self.pace.lock().reserve(Instant::now(), fragment_bytes);
        tokio::time::sleep_until(due.into()).await;
        let now = Instant::now();
        self.pace.lock().woken(now, now.saturating_duration_since(due));
    }
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { interval: LONGEST, next: now, doubled: now }
    }

    fn begin_anew(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// When a stripe may begin that is asked for now.
    fn reserve(&mut self, now: Instant, fragment_bytes: u32) -> Instant {
        let due = self.next.max(now + PROBE);
        self.next = due + self.interval.mul_f64(f64::from(fragment_bytes.clamp(LEAST, MOST)) / f64::from(UNIT));
        due
    }

    fn woken(&mut self, now: Instant, late: Duration) {
        if late <= LATE {
            let shorter = self.interval * 15 / 16;
            self.interval = if shorter < PROBE / 2 { Duration::ZERO } else { shorter };
        } else if now.saturating_duration_since(self.doubled) >= SAME {
            self.interval = (self.interval * 2).clamp(PROBE, LONGEST);
            self.doubled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn without_clients_nothing_waits_and_with_them_one_begins_after_another() {
        let begun = Instant::now();
        let alone = Courtesy::new(|| false);
        for _ in 0..1000 {
            alone.wait(UNIT).await;
        }
        assert!(begun.elapsed() < 500 * MS);
        let begun = Instant::now();
        let beside = Courtesy::new(|| true);
        futures::join!(beside.wait(UNIT), beside.wait(1));
        assert!(begun.elapsed() >= LONGEST);
        assert_eq!((alone.batch(32), beside.batch(32), beside.batch(1)), (32, 8, 1));
    }

    #[test]
    fn the_interval_shrinks_while_all_is_in_time_and_doubles_once_for_those_late_together() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut due = || pace.reserve(start, UNIT);
        assert_eq!((due(), due()), (start + PROBE, start + PROBE + LONGEST));
        let (small, after) = (pace.reserve(start, 1), pace.reserve(start, UNIT));
        assert_eq!(after - small, LONGEST / 16, "a small one does not take the time of a large one");
        for _ in 0..20 {
            pace.woken(start, MS);
        }
        assert!((100 * MS..200 * MS).contains(&pace.interval), "{:?}", pace.interval);
        let before = pace.interval;
        for _ in 0..4 {
            pace.woken(start + 200 * MS, 10 * MS);
        }
        assert_eq!(pace.interval, before * 2);
        for at in 3..20 {
            pace.woken(start + 100 * at * MS, 10 * MS);
        }
        assert_eq!(pace.interval, LONGEST);
        for _ in 0..200 {
            pace.woken(start, MS);
        }
        assert_eq!(pace.interval, Duration::ZERO);
        pace.woken(start + LONGEST * 10, 10 * MS);
        assert_eq!(pace.interval, PROBE, "from nothing it grows too");
    }
}

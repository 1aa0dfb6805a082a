//! How much of its time a disk gives to tidying up, when clients use it at the same moment.
//!
//! A disk that no client uses tidies up at full speed. One that is used gives it a small part of its time, and more the
//! shorter its space gets and the more of it is dead: so clients hardly notice, work is never put off for good, and
//! before the disk is full tidying up comes first.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A disk is in use for so long after an operation of a client.
const IN_USE: Duration = Duration::from_millis(200);
/// Part of the time that a disk in use gives to tidying up when there is space enough,
const LEAST_SHARE: f64 = 0.1;
/// and when there is none.
const MOST_SHARE: f64 = 0.75;
/// Space begins to be short when less than this part of it can be filled,
const PLENTY_PART: u64 = 8;
/// and is gone when less than this.
const SHORT_PART: u64 = 32;
/// Time that is saved up while nothing is done.
const MOST_SAVED: Duration = Duration::from_millis(50);
/// Time that is owed for a step, at most: a disk that hung for a minute must not rest for ten.
const MOST_OWED: Duration = Duration::from_millis(500);

/// When clients last used a disk.
#[derive(Debug)]
pub struct Clients {
    since: Instant,
    /// Microseconds after `since`, and one more; 0: never.
    last: AtomicU64,
}

impl Clients {
    pub fn new(now: Instant) -> Self {
        Self { since: now, last: AtomicU64::new(0) }
    }

    /// An operation of a client began or ended.
    pub fn note(&self, now: Instant) {
        let at = u64::try_from(now.duration_since(self.since).as_micros()).unwrap_or(u64::MAX);
        self.last.fetch_max(at.saturating_add(1), Ordering::Relaxed);
    }

    pub fn are_there(&self, now: Instant) -> bool {
        match self.last.load(Ordering::Relaxed) {
            0 => false,
            last => now.duration_since(self.since) < Duration::from_micros(last - 1) + IN_USE,
        }
    }
}

/// The space of a disk, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fill {
    /// Without the reserve.
    pub capacity: u64,
    /// What writes may still take.
    pub spendable: u64,
    pub live: u64,
    pub dead: u64,
}

impl Fill {
    /// From 0, when tidying up can wait, to 1, when nothing matters more.
    pub fn pressure(&self) -> f64 {
        let (plenty, short) = (self.capacity / PLENTY_PART, self.capacity / SHORT_PART);
        let gone = plenty.saturating_sub(self.spendable.max(short));
        let of_space = gone as f64 / (plenty - short).max(1) as f64;
        // As much dead as live is the most that a disk with space for it is left with.
        let of_dead = self.dead as f64 / self.live.max(1) as f64;
        // There is nothing to gain on a disk without dead space, however full it is.
        let to_gain = self.dead.saturating_mul(u64::from(u16::MAX)) >= self.live.max(1);
        if to_gain { of_space.max(of_dead).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Part of the time to be given to tidying up.
pub fn share(in_use: bool, pressure: f64) -> f64 {
    if in_use { LEAST_SHARE + (MOST_SHARE - LEAST_SHARE) * pressure.clamp(0.0, 1.0) } else { 1.0 }
}

/// Time to be spent on tidying up, which comes in by a share and goes out by steps.
#[derive(Debug)]
pub struct Purse {
    seconds: f64,
    at: Instant,
}

impl Purse {
    pub fn new(now: Instant) -> Self {
        Self { seconds: MOST_SAVED.as_secs_f64(), at: now }
    }

    /// Whether a step may be taken now.
    pub fn allows(&mut self, now: Instant, share: f64) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.seconds = (self.seconds + passed * share).min(MOST_SAVED.as_secs_f64());
        share >= 1.0 || self.seconds > 0.0
    }

    pub fn spend(&mut self, took: Duration) {
        self.seconds = (self.seconds - took.as_secs_f64()).max(-MOST_OWED.as_secs_f64());
    }

    /// How long until a step is allowed.
    pub fn wait(&self, share: f64) -> Duration {
        if share >= 1.0 { Duration::ZERO } else { Duration::from_secs_f64((-self.seconds).max(0.0) / share.max(0.01)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn fill(spendable: u64, dead: u64) -> Fill {
        Fill { capacity: 3200, spendable, live: 1000, dead }
    }

    #[test]
    fn clients_are_there_for_a_moment_after_an_operation() {
        let start = Instant::now();
        let clients = Clients::new(start);
        assert!(!clients.are_there(start));
        clients.note(start);
        assert!(clients.are_there(start + 199 * MS) && !clients.are_there(start + 200 * MS));
        clients.note(start + 300 * MS);
        clients.note(start + 250 * MS);
        assert!(clients.are_there(start + 450 * MS) && !clients.are_there(start + 500 * MS));
    }

    #[test]
    fn the_share_rises_with_the_pressure_and_a_disk_at_rest_has_all() {
        assert_eq!(share(false, 0.0), 1.0);
        assert_eq!(share(true, 0.0), LEAST_SHARE);
        assert_eq!(share(true, 1.0), MOST_SHARE);
        assert!(share(true, 0.4) < share(true, 0.5));
    }

    #[test]
    fn pressure_comes_of_short_space_and_of_much_dead() {
        assert_eq!(fill(2000, 0).pressure(), 0.0);
        assert_eq!(fill(0, 0).pressure(), 0.0, "there is nothing to gain");
        assert!(fill(2000, 250).pressure() < 0.3);
        assert_eq!(fill(2000, 1000).pressure(), 1.0);
        assert!((fill(250, 100).pressure() - 0.5).abs() < 0.01);
        assert_eq!(fill(100, 100).pressure(), 1.0);
        assert_eq!(fill(0, 100).pressure(), 1.0);
        assert_eq!(Fill::default().pressure(), 0.0);
    }

    /// Steps of 7 ms, asked for every millisecond, for ten seconds: how many of those they took.
    fn spent(share: f64) -> Duration {
        let start = Instant::now();
        let mut purse = Purse::new(start);
        let (mut at, mut spent) = (start, Duration::ZERO);
        while at < start + 10_000 * MS {
            if purse.allows(at, share) {
                purse.spend(7 * MS);
                at += 7 * MS;
                spent += 7 * MS;
            } else {
                at += MS;
            }
        }
        spent
    }

    #[test]
    fn steps_take_their_share_of_the_time_no_more_and_no_less() {
        for share in [LEAST_SHARE, 0.3, MOST_SHARE] {
            let (got, want) = (spent(share).as_secs_f64(), 10.0 * share);
            assert!((want - 0.1..want + 0.1).contains(&got), "{got} s of {want} s");
        }
        assert_eq!(spent(1.0).as_millis() / 10, 1000);
    }

    #[test]
    fn one_long_step_is_not_paid_for_for_ever() {
        let start = Instant::now();
        let mut purse = Purse::new(start);
        assert!(purse.allows(start, LEAST_SHARE));
        purse.spend(60_000 * MS);
        assert!(!purse.allows(start + 1000 * MS, LEAST_SHARE));
        assert!(purse.wait(LEAST_SHARE) <= Duration::from_secs(5));
        assert!(purse.allows(start + 5100 * MS, LEAST_SHARE));
        purse.spend(60_000 * MS);
        assert!(purse.allows(start + 5100 * MS, 1.0), "at rest nothing is owed");
    }
}

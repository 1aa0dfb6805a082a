//! How many requests of one user, and to one bucket, are answered at once and in a second.
//!
//! Two things are held. The limits that an operator sets: of requests under way, and of requests a second by the
//! generic cell rate algorithm (ITU-T I.371), with a second's worth of them at once. And fairness without being told:
//! nobody has more than three quarters of all that may be under way, less the more others take, so that one user's
//! flood, or slow clients, leave room for the others. Each gateway counts for itself.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_schema::record::RequestLimits;
use parking_lot::Mutex;

/// Nobody has more than so many times what is left to the others.
const SHARE_OF_FREE: usize = 3;
/// Requests that come at once after a pause, as time at the rate.
const BURST: Duration = Duration::from_secs(1);
/// Lanes are swept when there are so many more than after the last time.
const SWEEP_STEP: usize = 1024;

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// By name; the root and whoever is anonymous have lanes of their own.
    User(Box<str>),
    Root,
    Anonymous,
    Bucket(Box<str>),
}

/// What a request would have been too much for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// The limits of its user.
    User,
    /// Those of its bucket.
    Bucket,
    /// What one user may have of all.
    Share,
}

impl TooMany {
    pub(crate) const ALL: [Self; 3] = [Self::User, Self::Bucket, Self::Share];

    /// As metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Bucket => "bucket",
            Self::Share => "share",
        }
    }
}

/// Lets requests in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Turnstile(Arc<Mutex<Lanes>>);

struct Lanes {
    /// How many may be under way in all.
    most: usize,
    under_way: usize,
    lanes: HashMap<Lane, Traffic>,
    sweep_at: usize,
}

#[derive(Clone, Copy, Default)]
struct Traffic {
    under_way: usize,
    /// When the next request is due at the rate: the algorithm's theoretical arrival time. None for one that was never
    /// limited.
    due: Option<Instant>,
}

/// A request that was let in; it leaves when this is dropped.
pub(crate) struct Pass {
    turnstile: Turnstile,
    lanes: Vec<Lane>,
}

impl Turnstile {
    pub(crate) fn new(most: usize) -> Self {
        let lanes = Lanes { most, under_way: 0, lanes: HashMap::new(), sweep_at: SWEEP_STEP };
        Self(Arc::new(Mutex::new(lanes)))
    }

    /// Lets a request of a user in, to a bucket if that has limits.
    ///
    /// # Errors
    /// What it was too much for; then it counts for nothing.
    pub(crate) fn enter(
        &self,
        user: (Lane, RequestLimits),
        bucket: Option<(Lane, RequestLimits)>,
        now: Instant,
    ) -> Result<Pass, TooMany> {
        let mut lanes = self.0.lock();
        let sides: Vec<_> =
            std::iter::once((user, TooMany::User)).chain(bucket.map(|b| (b, TooMany::Bucket))).collect();
        let mut after = Vec::with_capacity(sides.len());
        for ((lane, limits), too_many) in &sides {
            let traffic = lanes.lanes.get(lane).copied().unwrap_or_default();
            after.push(traffic.with_one_more(*limits, now).ok_or(*too_many)?);
        }
        let free = lanes.most.saturating_sub(lanes.under_way);
        if after.first().is_some_and(|user| user.under_way > SHARE_OF_FREE * free) {
            return Err(TooMany::Share);
        }
        lanes.under_way += 1;
        let lanes_of: Vec<Lane> = sides.into_iter().map(|((lane, _), _)| lane).collect();
        for (lane, traffic) in lanes_of.iter().zip(after) {
            lanes.lanes.insert(lane.clone(), traffic);
        }
        lanes.sweep(now);
        drop(lanes);
        Ok(Pass { turnstile: self.clone(), lanes: lanes_of })
    }
}

impl Traffic {
    /// None if that is too much.
    fn with_one_more(self, limits: RequestLimits, now: Instant) -> Option<Self> {
        let under_way = self.under_way + 1;
        if limits.concurrent.is_some_and(|most| under_way > most as usize) {
            return None;
        }
        let Some(per_second) = limits.per_second else { return Some(Self { under_way, due: None }) };
        let step = Duration::from_secs(1).checked_div(per_second)?;
        let due = self.due.map_or(now, |due| due.max(now)) + step;
        (due <= now + BURST).then_some(Self { under_way, due: Some(due) })
    }

    fn is_idle(self, now: Instant) -> bool {
        self.under_way == 0 && self.due.is_none_or(|due| due <= now)
    }
}

impl Lanes {
    /// What tells nothing any more is forgotten, so that the lanes are not more than those in use of late (BND-1).
    fn sweep(&mut self, now: Instant) {
        if self.lanes.len() >= self.sweep_at {
            self.lanes.retain(|_, traffic| !traffic.is_idle(now));
            self.sweep_at = self.lanes.len() + SWEEP_STEP;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut lanes = self.turnstile.0.lock();
        lanes.under_way -= 1;
        for lane in &self.lanes {
            if let Some(traffic) = lanes.lanes.get_mut(lane) {
                traffic.under_way -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn user(name: &str) -> Lane {
        Lane::User(name.into())
    }

    fn limits(per_second: impl Into<Option<u32>>, concurrent: impl Into<Option<u32>>) -> RequestLimits {
        RequestLimits { per_second: per_second.into(), concurrent: concurrent.into() }
    }

    #[test]
    fn bnd_1_no_user_takes_what_others_need() {
        let (turnstile, now) = (Turnstile::new(100), Instant::now());
        let enter = |name| turnstile.enter((user(name), RequestLimits::default()), None, now);
        let flood: Vec<_> = std::iter::from_fn(|| enter("flood").ok()).collect();
        assert_eq!(flood.len(), 75);
        assert_eq!(enter("flood").err(), Some(TooMany::Share));
        let other: Vec<_> = (0..18).map(|_| enter("other").unwrap()).collect();
        drop(flood);
        let more: Vec<_> = std::iter::from_fn(|| enter("flood").ok()).collect();
        assert_eq!(more.len(), 62, "three times the 21 that are left beside the other's 18");
        drop((other, more));
        assert_eq!(turnstile.0.lock().under_way, 0);
    }

    #[test]
    fn a_rate_is_kept_over_time_and_a_seconds_worth_comes_at_once() {
        let (turnstile, start) = (Turnstile::new(1000), Instant::now());
        let enter = |rate: Option<u32>, ms| {
            turnstile.enter((user("a"), limits(rate, None)), None, start + Duration::from_millis(ms)).map(drop)
        };
        let came = |rate: Option<u32>, ms| (0..100).filter(|_| enter(rate, ms).is_ok()).count();
        assert_eq!(came(Some(10), 0), 10);
        assert_eq!(enter(Some(10), 50), Err(TooMany::User));
        assert_eq!(came(Some(10), 100), 1);
        assert_eq!(came(Some(10), 450), 3);
        assert_eq!(came(Some(10), 60_000), 10, "a long pause is worth no more than a second");
        assert_eq!(came(None, 60_000), 100);
        assert_eq!(came(Some(0), 60_000), 0, "nothing at all");
    }

    #[test]
    fn limits_of_users_and_buckets_hold_beside_each_other() {
        let (turnstile, now) = (Turnstile::new(1000), Instant::now());
        let bucket = || Some((Lane::Bucket("b".into()), limits(None, 3)));
        let enter = |name| turnstile.enter((user(name), limits(None, 2)), bucket(), now);
        let (first, second) = (enter("a").unwrap(), enter("a").unwrap());
        assert_eq!(enter("a").err(), Some(TooMany::User));
        let third = enter("b").unwrap();
        assert_eq!(enter("b").err(), Some(TooMany::Bucket));
        drop(first);
        let fourth = enter("b").unwrap();
        assert_eq!(enter("a").err(), Some(TooMany::Bucket));
        drop((second, third, fourth));
        enter("a").unwrap();
    }

    #[test]
    fn bnd_1_lanes_that_are_not_used_are_forgotten() {
        let (turnstile, now) = (Turnstile::new(1 << 20), Instant::now());
        let kept = turnstile.enter((user("kept"), RequestLimits::default()), None, now).unwrap();
        for number in 0..10 * SWEEP_STEP {
            turnstile.enter((user(&number.to_string()), RequestLimits::default()), None, now).unwrap();
        }
        assert!(turnstile.0.lock().lanes.len() <= 2 * SWEEP_STEP + 1);
        drop(kept);
        assert_eq!(turnstile.0.lock().under_way, 0);
    }
}

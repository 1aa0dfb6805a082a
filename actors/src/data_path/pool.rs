//! Memory that requests share, each requester up to a share that shrinks as the memory does.
//!
//! A requester may take what leaves it with no more than a fixed multiple of what is then free (the dynamic thresholds
//! that Choudhury and Hahne gave the queues of a switch, "Dynamic queue length thresholds for shared-memory packet
//! switches", 1998). One alone may take the percentage that it is set to; the more take some, the less each may, and
//! always there is some left for who comes new. Who has none may take one unit whatever is free, if it fits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    requester::{Party, Requester},
    stalls::Stalls,
};
use crate::error::StoreError;

/// Requests that may wait at once; more are refused without waiting.
const MAX_WAITING: usize = 4096;
/// While one waits, bodies that stall are looked for this often.
const LOOK_FOR_STALLS: Duration = Duration::from_millis(250);

/// Grains of memory. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Grains>);

struct Grains {
    capacity: u32,
    /// Of the capacity that one requester alone may have; 100 means that nobody has a share to keep to.
    percent: u8,
    /// Who can be asked for memory.
    stalls: Arc<Stalls>,
    state: Mutex<State>,
}

struct State {
    free: u32,
    taken: HashMap<Party, u32>,
    /// In order of arrival.
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    requester: Requester,
    grains: u32,
    told: oneshot::Sender<Grant>,
}

/// Why memory is not to be had now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The requester has its share.
    Share,
    /// There is not enough for anyone.
    Room,
}

impl Pool {
    pub(super) fn new(capacity: u32, percent: u8, stalls: Arc<Stalls>) -> Self {
        let state = State { free: capacity, taken: HashMap::new(), waiting: VecDeque::new() };
        Self(Arc::new(Grains { capacity, percent: percent.clamp(1, 100), stalls, state: Mutex::new(state) }))
    }

    pub(super) fn capacity(&self) -> u32 {
        self.0.capacity
    }

    pub(super) fn free(&self) -> u32 {
        self.0.state.lock().free
    }

    /// What is free now, before nobody who has waited longer.
    pub(super) fn try_take(&self, requester: &Requester, grains: u32) -> Option<Grant> {
        self.0.state.lock().try_take(&self.0, requester, grains).then(|| self.granted(requester.clone(), grains))
    }

    /// Waits at most `wait`, behind those who came before; whoever has its share lets others pass.
    pub(super) async fn take(&self, requester: &Requester, grains: u32, wait: Duration) -> Result<Grant, StoreError> {
        let coming = {
            let mut state = self.0.state.lock();
            if state.try_take(&self.0, requester, grains) {
                drop(state);
                return Ok(self.granted(requester.clone(), grains));
            }
            state.waiting.retain(|waiter| !waiter.told.is_closed());
            if state.waiting.len() >= MAX_WAITING {
                return Err(StoreError::Busy("too many requests wait for memory"));
            }
            let (told, coming) = oneshot::channel();
            state.waiting.push_back(Waiter { requester: requester.clone(), grains, told });
            coming
        };
        // Dropped after the place in the queue, also if this future is: those behind may have waited only for it.
        let _place = Place(self);
        let (deadline, mut coming) = (Instant::now() + wait, pin!(coming));
        loop {
            self.0.stalls.sweep();
            let look = deadline.min(Instant::now() + LOOK_FOR_STALLS);
            match tokio::time::timeout_at(look, coming.as_mut()).await {
                Ok(Ok(grant)) => return Ok(grant),
                Ok(Err(_)) => return Err(StoreError::ShuttingDown),
                Err(_) if look < deadline => {}
                Err(_) => return Err(StoreError::Busy("no memory for another stripe came free in time")),
            }
        }
    }

    fn granted(&self, requester: Requester, grains: u32) -> Grant {
        Grant { pool: self.clone(), requester, grains }
    }

    fn give_back(&self, requester: &Requester, grains: u32) {
        self.0.state.lock().add(requester, grains);
        self.serve();
    }

    /// Tells those who wait and may have by now what they wait for.
    fn serve(&self) {
        let ready = self.0.state.lock().next(&self.0);
        for Waiter { requester, grains, told } in ready {
            // Whoever does not wait any more gives it back by dropping it.
            let _ = told.send(self.granted(requester, grains));
        }
    }
}

/// A place in the queue.
struct Place<'a>(&'a Pool);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.serve();
    }
}

impl State {
    fn try_take(&mut self, pool: &Grains, requester: &Requester, grains: u32) -> bool {
        let mut behind = HashSet::new();
        for waiter in self.waiting.iter().filter(|waiter| !waiter.told.is_closed()) {
            match self.judge_in_turn(pool, &waiter.requester, waiter.grains, &behind) {
                Err(Refusal::Share) => behind.extend(waiter.requester.parties()),
                Ok(()) | Err(Refusal::Room) => return false,
            }
        }
        let granted = self.judge_in_turn(pool, requester, grains, &behind).is_ok();
        if granted {
            self.remove(requester, grains);
        }
        granted
    }

    /// Nobody overtakes itself: `behind` are those of whom someone waits already.
    fn judge_in_turn(
        &self,
        pool: &Grains,
        requester: &Requester,
        grains: u32,
        behind: &HashSet<Party>,
    ) -> Result<(), Refusal> {
        if requester.parties().any(|party| behind.contains(&party)) {
            return Err(Refusal::Share);
        }
        self.judge(pool, requester, grains)
    }

    fn judge(&self, pool: &Grains, requester: &Requester, grains: u32) -> Result<(), Refusal> {
        let left = self.free.saturating_sub(grains);
        let within = |party: Party| match self.taken.get(&party) {
            None => true,
            // taken / capacity <= percent / 100 for one alone, whose taken and left are the capacity.
            Some(taken) => {
                let most = u64::from(left) * u64::from(pool.percent);
                (u64::from(*taken) + u64::from(grains)) * u64::from(100 - pool.percent) <= most
            }
        };
        if !requester.parties().all(within) {
            Err(Refusal::Share)
        } else if grains > self.free {
            Err(Refusal::Room)
        } else {
            Ok(())
        }
    }

    /// Those who wait and may take now what they wait for: it is taken for them.
    fn next(&mut self, pool: &Grains) -> Vec<Waiter> {
        let mut ready = Vec::new();
        let mut behind: HashSet<Party> = HashSet::new();
        let mut at = 0;
        while let Some(waiter) = self.waiting.get(at) {
            if waiter.told.is_closed() {
                self.waiting.remove(at);
                continue;
            }
            match self.judge_in_turn(pool, &waiter.requester, waiter.grains, &behind) {
                Ok(()) => {
                    let (requester, grains) = (waiter.requester.clone(), waiter.grains);
                    self.remove(&requester, grains);
                    ready.extend(self.waiting.remove(at));
                }
                Err(Refusal::Share) => {
                    behind.extend(waiter.requester.parties());
                    at += 1;
                }
                Err(Refusal::Room) => break,
            }
        }
        ready
    }

    fn remove(&mut self, requester: &Requester, grains: u32) {
        self.free -= grains;
        for party in requester.parties() {
            *self.taken.entry(party).or_default() += grains;
        }
    }

    fn add(&mut self, requester: &Requester, grains: u32) {
        self.free += grains;
        for party in requester.parties() {
            let left = self.taken.get(&party).map_or(0, |taken| taken.saturating_sub(grains));
            if left == 0 {
                self.taken.remove(&party);
            } else {
                self.taken.insert(party, left);
            }
        }
    }
}

/// Memory that is taken until this is dropped.
pub(super) struct Grant {
    pool: Pool,
    requester: Requester,
    grains: u32,
}

impl Grant {
    pub(super) fn grains(&self) -> u32 {
        self.grains
    }

    /// Gives back all but so much.
    pub(super) fn shrink(&mut self, grains: u32) {
        if let Some(less) = self.grains.checked_sub(grains).filter(|less| *less > 0) {
            self.grains = grains;
            self.pool.give_back(&self.requester, less);
        }
    }

    /// Takes more, until it is so much.
    pub(super) async fn grow(&mut self, grains: u32, wait: Duration) -> Result<(), StoreError> {
        let Some(more) = grains.checked_sub(self.grains).filter(|more| *more > 0) else { return Ok(()) };
        let mut taken = self.pool.take(&self.requester, more, wait).await?;
        self.grains += std::mem::take(&mut taken.grains);
        Ok(())
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.grains > 0 {
            self.pool.give_back(&self.requester, self.grains);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    fn pool(capacity: u32, percent: u8) -> Pool {
        Pool::new(capacity, percent, Stalls::new(SHORT))
    }

    fn by(key: &str) -> Requester {
        Requester::new(None, Some(key.into()))
    }

    fn all(pool: &Pool, requester: &Requester, unit: u32) -> Vec<Grant> {
        std::iter::from_fn(|| pool.try_take(requester, unit)).collect()
    }

    #[test]
    fn one_alone_takes_its_percentage_and_each_newcomer_finds_some() {
        let pool = pool(1000, 75);
        let mut held = Vec::new();
        for key in ["a", "b", "c", "d", "e"] {
            let grants = all(&pool, &by(key), 5);
            let taken: u32 = grants.iter().map(Grant::grains).sum();
            assert!(taken >= 5, "{key} has {taken} of {}", pool.free() + taken);
            if key == "a" {
                assert_eq!(taken, 750);
            }
            held.push(grants);
        }
        drop(held);
        assert_eq!(pool.free(), 1000);
    }

    #[test]
    fn an_address_and_an_access_key_have_a_share_each() {
        let pool = pool(1000, 75);
        let from = |address: &str, key: &str| Requester::new(Some(address.parse().unwrap()), Some(key.into()));
        let flood = all(&pool, &from("127.0.0.1", "a"), 10);
        assert!(pool.try_take(&from("127.0.0.2", "a"), 10).is_none(), "the key has its share");
        assert!(pool.try_take(&from("127.0.0.1", "b"), 10).is_none(), "the address has its share");
        assert!(pool.try_take(&from("127.0.0.2", "b"), 10).is_some());
        assert!(pool.try_take(&Requester::default(), 200).is_some(), "the node itself has none to keep to");
        drop(flood);
    }

    #[test]
    fn who_has_none_may_take_all_if_it_is_free() {
        let pool = pool(100, 50);
        let grant = pool.try_take(&by("a"), 100).unwrap();
        assert!(pool.try_take(&by("a"), 1).is_none());
        drop(grant);
        assert!(pool.try_take(&by("a"), 1).is_some());
    }

    #[tokio::test]
    async fn whoever_has_its_share_lets_others_pass_and_nobody_else_does() {
        let pool = pool(100, 50);
        let mut first = all(&pool, &by("a"), 10);
        assert_eq!(first.len(), 5);
        let (requester, patience) = (by("a"), Duration::from_secs(60));
        let waiting = pool.take(&requester, 10, patience);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(SHORT, &mut waiting).await.is_err());
        let other = pool.try_take(&by("b"), 10).unwrap();
        assert!(pool.try_take(&by("a"), 1).is_none(), "nobody overtakes itself");
        // One who finds no room keeps those behind from taking what would be his.
        let (large, small) = (by("c"), by("d"));
        let large = pool.take(&large, 60, patience);
        tokio::pin!(large);
        assert!(tokio::time::timeout(SHORT, &mut large).await.is_err());
        assert!(pool.try_take(&small, 1).is_none());
        drop(first.drain(..3));
        let granted = tokio::time::timeout(Duration::from_secs(5), large).await.unwrap().unwrap();
        assert_eq!((granted.grains(), pool.free()), (60, 0), "and 10 are taken for who waits as well");
        drop((granted, other));
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
        drop(first);
        assert_eq!(pool.free(), 100);
    }

    #[tokio::test]
    async fn requests_of_one_that_wait_behind_each_other_keep_nobody_else_waiting() {
        let pool = pool(100, 50);
        let mut held = all(&pool, &by("a"), 10);
        held.pop();
        assert_eq!(held.len(), 4);
        let (a, patience) = (by("a"), Duration::from_secs(60));
        // The second could have what it wants, did the first not come before it.
        let (large, small) = (pool.take(&a, 40, patience), pool.take(&a, 1, patience));
        tokio::pin!(large, small);
        assert!(tokio::time::timeout(SHORT, &mut large).await.is_err());
        assert!(tokio::time::timeout(SHORT, &mut small).await.is_err());
        assert!(pool.try_take(&by("b"), 10).is_some());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_lets_those_behind_have_theirs() {
        let pool = pool(100, 75);
        let held = pool.try_take(&by("a"), 60).unwrap();
        let (b, c) = (by("b"), by("c"));
        let large = pool.take(&b, 50, SHORT);
        let small = pool.take(&c, 10, Duration::from_secs(60));
        let (large, small) = tokio::join!(large, small);
        assert!(matches!(large, Err(StoreError::Busy(_))));
        drop((small.unwrap(), held));
        assert_eq!(pool.free(), 100);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_keeps_nothing() {
        let pool = pool(10, 100);
        let held = pool.try_take(&by("a"), 10).unwrap();
        let busy = pool.take(&by("b"), 5, SHORT).await;
        assert!(matches!(busy, Err(StoreError::Busy(_))));
        drop(held);
        assert_eq!(pool.free(), 10);
    }

    #[tokio::test]
    async fn a_grant_shrinks_and_grows() {
        let pool = pool(10, 100);
        let mut grant = pool.try_take(&by("a"), 10).unwrap();
        grant.shrink(3);
        let other = pool.try_take(&by("b"), 5).unwrap();
        assert!(matches!(grant.grow(8, SHORT).await, Err(StoreError::Busy(_))));
        assert_eq!((grant.grains(), pool.free()), (3, 2), "what it has it keeps");
        drop(other);
        grant.grow(8, SHORT).await.unwrap();
        assert_eq!(pool.free(), 2);
        drop(grant);
        assert_eq!(pool.free(), 10);
    }
}

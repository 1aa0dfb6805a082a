//! Turns of work that yields to clients: repair and scrub, this node's and others'.
//!
//! On a disk that no client uses such work is done a few operations at a time and as fast as it goes. While clients use
//! the disk it is done one operation at a time, for a part of the disk's time that can be set; so a client waits behind
//! one such operation at most, but for those under way when the first came, and what must be repaired is still
//! repaired.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use cairn_fragment::Turn;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pace::{Clients, Purse};

/// Operations at once on a disk that no client uses.
const AT_ONCE: usize = 8;
/// Clients may be gone again: it is looked that often at least.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Thousandths of the time: of shares, all of it, and what is the least so that nothing is put off for good.
const WHOLE: u32 = 1000;
const LEAST: u32 = 10;

/// The part of a disk's time that clients leave to work in the background. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct BackgroundShare {
    /// Thousandths.
    part: Arc<AtomicU32>,
}

impl BackgroundShare {
    /// From 0.01 to 1, which yields to nobody.
    pub(crate) fn new(part: f64) -> Self {
        let share = Self { part: Arc::default() };
        share.set(part);
        share
    }

    pub(crate) fn set(&self, part: f64) {
        let part = (part * f64::from(WHOLE)) as u32;
        self.part.store(part.clamp(LEAST, WHOLE), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> f64 {
        f64::from(self.part.load(Ordering::Relaxed)) / f64::from(WHOLE)
    }
}

impl Default for BackgroundShare {
    fn default() -> Self {
        Self::new(0.2)
    }
}

/// Gives the turns of one disk.
pub(crate) struct Turns {
    share: BackgroundShare,
    slots: Arc<Semaphore>,
    /// While clients are there: one at a time.
    alone: Arc<Semaphore>,
    purse: Mutex<Purse>,
}

impl Turns {
    pub(crate) fn new(share: BackgroundShare, now: Instant) -> Self {
        let (slots, alone) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(1)));
        Self { share, slots, alone, purse: Mutex::new(Purse::new(now)) }
    }

    /// Waits for as long as it takes; first come, first served.
    pub(crate) async fn next(&self, clients: &Clients) -> Turn {
        let mut held = Vec::with_capacity(2);
        held.extend(permit(&self.slots).await);
        if clients.are_there(Instant::now()) {
            held.extend(permit(&self.alone).await);
            while let Some(wait) = self.owed(clients) {
                tokio::time::sleep(wait.clamp(Duration::from_millis(1), LOOK_EVERY)).await;
            }
        }
        Turn::background(held)
    }

    /// How long the next operation has to wait for those before it.
    fn owed(&self, clients: &Clients) -> Option<Duration> {
        let now = Instant::now();
        let share = if clients.are_there(now) { self.share.get() } else { 1.0 };
        let mut purse = self.purse.lock();
        (!purse.allows(now, share)).then(|| purse.wait(share))
    }

    /// An operation took so long of the disk's time, which is owed to clients if there are any.
    pub(crate) fn spend(&self, clients: &Clients, took: Duration) {
        if clients.are_there(Instant::now()) {
            self.purse.lock().spend(took);
        }
    }
}

/// The semaphores are never closed.
async fn permit(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.clone().acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Polls once: whether a turn is to be had now.
    async fn at_once(turns: &Turns, clients: &Clients) -> Option<Turn> {
        futures::FutureExt::now_or_never(turns.next(clients))
    }

    #[tokio::test]
    async fn a_disk_that_no_client_uses_has_several_turns_at_once_and_owes_nothing() {
        let (turns, clients) = (Turns::new(BackgroundShare::new(0.1), Instant::now()), Clients::new(Instant::now()));
        turns.spend(&clients, Duration::from_secs(60));
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(at_once(&turns, &clients).await.unwrap());
        }
        assert!(at_once(&turns, &clients).await.is_none());
        held.pop();
        assert!(at_once(&turns, &clients).await.is_some());
    }

    #[tokio::test]
    async fn while_clients_use_a_disk_turns_are_taken_one_by_one_and_paid_for() {
        let (turns, clients) = (Turns::new(BackgroundShare::new(0.1), Instant::now()), Clients::new(Instant::now()));
        clients.note(Instant::now());
        let first = at_once(&turns, &clients).await.unwrap();
        assert!(at_once(&turns, &clients).await.is_none(), "one at a time");
        turns.spend(&clients, 60 * MS);
        drop(first);
        assert!(at_once(&turns, &clients).await.is_none(), "10 ms are owed, and a tenth of the time goes to that");
        // Kept in use for longer than what is owed takes: the turn comes all the same.
        let waited = Instant::now();
        let busy = async {
            loop {
                clients.note(Instant::now());
                tokio::time::sleep(5 * MS).await;
            }
        };
        tokio::select! {
            _turn = turns.next(&clients) => {}
            () = busy => {}
        }
        assert!(waited.elapsed() >= 90 * MS, "it came after {:?}", waited.elapsed());
    }

    #[tokio::test]
    async fn a_waiting_turn_comes_when_the_clients_have_gone() {
        let (turns, clients) = (Turns::new(BackgroundShare::new(0.01), Instant::now()), Clients::new(Instant::now()));
        clients.note(Instant::now());
        turns.spend(&clients, Duration::from_secs(60));
        // Half a second is owed: 50 s at a hundredth of the time.
        let waited = Instant::now();
        let _turn = turns.next(&clients).await;
        assert!(waited.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_share_can_be_set_within_its_bounds_and_clones_see_it() {
        let share = BackgroundShare::default();
        let other = share.clone();
        assert_eq!(other.get(), 0.2);
        for (set, is) in [(0.5, 0.5), (0.0, 0.01), (7.0, 1.0), (f64::NAN, 0.01)] {
            share.set(set);
            assert_eq!(other.get(), is, "{set}");
        }
    }
}

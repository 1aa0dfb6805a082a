//! Bodies on their way out whose clients do not ask for more: what they hold ready can be read again, so it goes back
//! when somebody waits for memory. While nobody does they keep it, and a slow client costs no second read.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// However many wait for memory, it is looked for so often at most.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// A body that can do without what it holds.
pub(crate) trait Stallable: Send + Sync {
    /// Gives its memory back if nothing was asked of it for `stall`.
    fn give_back_after(&self, stall: Duration);
}

/// The bodies on their way out that hold more than what their clients have been given.
pub(crate) struct Stalls {
    /// How long nothing must have been asked of a body.
    stall: Duration,
    bodies: Mutex<HashMap<u64, Weak<dyn Stallable>>>,
    numbers: AtomicU64,
    swept: Mutex<Option<Instant>>,
}

impl Stalls {
    pub(super) fn new(stall: Duration) -> Arc<Self> {
        Arc::new(Self { stall, bodies: Mutex::default(), numbers: AtomicU64::new(0), swept: Mutex::default() })
    }

    /// Has the body give back its memory when it stalls and somebody wants it, until the guard is dropped.
    pub(crate) fn watch(self: &Arc<Self>, body: Weak<dyn Stallable>) -> Watched {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.bodies.lock().insert(number, body);
        Watched { stalls: self.clone(), number }
    }

    /// Somebody waits for memory.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        {
            let mut swept = self.swept.lock();
            if swept.is_some_and(|swept| now.duration_since(swept) < SWEEP_PAUSE) {
                return;
            }
            *swept = Some(now);
        }
        // Outside the lock: what a body gives back wakes others.
        let bodies: Vec<_> = self.bodies.lock().values().filter_map(Weak::upgrade).collect();
        bodies.iter().for_each(|body| body.give_back_after(self.stall));
    }
}

/// Keeps a body among those that give back.
pub(crate) struct Watched {
    stalls: Arc<Stalls>,
    number: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stalls.bodies.lock().remove(&self.number);
    }
}

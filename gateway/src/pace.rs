//! How fast a client must move bytes while it is waited for.

use std::time::Duration;

use tokio::time::Instant;

/// The least that a client must do: of every `window` of waiting for it, so many bytes for each second, and at least
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeastPace {
    pub(crate) window: Duration,
    pub(crate) bytes_per_second: u64,
}

impl LeastPace {
    fn bytes(self) -> u64 {
        let millis = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        (self.bytes_per_second.saturating_mul(millis) / 1000).max(1)
    }
}

/// A client moved fewer bytes than [`LeastPace`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// Judges one direction of one client. Only the time counts in which the client was waited for: whoever waits for the
/// store or for another request is not slow. An average over the whole body would let a client that was fast once stop
/// for hours, so every window is judged by itself.
#[derive(Debug)]
pub(crate) struct Pace {
    least: LeastPace,
    /// Of the present window, without the wait that is under way.
    waited: Duration,
    waiting_since: Option<Instant>,
    /// In the present window.
    moved_bytes: u64,
}

impl Pace {
    pub(crate) fn new(least: LeastPace) -> Self {
        Self { least, waited: Duration::ZERO, waiting_since: None, moved_bytes: 0 }
    }

    /// The client is waited for from `now` on, if it is not already. Returns when [`Pace::judge`] has to be asked.
    pub(crate) fn wait(&mut self, now: Instant) -> Instant {
        let since = *self.waiting_since.get_or_insert(now);
        since + self.least.window.saturating_sub(self.waited)
    }

    /// Bytes moved, whether anybody waits or not.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.moved_bytes = self.moved_bytes.saturating_add(bytes as u64);
    }

    /// Bytes moved, which ends a wait.
    pub(crate) fn moved(&mut self, bytes: usize, now: Instant) -> Result<(), TooSlow> {
        self.count(bytes);
        let Some(since) = self.waiting_since.take() else { return Ok(()) };
        self.waited += now.saturating_duration_since(since);
        self.close_window()
    }

    /// Judges a wait that goes on.
    pub(crate) fn judge(&mut self, now: Instant) -> Result<(), TooSlow> {
        if let Some(since) = self.waiting_since.replace(now) {
            self.waited += now.saturating_duration_since(since);
        }
        self.close_window()
    }

    fn close_window(&mut self) -> Result<(), TooSlow> {
        if self.waited < self.least.window {
            return Ok(());
        }
        let enough = self.moved_bytes >= self.least.bytes();
        (self.waited, self.moved_bytes) = (Duration::ZERO, 0);
        if enough { Ok(()) } else { Err(TooSlow) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn pace(bytes_per_second: u64) -> (Pace, Instant) {
        (Pace::new(LeastPace { window: WINDOW, bytes_per_second }), Instant::now())
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn bnd_1_a_client_that_moves_nothing_is_too_slow_after_one_window() {
        let (mut pace, start) = pace(0);
        let at = pace.wait(start);
        assert_eq!(at, start + WINDOW);
        assert_eq!(pace.judge(at - seconds(1)), Ok(()));
        assert_eq!(pace.wait(at - seconds(1)), at);
        assert_eq!(pace.judge(at), Err(TooSlow));
    }

    #[test]
    fn bnd_1_a_byte_a_minute_is_too_slow_even_after_a_fast_start() {
        let (mut pace, mut now) = pace(1024);
        pace.wait(now);
        now += seconds(1);
        pace.moved(1 << 30, now).unwrap();
        let mut judged = Vec::new();
        for _ in 0..3 {
            judged.push(pace.wait(now));
            now += seconds(60);
            if pace.moved(1, now) == Err(TooSlow) {
                return;
            }
        }
        panic!("still served at {judged:?}");
    }

    #[test]
    fn time_that_the_store_takes_is_not_held_against_the_client() {
        let (mut pace, mut now) = pace(1024);
        for _ in 0..100 {
            // An hour passes between two reads, in which nobody waited for the client.
            now += seconds(3600);
            pace.wait(now);
            now += seconds(1);
            pace.moved(1024, now).unwrap();
        }
    }

    #[test]
    fn bnd_1_waits_of_one_window_add_up() {
        let (mut pace, mut now) = pace(1024);
        let mut waits = 0;
        loop {
            pace.wait(now);
            now += seconds(10);
            waits += 1;
            if pace.moved(1024, now) == Err(TooSlow) {
                break;
            }
        }
        assert_eq!(waits, 3);
    }
}

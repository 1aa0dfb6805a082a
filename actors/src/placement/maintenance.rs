//! Which nodes are under maintenance now, as this node judges.
//!
//! No clock is compared with another's. A window's time counts from when this node first saw it, by a clock that never
//! goes back; whichever node comes to its end first takes the window out of the metadata, and with that it is over for
//! all. So it lasts as long as it was asked for, and the second in which a change is seen. A node that restarts
//! meanwhile counts anew, which matters only if all do; and then the clock on the wall ends it, an hour late. A window
//! that ends early, because a clock runs fast, costs a repair that was not needed, and never data.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use cairn_schema::{ids::NodeId, record::*};

/// Windows as they were first seen.
#[derive(Debug, Default)]
pub(super) struct Windows {
    seen: HashMap<u64, Instant>,
}

impl Windows {
    /// Takes note of the windows that there are.
    pub(super) fn see(&mut self, kept: &ClusterMaintenance, now: Instant) {
        self.seen.retain(|serial, _| kept.windows.iter().any(|window| window.serial == *serial));
        for window in &kept.windows {
            self.seen.entry(window.serial).or_insert(now);
        }
    }

    /// How long a window still lasts; zero: it is over.
    pub(super) fn left(&self, window: &MaintenanceWindow, now: Instant, now_ms: u64) -> Duration {
        if window.is_long_over(now_ms) {
            return Duration::ZERO;
        }
        let seen = self.seen.get(&window.serial).copied().unwrap_or(now);
        Duration::from_millis(window.for_ms).saturating_sub(now.saturating_duration_since(seen))
    }

    /// The nodes whose windows are not over.
    pub(super) fn open(&self, kept: &ClusterMaintenance, now: Instant, now_ms: u64) -> HashSet<NodeId> {
        let open = kept.windows.iter().filter(|window| !self.left(window, now, now_ms).is_zero());
        open.map(|window| window.node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    /// Of whoever opened the windows, whose clock may be anything.
    const STARTED_MS: u64 = 1_000_000_000;

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn a_window_lasts_from_when_it_was_seen_and_one_that_is_renewed_anew() {
        let (mut windows, start) = (Windows::default(), Instant::now());
        let first = ClusterMaintenance::default().started(node("n1"), 60_000, STARTED_MS);
        windows.see(&first, start);
        let open = |windows: &Windows, kept: &ClusterMaintenance, at: Instant, now_ms| {
            windows.open(kept, at, now_ms).contains(&node("n1"))
        };
        // Whatever the clock on the wall says, as long as it is not wrong by an hour.
        for now_ms in [0, STARTED_MS, STARTED_MS + 3_600_000] {
            assert!(open(&windows, &first, start + MINUTE - Duration::from_millis(1), now_ms));
            assert!(!open(&windows, &first, start + MINUTE, now_ms));
        }
        assert!(!open(&windows, &first, start, STARTED_MS + 60_000 + 3_600_000), "an hour late");
        windows.see(&first, start + MINUTE / 2);
        assert_eq!(windows.left(&first.windows[0], start + MINUTE / 2, 0), MINUTE / 2, "seen again is not seen first");

        let renewed = first.started(node("n1"), 60_000, STARTED_MS);
        windows.see(&renewed, start + MINUTE / 2);
        assert!(open(&windows, &renewed, start + MINUTE, 0));
        assert!(!open(&windows, &renewed, start + MINUTE + MINUTE / 2, 0));
        windows.see(&ClusterMaintenance::default(), start);
        assert!(windows.seen.is_empty(), "what is over is forgotten");
    }
}

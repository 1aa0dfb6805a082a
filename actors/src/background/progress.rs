//! How fast the ledger shrinks, and when it will be empty.

use std::time::{Duration, Instant};

use super::Context;

/// Samples lose their weight with this: long enough that a page of repair more or less does not show.
const MEMORY: Duration = Duration::from_secs(15);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Of one repair; the ledger is the whole cluster's, the bytes are this node's.
#[derive(Default)]
pub(super) struct Progress {
    /// Bytes that this node has repaired.
    pub bytes: u64,
    last: Option<Sample>,
    speed: Speed,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    fragments: u64,
    bytes: u64,
}

/// A weighted mean of what was seen since it began, in which the newest counts most.
#[derive(Clone, Copy, Default)]
struct Speed {
    fragments: f64,
    bytes: f64,
    /// Sum of the weights.
    seconds: f64,
}

impl Speed {
    fn note(&mut self, fragments: u64, bytes: u64, elapsed: Duration) {
        let kept = (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.fragments = self.fragments * kept + fragments as f64;
        self.bytes = self.bytes * kept + bytes as f64;
        self.seconds = self.seconds * kept + elapsed.as_secs_f64();
    }

    fn fragments_a_second(&self) -> f64 {
        if self.seconds > 0.0 { self.fragments / self.seconds } else { 0.0 }
    }

    fn bytes_a_second(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes / self.seconds } else { 0.0 }
    }

    /// Seconds until `fragments` are gone; -1: never, as it looks.
    fn eta(&self, fragments: u64) -> i64 {
        match (fragments, self.fragments_a_second()) {
            (0, _) => 0,
            (_, speed) if speed > 0.01 => (fragments as f64 / speed).ceil() as i64,
            _ => -1,
        }
    }
}

impl Progress {
    pub(super) fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.at.elapsed() >= SAMPLE_EVERY)
    }

    /// Seconds until so many fragments are made, by the whole cluster; -1: never, as it looks.
    pub(super) fn eta(&self, fragments: u64) -> i64 {
        self.speed.eta(fragments)
    }

    /// The ledger's length is `fragments` now.
    pub(super) fn note(&mut self, ctx: &Context, fragments: u64) {
        let now = Sample { at: Instant::now(), fragments, bytes: self.bytes };
        if let Some(last) = self.last.filter(|last| fragments <= last.fragments && last.fragments > 0) {
            let elapsed = now.at.duration_since(last.at);
            self.speed.note(last.fragments - fragments, now.bytes - last.bytes, elapsed);
        }
        // Something else was lost, or nothing is missing: what was seen before tells nothing of what comes.
        if self.last.is_some_and(|last| fragments > last.fragments) || fragments == 0 {
            self.speed = Speed::default();
        }
        self.last = Some(now);
        let metrics = &ctx.metrics;
        metrics.ledger_fragments.set(i64::try_from(fragments).unwrap_or(i64::MAX));
        metrics.repair_rate.set(self.speed.bytes_a_second() as i64);
        metrics.repair_eta_seconds.set(self.speed.eta(fragments));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_run_is_foretold_after_a_tenth_of_it() {
        // 1,000 fragments at 10 a second, in pages that end now and then.
        let mut speed = Speed::default();
        for second in 1..=10 {
            let page = if second % 3 == 0 { 20 } else { 5 };
            speed.note(page, page * 100, Duration::from_secs(1));
        }
        // The pages make 95 of 100 expected.
        let eta = speed.eta(905);
        assert!((68..=113).contains(&eta), "{eta} s, where 90 are meant");
        assert_eq!((speed.eta(0), Speed::default().eta(5)), (0, -1));
    }

    /// A run of 100 s at a steady rate, of which the metadata is told in pages of many sizes: from a tenth of it on it
    /// is foretold to a quarter, that of a part that is made first as well.
    #[test]
    fn what_is_foretold_holds_to_a_quarter_whatever_the_pages() {
        for page in [1u64, 64, 256, 700] {
            const ALL: u64 = 100_000;
            const TAKES: u64 = 100;
            let (mut speed, mut told) = (Speed::default(), 0);
            for second in 1..TAKES {
                let made = ALL * second / TAKES;
                // Twelve nodes, each with a page of its own.
                let now = (0..12).map(|node| (made / 12 + node * page / 12) / page * page).sum::<u64>().min(made);
                speed.note(now - told, 0, Duration::from_secs(1));
                told = now;
                if second < TAKES / 10 {
                    continue;
                }
                for part in [ALL, ALL / 2].into_iter().filter(|part| *part > made) {
                    let rest = (part - made) * TAKES / ALL;
                    let eta = speed.eta(part - told) as u64;
                    // A page that is not told more or less.
                    let slack = rest / 4 + 12 * page * TAKES / ALL + 1;
                    assert!(eta.abs_diff(rest) <= slack, "pages of {page}, after {second} s: {eta} s for {rest}");
                }
            }
        }
    }
}

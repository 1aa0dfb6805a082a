//! What is printed: a table for people, and the same as JSON.

use std::{fmt, time::Duration};

use cairn_chaos::audit::Lost;
use serde_json::{Value, json};

use crate::{
    clients::{Latency, Sample, Verb, Window},
    raw::Rates,
};

const MIB: f64 = (1 << 20) as f64;

/// How much is still missing, after so long.
pub(crate) type Progress = Vec<(Duration, u64)>;

pub(crate) struct Report {
    pub machine: String,
    pub lost: Lost,
    pub progress: Progress,
    /// Bytes written in a second by raw files.
    pub raw: Rates,
    /// Fragments read for each that is written.
    pub data: usize,
    pub windows: Vec<Window>,
    pub samples: Vec<Sample>,
}

pub(crate) fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl Report {
    /// When no more than this part of what was lost was missing any more.
    fn down_to(&self, part: f64) -> Duration {
        let most = (self.lost.fragments as f64 * part) as u64;
        let last_above = self.progress.iter().rposition(|(_, missing)| *missing > most).unwrap_or(0);
        self.progress.get(last_above + 1).or(self.progress.last()).map_or(Duration::ZERO, |(after, _)| *after)
    }

    /// Bytes made anew in a second, from the word that the rack is lost until nothing is missing.
    fn rate(&self) -> f64 {
        self.lost.bytes as f64 / self.down_to(0.0).as_secs_f64()
    }

    /// The same without beginning and end.
    fn steady_rate(&self) -> f64 {
        let took = self.down_to(0.1).saturating_sub(self.down_to(0.9));
        self.lost.bytes as f64 * 0.8 / took.as_secs_f64().max(1e-9)
    }

    fn raw_rate(&self) -> f64 {
        self.raw.iter().map(|(_, rate)| *rate).fold(0.0, f64::max)
    }

    fn latency(&self, window: &str, verb: Verb) -> Latency {
        let window = self.windows.iter().find(|other| other.name == window);
        window.map_or_else(Latency::default, |window| window.latency(verb, &self.samples))
    }

    fn p99_ratio(&self, verb: Verb) -> f64 {
        let [before, during] = ["before", "repair"].map(|window| self.latency(window, verb).p99.as_secs_f64());
        during / before.max(1e-9)
    }

    pub(crate) fn json(&self) -> Value {
        let latency = |window: &Window, verb| {
            let latency = window.latency(verb, &self.samples);
            let (p50, p99) = (ms(latency.p50), ms(latency.p99));
            json!({ "done": latency.done, "failed": latency.failed, "p50_ms": p50, "p99_ms": p99 })
        };
        let windows: Vec<Value> = self
            .windows
            .iter()
            .map(|window| {
                let seconds = (window.to - window.from).as_secs_f64();
                let (get, put) = (latency(window, Verb::Get), latency(window, Verb::Put));
                json!({ "name": window.name, "seconds": seconds, "others": window.others, "get": get, "put": put })
            })
            .collect();
        let raw: Vec<Value> =
            self.raw.iter().map(|(threads, rate)| json!({ "threads": threads, "bytes_per_second": rate })).collect();
        json!({
            "machine": self.machine,
            "lost_fragments": self.lost.fragments,
            "lost_bytes": self.lost.bytes,
            "seconds": self.down_to(0.0).as_secs_f64(),
            "bytes_per_second": self.rate(),
            "steady_bytes_per_second": self.steady_rate(),
            "raw": raw,
            "ratio": self.rate() / self.raw_rate(),
            "steady_ratio": self.steady_rate() / self.raw_rate(),
            "get_p99_ratio": self.p99_ratio(Verb::Get),
            "put_p99_ratio": self.p99_ratio(Verb::Put),
            "windows": windows,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "clients: GET and PUT of 1 MiB at fixed times, in ms")?;
        writeln!(f, "window        seconds  others    GETs  failed     p50     p99    PUTs  failed     p50     p99")?;
        for window in &self.windows {
            let seconds = (window.to - window.from).as_secs_f64();
            write!(f, "{:12} {seconds:>8.1} {:>7}", window.name, percent(window.others))?;
            for verb in [Verb::Get, Verb::Put] {
                let Latency { done, failed, p50, p99 } = window.latency(verb, &self.samples);
                write!(f, " {done:>7} {failed:>7} {:>7.1} {:>7.1}", ms(p50), ms(p99))?;
            }
            writeln!(f)?;
        }
        let [get, put] = [Verb::Get, Verb::Put].map(|verb| self.p99_ratio(verb));
        writeln!(f, "p99 during repair against before: GET {get:.1} times, PUT {put:.1} times (goal: at most 2)")?;
        let Lost { fragments, bytes, .. } = self.lost;
        let [half, most, all] = [0.5, 0.1, 0.0].map(|part| self.down_to(part).as_secs_f64());
        writeln!(
            f,
            "repair: {fragments} fragments, {:.0} MiB; half after {half:.1} s, nine tenths after {most:.1} s, all after {all:.1} s",
            bytes as f64 / MIB
        )?;
        let (rate, steady) = (self.rate() / MIB, self.steady_rate() / MIB);
        writeln!(f, "        {rate:.0} MiB/s in all, {steady:.0} MiB/s without the first and last tenth")?;
        write!(
            f,
            "raw: {} fragments read and one written and synced, nothing of them cached, MiB/s written:",
            self.data
        )?;
        for (threads, rate) in &self.raw {
            write!(f, " {:.0} by {threads}", rate / MIB)?;
        }
        let raw = self.raw_rate() / MIB;
        writeln!(
            f,
            "\nratio: {:.2} (goal: at least 0.5), {:.2} without the first and last tenth",
            rate / raw,
            steady / raw
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_its_end() {
        let at = |seconds: u64, missing| (Duration::from_secs(seconds), missing);
        let report = Report {
            machine: String::new(),
            lost: Lost { fragments: 100, bytes: 1000, out_of_reach: 0 },
            progress: vec![at(0, 100), at(1, 80), at(2, 95), at(3, 40), at(4, 5), at(5, 0)],
            raw: vec![(1, 100.0), (4, 400.0)],
            data: 4,
            windows: Vec::new(),
            samples: Vec::new(),
        };
        assert_eq!([0.9, 0.5, 0.1, 0.0].map(|part| report.down_to(part).as_secs()), [3, 3, 4, 5]);
        assert_eq!(report.rate() as u64, 200);
        assert_eq!(report.raw_rate() as u64, 400);
        assert_eq!(report.steady_rate() as u64, 800);
        assert_eq!(report.json()["ratio"], 0.5);
    }
}

//! The report as `report.json` has it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    inject::{Event, Second, Taken},
    judge::Verdict,
    script::MetadataKind,
    traffic::{Class, Sample},
};

/// Format 1; fields may be added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub format: u32,
    /// The scenario's name, and its file as it was.
    pub name: String,
    pub about: String,
    pub file: String,
    pub seed: u64,
    /// As it was run, whatever the file says.
    pub duration: String,
    pub metadata: MetadataKind,
    /// An older program that ran at first.
    #[serde(default)]
    pub before: Option<PathBuf>,
    /// The steps of the schedule that were done, by their numbers; None: all.
    #[serde(default)]
    pub only: Option<Vec<usize>>,
    /// What the binary said of itself.
    pub version: String,
    /// UTC.
    pub began: String,
    pub took_seconds: f64,
    /// How long healing took after the last fault; None if it did not end in time.
    pub healed_seconds: Option<f64>,
    pub is_good: bool,
    pub verdicts: Vec<Verdict>,
    pub events: Vec<Event>,
    pub tallies: BTreeMap<String, Tally>,
    pub series: Vec<Series>,
    pub seconds: Vec<Second>,
    pub most: BTreeMap<String, Taken>,
}

/// All requests of one kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    pub by_class: BTreeMap<String, u64>,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub longest_ms: f64,
}

/// One second of the load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    pub at_ms: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Report {
    pub const FORMAT: u32 = 1;

    /// The command that runs the same again.
    pub fn replay(&self) -> String {
        format!("cairn-chaos replay report.json   # --seed {} --duration '{}'", self.seed, self.duration)
    }
}

/// By kind of request.
pub fn tallies(samples: &[Sample]) -> BTreeMap<String, Tally> {
    let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for sample in samples {
        let tally = tallies.entry(sample.name.to_owned()).or_default();
        *tally.by_class.entry(class(sample.class).to_owned()).or_default() += 1;
        times.entry(sample.name).or_default().push(sample.took);
    }
    for (name, mut times) in times {
        times.sort_unstable();
        if let Some(tally) = tallies.get_mut(name) {
            (tally.p50_ms, tally.p99_ms) = (percentile(&times, 50), percentile(&times, 99));
            tally.longest_ms = percentile(&times, 100);
        }
    }
    tallies
}

/// By second.
pub fn series(samples: &[Sample]) -> Vec<Series> {
    let mut by_second: BTreeMap<u64, Vec<&Sample>> = BTreeMap::new();
    samples.iter().for_each(|sample| by_second.entry(sample.ended / 1_000_000).or_default().push(sample));
    let last = by_second.keys().next_back().copied().unwrap_or(0);
    let seconds = (0..=last).map(|second| {
        let samples = by_second.get(&second).map(Vec::as_slice).unwrap_or_default();
        let mut times: Vec<u64> = samples.iter().map(|sample| sample.took).collect();
        times.sort_unstable();
        let succeeded = samples.iter().filter(|sample| sample.class == Class::Succeeded).count() as u64;
        Series {
            at_ms: second * 1000,
            succeeded,
            failed: samples.len() as u64 - succeeded,
            p50_ms: percentile(&times, 50),
            p99_ms: percentile(&times, 99),
        }
    });
    seconds.collect()
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Succeeded => "succeeded",
        Class::Unavailable => "503",
        Class::Skewed => "403 skewed",
        Class::Internal => "500",
        Class::Transport => "transport",
        Class::Deadline => "deadline",
    }
}

/// Milliseconds below which `percent` of the sorted microseconds lie; zero of none.
fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(0.0, |micros| *micros as f64 / 1000.0)
}

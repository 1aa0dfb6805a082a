//! The verdicts on what was written down while the load went on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    history::{Answer, Op, judge, picture, smallest},
    inject::{Event, Outcome, Taken},
    script::{Kind, Must, Target},
    traffic::{
        Class, Sample,
        record::{Broken, Key},
    },
};

/// States that the search for an order may look at for one key.
const MOST_STATES: usize = 500_000;
/// To find the smallest bad history it is searched again and again.
const MOST_STATES_EACH: usize = 100_000;
/// How much of the evidence is told.
const TOLD: usize = 5;
/// How long service may take to come back after metadata or all nodes were away.
const RESUMED_MS: u64 = 30_000;
/// Clients from this number on are those that read at the end.
pub const FINAL_CLIENT: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    Yes,
    No,
    /// Looked at and not decided: counts as not held.
    Undecided,
    /// Not looked at, and said why.
    Unchecked,
}

/// On one thing that must hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// With the ids of the invariants.
    pub name: String,
    pub must: String,
    pub held: Held,
    /// What was looked at, or what is wrong.
    pub evidence: Vec<String>,
}

impl Verdict {
    /// It holds if there are no faults; `looked` says what was looked at.
    pub fn of(name: &str, must: &str, faults: Vec<String>, looked: String) -> Self {
        let held = if faults.is_empty() { Held::Yes } else { Held::No };
        let mut evidence: Vec<String> = faults.iter().take(TOLD).cloned().collect();
        if faults.len() > TOLD {
            evidence.push(format!("and {} more", faults.len() - TOLD));
        }
        evidence.push(looked);
        Self { name: name.into(), must: must.into(), held, evidence }
    }

    pub fn unchecked(name: &str, must: &str, why: &str) -> Self {
        Self { name: name.into(), must: must.into(), held: Held::Unchecked, evidence: vec![why.into()] }
    }

    pub fn is_good(&self) -> bool {
        self.held == Held::Yes
    }
}

/// Linearizability of each key, and durability: a history that only the reads at the end contradict has lost something.
pub fn histories(histories: &BTreeMap<Key, Vec<Op>>, broken: &[Broken], unread: &[String]) -> [Verdict; 2] {
    let (mut disorder, mut lost, mut undecided) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ops, mut unknown) = (0, 0);
    for (key, history) in histories {
        ops += history.len();
        unknown += history.iter().filter(|op| op.ended.is_none()).count();
        let name = format!("{}/{}", key.0, key.1);
        match judge(history, MOST_STATES) {
            Answer::Linear => {}
            Answer::Undecided => undecided.push(format!("{name}: given up after {MOST_STATES} states")),
            Answer::NotLinear => {
                let before: Vec<Op> = history.iter().filter(|op| op.client < FINAL_CLIENT).cloned().collect();
                let drawn = picture(&smallest(history, MOST_STATES_EACH));
                let told = format!("{name}: no order explains\n{drawn}");
                if judge(&before, MOST_STATES) == Answer::Linear { lost.push(told) } else { disorder.push(told) }
            }
        }
    }
    let told = |invariant: &'static str| broken.iter().filter(move |broken| broken.invariant == invariant);
    disorder.extend(told("CON-1").map(|broken| broken.what.clone()));
    lost.extend(told("DUR-1").map(|broken| broken.what.clone()));
    lost.extend(unread.iter().cloned());
    let looked = format!("{} keys, {ops} requests, {unknown} of unknown outcome", histories.len());
    let mut linear = Verdict::of(
        "linearizability (CON-1)",
        "for each key some order of the requests, one after another, explains every answer",
        disorder,
        looked.clone(),
    );
    if linear.is_good() && !undecided.is_empty() {
        linear.held = Held::Undecided;
        linear.evidence.splice(0..0, undecided);
    }
    let must = "every acknowledged version is read, byte for byte, during the faults and at the end through every node";
    [linear, Verdict::of("durability (DUR-1, DUR-2)", must, lost, looked)]
}

/// What single answers broke. Only where a clock was wrong may a node call ours wrong.
pub fn answers(broken: &[Broken], samples: &[Sample], events: &[Event]) -> Vec<Verdict> {
    let of = |ids: &[&str]| -> Vec<String> {
        let those = broken.iter().filter(|broken| ids.contains(&broken.invariant));
        those.map(|broken| format!("{}: {}", broken.invariant, broken.what)).collect()
    };
    let count = |name: &[&str]| samples.iter().filter(|sample| name.contains(&sample.name)).count();
    let mut honesty = of(&["READY"]);
    let is_wrong = |event: &Event| event.step.what.is_of_clocks() && matches!(event.outcome, Outcome::Done);
    let skewed = samples.iter().filter(|sample| sample.class == Class::Skewed).count();
    if skewed > 0 && !events.iter().any(is_wrong) {
        honesty
            .push(format!("{skewed} requests were refused with 403 as too old or too new, and every clock was right"));
    }
    let read = format!("{} reads", count(&["GET", "GET of a version", "HEAD"]));
    vec![
        Verdict::of(
            "integrity (INT-1, CON-2)",
            "no answer has a byte, a length or a label that nobody wrote so",
            of(&["INT-1", "CON-2"]),
            read,
        ),
        Verdict::of(
            "honesty",
            "no node calls itself ready while the metadata have been away from it for longer than a request waits for them",
            honesty,
            "looked at each second while they were away".into(),
        ),
        Verdict::of(
            "full disks",
            "writes that find no room are refused with 503, reads and deletes go on, and then writes are taken again",
            of(&["FULL"]),
            "looked at while clients filled the cluster, if they did".into(),
        ),
        Verdict::of(
            "processes",
            "no process ends by itself, and each that is told to ends well",
            of(&["CRASH", "STOP"]),
            "looked at ten times a second".into(),
        ),
    ]
}

/// BND-1: what processes took, and how long requests did.
pub fn figures(must: &Must, memory_bytes: u64, most: &BTreeMap<String, Taken>, broken: &[Broken]) -> Verdict {
    let mut faults: Vec<String> =
        broken.iter().filter(|broken| broken.invariant == "BND-1").map(|broken| broken.what.clone()).collect();
    let bound = memory_bytes * u64::from(must.memory_percent) / 100;
    let mut largest = Taken::default();
    for (name, taken) in most {
        if name != "meta" && taken.rss_bytes > bound {
            faults.push(format!("{name} had {} MiB resident, of {} allowed", taken.rss_bytes >> 20, bound >> 20));
        }
        if taken.threads > must.threads {
            faults.push(format!("{name} had {} threads, of {} allowed", taken.threads, must.threads));
        }
        if taken.handles > must.handles {
            faults.push(format!("{name} had {} files and sockets open, of {} allowed", taken.handles, must.handles));
        }
        largest.rss_bytes = largest.rss_bytes.max(taken.rss_bytes);
        largest.threads = largest.threads.max(taken.threads);
        largest.handles = largest.handles.max(taken.handles);
    }
    let looked = format!(
        "at most {} MiB resident, {} threads, {} handles in one process",
        largest.rss_bytes >> 20,
        largest.threads,
        largest.handles
    );
    let what = "memory, threads and handles stay within their bounds, and requests to nodes that work end in time";
    Verdict::of("bounds (BND-1)", what, faults, looked)
}

/// The longest time without a success, apart from when none could be.
pub fn silence(must: &Must, samples: &[Sample], events: &[Event], end_ms: u64) -> Verdict {
    let done = events.iter().filter(|event| matches!(event.outcome, Outcome::Done));
    let cut = done.filter(|event| {
        let kind = event.step.what;
        matches!(event.step.target, Target::Metadata | Target::All)
            && (kind.is_partition() || matches!(kind, Kind::Kill | Kind::Freeze | Kind::PowerCut | Kind::Upgrade))
    });
    let cut = cut.map(|event| (event.began_ms, event.ended_ms.unwrap_or(end_ms) + RESUMED_MS));
    let cut = apart(cut.collect());
    let mut times: Vec<u64> =
        samples.iter().filter(|sample| sample.class == Class::Succeeded).map(|sample| sample.ended / 1000).collect();
    times.push(end_ms);
    times.sort_unstable();
    let (mut last, mut longest, mut faults) = (0, 0, Vec::new());
    for time in times {
        // What of it was cut off by the metadata or all nodes does not count.
        let off: u64 = cut.iter().map(|(from, to)| time.min(*to).saturating_sub(last.max(*from))).sum();
        let silent = time.saturating_sub(last).saturating_sub(off);
        longest = longest.max(silent);
        if silent > must.silent_at_most.millis() {
            faults.push(format!("nothing succeeded from {:.1} s to {:.1} s", last as f64 / 1e3, time as f64 / 1e3));
        }
        last = time;
    }
    let must = format!(
        "no longer than {} without a request that succeeds, while metadata and nodes are there",
        must.silent_at_most
    );
    Verdict::of("availability", &must, faults, format!("the longest such time was {:.1} s", longest as f64 / 1e3))
}

/// The same spans, none of which overlaps another.
fn apart(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut apart: Vec<(u64, u64)> = Vec::new();
    for (from, to) in spans {
        match apart.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => apart.push((from, to)),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::history::Need;

    fn op(client: usize, need: Need, writes: Option<Option<u64>>, at: u64) -> Op {
        Op { client, name: "x", need, writes, begun: at, ended: Some(at + 1) }
    }

    fn judged(ops: Vec<Op>) -> [Verdict; 2] {
        histories(&BTreeMap::from([(("b", "k".to_owned()), ops)]), &[], &[])
    }

    #[test]
    fn dur_1_what_only_the_last_read_misses_is_lost_and_what_others_miss_is_out_of_order() {
        let put = op(1, Need::Anything, Some(Some(1)), 0);
        let [order, kept] = judged(vec![put.clone(), op(2, Need::Is(Some(1)), None, 5)]);
        assert!(order.is_good() && kept.is_good());
        let [order, kept] = judged(vec![put.clone(), op(FINAL_CLIENT, Need::Is(None), None, 5)]);
        assert!(order.is_good() && kept.held == Held::No, "{kept:?}");
        assert!(kept.evidence[0].contains("b/k: no order explains"), "{kept:?}");
        let [order, kept] = judged(vec![put, op(2, Need::Is(None), None, 5)]);
        assert!(order.held == Held::No && kept.is_good());
    }

    #[test]
    fn bnd_1_what_is_above_its_bound_is_told_with_the_process() {
        let most = BTreeMap::from([("r1n1".to_owned(), Taken { rss_bytes: 200 << 20, threads: 9, handles: 9 })]);
        let verdict = figures(&Must::default(), 128 << 20, &most, &[]);
        assert!(verdict.held == Held::No && verdict.evidence[0].contains("r1n1 had 200 MiB"), "{verdict:?}");
        assert!(figures(&Must::default(), 160 << 20, &most, &[]).is_good());
    }

    #[test]
    fn who_is_refused_for_the_time_while_every_clock_is_right_is_told() {
        let sample = Sample { ended: 1, took: 1, name: "GET", class: Class::Skewed };
        let verdicts = answers(&[], &[sample], &[]);
        let broken: Vec<_> = verdicts.iter().filter(|verdict| !verdict.is_good()).collect();
        assert!(broken.len() == 1 && broken[0].evidence[0].contains("every clock was right"), "{verdicts:?}");
        let full = Broken { invariant: "FULL", what: "x".into() };
        let verdicts = answers(&[full], &[], &[]);
        assert!(verdicts.iter().any(|verdict| verdict.name == "full disks" && verdict.held == Held::No));
    }

    #[test]
    fn a_long_time_without_success_is_told_unless_the_metadata_were_away() {
        let sample = |ended_ms: u64| Sample { ended: ended_ms * 1000, took: 1, name: "GET", class: Class::Succeeded };
        let samples = [sample(1_000), sample(80_000)];
        assert_eq!(silence(&Must::default(), &samples, &[], 81_000).held, Held::No);
        let step = crate::script::Step {
            number: 1,
            at: crate::script::units::Span::seconds(2),
            what: Kind::Kill,
            target: Target::Metadata,
            instead: Vec::new(),
            lasts: crate::script::units::Span::seconds(30),
            seed: 0,
            when_whole: false,
        };
        let outcome = Outcome::Done;
        let event = Event { step, began_ms: 2_000, ended_ms: Some(32_000), healed_ms: None, waited: None, outcome };
        assert_eq!(silence(&Must::default(), &samples, std::slice::from_ref(&event), 81_000).held, Held::Yes);
        // Twice away at once is not twice as long.
        let short = Event { ended_ms: Some(2_100), ..event };
        let verdict = silence(&Must::default(), &samples, &[short.clone(), short], 81_000);
        assert_eq!(verdict.held, Held::No, "{verdict:?}");
        assert_eq!(apart(vec![(5, 9), (1, 6), (20, 21)]), [(1, 9), (20, 21)]);
    }
}

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::{Report, data, write};
use crate::{
    inject::{Event, Outcome, Second},
    judge::Verdict,
    script::{Kind, MetadataKind, Step, Target, units::Span},
    traffic::{Class, Sample},
};

fn report() -> Report {
    let sample = |second: u64, took: u64, class| Sample { ended: second * 1_000_000, took, name: "GET", class };
    let samples =
        [sample(0, 1000, Class::Succeeded), sample(0, 3000, Class::Succeeded), sample(2, 9000, Class::Unavailable)];
    let step = Step {
        number: 1,
        at: Span::seconds(1),
        what: Kind::Kill,
        target: Target::Rack(2),
        instead: Vec::new(),
        lasts: Span::seconds(1),
        seed: 5,
        when_whole: false,
    };
    Report {
        format: Report::FORMAT,
        name: "chaos/scenarios/x.toml".into(),
        about: "1 < 2".into(),
        file: "version = 1\n".into(),
        seed: 7,
        duration: "40 s".into(),
        metadata: MetadataKind::Remote,
        before: None,
        only: None,
        version: "cairn 0\n".into(),
        began: "2026-01-01T00:00:00Z".into(),
        took_seconds: 3.0,
        healed_seconds: None,
        is_good: false,
        verdicts: vec![Verdict::of("integrity", "no <b>", vec!["two & two".into()], "3 reads".into())],
        events: vec![Event {
            step,
            began_ms: 1000,
            ended_ms: Some(2000),
            healed_ms: None,
            waited: None,
            outcome: Outcome::Done,
        }],
        tallies: data::tallies(&samples),
        series: data::series(&samples),
        seconds: vec![Second { at_ms: 1000, missing_fragments: Some(4), disks_up: None, rss_bytes: 5 << 20 }],
        most: BTreeMap::new(),
    }
}

#[test]
fn figures_are_by_kind_and_by_second() {
    let report = report();
    let get = &report.tallies["GET"];
    assert_eq!(get.by_class, BTreeMap::from([("503".to_owned(), 1), ("succeeded".to_owned(), 2)]));
    assert_eq!((get.p50_ms, get.p99_ms, get.longest_ms), (3.0, 9.0, 9.0));
    let counts: Vec<(u64, u64)> = report.series.iter().map(|series| (series.succeeded, series.failed)).collect();
    assert_eq!(counts, [(2, 0), (0, 0), (0, 1)]);
}

#[test]
fn a_report_is_read_as_it_was_written_and_its_page_needs_nothing_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    write(&report(), &folder.path().join("a")).unwrap();
    let json = std::fs::read_to_string(folder.path().join("a/report.json")).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (read.seed, read.file, read.events[0].step.clone()),
        (7, report().file, report().events[0].step.clone())
    );
    let page = std::fs::read_to_string(folder.path().join("a/report.html")).unwrap();
    for outside in ["http", "src=", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    for there in ["FAILED", "1 &lt; 2", "no &lt;b&gt;", "two &amp; two", "kill of rack r3", "<polyline", "--seed 7"] {
        assert!(page.contains(there), "{there} is not in {page}");
    }
}

//! The report as one page without anything from elsewhere.

use std::fmt::Write as _;

use super::{
    chart::{Band, Curve, curves, escape, faults},
    data::Report,
};
use crate::{inject::Outcome, judge::Held};

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;max-width:1020px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.8em}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;vertical-align:top;padding:.3em .6em;border-bottom:1px solid #ddd}td.n,th.n{text-align:right}\
pre{white-space:pre-wrap;margin:.2em 0;font:12px/1.35 ui-monospace,monospace}svg{width:100%;height:auto;display:block}\
svg text{font:11px system-ui,sans-serif}svg polyline{stroke-width:1.4}.axis{stroke:#999}.band{fill:#fbe3d6}\
.fault{fill:#c8502d}.healing{fill:#f2c6b2}.yes{color:#1a7f37;font-weight:600}.no{color:#b3261e;font-weight:600}\
.undecided,.unchecked{color:#8a6100;font-weight:600}code{background:#f3f3f3;padding:.1em .3em}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#444}svg text{fill:#ccc}\
.band{fill:#4a2a1c}code{background:#2a2a2a}}";

pub fn page(report: &Report) -> String {
    let verdict = if report.is_good { ("yes", "held") } else { ("no", "FAILED") };
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>cairn-chaos {name}: {word}</title>\
         <style>{STYLE}</style></head><body><h1>{name}: <span class=\"{class}\">{word}</span></h1><p>{about}</p>",
        name = escape(&report.name),
        word = verdict.1,
        class = verdict.0,
        about = escape(&report.about),
    );
    let healed = report.healed_seconds.map_or("not in time".into(), |seconds| format!("in {seconds:.0} s"));
    let _ = write!(
        html,
        "<p>Seed <code>{}</code>, faults for {}, metadata {:?}, {}; began {} and took {:.0} s; whole again {healed} after \
         the last fault.<br>To run the same again: <code>{}</code></p>",
        report.seed,
        escape(&report.duration),
        report.metadata,
        escape(report.version.trim()),
        escape(&report.began),
        report.took_seconds,
        escape(&report.replay())
    );
    verdicts(&mut html, report);
    timeline(&mut html, report);
    events(&mut html, report);
    requests(&mut html, report);
    let _ = write!(html, "<h2>The scenario</h2><pre>{}</pre></body></html>", escape(&report.file));
    html
}

fn verdicts(html: &mut String, report: &Report) {
    html.push_str("<h2>What had to hold</h2><table><tr><th>Invariant<th>Must<th>Held<th>Evidence");
    for verdict in &report.verdicts {
        let (class, word) = match verdict.held {
            Held::Yes => ("yes", "held"),
            Held::No => ("no", "BROKEN"),
            Held::Undecided => ("undecided", "undecided"),
            Held::Unchecked => ("unchecked", "not looked at"),
        };
        let evidence: String = verdict.evidence.iter().map(|line| format!("<pre>{}</pre>", escape(line))).collect();
        let (name, must) = (escape(&verdict.name), escape(&verdict.must));
        let _ = write!(html, "<tr><td>{name}<td>{must}<td class=\"{class}\">{word}<td>{evidence}");
    }
    html.push_str("</table>");
}

fn bands(report: &Report, end: u64) -> Vec<Band> {
    let done = report.events.iter().filter(|event| matches!(event.outcome, Outcome::Done));
    let band = |event: &crate::inject::Event| {
        let to = event.ended_ms.unwrap_or(end);
        let is_drain = event.step.what == crate::script::Kind::Drain;
        let needs_healing = event.step.target != crate::script::Target::Metadata && !is_drain;
        let healed = event.healed_ms.unwrap_or(if needs_healing { end } else { to });
        Band { name: event.step.to_string(), from: event.began_ms, to, healed }
    };
    done.map(band).collect()
}

fn timeline(html: &mut String, report: &Report) {
    let last = report.series.last().map_or(0, |series| series.at_ms);
    let end = report.seconds.last().map_or(last, |second| second.at_ms.max(last)).max(1000);
    let bands = bands(report, end);
    let of = |value: fn(&super::Series) -> f64| -> Vec<(u64, f64)> {
        report.series.iter().map(|series| (series.at_ms, value(series))).collect()
    };
    let looked = |value: &dyn Fn(&crate::inject::Second) -> Option<f64>| -> Vec<(u64, f64)> {
        report.seconds.iter().filter_map(|second| Some((second.at_ms, value(second)?))).collect()
    };
    html.push_str("<h2>Timeline</h2>");
    html.push_str(&faults(end, &bands));
    let requests = [
        Curve { name: "succeeded a second", colour: "#1a7f37", points: of(|series| series.succeeded as f64) },
        Curve { name: "failed a second", colour: "#b3261e", points: of(|series| series.failed as f64) },
    ];
    html.push_str(&curves("requests a second", end, &requests, &bands));
    let latency = [
        Curve { name: "p99, ms", colour: "#8250df", points: of(|series| series.p99_ms) },
        Curve { name: "p50, ms", colour: "#0969da", points: of(|series| series.p50_ms) },
    ];
    html.push_str(&curves("latency", end, &latency, &bands));
    let missing = looked(&|second| second.missing_fragments.map(|count| count as f64));
    let missing = [Curve { name: "missing fragments", colour: "#b3261e", points: missing }];
    html.push_str(&curves("missing redundancy", end, &missing, &bands));
    let up = looked(&|second| second.disks_up.map(|count| count as f64));
    html.push_str(&curves("disks", end, &[Curve { name: "disks up", colour: "#0969da", points: up }], &bands));
    let resident = looked(&|second| Some((second.rss_bytes >> 20) as f64));
    let resident = [Curve { name: "MiB resident, all processes", colour: "#6e5494", points: resident }];
    html.push_str(&curves("memory", end, &resident, &bands));
}

fn events(html: &mut String, report: &Report) {
    html.push_str(
        "<h2>Faults</h2><table><tr><th>Step<th class=n>began, s<th class=n>ended, s<th class=n>whole, s<th>Outcome",
    );
    let seconds = |ms: Option<u64>| ms.map_or("–".into(), |ms| format!("{:.1}", ms as f64 / 1000.0));
    for event in &report.events {
        let outcome = match &event.outcome {
            Outcome::Done => match &event.waited {
                Some(why) => format!("done, late: {}", escape(why)),
                None => "done".into(),
            },
            Outcome::Skipped(why) => format!("left out: {}", escape(why)),
        };
        let _ = write!(
            html,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td>{outcome}",
            escape(&event.step.to_string()),
            seconds(Some(event.began_ms)),
            seconds(event.ended_ms),
            seconds(event.healed_ms)
        );
    }
    html.push_str("</table>");
}

fn requests(html: &mut String, report: &Report) {
    html.push_str(
        "<h2>Requests</h2><table><tr><th>Request<th>Ended<th class=n>p50, ms<th class=n>p99, ms<th class=n>longest, ms",
    );
    for (name, tally) in &report.tallies {
        let classes: Vec<String> = tally.by_class.iter().map(|(class, count)| format!("{count} {class}")).collect();
        let _ = write!(
            html,
            "<tr><td>{}<td>{}<td class=n>{:.1}<td class=n>{:.1}<td class=n>{:.1}",
            escape(name),
            escape(&classes.join(", ")),
            tally.p50_ms,
            tally.p99_ms,
            tally.longest_ms
        );
    }
    html.push_str("</table><h2>Processes at their most</h2><table><tr><th>Process<th class=n>MiB resident<th class=n>threads<th class=n>handles");
    for (name, taken) in &report.most {
        let (mib, threads, handles) = (taken.rss_bytes >> 20, taken.threads, taken.handles);
        let _ = write!(html, "<tr><td>{}<td class=n>{mib}<td class=n>{threads}<td class=n>{handles}", escape(name));
    }
    html.push_str("</table>");
}

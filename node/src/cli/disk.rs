//! `cairn disk`: a disk's folder, looked into while no node uses it.

use std::{fmt::Write, path::Path};

use cairn_actors::disk::tools::{self, InspectReport, ListedFragment, Listing, RebuildReport, VerifyReport};
use serde::Serialize;

use super::DiskCommand;
use crate::{
    failure::Failure,
    words::{bytes, plural},
};

/// Damage is listed up to so many lines; `--json` has all of it.
const MAX_LINES: usize = 20;

/// Prints the report; returns what is wrong with the disk, if anything.
pub(crate) fn run(
    command: &DiskCommand,
    print: impl Fn(&str) -> Result<(), Failure>,
) -> Result<Option<Failure>, Failure> {
    match command {
        DiskCommand::Inspect { dir, json } => {
            let report = tools::inspect(dir).map_err(Failure::Disk)?;
            print(&if *json { to_json(&report)? } else { inspected(&report) })?;
            Ok(None)
        }
        DiskCommand::List { dir, digests, json } => list(dir, *digests, *json, print),
        DiskCommand::Verify { dir, json } => {
            let report = tools::verify(dir).map_err(Failure::Disk)?;
            print(&if *json { to_json(&report)? } else { verified(&report) })?;
            Ok((!report.is_clean()).then(|| Failure::DamagedDisk(dir.clone())))
        }
        DiskCommand::RebuildIndex { dir } => {
            let report = tools::rebuild_index(dir).map_err(Failure::Disk)?;
            print(&rebuilt(dir, &report))?;
            Ok(None)
        }
    }
}

/// Page by page: a disk may hold millions.
fn list(
    dir: &Path,
    digests: bool,
    json: bool,
    print: impl Fn(&str) -> Result<(), Failure>,
) -> Result<Option<Failure>, Failure> {
    let mut listing = Listing::open(dir, digests).map_err(Failure::Disk)?;
    let (disk, cluster, fragments) = (listing.disk(), listing.cluster(), listing.fragments());
    print(&if json {
        to_json_line(&serde_json::json!({ "disk": disk, "cluster": cluster, "fragments": fragments }))?
    } else {
        format!("disk {disk} of cluster {cluster}: {}\n", plural(fragments as usize, "fragment"))
    })?;
    let mut damaged = false;
    loop {
        let page = listing.page().map_err(Failure::Disk)?;
        if page.is_empty() {
            return Ok(damaged.then(|| Failure::DamagedDisk(dir.to_owned())));
        }
        damaged |= page.iter().any(|fragment| fragment.damage.is_some());
        let line = |fragment: &ListedFragment| if json { to_json_line(fragment) } else { Ok(listed(fragment)) };
        print(&page.iter().map(line).collect::<Result<String, Failure>>()?)?;
    }
}

fn listed(fragment: &ListedFragment) -> String {
    let ListedFragment { name, bytes, segment, offset, digest, damage } = fragment;
    let read = digest.as_ref().map_or(String::new(), |digest| format!("  {digest}"));
    let damage = damage.as_ref().map_or(String::new(), |what| format!("  DAMAGED: {what}"));
    format!("{name}  {bytes} bytes in segment {segment} at byte {offset}{read}{damage}\n")
}

fn to_json(report: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(report);
    text.map(|text| text + "\n").map_err(|error| Failure::Encode(error.to_string()))
}

fn to_json_line(line: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(line);
    text.map(|text| text + "\n").map_err(|error| Failure::Encode(error.to_string()))
}

// Writing to a String cannot fail, so results are dropped throughout.

fn inspected(report: &InspectReport) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "disk       {}", report.disk);
    let _ = writeln!(text, "cluster    {}", report.cluster);
    let _ = writeln!(text, "fragments  {}, {} of payload", report.fragments, bytes(report.payload_bytes));
    let _ = writeln!(
        text,
        "segments   {}; {} of {} held by what is needed",
        report.segments.len(),
        bytes(report.held_bytes),
        bytes(report.occupied_bytes)
    );
    let index = report.recovery.index_unusable.as_deref();
    let _ = writeln!(text, "index      {}", index.map_or("good".to_owned(), |why| format!("to be made anew: {why}")));
    let damaged: usize = report.segments.iter().map(|segment| segment.damaged_regions).sum();
    if damaged > 0 {
        let _ = writeln!(text, "damage     {}; `cairn disk verify` says more", plural(damaged, "region"));
    }
    text
}

fn verified(report: &VerifyReport) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "disk {}: {} verified, {}",
        report.disk,
        plural(usize::try_from(report.fragments_verified).unwrap_or(usize::MAX), "fragment"),
        bytes(report.bytes_verified)
    );
    let recovery = &report.recovery;
    let mut lines: Vec<String> =
        recovery.unreadable_segments.iter().map(|n| format!("segment {n} is unreadable")).collect();
    if recovery.lost_with_segments > 0 {
        lines.push(format!(
            "{} were in segment files that are gone",
            plural(recovery.lost_with_segments as usize, "fragment")
        ));
    }
    let regions = recovery.damaged.iter();
    lines.extend(regions.map(|(segment, from, to)| format!("segment {segment}, bytes {from} to {to}: not a record")));
    let damaged = report.damaged.iter();
    lines.extend(
        damaged.map(|one| format!("{} (segment {}, byte {}): {}", one.name, one.segment, one.offset, one.what)),
    );
    for line in lines.iter().take(MAX_LINES) {
        let _ = writeln!(text, "  {line}");
    }
    if lines.len() > MAX_LINES {
        let _ = writeln!(text, "  and {} more; see --json", lines.len() - MAX_LINES);
    }
    text
}

fn rebuilt(dir: &Path, report: &RebuildReport) -> String {
    format!(
        "{}: disk {} has {} in {}; the index is new\n",
        dir.display(),
        report.disk,
        plural(usize::try_from(report.fragments).unwrap_or(usize::MAX), "fragment"),
        plural(usize::try_from(report.recovery.segments).unwrap_or(usize::MAX), "segment")
    )
}

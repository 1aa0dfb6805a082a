//! `cairn status`: the cluster in words. It reads the JSON leniently, so that it works across versions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde::Deserialize;

use super::{
    health::{self, HealthView, RepairView, ScrubView, SpaceView, known_sum},
    jobs::WorkView,
    maintenance::WindowView,
    policy::DifferenceView,
    versions::versions,
};
use crate::words::{bytes, duration, plural};

/// Whole lists of healthy things help nobody: so many lines of trouble are shown, the rest is counted.
const MAX_LINES: usize = 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StatusView {
    process: ProcessView,
    /// None from a node of a version that does not tell, as the three that follow.
    health: Option<HealthView>,
    repair: Option<RepairView>,
    space: Option<SpaceView>,
    scrub: Option<ScrubView>,
    maintenance: Vec<WindowView>,
    /// None from a metadata server.
    cluster: Option<String>,
    seen_by: String,
    scheme: String,
    small_scheme: String,
    failure_domain: String,
    policy: PolicyView,
    rates: RatesView,
    nodes: Vec<NodeView>,
    groups: Vec<GroupView>,
    missing_fragments: u64,
    ledger_by_cause: Vec<(String, u64)>,
    inconsistent_blobs: Vec<String>,
    lost_members: u64,
    members_without_room: u64,
    /// None if this store does not count its stripes, or the node is of a version that does not tell.
    tolerance: Option<Vec<ToleranceView>>,
    work: WorkView,
    actors: Vec<ActorView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProcessView {
    version: String,
    uptime_seconds: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PolicyView {
    generation: u64,
    write_margin: u64,
    differences: Vec<DifferenceView>,
    too_large: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RatesView {
    generation: u64,
    scrub_bytes: u64,
    repair_bytes: u64,
    background_percent: u64,
    of_cluster: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToleranceView {
    scheme: String,
    possible: usize,
    stripes: Vec<u64>,
    thin: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReachView {
    cut_off: Option<String>,
    answered_seconds_ago: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeView {
    id: String,
    rack: String,
    zone: String,
    address: String,
    gossip: String,
    version: Option<String>,
    reach: Option<ReachView>,
    disks: Vec<DiskView>,
}

impl RatesView {
    /// Not while each node goes by its own: then there is nothing that an operator did and could forget.
    fn in_words(&self) -> Option<String> {
        let Self { generation, scrub_bytes, repair_bytes, background_percent, of_cluster } = self;
        (!of_cluster.is_empty()).then(|| {
            format!(
                "scrub {} a second and disk, repair {} a second, background {background_percent} %; {} set for all \
                 nodes (rates {generation})",
                bytes(*scrub_bytes),
                bytes(*repair_bytes),
                of_cluster.join(", ")
            )
        })
    }
}

impl NodeView {
    /// Without those that were taken out for good: nothing is known of them, and nothing need be.
    fn kept_disks(&self) -> impl Iterator<Item = &DiskView> {
        self.disks.iter().filter(|disk| disk.state != "removed")
    }

    /// Whether calls from the node that was asked reach it.
    fn reached(&self, asked: &str) -> &'static str {
        match &self.reach {
            _ if self.id == asked => "itself",
            None => "not tried",
            Some(ReachView { cut_off: Some(_), .. }) => "NO",
            Some(_) => "yes",
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DiskView {
    id: String,
    state: String,
    capacity_bytes: u64,
    used_bytes: Option<u64>,
    fragments: Option<u64>,
    writable: Option<bool>,
    failed: Option<String>,
}

impl DiskView {
    /// What is the matter with a disk of `node`, if anything is.
    fn trouble(&self, node: &str, asked: &str) -> Option<String> {
        let Self { id, state, used_bytes, writable, failed, .. } = self;
        let why = failed.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        match &**state {
            // What is drained and what was taken out is an operator's word, and no trouble.
            "removed" => None,
            "up" | "draining" if used_bytes.is_none() => {
                Some(format!("disk {id} of {node} is {state}, and does not answer {asked}"))
            }
            "up" | "draining" if failed.is_some() => Some(format!("disk {id} of {node} fails{why}")),
            "up" if *writable == Some(false) => Some(format!("disk {id} of {node} takes no writes")),
            "up" | "draining" => None,
            state => Some(format!("disk {id} of {node} is {state}{why}")),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GroupView {
    id: u32,
    scheme: String,
    state: String,
    epoch: u64,
    up: usize,
    width: usize,
    crowded: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ActorView {
    name: String,
    state: String,
    restarts: u64,
    last_failure: Option<String>,
}

impl StatusView {
    pub(crate) fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// What the process ends with: whether the data is safe. A metadata server does not know.
    pub(crate) fn code(&self) -> u8 {
        if self.cluster.is_some() { HealthView::code(self.health.as_ref()) } else { health::UNKNOWN }
    }

    pub(crate) fn in_words(&self) -> String {
        let mut text = String::new();
        let Some(cluster) = &self.cluster else {
            let _ = writeln!(text, "a metadata server, up for {}", duration(self.process.uptime_seconds));
            return text;
        };
        let disks = || self.nodes.iter().flat_map(NodeView::kept_disks);
        let racks: BTreeSet<_> = self.nodes.iter().map(|node| (&node.zone, &node.rack)).collect();
        let capacity = disks().map(|disk| disk.capacity_bytes).fold(0u64, u64::saturating_add);
        let used = known_sum(disks().map(|disk| disk.used_bytes), bytes);
        // Writing to a String cannot fail, so results are dropped throughout.
        let _ = writeln!(text, "health    {}", HealthView::in_words(self.health.as_ref()));
        let _ = writeln!(text, "cluster   {cluster}, seen by {} (cairn {})", self.seen_by, self.process.version);
        let _ = writeln!(
            text,
            "layout    {} in {}, {}; {} used of {}",
            plural(self.nodes.len(), "node"),
            plural(racks.len(), "rack"),
            plural(disks().count(), "disk"),
            used,
            bytes(capacity)
        );
        let of_nodes = self.nodes.iter().map(|node| (node.id.as_str(), node.version.as_deref()));
        if let Some(versions) = versions(of_nodes) {
            let _ = writeln!(text, "versions  {versions}");
        }
        if let Some(space) = &self.space {
            let _ = writeln!(text, "space     {}", space.in_words());
        }
        let _ = writeln!(
            text,
            "scheme    {} (small objects {}), no {} holds more than can be lost; write margin {} (policy {})",
            self.scheme, self.small_scheme, self.failure_domain, self.policy.write_margin, self.policy.generation
        );
        if let Some(rates) = self.rates.in_words() {
            let _ = writeln!(text, "rates     {rates}");
        }
        for window in &self.maintenance {
            let left = duration(window.left_seconds);
            let _ = writeln!(text, "maintain  {} is under maintenance for {left}: it is not given up", window.node);
        }
        let _ = writeln!(text, "missing   {}", self.missing());
        if let Some(repair) = self.repair.as_ref().and_then(|repair| repair.in_words(&self.seen_by)) {
            let _ = writeln!(text, "repair    {repair}");
        }
        let _ = writeln!(text, "thin      {}", self.thin());
        let _ = writeln!(text, "groups    {}", self.groups_in_words());
        if let Some(scrub) = &self.scrub {
            let _ = writeln!(text, "scrub     {}", scrub.in_words(&self.seen_by));
        }
        for line in self.work.lines() {
            let _ = writeln!(text, "moving    {line}");
        }
        self.write_nodes(&mut text);
        self.write_trouble(&mut text);
        text
    }

    /// The ledger, and what is not in it yet: it counts what a lost disk held once another has taken its place.
    fn missing(&self) -> String {
        let lost = match self.lost_members {
            0 => return self.ledger(),
            lost => plural(lost as usize, "lost member"),
        };
        let room = match self.members_without_room {
            0 => String::new(),
            some => format!("; for {some} no disk has room: add disks"),
        };
        format!("{}, and what {lost} of groups held that no disk stands in for yet{room}", self.ledger())
    }

    fn ledger(&self) -> String {
        if self.missing_fragments == 0 {
            return "nothing: the ledger is empty".to_owned();
        }
        let causes: Vec<_> = self
            .ledger_by_cause
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(cause, n)| format!("{n} {}", cause_in_words(cause)))
            .collect();
        let causes = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
        format!("{}{causes}", plural(self.missing_fragments as usize, "fragment"))
    }

    /// What was written while failure domains were away, and lies crowded in those that were there.
    fn thin(&self) -> String {
        let Some(tolerance) = &self.tolerance else {
            return "not counted: this metadata store is older than the counters; export it, and import it into a new one".to_owned();
        };
        let thin: Vec<_> =
            tolerance.iter().filter(|scheme| scheme.thin > 0).map(|scheme| self.thin_scheme(scheme)).collect();
        if thin.is_empty() {
            return format!("nothing: every stripe could lose as many {}s as the layout allows", self.failure_domain);
        }
        thin.join("; ")
    }

    fn thin_scheme(&self, ToleranceView { scheme, possible, stripes, thin }: &ToleranceView) -> String {
        let domain = &self.failure_domain;
        let counts = stripes.iter().take(*possible).enumerate().filter(|(_, count)| **count > 0);
        let counts: Vec<_> = counts
            .map(|(lost, count)| match lost {
                0 => format!("{count} none"),
                _ => format!("{count} only {lost}"),
            })
            .collect();
        format!(
            "{} of {scheme} could not lose {}, as the layout allows: {}",
            plural(*thin as usize, "stripe"),
            plural(*possible, domain),
            counts.join(", ")
        )
    }

    fn groups_in_words(&self) -> String {
        let mut by_kind: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for group in &self.groups {
            *by_kind.entry((&group.scheme, &group.state)).or_default() += 1;
        }
        let kinds: Vec<_> = by_kind.iter().map(|((scheme, state), n)| format!("{n} {scheme} {state}")).collect();
        let degraded = self.degraded().count();
        let health = if degraded == 0 { "all members up".to_owned() } else { format!("{degraded} with members down") };
        if kinds.is_empty() { "none yet".to_owned() } else { format!("{}; {health}", kinds.join(", ")) }
    }

    fn degraded(&self) -> impl Iterator<Item = &GroupView> {
        self.groups.iter().filter(|group| group.up < group.width)
    }

    fn write_nodes(&self, text: &mut String) {
        let rows = self.nodes.iter().map(|node| {
            let used = known_sum(node.kept_disks().map(|disk| disk.used_bytes), bytes);
            let fragments = known_sum(node.kept_disks().map(|disk| disk.fragments), |sum| sum.to_string());
            let up = node.kept_disks().filter(|disk| disk.state == "up").count();
            [
                node.id.clone(),
                format!("{}/{}", node.zone, node.rack),
                node.address.clone(),
                node.gossip.clone(),
                node.reached(&self.seen_by).to_owned(),
                format!("{up} of {} up", node.kept_disks().count()),
                used,
                fragments,
            ]
        });
        let head = ["NODE", "RACK", "ADDRESS", "GOSSIP", "REACHED", "DISKS", "USED", "FRAGMENTS"].map(str::to_owned);
        text.push('\n');
        write_table(text, std::iter::once(head).chain(rows).collect());
    }

    /// Where the node that was asked was told otherwise than the cluster wants it.
    fn policy_trouble(&self) -> Vec<String> {
        let PolicyView { differences, too_large, .. } = &self.policy;
        let told = |DifferenceView { field, told, holds }: &DifferenceView| {
            format!(
                "{} obeys the cluster's {field}, {holds}, though its configuration says {told}; correct that, or see \
                 `cairn admin policy`",
                self.seen_by
            )
        };
        let mut lines: Vec<String> = differences.iter().map(told).collect();
        lines.extend(
            too_large
                .iter()
                .map(|why| format!("{} takes no writes: {why}; raise its limits.memory and restart it", self.seen_by)),
        );
        lines
    }

    /// A node that calls from the one that was asked do not reach, whatever gossip says of it.
    fn cut_off(&self, node: &NodeView) -> Option<String> {
        let reach = node.reach.as_ref()?;
        let why = reach.cut_off.as_ref()?;
        let last = reach.answered_seconds_ago;
        let last = last
            .map_or("it never answered".to_owned(), |seconds| format!("it last answered {} ago", duration(seconds)));
        Some(format!("{} does not reach {}, which gossip calls {}; {last}: {why}", self.seen_by, node.id, node.gossip))
    }

    fn write_trouble(&self, text: &mut String) {
        let mut lines = self.policy_trouble();
        lines.extend(self.nodes.iter().filter_map(|node| self.cut_off(node)));
        let disks = self.nodes.iter().flat_map(|node| node.disks.iter().map(move |disk| (node, disk)));
        lines.extend(disks.filter_map(|(node, disk)| disk.trouble(&node.id, &self.seen_by)));
        lines.extend(self.degraded().map(|group| {
            format!(
                "group g{} ({}, epoch {}): {} of {} members up",
                group.id, group.scheme, group.epoch, group.up, group.width
            )
        }));
        lines.extend(self.groups.iter().filter(|group| group.crowded).map(|group| {
            format!(
                "group g{} ({}): a {} holds more of it than can be lost; a member is moved once nothing is missing",
                group.id, group.scheme, self.failure_domain
            )
        }));
        let unwell = |actor: &&ActorView| actor.state != "running" || actor.restarts > 0;
        lines.extend(self.actors.iter().filter(unwell).map(|actor| {
            let failure = actor.last_failure.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("actor {} is {}, {}{failure}", actor.name, actor.state, plural(actor.restarts as usize, "restart"))
        }));
        lines.extend(self.inconsistent_blobs.iter().map(|blob| {
            format!("blob {blob} is not what was written, or its parity is not its data's, and cannot be mended: see README.md")
        }));
        if lines.is_empty() {
            return;
        }
        text.push('\n');
        for line in lines.iter().take(MAX_LINES) {
            let _ = writeln!(text, "{line}");
        }
        if lines.len() > MAX_LINES {
            let _ = writeln!(text, "and {} more; see --json", lines.len() - MAX_LINES);
        }
    }
}

/// The words of the ledger for people.
fn cause_in_words(cause: &str) -> &str {
    match cause {
        "writeabsent" => "not written in time",
        "corrupt" => "damaged",
        "notfound" => "not found",
        "disklost" => "on lost disks",
        other => other,
    }
}

pub(super) fn write_table<const N: usize>(text: &mut String, rows: Vec<[String; N]>) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn node(id: &str, rack: &str, state: &str) -> serde_json::Value {
        json!({"id": id, "rack": rack, "zone": "z1", "address": "127.0.0.1:7400", "gossip": "alive", "disks": [
            {"id": format!("{id}d1"), "state": state, "capacity_bytes": 1u64 << 40, "used_bytes": 5u64 << 30, "fragments": 12}
        ]})
    }

    #[test]
    fn a_healthy_cluster_takes_few_words() {
        let status = json!({
            "process": {"version": "0.1.0", "pid": 1, "uptime_seconds": 5}, "cluster": "c1", "seen_by": "n1",
            "health": {"state": "safe", "words": "safe"}, "repair": {"missing": []},
            "scrub": {"oldest_seconds": 7200, "disks": [["n1d1", 7200]], "unknown_disks": 0},
            "scheme": "4+2", "small_scheme": "replicated(3)", "failure_domain": "rack",
            "policy": {"generation": 3, "write_margin": 1, "differences": []},
            "rates": {"generation": 2, "scrub_bytes": 32 << 20, "repair_bytes": 64 << 20, "background_percent": 20, "of_cluster": ["repair"]},
            "nodes": [node("n1", "r1", "up"), node("n2", "r2", "up")],
            "groups": [{"id": 1, "scheme": "4+2", "state": "open", "epoch": 1, "up": 6, "width": 6}],
            "missing_fragments": 0, "ledger_by_cause": [], "actors": [{"name": "repair", "state": "running", "restarts": 0}],
            "tolerance": [{"scheme": "4+2", "possible": 2, "stripes": [0, 0, 12], "thin": 0}],
            "a_field_of_the_future": true
        });
        let view = StatusView::read(status.to_string().as_bytes()).unwrap();
        let words = view.in_words();
        assert!(words.starts_with("health    safe\n") && view.code() == 0, "{words}");
        for part in [
            "scrub     the oldest unverified byte is 2 h old",
            "2 nodes in 2 racks, 2 disks; 10.0 GiB used of 2.00 TiB",
            "write margin 1 (policy 3)",
            "rates     scrub 32.0 MiB a second and disk, repair 64.0 MiB a second, background 20 %; repair set for all nodes (rates 2)",
            "nothing: the ledger is empty",
            "nothing: every stripe could lose as many racks as the layout allows",
            "all members up",
        ] {
            assert!(words.contains(part), "{words}");
        }
        assert!(!words.contains("actor repair") && !words.contains("repair    "), "{words}");
    }

    #[test]
    fn trouble_is_named() {
        let mut cut_off = node("n1", "r1", "down");
        cut_off["disks"][0]["failed"] = json!("a read has not returned for more than 20s");
        cut_off["reach"] = json!({"cut_off": "node n1 did not answer before the deadline", "answered_seconds_ago": 72});
        let (mut silent, mut full) = (node("n3", "r3", "up"), node("n4", "r4", "up"));
        for unknown in ["used_bytes", "fragments"] {
            silent["disks"][0][unknown] = json!(null);
        }
        full["disks"][0]["writable"] = json!(false);
        let status = json!({
            "cluster": "c1", "seen_by": "n2", "failure_domain": "rack", "nodes": [cut_off, silent, full],
            "health": {"state": "at_risk", "words": "AT RISK: 4 stripes may lose nothing more"},
            "repair": {"missing": [{"tolerance": 0, "fragments": 3, "eta_seconds": 60}], "node_bytes_per_second": 1024},
            "maintenance": [{"node": "n1", "for_seconds": 1800, "left_seconds": 600}],
            "policy": {
                "generation": 2, "write_margin": 1, "too_large": "stripes of 12 MiB need 48 MiB",
                "differences": [{"field": "policy.scheme", "told": "4+2", "holds": "8+4"}]
            },
            "tolerance": [
                {"scheme": "replicated(3)", "possible": 2, "stripes": [0, 0, 5], "thin": 0},
                {"scheme": "4+2", "possible": 2, "stripes": [2, 7, 100], "thin": 9},
            ],
            "groups": [{"id": 7, "scheme": "4+2", "state": "open", "epoch": 2, "up": 5, "width": 6, "crowded": true}],
            "missing_fragments": 3, "ledger_by_cause": [["disklost", 3], ["corrupt", 0]],
            "inconsistent_blobs": ["00ff"],
            "lost_members": 5, "members_without_room": 2,
            "actors": [{"name": "scrub", "state": "given up", "restarts": 5, "last_failure": "panicked"}]
        });
        let view = StatusView::read(status.to_string().as_bytes()).unwrap();
        let words = view.in_words();
        assert!(
            words.starts_with("health    AT RISK: 4 stripes may lose nothing more\n") && view.code() == 2,
            "{words}"
        );
        for part in [
            "repair    3 of stripes that can lose nothing more, done in 1 min; n2 makes 1.00 KiB a second",
            "n1 is under maintenance for 10 min: it is not given up",
            "disk n3d1 of n3 is up, and does not answer n2",
            "disk n4d1 of n4 takes no writes",
            "10.0 GiB or more used of 3.00 TiB",
            "1 of 1 up  unknown",
            "3 fragments (3 on lost disks), and what 5 lost members of groups held that no disk stands in for yet; for 2 no \
             disk has room: add disks",
            "n2 obeys the cluster's policy.scheme, 8+4, though its configuration says 4+2; correct that",
            "n2 takes no writes: stripes of 12 MiB need 48 MiB; raise its limits.memory",
            "9 stripes of 4+2 could not lose 2 racks, as the layout allows: 2 none, 7 only 1",
            "n2 does not reach n1, which gossip calls alive; it last answered 1 min ago: node n1 did not answer",
            "NO",
            "disk n1d1 of n1 is down: a read has not returned",
            "group g7 (4+2): a rack holds more of it than can be lost",
            "group g7 (4+2, epoch 2): 5 of 6 members up",
            "actor scrub is given up, 5 restarts: panicked",
            "blob 00ff is not what was written",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }

    #[test]
    fn a_metadata_server_has_no_cluster_to_show() {
        let status = json!({"process": {"version": "0.1.0", "uptime_seconds": 7200}});
        let words = |status: &serde_json::Value| StatusView::read(status.to_string().as_bytes()).unwrap().in_words();
        assert!(!words(&json!({"cluster": "c1"})).contains("rates"), "none are set");
        assert_eq!(words(&status), "a metadata server, up for 2 h\n");
        assert_eq!(StatusView::read(status.to_string().as_bytes()).unwrap().code(), 3, "it knows nothing of the data");
        assert!(
            words(&json!({"cluster": "c1"})).starts_with("health    unknown: the node that was asked is of a version")
        );
    }
}

//! What healing shows to Prometheus.

use cairn_schema::record::DiskState;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

use super::EventMetrics;
use crate::placement::Topology;

/// One node's; cheap to clone.
#[derive(Clone)]
pub struct HealingMetrics {
    pub ledger_fragments: IntGauge,
    pub thin_stripes: IntGauge,
    /// See [`Grade`](crate::placement::standing::Grade): from 0, safe, to 3, unavailable.
    pub health: IntGauge,
    /// By how many more fragments the stripe could lose; as of the last look at the ledger.
    pub missing_by_tolerance: IntGaugeVec,
    pub repaired_fragments: IntCounter,
    pub copied_fragments: IntCounter,
    pub repaired_bytes: IntCounter,
    pub repair_failures: IntCounter,
    pub repair_rate: IntGauge,
    pub repair_eta_seconds: IntGauge,
    /// By how many more fragments the stripe could lose; as of the last look at the ledger.
    pub repair_eta_by_tolerance: IntGaugeVec,
    pub replaced_members: IntCounter,
    pub moved_members: IntCounter,
    pub moved_bytes: IntCounter,
    pub groups_moving: IntGauge,
    /// By state: running, blocked, paused.
    pub jobs: IntGaugeVec,
    pub unplaceable_members: IntGauge,
    pub roomless_members: IntGauge,
    pub crowded_groups: IntGauge,
    pub scrubbed_fragments: IntCounter,
    pub scrubbed_bytes: IntCounter,
    /// By what was found: corrupt, missing, orphan, misplaced, skipped; by deep scrub: wrong, inconsistent.
    pub scrub_findings: IntCounterVec,
    /// By disk.
    pub scrub_oldest_seconds: IntGaugeVec,
    pub deep_scrubbed_blobs: IntCounter,
    /// By disk.
    pub inconsistent_blobs: IntGaugeVec,
    pub reclaimed_blobs: IntCounter,
    pub reclaimed_fragments: IntCounter,
    pub suspects: IntGauge,
    pub policy_generation: IntGauge,
    pub policy_differences: IntGauge,
    pub rates_generation: IntGauge,
    pub maintained_nodes: IntGauge,
    /// The cluster's, by state.
    pub disks: IntGaugeVec,
    /// Failure domains whose disks have been down for long and are not given up, by why: domain, space.
    pub losses_held: IntGaugeVec,
    /// By the state they went to.
    pub disk_changes: IntCounterVec,
    pub events: EventMetrics,
}

impl HealingMetrics {
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let make = Maker { registry };
        Ok(Self {
            ledger_fragments: make.gauge("cairn_ledger_fragments", "Fragments known to be missing in the cluster")?,
            thin_stripes: make.gauge(
                "cairn_thin_stripes",
                "Stripes that could lose fewer failure domains than the layout allows; -1: not counted by this store",
            )?,
            health: make.gauge(
                "cairn_health",
                "How the data stands as this node sees it: 0 safe, 1 degraded, 2 at risk, 3 unavailable; -1: unknown",
            )?,
            missing_by_tolerance: make.gauges(
                "cairn_missing_fragments",
                "Missing fragments by how many more their stripes can lose; below 0 they cannot be read now",
                "tolerance",
            )?,
            copied_fragments: make.counter(
                "cairn_repair_copied_fragments_total",
                "Fragments this node copied from where they had been",
            )?,
            repaired_fragments: make.counter("cairn_repair_fragments_total", "Fragments this node put back")?,
            repaired_bytes: make.counter("cairn_repair_bytes_total", "Bytes of fragments this node put back")?,
            repair_failures: make.counter("cairn_repair_failures_total", "Stripes that could not be repaired yet")?,
            repair_rate: make.gauge("cairn_repair_bytes_per_second", "Recent speed of this node's repair")?,
            repair_eta_seconds: make.gauge(
                "cairn_repair_eta_seconds",
                "Until the ledger is empty at its recent rate of shrinking; -1: not shrinking",
            )?,
            repair_eta_by_tolerance: make.gauges(
                "cairn_repair_tolerance_eta_seconds",
                "Until nothing is missing of stripes that can lose so few more, at the ledger's recent rate; -1: not shrinking",
                "tolerance",
            )?,
            replaced_members: make.counter("cairn_group_members_replaced_total", "Lost members replaced in groups")?,
            moved_members: make
                .counter("cairn_group_members_moved_total", "Members of groups that jobs on this node replaced by other disks")?,
            moved_bytes: make.counter("cairn_moved_bytes_total", "Bytes of fragments that jobs on this node copied")?,
            groups_moving: make.gauge("cairn_groups_moving", "Groups that are being moved to other disks by jobs")?,
            jobs: make.gauges(
                "cairn_jobs",
                "Operators' jobs that are not over, by state; blocked are those that run and cannot move anything",
                "state",
            )?,
            unplaceable_members: make.gauge(
                "cairn_group_members_unplaceable",
                "Lost members of groups for which no disk can stand in: the placement rule forbids it, or there is no room",
            )?,
            roomless_members: make.gauge(
                "cairn_group_members_without_room",
                "Lost members of groups for which the disks that may stand in have no room",
            )?,
            crowded_groups: make.gauge(
                "cairn_groups_crowded",
                "Groups of which a failure domain holds more members than the placement rule allows (PLC-1)",
            )?,
            scrubbed_fragments: make.counter("cairn_scrub_fragments_total", "Fragments re-read and verified")?,
            scrubbed_bytes: make.counter("cairn_scrub_bytes_total", "Bytes re-read and verified")?,
            scrub_findings: make.counters("cairn_scrub_findings_total", "What scrub found amiss", "kind")?,
            scrub_oldest_seconds: make.gauges(
                "cairn_scrub_oldest_seconds",
                "No byte of the disk was verified longer ago; -1: there was no whole pass yet",
                "disk",
            )?,
            deep_scrubbed_blobs: make
                .counter("cairn_scrub_deep_blobs_total", "Blobs decoded and compared with their own checksums")?,
            inconsistent_blobs: make.gauges(
                "cairn_scrub_inconsistent_blobs",
                "Blobs that are not what was written, or whose parity is not their data's, and that cannot be mended",
                "disk",
            )?,
            reclaimed_blobs: make.counter("cairn_gc_blobs_total", "Unreferenced blobs reclaimed")?,
            reclaimed_fragments: make.counter("cairn_gc_fragments_total", "Fragments deleted for reclaimed blobs")?,
            suspects: make.gauge("cairn_membership_suspects", "Nodes that seem dead to this one")?,
            policy_generation: make
                .gauge("cairn_policy_generation", "Which of the cluster's policies this node goes by")?,
            policy_differences: make.gauge(
                "cairn_policy_differences",
                "Fields of this node's configuration that are not as the cluster's policy, which it obeys",
            )?,
            rates_generation: make.gauge(
                "cairn_rates_generation",
                "Which of the cluster's rates this node goes by; 0: the cluster has none",
            )?,
            maintained_nodes: make.gauge(
                "cairn_maintenance_nodes",
                "Nodes under maintenance: what is down there is not given up, and writes go elsewhere",
            )?,
            disks: make.gauges("cairn_disks", "Disks of the cluster by the state that the metadata tell", "state")?,
            losses_held: make.gauges(
                "cairn_membership_losses_held",
                "Failure domains with disks that have been down for long and are not given up",
                "why",
            )?,
            disk_changes: make.counters("cairn_disk_state_changes_total", "Disk states this node decided", "to")?,
            events: EventMetrics::new(registry)?,
        })
    }
}

impl HealingMetrics {
    /// What a gauge of this node says now, by its label.
    pub(crate) fn by_label(gauges: &IntGaugeVec) -> Vec<(String, i64)> {
        let families = gauges.collect();
        let metrics = families.iter().flat_map(|family| family.get_metric());
        let said = metrics.filter_map(|metric| {
            let label = metric.get_label().first()?.value().to_owned();
            Some((label, metric.get_gauge().get_value() as i64))
        });
        said.collect()
    }

    /// The same where the labels are numbers.
    pub(crate) fn by_number(gauges: &IntGaugeVec) -> Vec<(i32, i64)> {
        let said = Self::by_label(gauges).into_iter();
        said.filter_map(|(label, value)| Some((label.parse().ok()?, value))).collect()
    }

    /// What a picture of the cluster tells by itself.
    pub fn show(&self, picture: &Topology) {
        let number = |generation: u64| i64::try_from(generation).unwrap_or(i64::MAX);
        self.policy_generation.set(number(picture.policy.generation));
        self.policy_differences.set(picture.policy.differences.len() as i64);
        self.rates_generation.set(number(picture.rows.rates.generation));
        self.maintained_nodes.set(picture.rows.maintained.len() as i64);
        for state in DiskState::ALL {
            let disks = picture.rows.disks.values().filter(|disk| disk.state == state).count();
            self.disks.with_label_values(&[state.name()]).set(disks as i64);
        }
    }
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let metric = IntGauge::new(name, help)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let metric = IntCounter::new(name, help)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
        let metric = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
        let metric = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

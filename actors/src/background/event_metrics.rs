//! What the delivery of events shows to Prometheus, by target: there are as many as operators have named.

use cairn_schema::record::EventCounts;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// One node's; cheap to clone.
#[derive(Clone)]
pub struct EventMetrics {
    /// Of the cluster, as the metadata tell it.
    pub waiting: IntGaugeVec,
    pub oldest_seconds: IntGaugeVec,
    pub dead: IntGaugeVec,
    pub lost: IntGaugeVec,
    /// By this node.
    pub delivered: IntCounterVec,
    pub failures: IntCounterVec,
}

impl EventMetrics {
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGaugeVec> {
            let metric = IntGaugeVec::new(Opts::new(name, help), &["target"])?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounterVec> {
            let metric = IntCounterVec::new(Opts::new(name, help), &["target"])?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        Ok(Self {
            waiting: gauge("cairn_events_waiting", "Events of the cluster that wait for a target")?,
            oldest_seconds: gauge("cairn_events_oldest_seconds", "For how long the first of them has waited")?,
            dead: gauge("cairn_events_dead", "Events of the cluster that were given up, and are kept")?,
            lost: gauge(
                "cairn_events_lost",
                "Events of the cluster that were never told and are not kept: too many waited",
            )?,
            delivered: counter("cairn_events_delivered_total", "Events that this node delivered to a target")?,
            failures: counter("cairn_events_failures_total", "Tries of this node to deliver an event that failed")?,
        })
    }

    /// All of a target, be they zero: what is not there cannot be watched.
    pub fn show(&self, counts: &EventCounts, now_ms: u64) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let label = [counts.target.as_str()];
        self.waiting.with_label_values(&label).set(signed(counts.waiting));
        let oldest_ms = counts.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
        self.oldest_seconds.with_label_values(&label).set(signed(oldest_ms / 1000));
        self.dead.with_label_values(&label).set(signed(counts.dead));
        self.lost.with_label_values(&label).set(signed(counts.lost));
        let _ = (self.delivered.with_label_values(&label), self.failures.with_label_values(&label));
    }
}

//! What the data path counts, for Prometheus.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub put_bytes: IntCounter,
    pub put_stripes: IntCounter,
    pub puts: IntCounterVec,
    pub put_seconds: Histogram,
    pub stripe_retries: IntCounter,
    pub put_hedges: IntCounter,
    pub stragglers_given_up: IntCounter,
    pub fragments_absent: IntCounter,
    pub fragment_write_failures: IntCounter,
    pub get_bytes: IntCounter,
    pub gets: IntCounterVec,
    pub first_piece_seconds: Histogram,
    pub fragment_read_failures: IntCounterVec,
    pub hedges: IntCounter,
    pub reconstructions: IntCounter,
    pub wrong_blobs: IntCounter,
    pub unopened: IntCounter,
    pub damage_reported: IntCounter,
    pub damage_dropped: IntCounter,
    pub cleanups: IntCounterVec,
    pub in_flight: IntGauge,
}

impl Metrics {
    /// A registry that has these already (a second store in one process) is told in the log, and this store's are not
    /// exported.
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| add(registry, IntCounter::new(name, help));
        let by =
            |name: &str, help: &str, label: &str| add(registry, IntCounterVec::new(Opts::new(name, help), &[label]));
        let seconds = |name: &str, help: &str| {
            let buckets = prometheus::exponential_buckets(0.001, 2.0, 16).unwrap_or_default();
            add(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
        };
        Self {
            put_bytes: counter("cairn_put_bytes_total", "Bytes of bodies written as stripes"),
            put_stripes: counter("cairn_put_stripes_total", "Stripes that became safe"),
            puts: by("cairn_puts_total", "Bodies written, by result", "result"),
            put_seconds: seconds("cairn_put_seconds", "Time from the first byte of a body to its commit"),
            stripe_retries: counter("cairn_put_stripe_retries_total", "Stripes written again to another group"),
            put_hedges: counter("cairn_put_hedges_total", "Stripes sent to a second group because the first was slow"),
            stragglers_given_up: counter(
                "cairn_put_stragglers_given_up_total",
                "Fragments that were too slow to be waited for after their stripe was safe",
            ),
            fragments_absent: counter(
                "cairn_put_fragments_absent_total",
                "Fragments that were not durable when their blob was committed; each is in the ledger",
            ),
            fragment_write_failures: counter(
                "cairn_fragment_write_failures_total",
                "Fragments that a disk did not take",
            ),
            get_bytes: counter("cairn_get_bytes_total", "Verified bytes handed out"),
            gets: by("cairn_gets_total", "Reads begun, by how their beginning went", "result"),
            first_piece_seconds: seconds("cairn_get_first_piece_seconds", "Time until the first bytes were verified"),
            fragment_read_failures: by("cairn_fragment_read_failures_total", "Fragments not read, by cause", "cause"),
            hedges: counter("cairn_get_hedges_total", "Times that slow reads were hedged with other fragments"),
            reconstructions: counter(
                "cairn_get_reconstructions_total",
                "Pieces of stripes rebuilt from other fragments",
            ),
            wrong_blobs: counter(
                "cairn_get_wrong_blobs_total",
                "Blobs read whole that were not what was written, though every fragment was; none was served to its end",
            ),
            unopened: counter(
                "cairn_get_unopened_total",
                "Reads of encrypted bytes that were not those that were encrypted; none of them was served",
            ),
            damage_reported: counter(
                "cairn_get_damage_reported_total",
                "Fragments that reads found damaged or missing",
            ),
            damage_dropped: counter(
                "cairn_get_damage_dropped_total",
                "Findings of damage that were not reported because the queue was full or the metadata refused",
            ),
            cleanups: by("cairn_put_cleanups_total", "Failed writes whose fragments were deleted, by result", "result"),
            in_flight: add(registry, IntGauge::new("cairn_put_in_flight", "Bodies being written")),
        }
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let metric = made.expect("names and buckets of metrics are constants that tests build");
    if let Err(error) = registry.register(Box::new(metric.clone())) {
        tracing::warn!(%error, "a metric of the store is not exported");
    }
    metric
}

//! The bound, its parts, and what is known of their use.

use cairn_actors::disk::IndexMemory;
use prometheus::{
    IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::config::Shares;

struct MemoryMetrics {
    bound: IntGauge,
    parts: IntGaugeVec,
    index_cached: IntGauge,
    index: IndexMemory,
}

/// Registers what does not change, and what `index` says whenever it is asked.
pub(crate) fn register_memory(
    registry: &Registry,
    shares: &Shares,
    index: &IndexMemory,
) -> Result<(), prometheus::Error> {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let bound = "What the process may have resident; process_resident_memory_bytes is what it has.";
    let parts = Opts::new("cairn_memory_share_bytes", "What each part of the process may hold; together the bound.");
    let metrics = MemoryMetrics {
        bound: IntGauge::new("cairn_memory_bound_bytes", bound)?,
        parts: IntGaugeVec::new(parts, &["part"])?,
        index_cached: IntGauge::new("cairn_memory_index_cache_bytes", "Blocks of the disks' indexes in their cache.")?,
        index: index.clone(),
    };
    metrics.bound.set(bytes(shares.bound));
    for (part, share) in shares.parts() {
        metrics.parts.with_label_values(&[part]).set(bytes(share));
    }
    registry.register(Box::new(metrics))
}

impl MemoryMetrics {
    fn collectors(&self) -> [&dyn Collector; 3] {
        [&self.bound, &self.parts, &self.index_cached]
    }
}

impl Collector for MemoryMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.collectors().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.index_cached.set(i64::try_from(self.index.cached()).unwrap_or(i64::MAX));
        self.collectors().into_iter().flat_map(Collector::collect).collect()
    }
}

//! The bound of a process, its parts, and what is known of their use.

use cairn_actors::disk::IndexMemory;
use prometheus::{
    IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Registers what a process and each part of it may hold, in bytes.
pub(crate) fn register_memory(registry: &Registry, bound: u64, parts: &[(&str, u64)]) -> Result<(), prometheus::Error> {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let about = "What the process may have resident; process_resident_memory_bytes is what it has.";
    let whole = IntGauge::new("cairn_memory_bound_bytes", about)?;
    whole.set(bytes(bound));
    registry.register(Box::new(whole))?;
    let about = "What each part of the process may hold; together the bound.";
    let shares = IntGaugeVec::new(Opts::new("cairn_memory_share_bytes", about), &["part"])?;
    for (part, share) in parts {
        shares.with_label_values(&[part]).set(bytes(*share));
    }
    registry.register(Box::new(shares))
}

/// Registers what the disks' indexes have in their cache.
pub(crate) fn register_index_cache(registry: &Registry, index: &IndexMemory) -> Result<(), prometheus::Error> {
    let about = "Blocks of the disks' indexes in their cache.";
    let cached = IntGauge::new("cairn_memory_index_cache_bytes", about)?;
    registry.register(Box::new(IndexCache { cached, index: index.clone() }))
}

/// Asks the indexes whenever it is asked itself.
struct IndexCache {
    cached: IntGauge,
    index: IndexMemory,
}

impl Collector for IndexCache {
    fn desc(&self) -> Vec<&Desc> {
        self.cached.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.cached.set(i64::try_from(self.index.cached()).unwrap_or(i64::MAX));
        self.cached.collect()
    }
}

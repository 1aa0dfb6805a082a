//! What a disk tells Prometheus. One set per disk, its id a constant label: the sets of several disks can share a
//! registry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_schema::ids::DiskId;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

/// Gauges, counters and histograms of one disk. Times in seconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct DiskMetrics {
    pub operations: IntCounterVec,
    pub errors: IntCounterVec,
    pub written_bytes: IntCounter,
    pub read_bytes: IntCounter,
    pub read_seconds: Histogram,
    pub write_seconds: Histogram,
    pub sync_seconds: Histogram,
    pub batch_records: Histogram,
    pub batch_bytes: Histogram,
    pub checksum_failures: IntCounter,
    pub unreadable: IntCounter,
    pub capacity: IntGauge,
    pub free: IntGauge,
    pub reserved: IntGauge,
    pub used: IntGauge,
    pub dead: IntGauge,
    pub fragments: IntGauge,
    pub segments: IntGauge,
    pub writable: IntGauge,
    pub checkpoint_seconds: Histogram,
    pub index_bytes: IntGauge,
    pub index_memory: IntGauge,
    pub moved_bytes: IntCounter,
}

fn latency_buckets() -> Vec<f64> {
    // 50 µs to about 13 s.
    (0..19).map(|i| 50e-6 * 2f64.powi(i)).collect()
}

fn size_buckets(from: f64, count: i32) -> Vec<f64> {
    (0..count).map(|i| from * 4f64.powi(i)).collect()
}

impl DiskMetrics {
    /// For disk `id`. Errors only if a name or label is malformed, which a test excludes.
    pub fn new(id: DiskId) -> Result<Self, prometheus::Error> {
        let opts =
            |name: &str, help: &str| Opts::new(format!("cairn_disk_{name}"), help).const_label("disk", id.to_string());
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            Histogram::with_opts(HistogramOpts::from(opts(name, help)).buckets(buckets))
        };
        let gauge = |name: &str, help: &str| IntGauge::with_opts(opts(name, help));
        let counter = |name: &str, help: &str| IntCounter::with_opts(opts(name, help));
        Ok(Self {
            operations: IntCounterVec::new(opts("operations_total", "Operations by kind."), &["kind"])?,
            errors: IntCounterVec::new(
                opts("errors_total", "Operations that failed, by kind and error."),
                &["kind", "error"],
            )?,
            written_bytes: counter("written_bytes_total", "Bytes of records written, heads and padding included.")?,
            read_bytes: counter("read_bytes_total", "Verified payload bytes read.")?,
            read_seconds: histogram("read_seconds", "Time of one read, waiting included.", latency_buckets())?,
            write_seconds: histogram(
                "write_seconds",
                "Time of one write until durable, waiting included.",
                latency_buckets(),
            )?,
            sync_seconds: histogram("sync_seconds", "Time of one fdatasync.", latency_buckets())?,
            batch_records: histogram("batch_records", "Records made durable by one fdatasync.", size_buckets(1.0, 8))?,
            batch_bytes: histogram("batch_bytes", "Bytes made durable by one fdatasync.", size_buckets(1024.0, 9))?,
            checksum_failures: counter("checksum_failures_total", "Reads that met damage.")?,
            unreadable: counter("unreadable_total", "Reads of fragments that the disk could not read.")?,
            capacity: gauge("capacity_bytes", "Size of the disk.")?,
            free: gauge("free_bytes", "Bytes that writes may still take; the reserve is not among them.")?,
            reserved: gauge("reserved_bytes", "Bytes kept for deletes.")?,
            used: gauge("used_bytes", "Bytes the segments take.")?,
            dead: gauge("dead_bytes", "Bytes the segments take for nothing.")?,
            fragments: gauge("fragments", "Fragments on the disk.")?,
            segments: gauge("segments", "Segment files.")?,
            writable: gauge("writable", "1 if the disk takes writes.")?,
            checkpoint_seconds: histogram("checkpoint_seconds", "Time to write a checkpoint.", latency_buckets())?,
            index_bytes: gauge("index_bytes", "Bytes of the index on the disk.")?,
            index_memory: gauge("index_memory_bytes", "Bytes of the index pinned in memory, its cache not counted.")?,
            moved_bytes: counter(
                "moved_bytes_total",
                "Bytes of live records moved to free the segments they were in.",
            )?,
        })
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.operations.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.written_bytes.clone()),
            Box::new(self.read_bytes.clone()),
            Box::new(self.read_seconds.clone()),
            Box::new(self.write_seconds.clone()),
            Box::new(self.sync_seconds.clone()),
            Box::new(self.batch_records.clone()),
            Box::new(self.batch_bytes.clone()),
            Box::new(self.checksum_failures.clone()),
            Box::new(self.unreadable.clone()),
            Box::new(self.capacity.clone()),
            Box::new(self.free.clone()),
            Box::new(self.reserved.clone()),
            Box::new(self.used.clone()),
            Box::new(self.dead.clone()),
            Box::new(self.fragments.clone()),
            Box::new(self.segments.clone()),
            Box::new(self.writable.clone()),
            Box::new(self.checkpoint_seconds.clone()),
            Box::new(self.index_bytes.clone()),
            Box::new(self.index_memory.clone()),
            Box::new(self.moved_bytes.clone()),
        ]
    }

    /// Makes the disk's metrics part of what `registry` gathers.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        self.collectors().into_iter().try_for_each(|collector| registry.register(collector))
    }

    /// Takes them out again, when the disk leaves the node.
    pub fn unregister(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        self.collectors().into_iter().try_for_each(|collector| registry.unregister(collector))
    }
}

/// An exponentially smoothed latency in microseconds: each sample moves it by an eighth.
#[derive(Debug, Default)]
pub struct Smoothed(AtomicU64);

impl Smoothed {
    pub fn add(&self, sample: Duration) {
        let sample = u64::try_from(sample.as_micros()).unwrap_or(u64::MAX).min(1 << 40);
        // A sample lost to a race does not matter.
        let old = self.0.load(Ordering::Relaxed);
        let new = if old == 0 { sample.max(1) } else { (old * 7 + sample).div_ceil(8) };
        self.0.store(new, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn several_disks_share_a_registry() {
        let registry = Registry::new();
        let first = DiskMetrics::new(DiskId([1; 16])).unwrap();
        first.register(&registry).unwrap();
        DiskMetrics::new(DiskId([2; 16])).unwrap().register(&registry).unwrap();
        first.free.set(5);
        let free = registry.gather().into_iter().find(|family| family.name() == "cairn_disk_free_bytes").unwrap();
        assert_eq!(free.get_metric().len(), 2);
        assert!(first.register(&registry).is_err());
        first.unregister(&registry).unwrap();
        first.register(&registry).unwrap();
    }

    #[test]
    fn smoothing_follows() {
        let smoothed = Smoothed::default();
        smoothed.add(Duration::from_micros(800));
        assert_eq!(smoothed.get(), 800);
        for _ in 0..100 {
            smoothed.add(Duration::from_micros(100));
        }
        assert!((100..110).contains(&smoothed.get()));
    }
}

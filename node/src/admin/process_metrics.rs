//! The process in figures, under the names that Prometheus dashboards expect.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::{
    Counter, Gauge, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// The unit of CPU time in /proc, the same on every Linux architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads /proc/self whenever it is collected.
pub(crate) struct ProcessMetrics {
    resident_bytes: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    cpu_seconds: Counter,
    start_time: Gauge,
    build_info: IntGauge,
}

impl ProcessMetrics {
    pub(crate) fn new(max_fds: Option<u64>) -> Result<Self, prometheus::Error> {
        let build = Opts::new("cairn_build_info", "Always 1; the label names the build.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let metrics = Self {
            resident_bytes: IntGauge::new("process_resident_memory_bytes", "Resident memory.")?,
            open_fds: IntGauge::new("process_open_fds", "Open file handles.")?,
            max_fds: IntGauge::new("process_max_fds", "Most file handles that may be open.")?,
            threads: IntGauge::new("process_threads", "Threads of the system.")?,
            cpu_seconds: Counter::new("process_cpu_seconds_total", "User and system CPU time.")?,
            start_time: Gauge::new("process_start_time_seconds", "When the process started, since the Unix epoch.")?,
            build_info: IntGauge::with_opts(build)?,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        metrics.start_time.set(now.as_secs_f64());
        metrics.max_fds.set(max_fds.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1));
        metrics.build_info.set(1);
        Ok(metrics)
    }

    pub(crate) fn register(registry: &Registry, max_fds: Option<u64>) -> Result<(), prometheus::Error> {
        registry.register(Box::new(Self::new(max_fds)?))
    }

    fn collectors(&self) -> [&dyn Collector; 7] {
        [
            &self.resident_bytes,
            &self.open_fds,
            &self.max_fds,
            &self.threads,
            &self.cpu_seconds,
            &self.start_time,
            &self.build_info,
        ]
    }

    /// What cannot be read keeps its last value: a scrape must not fail for it.
    fn refresh(&self) {
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            if let Some(kib) = status_field(&status, "VmRSS:") {
                self.resident_bytes.set(kib.saturating_mul(1024));
            }
            if let Some(threads) = status_field(&status, "Threads:") {
                self.threads.set(threads);
            }
        }
        if let Ok(folder) = fs::read_dir("/proc/self/fd") {
            // The folder itself is open while it is counted.
            self.open_fds.set(i64::try_from(folder.count()).unwrap_or(i64::MAX).saturating_sub(1));
        }
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
            self.cpu_seconds.inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        }
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.collectors().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.collectors().into_iter().flat_map(Collector::collect).collect()
    }
}

fn status_field(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of /proc/self/stat; the second field, the program's name, may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_process_has_figures() {
        let metrics = ProcessMetrics::new(Some(1024)).unwrap();
        let families = metrics.collect();
        assert_eq!(families.len(), 7);
        assert!(metrics.resident_bytes.get() > 100_000);
        assert!(metrics.open_fds.get() >= 3);
        assert!(metrics.threads.get() >= 1);
        assert_eq!(metrics.max_fds.get(), 1024);
    }

    #[test]
    fn a_program_name_with_spaces_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }
}

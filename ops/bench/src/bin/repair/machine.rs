//! How busy the machine is with other things.

use std::time::Duration;

use cairn_bench::Failure;
use cairn_chaos::process::cpu_seconds;

/// The part of all processors' time that nobody used within `time`.
pub(crate) async fn idle(time: Duration) -> Result<f64, Failure> {
    let (idle_before, all_before) = ticks()?;
    tokio::time::sleep(time).await;
    let (idle, all) = ticks()?;
    Ok((idle - idle_before) as f64 / (all - all_before).max(1) as f64)
}

/// What was used of all processors when a time began, to tell what others used of it at its end.
pub(crate) struct Usage {
    idle: u64,
    all: u64,
    /// Seconds of our own processes.
    ours: f64,
}

/// The unit of /proc/stat, the same on every Linux architecture.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    /// `pids` are those of the cluster, besides this process; the same ones at the end.
    pub(crate) fn now(pids: &[u32]) -> Result<Self, Failure> {
        let (idle, all) = ticks()?;
        let ours = pids.iter().copied().chain([std::process::id()]).filter_map(cpu_seconds).sum();
        Ok(Self { idle, all, ours })
    }

    /// The part of all processors' time since then that others used.
    pub(crate) fn of_others(&self, pids: &[u32]) -> Result<f64, Failure> {
        let now = Self::now(pids)?;
        let all = (now.all - self.all).max(1) as f64;
        let busy = all - (now.idle - self.idle) as f64;
        let ours = (now.ours - self.ours) * TICKS_PER_SECOND;
        Ok(((busy - ours) / all).max(0.0))
    }
}

/// Of all processors, idle and in all. See proc(5): the first line of /proc/stat, whose fourth and fifth numbers are
/// idle time; the eighth is time that the host took away, and the last two are within others.
fn ticks() -> Result<(u64, u64), Failure> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let numbers: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let idle = numbers.get(3..5).ok_or("/proc/stat has fewer numbers than expected")?;
    Ok((idle.iter().sum(), numbers.iter().sum()))
}

pub(crate) fn load_average() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("?").to_owned()
}

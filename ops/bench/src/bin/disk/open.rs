//! Opening a disk of many small fragments from its checkpoint, in a fresh process, and the memory they take there.

use std::{path::Path, process::Command, sync::Arc, time::Instant};

use cairn_actors::disk::DiskHandle;
use cairn_bench::{forget_cached, thousands};

use crate::{
    raw::allocated,
    setup::{Failure, Pool, Setting, name, options, put_all},
};

const SEGMENT_BYTES: u64 = 1 << 30;
const PAYLOAD_BYTES: usize = 100;
/// Enough that a sync is shared by thousands: building the disk is not what is measured.
const WRITERS: usize = 4096;
/// Above all numbers of the other measurements.
const FIRST: u64 = 1 << 40;
const SAMPLES: u64 = 10_000;
const GOAL_SECONDS: f64 = 10.0;

/// Resident memory of this process in bytes.
fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

pub(crate) fn all(setting: &Setting, fragments: u64) -> Result<(), Failure> {
    let dir = setting.dir.join("open");
    let disk = DiskHandle::open(options(&dir, SEGMENT_BYTES))?;
    let pool = Arc::new(Pool::new(PAYLOAD_BYTES));
    let started = Instant::now();
    let make = pool.clone();
    setting.runtime.block_on(put_all(&disk, WRITERS, FIRST..FIRST + fragments, move |n| make.fragment(n)))?;
    let written = started.elapsed();
    setting.runtime.block_on(disk.close());
    println!(
        "{} fragments written in {:.1} s ({} a second), closed in {:.1} s; {} MiB on the disk",
        thousands(fragments),
        written.as_secs_f64(),
        cairn_bench::per_second(fragments, written),
        (started.elapsed() - written).as_secs_f64(),
        thousands(allocated(&dir)? >> 20)
    );
    forget_cached(&dir)?;
    for _ in 0..2 {
        let done = Command::new(std::env::current_exe()?).arg("--open-there").arg(&dir).status()?;
        if !done.success() {
            return Err(format!("opening failed: {done}").into());
        }
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// What the fresh process does.
pub(crate) fn child(runtime: &tokio::runtime::Runtime, dir: &Path) -> Result<(), Failure> {
    let before = resident()?;
    let started = Instant::now();
    let disk = DiskHandle::open(options(dir, SEGMENT_BYTES))?;
    let took = started.elapsed().as_secs_f64();
    let opened = resident()?;
    let fragments = disk.status().fragments;
    let report = disk.recovery().ok_or("the disk is gone")?;
    let started = Instant::now();
    runtime.block_on(async {
        for sample in 0..SAMPLES {
            let n = FIRST + sample * 7919 % fragments.max(1);
            disk.get(name(n), 0..PAYLOAD_BYTES as u32).await?;
        }
        Ok::<_, cairn_actors::fragment::DiskError>(())
    })?;
    let reading = started.elapsed();
    let after = resident()?;
    let each = |bytes: u64| bytes.saturating_sub(before) as f64 / fragments.max(1) as f64;
    println!(
        "open {} fragments from the checkpoint{:<9} {took:>8.2} s   goal {GOAL_SECONDS:.0} s at 10,000,000 {}   ({} records replayed{})",
        thousands(fragments),
        "",
        if took * (10_000_000.0 / fragments.max(1) as f64).max(1.0) <= GOAL_SECONDS { "met" } else { "MISSED" },
        thousands(report.records_replayed),
        report.index_unusable.map(|why| format!("; INDEX NOT USED: {why}")).unwrap_or_default()
    );
    println!(
        "memory: {} MiB opened, {:.2} bytes a fragment; after {} random reads ({:.0} µs each) {:.2} bytes a fragment",
        thousands(opened.saturating_sub(before) >> 20),
        each(opened),
        thousands(SAMPLES),
        reading.as_micros() as f64 / SAMPLES as f64,
        each(after)
    );
    runtime.block_on(disk.close());
    Ok(())
}

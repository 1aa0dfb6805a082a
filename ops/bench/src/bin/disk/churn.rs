//! A day of puts and deletes in minutes: what lives stays the same in size, and the space taken must follow it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_actors::disk::{
    DiskHandle,
    format::{UNIT, fragment_units},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{
    raw::allocated,
    setup::{Failure, MIB, Pool, Setting, name, options},
};

const SEGMENT_BYTES: u64 = 64 << 20;
const FIRST: u64 = 1 << 41;
/// Payload bytes and how many of a hundred fragments have them: most are small, most bytes are in large ones.
const MIX: [(usize, u32); 5] = [(500, 30), (4096, 30), (20_000, 20), (300_000, 12), (MIB, 8)];
/// Fragments put, or deleted, at once.
const AT_ONCE: usize = 64;
/// How long the engine may take to tidy up after the last delete.
const SETTLE: Duration = Duration::from_secs(60);
const GOAL: f64 = 1.05;

struct Live {
    n: u64,
    pool: usize,
}

struct Churn<'a> {
    disk: &'a DiskHandle,
    pools: Vec<Arc<Pool>>,
    live: Vec<Live>,
    live_bytes: u64,
    written_bytes: u64,
    next: u64,
    random: SmallRng,
}

fn record_bytes(length: usize) -> u64 {
    u64::from(fragment_units(length as u32)) * UNIT
}

impl Churn<'_> {
    fn choose(&mut self) -> usize {
        let mut dice = self.random.random_range(0..100);
        for (pool, (_, share)) in MIX.iter().enumerate() {
            if dice < *share {
                return pool;
            }
            dice -= share;
        }
        0
    }

    async fn put(&mut self) -> Result<(), Failure> {
        let chosen: Vec<usize> = (0..AT_ONCE).map(|_| self.choose()).collect();
        let mut puts = Vec::new();
        for pool in chosen {
            let n = self.next;
            self.next += 1;
            let bytes = record_bytes(MIX[pool].0);
            self.live.push(Live { n, pool });
            self.live_bytes += bytes;
            self.written_bytes += bytes;
            let fragment = self.pools[pool].fragment(n);
            let disk = self.disk.clone();
            puts.push(async move { disk.put(fragment).await });
        }
        futures::future::try_join_all(puts).await?;
        Ok(())
    }

    /// Deletes random fragments until no more than `bytes` live: old and new ones, small and large.
    async fn shrink(&mut self, bytes: u64) -> Result<(), Failure> {
        let mut names = Vec::new();
        while self.live_bytes > bytes && !self.live.is_empty() {
            let victim = self.random.random_range(0..self.live.len());
            let victim = self.live.swap_remove(victim);
            self.live_bytes -= record_bytes(MIX[victim.pool].0);
            names.push(name(victim.n));
        }
        self.disk.delete(names).await?;
        Ok(())
    }

    async fn check(&self) -> Result<(), Failure> {
        if self.disk.status().fragments != self.live.len() as u64 {
            return Err(format!("{} fragments, {} should live", self.disk.status().fragments, self.live.len()).into());
        }
        for live in self.live.iter().step_by(self.live.len() / 1000 + 1) {
            let length = MIX[live.pool].0;
            let bytes = self.disk.get(name(live.n), 0..length as u32).await?;
            if bytes != self.pools[live.pool].payload(live.n) {
                return Err(format!("fragment {} has other bytes", live.n).into());
            }
        }
        Ok(())
    }
}

pub(crate) fn all(setting: &Setting, live_mib: u64, turnovers: u64) -> Result<(), Failure> {
    let dir = setting.dir.join("churn");
    let disk = DiskHandle::open(options(&dir, SEGMENT_BYTES))?;
    let pools = MIX.iter().map(|(length, _)| Arc::new(Pool::new(*length))).collect();
    let random = SmallRng::seed_from_u64(2);
    let mut churn =
        Churn { disk: &disk, pools, live: Vec::new(), live_bytes: 0, written_bytes: 0, next: FIRST, random };
    let wanted = live_mib << 20;
    let started = Instant::now();
    let mut worst: f64 = 0.0;
    let mut looked = Instant::now();
    setting.runtime.block_on(async {
        while churn.written_bytes < wanted * (turnovers + 1) {
            churn.put().await?;
            churn.shrink(wanted).await?;
            if churn.written_bytes > wanted * 2 && looked.elapsed() > Duration::from_secs(1) {
                looked = Instant::now();
                worst = worst.max(allocated(&dir)? as f64 / churn.live_bytes as f64);
            }
        }
        Ok::<_, Failure>(())
    })?;
    let took = started.elapsed();
    let ratio = |churn: &Churn<'_>| Ok::<_, Failure>(allocated(&dir)? as f64 / churn.live_bytes as f64);
    let at_once = ratio(&churn)?;
    println!(
        "churn: {} MiB of {} fragments live, {} MiB written in {:.0} s; space / live at worst {worst:.3}, right after {at_once:.3}",
        churn.live_bytes >> 20,
        churn.live.len(),
        churn.written_bytes >> 20,
        took.as_secs_f64()
    );
    // What the newest segment has preallocated is no waste: the next writes go there. It is given back at closing, so
    // that is when the file system is asked.
    let started = Instant::now();
    let used = || disk.status().used_bytes as f64 / churn.live_bytes as f64;
    while used() > GOAL - 0.01 && started.elapsed() < SETTLE {
        std::thread::sleep(Duration::from_millis(200));
    }
    setting.runtime.block_on(churn.check())?;
    println!("space used / live, after {:>4.1} s of rest         {:.3}", started.elapsed().as_secs_f64(), used());
    setting.runtime.block_on(disk.close());
    let closed = ratio(&churn)?;
    let verdict = if closed <= GOAL { "met" } else { "MISSED" };
    println!("space taken / live, closed                     {closed:.3}   goal {GOAL:.2} {verdict}");
    let disk = DiskHandle::open(options(&dir, SEGMENT_BYTES))?;
    println!("                      opened again             {:.3}", ratio(&churn)?);
    setting.runtime.block_on(disk.close());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

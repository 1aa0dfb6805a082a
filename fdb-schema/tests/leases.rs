//! Leases: random holders whose clocks tell anything, under faults, against the time that really passes.
#![allow(clippy::unwrap_used)]

mod common;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cairn_schema::{
    Meta,
    kv::{
        SharedKv,
        inject::{Fault, Injecting},
    },
    record::Lease,
};
use common::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

const HOLDERS: usize = 4;
const DAY_MS: u64 = 86_400_000;

struct Holder {
    name: String,
    meta: Meta,
    /// What it holds, and when it asked for it.
    held: Option<(Lease, u64)>,
}

/// The store as a process sees it whose steady clock began `offset` before the real time.
fn with_clocks(kv: SharedKv, time: &Arc<AtomicU64>, wall: u64, offset: u64) -> Meta {
    let time = time.clone();
    let steady = move || Duration::from_millis(time.load(Ordering::SeqCst) + offset);
    Meta::new(kv).with_clock(move || wall).with_steady_clock(steady)
}

impl Holder {
    fn new(kv: &SharedKv, time: &Arc<AtomicU64>, index: usize, rng: &mut StdRng) -> Self {
        let mut faults = StdRng::seed_from_u64(rng.random());
        let decide = move || match faults.random_range(0..10) {
            0 => Fault::Conflict,
            1 => Fault::UnknownApplied,
            2 => Fault::UnknownNotApplied,
            _ => Fault::None,
        };
        let kv: SharedKv = Arc::new(Injecting::new(kv.clone(), decide));
        let meta = with_clocks(kv, time, rng.random_range(0..2 * DAY_MS), rng.random_range(0..DAY_MS));
        Self { name: format!("h{index}"), meta, held: None }
    }

    /// Whether it works: until the time of its lease is over, from before it asked.
    fn works(&self, time: u64) -> bool {
        self.held.as_ref().is_some_and(|(lease, asked)| time < asked + lease.ttl_ms)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_holders_never_both_hold() {
    let seed = seed();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        let time = Arc::new(AtomicU64::new(1000));
        let mut holders: Vec<Holder> = (0..HOLDERS).map(|index| Holder::new(&kv, &time, index, &mut rng)).collect();
        // Who had the last term, and which.
        let mut last: Option<(String, u64)> = None;
        let mut takeovers = 0;
        for _ in 0..2000 {
            let index = rng.random_range(0..HOLDERS);
            let now = time.load(Ordering::SeqCst);
            let others_work = holders.iter().enumerate().any(|(other, holder)| other != index && holder.works(now));
            let holder = &mut holders[index];
            match rng.random_range(0..10) {
                0..5 => {
                    let taken = holder.meta.lease("l", &holder.name, rng.random_range(30..120)).await.unwrap();
                    if let Some(lease) = &taken {
                        assert!(!others_work, "seed {seed}, {name}: {lease:?} beside another");
                        match &last {
                            Some((who, term)) if *who == holder.name => assert_eq!(lease.term, *term, "seed {seed}"),
                            Some((_, term)) => {
                                takeovers += 1;
                                assert!(lease.term > *term, "seed {seed}: a term is never used again");
                            }
                            None => {}
                        }
                        last = Some((holder.name.clone(), lease.term));
                    }
                    holder.held = taken.map(|lease| (lease, now));
                }
                5 => {
                    if let Some((lease, _)) = holder.held.take() {
                        holder.meta.release(&lease).await.unwrap();
                    }
                }
                // Its process dies, and knows nothing of what it held.
                6 => holder.held = None,
                _ => drop(time.fetch_add(rng.random_range(0..40), Ordering::SeqCst)),
            }
            let now = time.load(Ordering::SeqCst);
            let working = holders.iter().filter(|holder| holder.works(now)).count();
            assert!(working <= 1, "seed {seed}, {name}: {working} hold the lease");
        }
        assert!(takeovers > 10, "seed {seed}: {takeovers} takeovers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_clock_is_a_day_ahead_blocks_nobody_after_its_lease() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        a_clock_a_day_ahead(name, kv).await;
    }
}

pub(crate) async fn a_clock_a_day_ahead(name: &str, kv: SharedKv) {
    let time = Arc::new(AtomicU64::new(1000));
    let ahead = with_clocks(kv.clone(), &time, 2 * DAY_MS, 7);
    let other = with_clocks(kv.clone(), &time, DAY_MS, 0);
    assert_eq!(ahead.lease("l", "ahead", 100).await.unwrap().unwrap().term, 1, "{name}");
    // It dies. Its row must be seen unchanged for the whole time of the lease.
    assert_eq!(other.lease("l", "other", 100).await.unwrap(), None, "{name}");
    time.fetch_add(99, Ordering::SeqCst);
    assert_eq!(other.lease("l", "other", 100).await.unwrap(), None, "{name}");
    time.fetch_add(1, Ordering::SeqCst);
    assert_eq!(other.lease("l", "other", 100).await.unwrap().unwrap().term, 2, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_clock_stands_still_keeps_what_it_renews() {
    let (kvs, _directory) = every_kv();
    for (name, kv) in kvs {
        a_clock_that_stands_still(name, kv).await;
    }
}

pub(crate) async fn a_clock_that_stands_still(name: &str, kv: SharedKv) {
    let time = Arc::new(AtomicU64::new(1000));
    let holder = with_clocks(kv.clone(), &time, DAY_MS, 0);
    let other = with_clocks(kv.clone(), &time, 2 * DAY_MS, 0);
    for _ in 0..10 {
        assert!(holder.lease("l", "holder", 100).await.unwrap().is_some(), "{name}");
        assert_eq!(other.lease("l", "other", 100).await.unwrap(), None, "{name}");
        time.fetch_add(60, Ordering::SeqCst);
    }
}

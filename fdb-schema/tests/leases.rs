//! Leases: random holders with clocks that differ, under faults, against what their clocks allow.
#![allow(clippy::unwrap_used)]

mod common;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
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
/// How much clocks differ at most.
const SKEW: u64 = 20;

struct Holder {
    name: String,
    meta: Meta,
    skew: u64,
    held: Option<Lease>,
}

impl Holder {
    fn new(kv: &SharedKv, time: &Arc<AtomicU64>, index: usize, rng: &mut StdRng) -> Self {
        let skew = rng.random_range(0..=SKEW);
        let time = time.clone();
        let mut faults = StdRng::seed_from_u64(rng.random());
        let decide = move || match faults.random_range(0..10) {
            0 => Fault::Conflict,
            1 => Fault::UnknownApplied,
            2 => Fault::UnknownNotApplied,
            _ => Fault::None,
        };
        let meta = Meta::new(Arc::new(Injecting::new(kv.clone(), decide)));
        let meta = meta.with_clock(move || time.load(Ordering::SeqCst) + skew);
        Self { name: format!("h{index}"), meta, skew, held: None }
    }

    /// Whether it works: it stops early enough for any clock.
    fn works(&self, time: u64) -> bool {
        self.held.as_ref().is_some_and(|lease| time + self.skew + SKEW < lease.expires_ms)
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
                    holder.held = taken;
                }
                5 => {
                    if let Some(lease) = holder.held.take() {
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

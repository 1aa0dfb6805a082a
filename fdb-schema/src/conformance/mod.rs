//! What every backend must do, as tests that run on any store: call [`run`] with one and a seed. They panic with the
//! seed when the store misbehaves. They work under a random prefix, so the store need not be empty.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod conflicts;
mod isolation;
mod limits;
mod semantics;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::kv::{KvError, SharedKv, Transaction};

/// The whole suite.
pub async fn run(kv: SharedKv, seed: u64) {
    println!("conformance seed {seed}");
    let suite = Suite::new(kv, seed);
    let others = async {
        suite.semantics(60).await;
        suite.conflicts().await;
        suite.limits().await;
        suite.versionstamps().await;
        suite.isolation(8, 150).await;
    };
    // Mostly waits.
    futures::join!(suite.life(), others);
}

/// A store and the part of it that the suite may use.
pub struct Suite {
    kv: SharedKv,
    seed: u64,
    prefix: Vec<u8>,
}

impl Suite {
    pub fn new(kv: SharedKv, seed: u64) -> Self {
        let mut prefix = b"\x7fconformance".to_vec();
        prefix.extend_from_slice(&rand::random::<[u8; 8]>());
        Self { kv, seed, prefix }
    }

    fn rng(&self, salt: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn key(&self, name: &str) -> Bytes {
        [&self.prefix, name.as_bytes()].concat().into()
    }

    async fn begin(&self) -> Box<dyn Transaction> {
        self.kv.begin().await.unwrap()
    }

    /// Commits blind writes, whatever it takes.
    async fn write(&self, change: impl Fn(&mut dyn Transaction)) {
        loop {
            let mut tx = self.begin().await;
            change(&mut *tx);
            match tx.commit().await {
                Ok(_) => return,
                Err(KvError::Conflict | KvError::TooOld) => {}
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
        }
    }

    async fn read(&self, key: &Bytes) -> Option<Bytes> {
        self.begin().await.get(key, false).await.unwrap()
    }
}

/// One of few names, so that transactions meet.
fn name(rng: &mut StdRng, area: &str) -> String {
    let length = rng.random_range(1..=2);
    let letters: String = (0..length).map(|_| ['a', 'b', 'c', '\0', 'é'][rng.random_range(0..5)]).collect();
    format!("{area}{letters}")
}

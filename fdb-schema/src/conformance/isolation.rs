//! Concurrent transactions are as if they had run one after the other, in the order of their versionstamps.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rand::{Rng, rngs::StdRng};

use super::{
    Suite, name,
    semantics::{Change, Model, Seen},
};
use crate::kv::{KvError, RangeQuery, prefix_end};

struct Done {
    seen: Vec<Seen>,
    changes: Vec<Change>,
    /// False: a store may say so while its servers change places. Then it was committed as a whole or not at all.
    known_committed: bool,
}

impl Suite {
    /// `workers` at once make `each` transactions of reads and writes on few keys. Each writes a row with its
    /// versionstamp: those rows are the serial order. Replayed in it on a map, every transaction must have read what
    /// the map has, and the store must end as the map does.
    pub async fn isolation(&self, workers: u64, each: usize) {
        let suite = Arc::new(Self { kv: Arc::clone(&self.kv), seed: self.seed, prefix: self.prefix.clone() });
        let mut tasks = Vec::new();
        for worker in 0..workers {
            let suite = Arc::clone(&suite);
            tasks.push(tokio::spawn(async move { suite.work(worker, each).await }));
        }
        let mut done: BTreeMap<Bytes, Done> = BTreeMap::new();
        for task in tasks {
            done.extend(task.await.unwrap());
        }
        let unknown = done.values().filter(|done| !done.known_committed).count();
        assert!(unknown * 10 <= done.len(), "seed {}: the outcome of {unknown} commits is unknown", self.seed);
        let log = self.key("log");
        let order = self.begin().await.range(RangeQuery::new(log.clone(), prefix_end(&log), 1_000_000)).await.unwrap();
        let mut model = Model::new();
        for (_, id) in order.rows {
            let done =
                done.remove(&id).unwrap_or_else(|| panic!("seed {}: {id:?} is there twice, or nobody's", self.seed));
            for seen in &done.seen {
                seen.check(&model, self.seed);
            }
            for change in &done.changes {
                change.apply(&mut model);
            }
        }
        let lost = done.values().filter(|done| done.known_committed).count();
        assert_eq!(lost, 0, "seed {}: commits that are not in the order", self.seed);
        self.check_area("i", &model).await;
    }

    async fn work(&self, worker: u64, each: usize) -> Vec<(Bytes, Done)> {
        let mut rng = self.rng(1000 + worker);
        let key = |rng: &mut StdRng| self.key(&name(rng, "i"));
        let mut done = Vec::new();
        while done.len() < each {
            let mut tx = self.begin().await;
            let mut seen = Vec::new();
            let reads = rng.random_range(0..4);
            let mut too_old = false;
            for _ in 0..reads {
                match Seen::random(&mut rng, &key, &mut *tx).await {
                    Ok(read) => seen.push(read),
                    Err(KvError::TooOld) => too_old = true,
                    Err(error) => panic!("seed {}: {error}", self.seed),
                }
                tokio::task::yield_now().await;
            }
            if too_old {
                continue;
            }
            let changes: Vec<Change> = (0..rng.random_range(1..4)).map(|_| Change::random(&mut rng, &key)).collect();
            for change in &changes {
                change.make(&mut *tx);
            }
            let id = Bytes::from(format!("{worker}/{}", rng.random::<u64>()));
            tx.set_versionstamped(self.key("log"), Bytes::new(), id.clone());
            // Let others commit between the reads and the commit.
            tokio::task::yield_now().await;
            let known_committed = match tx.commit().await {
                Ok(_) => true,
                Err(KvError::CommitUnknown(_)) => false,
                Err(KvError::Conflict | KvError::TooOld) => continue,
                Err(error) => panic!("seed {}: {error}", self.seed),
            };
            done.push((id, Done { seen, changes, known_committed }));
        }
        done
    }
}

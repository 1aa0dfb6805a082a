//! One transaction after the other does what a sorted map does.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included},
};

use bytes::Bytes;
use rand::{Rng, rngs::StdRng};

use super::{Suite, name};
use crate::kv::{RangeQuery, Row, Transaction, counter, key_after, prefix_end};

pub(super) type Model = BTreeMap<Bytes, Bytes>;

/// A change that a model can repeat.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Set(Bytes, Bytes),
    Clear(Bytes),
    ClearRange(Bytes, Bytes),
    Add(Bytes, i64),
}

impl Change {
    pub(super) fn random(rng: &mut StdRng, key: &impl Fn(&mut StdRng) -> Bytes) -> Self {
        match rng.random_range(0..10) {
            0..4 => {
                let value: [u8; 8] = rng.random();
                Self::Set(key(rng), Bytes::copy_from_slice(&value))
            }
            4..6 => Self::Clear(key(rng)),
            6 => {
                let (a, b) = (key(rng), key(rng));
                Self::ClearRange(a.clone().min(b.clone()), a.max(b))
            }
            _ => Self::Add(key(rng), rng.random_range(-5..=5)),
        }
    }

    pub(super) fn make(&self, tx: &mut dyn Transaction) {
        match self.clone() {
            Self::Set(key, value) => tx.set(key, value),
            Self::Clear(key) => tx.clear(key),
            Self::ClearRange(begin, end) => tx.clear_range(begin, end),
            Self::Add(key, delta) => tx.add(key, delta),
        }
    }

    pub(super) fn apply(&self, model: &mut Model) {
        match self.clone() {
            Self::Set(key, value) => drop(model.insert(key, value)),
            Self::Clear(key) => drop(model.remove(&key)),
            Self::ClearRange(begin, end) => model.retain(|key, _| *key < begin || *key >= end),
            Self::Add(key, delta) => {
                let sum = counter(model.get(&key).map(|value| &value[..])).wrapping_add(delta);
                model.insert(key, Bytes::copy_from_slice(&sum.to_le_bytes()));
            }
        }
    }
}

/// A read and what it found.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Value(Bytes, Option<Bytes>),
    Rows(RangeQuery, Vec<Row>),
}

impl Seen {
    pub(super) async fn random(
        rng: &mut StdRng,
        key: &impl Fn(&mut StdRng) -> Bytes,
        tx: &mut dyn Transaction,
    ) -> Result<Self, crate::kv::KvError> {
        if rng.random() {
            let key = key(rng);
            let value = tx.get(&key, false).await?;
            return Ok(Self::Value(key, value));
        }
        let (a, b) = (key(rng), key(rng));
        let mut query = RangeQuery::new(a.clone().min(b.clone()), a.max(b), rng.random_range(1..5));
        query.reverse = rng.random();
        let page = tx.range(query.clone()).await?;
        assert!(page.rows.len() <= query.limit && (page.more || page.rows.len() < query.limit));
        Ok(Self::Rows(query, page.rows))
    }

    pub(super) fn check(&self, model: &Model, seed: u64) {
        match self {
            Self::Value(key, value) => assert_eq!(model.get(key), value.as_ref(), "seed {seed}: {key:?}"),
            Self::Rows(query, rows) => assert_eq!(&expected(model, query), rows, "seed {seed}: {query:?}"),
        }
    }
}

fn expected(model: &Model, query: &RangeQuery) -> Vec<Row> {
    let rows = model.range::<Bytes, _>((Included(&query.begin), Excluded(&query.end)));
    let row = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
    if query.reverse {
        rows.rev().map(row).take(query.limit).collect()
    } else {
        rows.map(row).take(query.limit).collect()
    }
}

impl Suite {
    /// Random transactions, some of them abandoned, against a map: every read sees the map with the transaction's own
    /// writes.
    pub(super) async fn semantics(&self, transactions: usize) {
        let mut rng = self.rng(1);
        let key = |rng: &mut StdRng| self.key(&name(rng, "s"));
        let mut model = Model::new();
        for _ in 0..transactions {
            let mut tx = self.begin().await;
            let mut own = model.clone();
            for _ in 0..rng.random_range(0..12) {
                if rng.random() {
                    let change = Change::random(&mut rng, &key);
                    change.make(&mut *tx);
                    change.apply(&mut own);
                } else {
                    Seen::random(&mut rng, &key, &mut *tx).await.unwrap().check(&own, self.seed);
                }
            }
            if rng.random_bool(0.8) {
                tx.commit().await.unwrap();
                model = own;
            }
        }
        self.check_area("s", &model).await;
    }

    pub(super) async fn check_area(&self, area: &str, model: &Model) {
        let begin = self.key(area);
        let mut tx = self.begin().await;
        let page = tx.range(RangeQuery::new(begin.clone(), prefix_end(&begin), 100_000)).await.unwrap();
        assert_eq!(page.rows, model.clone().into_iter().collect::<Vec<_>>(), "seed {}", self.seed);
        let keys: Vec<Bytes> = model.keys().cloned().chain([key_after(&begin)]).collect();
        let values = tx.get_many(&keys, true).await.unwrap();
        let wanted: Vec<Option<Bytes>> = keys.iter().map(|key| model.get(key).cloned()).collect();
        assert_eq!(values, wanted, "seed {}", self.seed);
    }
}

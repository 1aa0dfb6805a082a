//! Which transactions conflict, and which must not.

use bytes::Bytes;

use super::Suite;
use crate::kv::{KvError, RangeQuery, key_after};

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

impl Suite {
    pub(super) async fn conflicts(&self) {
        self.a_read_that_changed_conflicts().await;
        self.blind_writes_do_not_conflict().await;
        self.a_limited_range_conflicts_only_as_far_as_it_was_read().await;
        self.declared_ranges_conflict().await;
        self.a_transaction_reads_one_version().await;
    }

    async fn a_read_that_changed_conflicts(&self) {
        let (key, other) = (self.key("c1"), self.key("c1other"));
        // Also a row that was not there, and one whose value is set to what it was.
        for _ in 0..2 {
            let mut tx = self.begin().await;
            tx.get(&key, false).await.unwrap();
            tx.set(other.clone(), value("x"));
            self.write(|tx| tx.set(key.clone(), value("y"))).await;
            assert_eq!(tx.commit().await, Err(KvError::Conflict));
            assert_eq!(self.read(&other).await, None);
        }
        let mut snapshot = self.begin().await;
        snapshot.get(&key, true).await.unwrap();
        snapshot.range(RangeQuery::prefix(key.clone(), 10).snapshot()).await.unwrap();
        snapshot.set(other.clone(), value("x"));
        self.write(|tx| tx.clear(key.clone())).await;
        snapshot.commit().await.unwrap();
        // A transaction that only read has nothing to lose.
        let mut reader = self.begin().await;
        reader.get(&other, false).await.unwrap();
        self.write(|tx| tx.clear(other.clone())).await;
        reader.commit().await.unwrap();
    }

    async fn blind_writes_do_not_conflict(&self) {
        let (counter, row) = (self.key("c2n"), self.key("c2"));
        let mut open = Vec::new();
        for _ in 0..5 {
            let mut tx = self.begin().await;
            // Each has read something, so that it has a version.
            tx.get(&self.key("c2unrelated"), false).await.unwrap();
            tx.add(counter.clone(), 3);
            tx.set(row.clone(), value("v"));
            open.push(tx);
        }
        for tx in open {
            tx.commit().await.unwrap();
        }
        assert_eq!(self.read(&counter).await, Some(Bytes::copy_from_slice(&15i64.to_le_bytes())));
        // Whoever reads the counter does conflict.
        let mut tx = self.begin().await;
        tx.add(counter.clone(), 1);
        assert_eq!(tx.get(&counter, false).await.unwrap().as_deref(), Some(&16i64.to_le_bytes()[..]));
        self.write(|tx| tx.add(counter.clone(), 1)).await;
        assert_eq!(tx.commit().await, Err(KvError::Conflict));
    }

    async fn a_limited_range_conflicts_only_as_far_as_it_was_read(&self) {
        let keys: Vec<Bytes> = ["c3a", "c3c", "c3e"].iter().map(|name| self.key(name)).collect();
        self.write(|tx| keys.iter().for_each(|key| tx.set(key.clone(), value("v")))).await;
        let area = self.key("c3");
        for (reverse, apart, within) in [(false, "c3d", "c3b"), (true, "c3b", "c3d")] {
            for (touched, conflicts) in [(apart, false), (within, true)] {
                let mut tx = self.begin().await;
                let mut query = RangeQuery::prefix(area.clone(), 2);
                query.reverse = reverse;
                assert_eq!(tx.range(query).await.unwrap().rows.len(), 2);
                tx.set(self.key("cother"), value("x"));
                self.write(|tx| tx.set(self.key(touched), value("new"))).await;
                assert_eq!(tx.commit().await.is_err(), conflicts, "reverse {reverse}, {touched}");
                self.write(|tx| tx.clear(self.key(touched))).await;
            }
        }
        // A clear of a range conflicts with a read inside it, even of nothing.
        let mut tx = self.begin().await;
        tx.get(&self.key("c3x"), false).await.unwrap();
        tx.set(self.key("cother"), value("x"));
        self.write(|tx| tx.clear_range(self.key("c3"), self.key("c4"))).await;
        assert_eq!(tx.commit().await, Err(KvError::Conflict));
        assert_eq!(self.begin().await.range(RangeQuery::prefix(area, 9)).await.unwrap().rows, []);
    }

    async fn declared_ranges_conflict(&self) {
        let key = self.key("c5");
        let mut reader = self.begin().await;
        reader.get(&self.key("c5unrelated"), true).await.unwrap();
        reader.add_read_conflict(key.clone(), key_after(&key));
        reader.set(self.key("c5out"), value("x"));
        let mut writer = self.begin().await;
        writer.add_write_conflict(key.clone(), key_after(&key));
        writer.commit().await.unwrap();
        assert_eq!(reader.commit().await, Err(KvError::Conflict));
    }

    async fn a_transaction_reads_one_version(&self) {
        let (a, b) = (self.key("c6a"), self.key("c6b"));
        self.write(|tx| [&a, &b].iter().for_each(|key| tx.set((*key).clone(), value("old")))).await;
        let mut tx = self.begin().await;
        assert_eq!(tx.get(&a, false).await.unwrap(), Some(value("old")));
        self.write(|tx| [&a, &b].iter().for_each(|key| tx.set((*key).clone(), value("new")))).await;
        assert_eq!(tx.get(&b, false).await.unwrap(), Some(value("old")));
        // A transaction begun after the commit sees it.
        assert_eq!(self.read(&b).await, Some(value("new")));
    }
}

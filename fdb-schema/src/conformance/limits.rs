//! The limits of keys, values and transactions, and versionstamps.

use std::time::Duration;

use bytes::Bytes;

use super::Suite;
use crate::kv::{KvError, RangeQuery, Transaction, limits};

impl Suite {
    pub(super) async fn limits(&self) {
        let key = self.key("l");
        let refused = async |key: Bytes, value: usize, what: &str| {
            let mut tx = self.begin().await;
            tx.set(self.key("lbeside"), Bytes::new());
            tx.set(key, vec![7; value].into());
            match tx.commit().await {
                Err(KvError::TooLarge { what: found, .. }) => assert_eq!(found, what),
                other => panic!("{what} over its limit: {other:?}"),
            }
            assert_eq!(self.read(&self.key("lbeside")).await, None, "nothing is changed");
        };
        refused(key.clone(), limits::VALUE_BYTES + 1, "value").await;
        refused(self.key(&"k".repeat(limits::KEY_BYTES)), 1, "key").await;
        type Write = fn(&mut dyn Transaction);
        let writes: [Write; 3] = [
            |tx| tx.set(Bytes::new(), Bytes::from_static(b"v")),
            |tx| tx.clear(Bytes::new()),
            |tx| tx.add(Bytes::new(), 1),
        ];
        for write in writes {
            let mut tx = self.begin().await;
            tx.set(self.key("lbeside"), Bytes::new());
            write(&mut *tx);
            assert_eq!(tx.commit().await, Err(KvError::EmptyKey));
            assert_eq!(self.read(&self.key("lbeside")).await, None, "nothing is changed");
        }
        let mut tx = self.begin().await;
        let each = limits::VALUE_BYTES;
        for index in 0..=limits::TRANSACTION_BYTES / each {
            tx.set(self.key(&format!("l{index}")), vec![1; each].into());
        }
        assert!(matches!(tx.commit().await, Err(KvError::TooLarge { what: "transaction", .. })));

        // Small rows, of which FoundationDB counts more than keys and values: what `bytes` says is what counts.
        for over in [false, true] {
            let mut tx = self.begin().await;
            let each =
                |tx: &mut dyn Transaction, index| tx.set(self.key(&format!("l{index:06}")), Bytes::from_static(b"v"));
            each(&mut *tx, 0);
            let rows = limits::TRANSACTION_BYTES / tx.bytes();
            (1..rows + usize::from(over)).for_each(|index| each(&mut *tx, index));
            if over {
                assert!(matches!(tx.commit().await, Err(KvError::TooLarge { what: "transaction", .. })));
            } else {
                tx.commit().await.unwrap();
            }
        }
        let end = self.key("m");
        self.write(|tx| tx.clear_range(key.clone(), end.clone())).await;

        // At the limits, and read back in one range that is far larger than any page.
        let mut tx = self.begin().await;
        for index in 0..60 {
            tx.set(self.key(&format!("l{index:02}")), vec![index; each].into());
        }
        tx.commit().await.unwrap();
        let mut tx = self.begin().await;
        let rows = tx.range(RangeQuery::prefix(key.clone(), 100)).await.unwrap().rows;
        assert_eq!(rows.iter().map(|(_, value)| value[0]).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
        let keys: Vec<Bytes> = rows.iter().map(|(key, _)| key.clone()).collect();
        let values = tx.get_many(&keys, false).await.unwrap();
        assert!(values.iter().zip(&rows).all(|(value, (_, row))| value.as_ref() == Some(row)));
        let reversed = tx.range(RangeQuery::prefix(key.clone(), 100).reversed()).await.unwrap().rows;
        assert!(reversed.iter().rev().eq(&rows));
        let end = self.key("m");
        self.write(|tx| tx.clear_range(key.clone(), end.clone())).await;
    }

    /// A transaction that outlives its limit is refused, however little it did, and changes nothing; one that only read
    /// may end at any age.
    pub(super) async fn life(&self) {
        let (read, written) = (self.key("life read"), self.key("life written"));
        let mut old = self.begin().await;
        old.get(&read, false).await.unwrap();
        old.set(written.clone(), Bytes::new());
        let mut blind = self.begin().await;
        blind.set(written.clone(), Bytes::new());
        let mut reading = self.begin().await;
        reading.get(&read, false).await.unwrap();
        tokio::time::sleep(limits::TRANSACTION_LIFE + Duration::from_millis(500)).await;
        assert_eq!(reading.get(&written, false).await, Err(KvError::TooOld));
        let range = RangeQuery::prefix(written.clone(), 1);
        assert_eq!(reading.range(range).await, Err(KvError::TooOld));
        reading.commit().await.unwrap();
        for late in [old, blind] {
            assert_eq!(late.commit().await.map(drop), Err(KvError::TooOld));
        }
        assert_eq!(self.read(&written).await, None, "nothing is changed");
    }

    pub(super) async fn versionstamps(&self) {
        let area = self.key("v");
        for index in 0..5u8 {
            let mut tx = self.begin().await;
            tx.set_versionstamped(area.clone(), Bytes::from_static(b"!"), vec![index].into());
            tx.commit().await.unwrap();
        }
        let rows = self.begin().await.range(RangeQuery::prefix(area.clone(), 10)).await.unwrap().rows;
        assert_eq!(rows.iter().map(|(_, value)| value[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(rows.iter().all(|(key, _)| key.len() == area.len() + 11 && key.ends_with(b"!")));
    }
}

//! Rows to audit: of one snapshot where the store has them.

use bytes::Bytes;

use crate::{
    error::{MetaError, Result},
    keyspace::{self, Space},
    kv::{KvError, RangePage, RangeQuery, Row, Transaction, key_after, prefix_end},
    verbs::{Meta, tx::transact},
};

/// Rows read at a time.
const PAGE: usize = 1000;

pub(super) struct Source<'a> {
    meta: &'a Meta,
    snapshot: Option<Box<dyn Transaction>>,
}

fn failed(error: KvError) -> MetaError {
    MetaError::Storage(error.to_string())
}

impl<'a> Source<'a> {
    pub(super) async fn open(meta: &'a Meta) -> Result<Self> {
        Ok(Self { meta, snapshot: meta.kv.long_snapshot().await.map_err(failed)? })
    }

    pub(super) async fn get_many(&mut self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let meta = self.meta;
        match &mut self.snapshot {
            Some(snapshot) => snapshot.get_many(keys, true).await.map_err(failed),
            None => transact!(meta, "audit", |tx| tx.raw_many(keys)),
        }
    }

    /// The next rows of a kind; None after the last.
    pub(super) async fn next(&mut self, scan: &mut Scan) -> Result<Option<Vec<Row>>> {
        let Some(begin) = scan.begin.take() else { return Ok(None) };
        let query = RangeQuery::new(begin, scan.end.clone(), PAGE).snapshot();
        let meta = self.meta;
        let page: RangePage = match &mut self.snapshot {
            Some(snapshot) => snapshot.range(query).await.map_err(failed)?,
            None => transact!(meta, "audit", |tx| tx.range(query.clone()))?,
        };
        scan.begin = page.rows.last().filter(|_| page.more).map(|(key, _)| key_after(key));
        Ok(Some(page.rows))
    }

    pub(super) async fn count(&mut self, space: Space) -> Result<u64> {
        let mut scan = Scan::of(space);
        let mut rows = 0;
        while let Some(page) = self.next(&mut scan).await? {
            rows += page.len() as u64;
        }
        Ok(rows)
    }
}

/// Where in the rows of a kind.
pub(super) struct Scan {
    /// None after the last row.
    begin: Option<Bytes>,
    end: Bytes,
}

impl Scan {
    pub(super) fn of(space: Space) -> Self {
        let (begin, end) = keyspace::space(space);
        Self { begin: Some(begin), end }
    }

    pub(super) fn prefix(begin: Bytes) -> Self {
        let end = prefix_end(&begin);
        Self { begin: Some(begin), end }
    }
}

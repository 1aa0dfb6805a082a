//! Blobs that were never committed, and never will be.
//!
//! A write puts fragments on disks long before it names them in the metadata, so fragments whose blob has no row may
//! belong to a write that is under way. Whoever wants to delete them condemns the blob first: a commit reads the mark
//! in its own transaction, so of the two only one comes to pass, whatever any clock says.

use bytes::Bytes;

use crate::{
    codec::Stored,
    ids::BlobId,
    keyspace::{self, Space},
    kv::{RangeQuery, key_after},
    verbs::{
        Meta, Verb,
        tx::{Outcome, Tx, transact},
    },
};

impl Meta {
    /// From now on the blob cannot be committed, and its fragments may go. False: it has been, and they must stay.
    pub fn condemn(&self, blob: BlobId) -> Verb<'_, bool> {
        Box::pin(async move { transact!(self, "condemn", |tx| condemn(tx, blob)) })
    }

    /// Forgets those condemned before a time, of the first `limit` after `after`; returns where to go on, None after
    /// the last. Call it with a time that no write can outlive, even one that slept.
    pub fn forget_condemned(&self, before_ms: u64, after: Option<BlobId>, limit: usize) -> Verb<'_, Option<BlobId>> {
        Box::pin(async move { transact!(self, "forget_condemned", |tx| forget(tx, before_ms, after, limit)) })
    }
}

async fn condemn(tx: &mut Tx, blob: BlobId) -> Outcome<bool> {
    let (row, mark) = (keyspace::blob(blob), keyspace::condemned(blob));
    tx.prefetch(&[row.clone(), mark.clone()]).await?;
    if tx.raw(&row).await?.is_some() {
        return Ok(false);
    }
    if tx.raw(&mark).await?.is_none() {
        let now_ms = tx.now_ms;
        tx.set(mark, &now_ms);
    }
    Ok(true)
}

async fn forget(tx: &mut Tx, before_ms: u64, after: Option<BlobId>, limit: usize) -> Outcome<Option<BlobId>> {
    let (first, end) = keyspace::space(Space::Condemned);
    let begin: Bytes = after.map_or(first, |after| key_after(&keyspace::condemned(after)));
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    let last = page.rows.last().filter(|_| page.more).and_then(|(key, _)| keyspace::condemned_blob(key));
    for (key, value) in page.rows {
        if u64::read(&key, &value)? < before_ms {
            tx.clear(key);
        }
    }
    Ok(last)
}

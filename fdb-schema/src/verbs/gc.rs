//! The reclaim queue.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    ids::{BlobId, UploadId},
    keyspace::{self, ReclaimKind},
    kv::RangeQuery,
    record::{Blob, Reclaim, rows::PartRow},
    verbs::{
        Meta, Verb, blobs,
        tx::{Outcome, Tx, transact},
    },
};

/// Parts of a list that are turned into blobs of the queue in one transaction.
const LIST_PAGE: usize = 500;
/// The same, counted in references to blobs.
const LIST_REFERENCES: usize = 2000;
/// Pages of lists that one call works off before it returns what it has.
const LIST_PAGES: usize = 32;
/// Blobs that are forgotten in one transaction.
const FORGOTTEN_AT_ONCE: usize = 250;
/// Ledger rows that go with them in one transaction.
const LEDGER_ROWS: usize = 2000;
/// Transactions in which blobs with very many ledger rows are forgotten.
const FORGET_ROUNDS: usize = 10_000;

impl Meta {
    /// Blobs queued before `before_ms`, from one of `RECLAIM_BUCKETS` buckets of the queue, oldest first.
    pub fn reclaimable(&self, bucket: u8, before_ms: u64, limit: usize) -> Verb<'_, Vec<Reclaim>> {
        Box::pin(async move {
            for _ in 0..LIST_PAGES {
                let (blobs, list) = transact!(self, "reclaimable", |tx| queued(tx, bucket, before_ms, limit))?;
                let Some((queued_ms, list)) = list else { return Ok(blobs) };
                transact!(self, "reclaim_list", |tx| unroll(tx, queued_ms, list))?;
            }
            Ok(transact!(self, "reclaimable", |tx| queued(tx, bucket, before_ms, limit))?.0)
        })
    }

    /// Forgets blobs whose fragments are deleted, with their ledger rows. After an error some are forgotten.
    pub fn reclaimed<'a>(&'a self, reclaims: &'a [Reclaim]) -> Verb<'a, ()> {
        Box::pin(async move {
            let mut left = reclaims;
            for _ in 0..FORGET_ROUNDS {
                if left.is_empty() {
                    return Ok(());
                }
                let some = &left[..left.len().min(FORGOTTEN_AT_ONCE)];
                let forgotten = transact!(self, "reclaimed", |tx| forget(tx, some))?;
                left = &left[forgotten..];
            }
            Err(MetaError::Storage("the blobs have too many ledger rows to forget".to_owned()))
        })
    }
}

/// Queued blobs, and a list of parts that stands among them.
async fn queued(
    tx: &mut Tx,
    bucket: u8,
    before_ms: u64,
    limit: usize,
) -> Outcome<(Vec<Reclaim>, Option<(u64, UploadId)>)> {
    let (begin, end) = keyspace::reclaims_before(bucket, before_ms);
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    let mut list = None;
    let mut ids = Vec::new();
    for (key, _) in &page.rows {
        match keyspace::split_reclaim(key) {
            Some((queued_ms, ReclaimKind::Blob, id)) => ids.push((key, queued_ms, BlobId(id))),
            Some((queued_ms, ReclaimKind::List, id)) => list = list.or(Some((queued_ms, UploadId(id)))),
            None => {
                let why = format!("key {}", hex::encode(key));
                return Err(MetaError::Corrupt { what: "reclaim row", why }.into());
            }
        }
    }
    let keys: Vec<Bytes> = ids.iter().map(|(_, _, id)| keyspace::blob(*id)).collect();
    let mut blobs = Vec::with_capacity(ids.len());
    for ((key, queued_ms, _), blob) in ids.into_iter().zip(tx.get_many::<Blob>(&keys).await?) {
        match blob {
            Some(blob) => blobs.push(Reclaim { blob, queued_ms }),
            // Reclaimed already.
            None => tx.clear(key.clone()),
        }
    }
    Ok((blobs, list))
}

/// Turns the first parts of a list into blobs of the queue, queued when the list was unless others had them, too.
async fn unroll(tx: &mut Tx, queued_ms: u64, list: UploadId) -> Outcome<()> {
    let queued = keyspace::reclaim(ReclaimKind::List, queued_ms, list.0);
    if tx.raw(&queued).await?.is_none() {
        return Ok(());
    }
    let page = tx.range(RangeQuery::prefix(keyspace::parts(list), LIST_PAGE)).await?;
    let (mut parts, mut references) = (Vec::new(), 0);
    for (key, value) in &page.rows {
        let part = PartRow::read(key, value)?;
        references += part.references().len();
        // The first always, or nothing would ever be done.
        if references > LIST_REFERENCES && !parts.is_empty() {
            break;
        }
        tx.clear(key.clone());
        parts.push(part);
    }
    blobs::release_parts(tx, &parts, queued_ms).await?;
    if !page.more && parts.len() == page.rows.len() {
        tx.clear(keyspace::list_extra(list));
        tx.clear(queued);
    }
    Ok(())
}

/// Forgets the first of these, as many as their ledger rows allow; returns how many. Of the one after them some of the
/// rows are gone.
async fn forget(tx: &mut Tx, reclaims: &[Reclaim]) -> Outcome<usize> {
    let keys: Vec<Bytes> = reclaims
        .iter()
        .map(|reclaim| keyspace::reclaim(ReclaimKind::Blob, reclaim.queued_ms, reclaim.blob.id.0))
        .collect();
    tx.prefetch(&keys).await?;
    let groups: BTreeSet<_> =
        reclaims.iter().flat_map(|reclaim| reclaim.blob.runs.iter().map(|run| run.group)).collect();
    let groups: Vec<Bytes> = groups.into_iter().map(keyspace::group_repair).collect();
    tx.prefetch(&groups).await?;
    let mut ledger_rows = LEDGER_ROWS;
    for (forgotten, (reclaim, queued)) in reclaims.iter().zip(keys).enumerate() {
        if tx.raw(&queued).await?.is_none() {
            continue;
        }
        if blobs::forget(tx, &reclaim.blob, &mut ledger_rows).await? {
            return Ok(forgotten);
        }
        tx.clear(keyspace::blob_extra(reclaim.blob.id));
        tx.clear(queued);
    }
    Ok(reclaims.len())
}

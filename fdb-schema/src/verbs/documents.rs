//! Bucket documents: kept as given, over as many rows as they need.

use crate::{
    error::Result,
    ids::AttemptId,
    keyspace,
    kv::{RangeQuery, prefix_end},
    record::{
        BucketDocument,
        document::{self, First},
        rows::AttemptRow,
    },
    verbs::{
        Meta, Verb, attempts,
        tx::{Outcome, Tx, transact},
    },
};

/// The head and the chunks of the longest document.
const MAX_ROWS: usize = 1 + document::MAX_BYTES.div_ceil(document::CHUNK_BYTES);

impl Meta {
    pub fn bucket_document<'a>(&'a self, bucket: &'a str, document: BucketDocument) -> Verb<'a, Option<Vec<u8>>> {
        Box::pin(async move { transact!(self, "bucket_document", |tx| read(tx, bucket, document)) })
    }

    /// None removes it.
    ///
    /// # Errors
    /// TooLarge over [`document::MAX_BYTES`].
    pub fn set_bucket_document<'a>(
        &'a self,
        bucket: &'a str,
        document: BucketDocument,
        body: Option<Vec<u8>>,
    ) -> Verb<'a, ()> {
        Box::pin(async move {
            let rows = body.map(|body| document::rows(&body)).transpose()?.unwrap_or_default();
            let attempt = AttemptId::random();
            transact!(self, "set_bucket_document", |tx| write(tx, attempt, bucket, document, &rows))
        })
    }
}

async fn read(tx: &mut Tx, bucket: &str, document: BucketDocument) -> Outcome<Option<Vec<u8>>> {
    let key = keyspace::document(bucket, document);
    tx.prefetch(&[keyspace::bucket(bucket), key.clone()]).await?;
    tx.bucket(bucket).await?;
    let Some(first) = tx.raw(&key).await? else { return Ok(None) };
    let head = match First::read(&key, &first)? {
        First::Whole(body) => return Ok(Some(body.into())),
        First::Chunked(head) => head,
    };
    // Of one version of the store, as all reads of a transaction are: never chunks of two documents.
    let page = tx.range(RangeQuery::prefix(key.clone(), MAX_ROWS + 1).snapshot()).await?;
    let chunks = page.rows.iter().skip(1).map(|(key, row)| document::chunk(key, row));
    Ok(Some(document::join(&key, head, chunks)?))
}

async fn write(
    tx: &mut Tx,
    attempt: AttemptId,
    bucket: &str,
    document: BucketDocument,
    rows: &[bytes::Bytes],
) -> Outcome<()> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(bucket)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    tx.bucket(bucket).await?;
    replace(tx, bucket, document, rows);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

/// `rows`: of [`document::rows`]; none for no document.
pub(crate) fn replace(tx: &mut Tx, bucket: &str, document: BucketDocument, rows: &[bytes::Bytes]) {
    let key = keyspace::document(bucket, document);
    let end = prefix_end(&key);
    tx.clear_range(key.clone(), end);
    for (number, row) in (0u16..).zip(rows) {
        let key = if number == 0 { key.clone() } else { keyspace::document_chunk(bucket, document, number) };
        tx.set_raw(key, row.clone());
    }
}

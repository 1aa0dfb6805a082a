//! Many deletes in one request: together in few transactions, which cost few syncs and few exchanges with the store.

use std::sync::OnceLock;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use crate::{
    error::{MetaError, Result},
    ids::VersionId,
    keyspace,
    record::{
        Bucket, Versioning,
        rows::{HeadRow, PartList, PartRow, VersionRow},
    },
    verbs::{
        DeleteObject, Deleted, Meta, VersionSelector, objects,
        tx::{Outcome, Tx},
    },
};

/// Deletes of one transaction: about 200 kB of rows and conflicts.
const TOGETHER: usize = 250;
/// Transactions of one request that run at once.
const CONCURRENT: usize = 4;
/// How often a transaction is tried before its deletes are made one by one.
const TRIES: u32 = 3;
/// Deletes made one by one that run at once.
const CONCURRENT_SINGLE: usize = 64;

impl Meta {
    /// Each on its own: one may fail without the others. Same order as given. At most 1000.
    pub fn delete_objects(&self, requests: Vec<DeleteObject>) -> BoxFuture<'_, Vec<Result<Deleted>>> {
        Box::pin(async move {
            // Each has the time of a verb: once the store has let one of them wait in vain, the rest would only make
            // the caller wait longer.
            let gone: OnceLock<MetaError> = OnceLock::new();
            // Boxed and collected, because a stream over a closure that lends is not `Send` for every lifetime, as its
            // callers need.
            let parts: Vec<_> = requests.chunks(TOGETHER).map(|part| self.delete_part(part, &gone).boxed()).collect();
            let answers: Vec<Vec<_>> = stream::iter(parts).buffered(CONCURRENT).collect().await;
            answers.into_iter().flatten().collect()
        })
    }

    async fn delete_part(&self, requests: &[DeleteObject], gone: &OnceLock<MetaError>) -> Vec<Result<Deleted>> {
        if let Some(error) = gone.get() {
            return requests.iter().map(|_| Err(error.clone())).collect();
        }
        match self.delete_together(requests).await {
            Ok(Some(deleted)) => return deleted.into_iter().map(Ok).collect(),
            Ok(None) => {}
            Err(error) => {
                note(gone, &error);
                return requests.iter().map(|_| Err(error.clone())).collect();
            }
        }
        // One of them is refused, or meets others at its key: each finds out for itself. What the transaction may have
        // done all the same, each attempt finds.
        let deletes: Vec<_> = requests.iter().map(|request| self.delete_alone(request, gone).boxed()).collect();
        stream::iter(deletes).buffered(CONCURRENT_SINGLE).collect().await
    }

    async fn delete_alone(&self, request: &DeleteObject, gone: &OnceLock<MetaError>) -> Result<Deleted> {
        if let Some(error) = gone.get() {
            return Err(error.clone());
        }
        let deleted = self.delete_object(request.clone()).await;
        if let Err(error) = &deleted {
            note(gone, error);
        }
        deleted
    }

    /// None if not all of them can be done in one transaction; an error if the store did not answer.
    async fn delete_together(&self, requests: &[DeleteObject]) -> Result<Option<Vec<Deleted>>> {
        let mut attempts = self.attempts("delete_objects");
        for _ in 0..TRIES {
            let mut tx = attempts.begin().await?;
            let outcome = together(&mut tx, requests).await;
            match attempts.end(tx, outcome).await {
                Ok(None) => {}
                Ok(Some(deleted)) => return Ok(Some(deleted)),
                Err(error) if waited_in_vain(&error) => return Err(error),
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn waited_in_vain(error: &MetaError) -> bool {
    matches!(error, MetaError::Timeout(_) | MetaError::Unavailable(_) | MetaError::CommitUnknown(_))
}

/// Remembers a store that does not answer, for those that were not tried.
fn note(gone: &OnceLock<MetaError>, error: &MetaError) {
    if let MetaError::Timeout(why) | MetaError::Unavailable(why) | MetaError::CommitUnknown(why) = error {
        gone.get_or_init(|| MetaError::Unavailable(why.clone()));
    }
}

async fn together(tx: &mut Tx, requests: &[DeleteObject]) -> Outcome<Vec<Deleted>> {
    read_ahead(tx, requests).await?;
    let mut deleted = Vec::with_capacity(requests.len());
    for request in requests {
        deleted.push(objects::delete(tx, request).await?);
    }
    Ok(deleted)
}

/// What the deletes will read, in three exchanges for all of them: each names the rows of the next.
async fn read_ahead(tx: &mut Tx, requests: &[DeleteObject]) -> Outcome<()> {
    let heads: Vec<Bytes> = requests.iter().map(|request| keyspace::head(&request.bucket, &request.key)).collect();
    let mut keys: Vec<Bytes> = requests.iter().map(|request| keyspace::attempt(request.attempt)).collect();
    keys.extend(requests.iter().map(|request| keyspace::bucket(&request.bucket)));
    keys.sort();
    keys.dedup();
    keys.extend(heads.iter().cloned());
    tx.prefetch(&keys).await?;

    let mut rows = Vec::with_capacity(requests.len());
    for (request, head) in requests.iter().zip(&heads) {
        let head = tx.get::<HeadRow>(head).await?;
        let bucket = tx.get::<Bucket>(&keyspace::bucket(&request.bucket)).await?;
        if let (Some(bucket), Some(head)) = (bucket, head)
            && let Some(row) = row_read(&bucket, &head, request.selector)
        {
            rows.push(keyspace::version(&request.bucket, &request.key, row));
        }
    }
    tx.prefetch(&rows).await?;

    let mut extras = Vec::with_capacity(rows.len());
    for row in &rows {
        match tx.get::<VersionRow>(row).await?.map(|stored| stored.parts) {
            Some(PartList::Inline(parts)) => {
                extras.extend(parts.iter().flat_map(PartRow::references).map(keyspace::blob_extra));
            }
            Some(PartList::Listed { list, .. }) => extras.push(keyspace::list_extra(list)),
            None => {}
        }
    }
    tx.prefetch(&extras).await
}

/// The row that a delete reads, to take it away or to put a marker in its place.
fn row_read(bucket: &Bucket, head: &HeadRow, selector: VersionSelector) -> Option<VersionId> {
    match selector {
        VersionSelector::Id(id) if !id.is_null() => Some(id),
        VersionSelector::Id(_) => head.null_row,
        VersionSelector::Current if bucket.versioning == Versioning::Enabled => None,
        VersionSelector::Current => head.null_row,
    }
}

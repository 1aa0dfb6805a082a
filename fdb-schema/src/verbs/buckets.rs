//! Buckets and what they hold.

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    ids::{AttemptId, UploadId},
    keyspace,
    kv::{RangeQuery, key_after, prefix_end},
    record::{Bucket, LimitsChange, QuotaChange, Usage, Versioning, rows::AttemptRow},
    verbs::{
        Meta, Verb, attempts, events, multipart,
        tx::{Outcome, Tx, transact},
        usage,
    },
};

/// S3 names have at most 63 bytes; old ones up to 255.
const MAX_NAME_BYTES: usize = 255;
/// Unfinished uploads that one transaction aborts: their rows have up to some kilobytes each.
const MAX_ABORTED: usize = 500;
/// Transactions in which a bucket's deletion may abort uploads, while others may go on creating some.
const MAX_ABORTING: usize = 1000;

impl Meta {
    /// Err(BucketExists) when the same owner has it, Err(BucketOwnedByOther) otherwise.
    pub fn create_bucket(&self, bucket: Bucket) -> Verb<'_, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "create_bucket", |tx| create(tx, attempt, &bucket))
        })
    }

    pub fn bucket<'a>(&'a self, name: &'a str) -> Verb<'a, Bucket> {
        Box::pin(async move { transact!(self, "bucket", |tx| tx.bucket(name)) })
    }

    /// Err(BucketNotEmpty) while it has a version or a delete marker. Unfinished uploads are aborted: together with the
    /// deletion unless there are very many, of which some are then aborted before, each time only if there is no
    /// version.
    pub fn delete_bucket<'a>(&'a self, name: &'a str) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            for _ in 0..MAX_ABORTING {
                if transact!(self, "delete_bucket", |tx| delete(tx, attempt, name))? {
                    return Ok(());
                }
            }
            Err(MetaError::Contention)
        })
    }

    /// In order of name.
    pub fn list_buckets<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Verb<'a, Vec<Bucket>> {
        Box::pin(async move { transact!(self, "list_buckets", |tx| list(tx, prefix, after, limit)) })
    }

    /// Err(VersioningLocked) for suspending it while versions in the bucket may be locked.
    pub fn set_versioning<'a>(&'a self, bucket: &'a str, versioning: Versioning) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_versioning", |tx| set_versioning(tx, attempt, bucket, versioning))
        })
    }

    pub fn usage<'a>(&'a self, bucket: &'a str) -> Verb<'a, Usage> {
        Box::pin(async move { transact!(self, "usage", |tx| usage(tx, bucket)) })
    }

    /// Bounds what a bucket holds from now on. What is there stays, also what is more than that: then nothing that
    /// makes it more is taken until enough is gone.
    pub fn set_quota<'a>(&'a self, bucket: &'a str, change: impl Into<QuotaChange>) -> Verb<'a, ()> {
        let change = change.into();
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_quota", |tx| set_quota(tx, attempt, bucket, change))
        })
    }

    /// Bounds the requests for a bucket.
    pub fn set_request_limits<'a>(&'a self, bucket: &'a str, change: impl Into<LimitsChange>) -> Verb<'a, ()> {
        let change = change.into();
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_request_limits", |tx| set_request_limits(tx, attempt, bucket, change))
        })
    }

    /// Whether so many bytes more could be in a bucket, as far as is known now: for whoever would rather be refused
    /// before they have come than after.
    ///
    /// # Errors
    /// QuotaExceeded.
    pub fn expect_room<'a>(&'a self, bucket: &'a str, bytes: u64) -> Verb<'a, ()> {
        Box::pin(async move {
            transact!(self, "expect_room", |tx| async {
                let bucket = tx.bucket(bucket).await?;
                usage::expect_room(tx, &bucket, bytes).await
            })
        })
    }
}

async fn create(tx: &mut Tx, attempt: AttemptId, bucket: &Bucket) -> Outcome<()> {
    let name = &bucket.name;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        let why = format!("want 1 to {MAX_NAME_BYTES} bytes and no NUL");
        return Err(MetaError::Invalid { what: "bucket name", why }.into());
    }
    if bucket.object_lock.is_some() && bucket.versioning != Versioning::Enabled {
        return Err(MetaError::VersioningNotEnabled(name.clone()).into());
    }
    let key = keyspace::bucket(name);
    tx.prefetch(&[keyspace::attempt(attempt), key.clone()]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    match tx.get::<Bucket>(&key).await? {
        Some(existing) if existing.owner == bucket.owner => Err(MetaError::BucketExists(name.clone()).into()),
        Some(_) => Err(MetaError::BucketOwnedByOther(name.clone()).into()),
        None => {
            tx.set(key, bucket);
            attempts::remember(tx, attempt, &AttemptRow::Done);
            Ok(())
        }
    }
}

/// Whether the bucket is gone. If not, it had too many uploads for one transaction, and some of them are gone.
async fn delete(tx: &mut Tx, attempt: AttemptId, name: &str) -> Outcome<bool> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(name)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(true);
    }
    tx.bucket(name).await?;
    if !tx.range(RangeQuery::prefix(keyspace::versions_prefix(name, ""), 1)).await?.rows.is_empty() {
        return Err(MetaError::BucketNotEmpty(name.to_owned()).into());
    }
    if !abort_uploads(tx, name).await? {
        return Ok(false);
    }
    for rows in [keyspace::documents(name), keyspace::usages(name)] {
        let end = prefix_end(&rows);
        tx.clear_range(rows, end);
    }
    events::forget_counters(tx, name).await?;
    tx.clear(keyspace::bucket(name));
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(true)
}

/// Whether all of them are aborted now.
async fn abort_uploads(tx: &mut Tx, bucket: &str) -> Outcome<bool> {
    // Read, so that an upload that is created or completed beside this conflicts.
    let page = tx.range(RangeQuery::prefix(keyspace::uploads_prefix(bucket, ""), MAX_ABORTED)).await?;
    for (row_key, _) in page.rows {
        let (_, id) = keyspace::split_keyed(bucket, &row_key)
            .ok_or_else(|| MetaError::Corrupt { what: "upload row", why: format!("key {}", hex::encode(&row_key)) })?;
        multipart::clear(tx, row_key, UploadId(id)).await?;
    }
    Ok(!page.more)
}

async fn list(tx: &mut Tx, prefix: &str, after: Option<&str>, limit: usize) -> Outcome<Vec<Bucket>> {
    let first = keyspace::bucket(prefix);
    let end = prefix_end(&first);
    let begin = after.map_or(first.clone(), |after| key_after(&keyspace::bucket(after)).max(first));
    if begin >= end {
        return Ok(Vec::new());
    }
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    Ok(page.rows.iter().map(|(key, value)| Bucket::read(key, value)).collect::<Result<_>>()?)
}

async fn set_versioning(tx: &mut Tx, attempt: AttemptId, name: &str, versioning: Versioning) -> Outcome<()> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(name)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let mut bucket = tx.bucket(name).await?;
    if bucket.versioning != Versioning::Off && versioning == Versioning::Off {
        let why = "once enabled it can only be suspended".to_owned();
        return Err(MetaError::Invalid { what: "versioning", why }.into());
    }
    if bucket.object_lock.is_some() && versioning != Versioning::Enabled {
        return Err(MetaError::VersioningLocked(name.to_owned()).into());
    }
    if bucket.versioning != versioning {
        bucket.versioning = versioning;
        tx.set(keyspace::bucket(name), &bucket);
        attempts::remember(tx, attempt, &AttemptRow::Done);
    }
    Ok(())
}

async fn usage(tx: &mut Tx, bucket: &str) -> Outcome<Usage> {
    tx.bucket(bucket).await?;
    usage::read(tx, bucket, true).await
}

async fn set_quota(tx: &mut Tx, attempt: AttemptId, name: &str, change: QuotaChange) -> Outcome<()> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(name)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let bucket = tx.bucket(name).await?;
    let quota = change.of(bucket.quota.map(|kept| kept.quota).unwrap_or_default());
    usage::set_quota(tx, bucket, (!quota.is_unset()).then_some(quota));
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn set_request_limits(tx: &mut Tx, attempt: AttemptId, name: &str, change: LimitsChange) -> Outcome<()> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(name)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    let bucket = tx.bucket(name).await?;
    let limits = change.of(bucket.limits);
    tx.set(keyspace::bucket(name), &Bucket { limits, ..bucket });
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

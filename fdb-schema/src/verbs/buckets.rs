//! Buckets, their documents and what they hold.

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    keyspace::{self, UsageField},
    kv::{RangeQuery, counter, key_after, limits, prefix_end},
    record::{Bucket, BucketDocument, Usage, Versioning},
    verbs::{
        Meta,
        tx::{Outcome, Tx, transact},
    },
};

/// S3 names have at most 63 bytes; old ones up to 255.
const MAX_NAME_BYTES: usize = 255;
/// Documents have a format byte before them.
const DOCUMENT_VERSION: u8 = 1;
const MAX_DOCUMENT_BYTES: usize = limits::VALUE_BYTES - 1;

impl Meta {
    /// Err(BucketExists) when the same owner has it, Err(BucketOwnedByOther) otherwise.
    pub async fn create_bucket(&self, bucket: Bucket) -> Result<()> {
        transact!(self, "create_bucket", |tx| create(tx, &bucket))
    }

    pub async fn bucket(&self, name: &str) -> Result<Bucket> {
        transact!(self, "bucket", |tx| tx.bucket(name))
    }

    /// Err(BucketNotEmpty) while it has a version, a delete marker or an upload.
    pub async fn delete_bucket(&self, name: &str) -> Result<()> {
        transact!(self, "delete_bucket", |tx| delete(tx, name))
    }

    /// In order of name.
    pub async fn list_buckets(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Bucket>> {
        transact!(self, "list_buckets", |tx| list(tx, prefix, after, limit))
    }

    pub async fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<()> {
        transact!(self, "set_versioning", |tx| set_versioning(tx, bucket, versioning))
    }

    pub async fn bucket_document(&self, bucket: &str, document: BucketDocument) -> Result<Option<Vec<u8>>> {
        transact!(self, "bucket_document", |tx| read_document(tx, bucket, document))
    }

    /// None removes it.
    pub async fn set_bucket_document(
        &self,
        bucket: &str,
        document: BucketDocument,
        body: Option<Vec<u8>>,
    ) -> Result<()> {
        transact!(self, "set_bucket_document", |tx| write_document(tx, bucket, document, body.as_deref()))
    }

    pub async fn usage(&self, bucket: &str) -> Result<Usage> {
        transact!(self, "usage", |tx| usage(tx, bucket))
    }
}

async fn create(tx: &mut Tx, bucket: &Bucket) -> Outcome<()> {
    let name = &bucket.name;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        let why = format!("want 1 to {MAX_NAME_BYTES} bytes and no NUL");
        return Err(MetaError::Invalid { what: "bucket name", why }.into());
    }
    let key = keyspace::bucket(name);
    match tx.get::<Bucket>(&key).await? {
        Some(existing) if tx.maybe_committed && existing == *bucket => Ok(()),
        Some(existing) if existing.owner == bucket.owner => Err(MetaError::BucketExists(name.clone()).into()),
        Some(_) => Err(MetaError::BucketOwnedByOther(name.clone()).into()),
        None => {
            tx.set(key, bucket);
            Ok(())
        }
    }
}

async fn delete(tx: &mut Tx, name: &str) -> Outcome<()> {
    match tx.bucket(name).await {
        Err(super::tx::Abort::Meta(MetaError::NoSuchBucket(_))) if tx.maybe_committed => return Ok(()),
        bucket => bucket?,
    };
    for rows in [keyspace::versions_prefix(name, ""), keyspace::uploads_prefix(name, "")] {
        if !tx.range(RangeQuery::prefix(rows, 1)).await?.rows.is_empty() {
            return Err(MetaError::BucketNotEmpty(name.to_owned()).into());
        }
    }
    for rows in [keyspace::documents(name), keyspace::usages(name)] {
        let end = prefix_end(&rows);
        tx.clear_range(rows, end);
    }
    tx.clear(keyspace::bucket(name));
    Ok(())
}

async fn list(tx: &mut Tx, prefix: &str, after: Option<&str>, limit: usize) -> Outcome<Vec<Bucket>> {
    let first = keyspace::bucket(prefix);
    let end = prefix_end(&first);
    let begin = after.map_or(first.clone(), |after| key_after(&keyspace::bucket(after)).max(first));
    if begin >= end {
        return Ok(Vec::new());
    }
    let page = tx.range(RangeQuery::new(begin, end, limit).snapshot()).await?;
    Ok(page.rows.iter().map(|(_, value)| Bucket::read(value)).collect::<Result<_>>()?)
}

async fn set_versioning(tx: &mut Tx, name: &str, versioning: Versioning) -> Outcome<()> {
    let mut bucket = tx.bucket(name).await?;
    if bucket.versioning != Versioning::Off && versioning == Versioning::Off {
        let why = "once enabled it can only be suspended".to_owned();
        return Err(MetaError::Invalid { what: "versioning", why }.into());
    }
    if bucket.versioning != versioning {
        bucket.versioning = versioning;
        tx.set(keyspace::bucket(name), &bucket);
    }
    Ok(())
}

async fn read_document(tx: &mut Tx, bucket: &str, document: BucketDocument) -> Outcome<Option<Vec<u8>>> {
    let key = keyspace::document(bucket, document);
    tx.prefetch(&[keyspace::bucket(bucket), key.clone()]).await?;
    tx.bucket(bucket).await?;
    match tx.raw(&key).await?.as_deref() {
        None => Ok(None),
        Some([DOCUMENT_VERSION, body @ ..]) => Ok(Some(body.to_vec())),
        Some(_) => {
            let why = "unknown format version".to_owned();
            Err(MetaError::Corrupt { what: "bucket document", why }.into())
        }
    }
}

async fn write_document(tx: &mut Tx, bucket: &str, document: BucketDocument, body: Option<&[u8]>) -> Outcome<()> {
    tx.bucket(bucket).await?;
    let key = keyspace::document(bucket, document);
    let Some(body) = body else {
        tx.clear(key);
        return Ok(());
    };
    if body.len() > MAX_DOCUMENT_BYTES {
        let (actual, limit) = (body.len() as u64, MAX_DOCUMENT_BYTES as u64);
        return Err(MetaError::TooLarge { what: "bucket document", actual, limit }.into());
    }
    let mut value = Vec::with_capacity(body.len() + 1);
    value.push(DOCUMENT_VERSION);
    value.extend_from_slice(body);
    tx.set_raw(key, value.into());
    Ok(())
}

async fn usage(tx: &mut Tx, bucket: &str) -> Outcome<Usage> {
    tx.bucket(bucket).await?;
    let rows = usize::from(keyspace::USAGE_STRIPES) * 2;
    let page = tx.range(RangeQuery::prefix(keyspace::usages(bucket), rows).snapshot()).await?;
    // A stripe alone may be negative: what one added, another may have taken away.
    let sum = |field: UsageField| {
        let counters = page.rows.iter().filter(|(key, _)| key.last() == Some(&(field as u8)));
        let sum = counters.map(|(_, value)| counter(Some(value))).fold(0, i64::wrapping_add);
        u64::try_from(sum).unwrap_or_default()
    };
    Ok(Usage { objects: sum(UsageField::Objects), bytes: sum(UsageField::Bytes) })
}

/// Counts a version that comes (`sign` 1) or goes (-1).
pub(crate) fn count_version(tx: &mut Tx, bucket: &str, size: u64, sign: i64) {
    let stripe = rand::random();
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let key = |field| -> Bytes { keyspace::usage(bucket, stripe, field) };
    tx.add(key(UsageField::Objects), sign);
    tx.add(key(UsageField::Bytes), sign * size);
}

//! The rows of one object key: its versions, newest first, and the head that tells of the newest.

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    ids::VersionId,
    keyspace,
    kv::RangeQuery,
    record::{
        Bucket, Version, VersionKind, Versioning,
        rows::{HeadRow, PartList, VersionRow},
    },
    text::Shown,
    verbs::{
        EtagMatch, Precondition, VersionSelector, blobs,
        tx::{Outcome, Tx},
        usage::{count_gone, count_new},
    },
};

/// S3's limit.
pub(crate) const MAX_KEY_BYTES: usize = 1024;

pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(MetaError::Invalid { what: "key", why: "empty".to_owned() });
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(MetaError::KeyTooLong { bytes: key.len() as u64, limit: MAX_KEY_BYTES as u64 });
    }
    Ok(())
}

/// A row's place in the order of versions is the first 8 bytes of its id, inverted so that the newest sorts first:
/// milliseconds and 16 bits for those within one. The other 8 are random, so that an id is never used twice.
fn order_of(row: VersionId) -> u64 {
    let mut order = [0; 8];
    order.copy_from_slice(&row.0[..8]);
    !u64::from_be_bytes(order)
}

fn row_after(head: Option<&HeadRow>, now_ms: u64) -> VersionId {
    let newest = head.map_or(0, |head| order_of(head.row));
    // Never 0, so that no id is that of the null version.
    let order = (now_ms << 16).max(newest + 1);
    let mut row = [0; 16];
    row[..8].copy_from_slice(&(!order).to_be_bytes());
    row[8..].copy_from_slice(&rand::random::<[u8; 8]>());
    VersionId(row)
}

/// Everything of a version but what the transaction decides.
pub(crate) struct Draft {
    /// `id` and `modified_ms` are overwritten.
    pub version: Version,
    pub parts: PartList,
}

/// Makes a version the newest of its key, locked as its bucket says. In a bucket without versioning, or with versioning
/// suspended, it is the null version and replaces the one that was.
pub(crate) async fn insert(
    tx: &mut Tx,
    bucket: &Bucket,
    key: &str,
    head: Option<HeadRow>,
    draft: Draft,
) -> Outcome<Version> {
    let row = row_after(head.as_ref(), tx.now_ms);
    let (mut null_row, mut replaced) = (head.as_ref().and_then(|head| head.null_row), None);
    let id = if bucket.versioning == Versioning::Enabled {
        row
    } else {
        if let Some(null) = null_row.replace(row) {
            replaced = Some(drop_row(tx, bucket, key, null, false).await?);
        }
        VersionId::NULL
    };
    let replaced = replaced.filter(|version| version.kind == VersionKind::Object).map(|version| version.size);
    let modified_ms = head.map_or(0, |head| head.modified_ms).max(tx.now_ms);
    let mut version = Version { id, modified_ms, ..draft.version };
    if version.kind == VersionKind::Object {
        version.attributes.lock = bucket.lock_of_new(version.attributes.lock, modified_ms)?;
    }
    let stored = VersionRow { version, parts: draft.parts };
    tx.set(keyspace::version(&bucket.name, key, row), &stored);
    tx.set(keyspace::head(&bucket.name, key), &head_of(row, &stored.version, null_row));
    match (stored.version.kind, replaced) {
        (VersionKind::Object, replaced) => count_new(tx, bucket, stored.version.size, replaced).await?,
        (VersionKind::DeleteMarker, Some(size)) => count_gone(tx, &bucket.name, size),
        (VersionKind::DeleteMarker, None) => {}
    }
    Ok(stored.version)
}

/// What the head tells of the newest version.
pub(crate) fn head_of(row: VersionId, version: &Version, null_row: Option<VersionId>) -> HeadRow {
    HeadRow {
        row,
        id: version.id,
        kind: version.kind,
        etag: version.etag,
        size: version.size,
        modified_ms: version.modified_ms,
        owner: version.owner.clone(),
        storage_class: version.attributes.storage_class.clone(),
        checksum: version.checksum.as_ref().map(|checksum| (checksum.algorithm, checksum.kind)),
        null_row,
    }
}

/// Removes one row of a key and what it refers to, but not its trace in the head and the counters. Whatever removes a
/// version comes by here, so that here is decided whether it is locked. `bypass`: by somebody who may bypass
/// governance.
async fn drop_row(tx: &mut Tx, bucket: &Bucket, key: &str, row: VersionId, bypass: bool) -> Outcome<Version> {
    let row_key = keyspace::version(&bucket.name, key, row);
    let stored = tx.get::<VersionRow>(&row_key).await?.ok_or_else(|| missing_row(key, row))?;
    if stored.version.attributes.lock.holds(tx.now_ms, bypass) {
        return Err(locked(key, stored.version.id).into());
    }
    tx.clear(row_key);
    blobs::release(tx, &stored.parts).await?;
    Ok(stored.version)
}

pub(crate) fn locked(key: &str, version: VersionId) -> MetaError {
    MetaError::Locked { key: key.to_owned(), version }
}

fn missing_row(key: &str, row: VersionId) -> MetaError {
    let why = format!("key {} has no row {}", Shown(key), hex::encode(row.0));
    MetaError::Corrupt { what: "version rows", why }
}

/// Removes a version for good. The next older becomes the current one if it was.
///
/// # Errors
/// Locked for one that is kept. `bypass`: by somebody who may bypass governance.
pub(crate) async fn remove(
    tx: &mut Tx,
    bucket: &Bucket,
    key: &str,
    head: HeadRow,
    row: VersionId,
    bypass: bool,
) -> Outcome<Version> {
    let removed = drop_row(tx, bucket, key, row, bypass).await?;
    if removed.kind == VersionKind::Object {
        count_gone(tx, &bucket.name, removed.size);
    }
    let null_row = head.null_row.filter(|null| *null != row);
    let head_key = keyspace::head(&bucket.name, key);
    if head.row != row {
        tx.set(head_key, &HeadRow { null_row, ..head });
        return Ok(removed);
    }
    // Without versioning there never was another.
    let next = if bucket.versioning == Versioning::Off { None } else { newest(tx, &bucket.name, key).await? };
    match next {
        None => tx.clear(head_key),
        Some((row, next)) => tx.set(head_key, &head_of(row, &next.version, null_row)),
    }
    Ok(removed)
}

/// The newest version of a key and its row.
pub(crate) async fn newest(tx: &mut Tx, bucket: &str, key: &str) -> Outcome<Option<(VersionId, VersionRow)>> {
    let page = tx.range(RangeQuery::prefix(keyspace::versions(bucket, key), 1)).await?;
    let Some((row_key, value)) = page.rows.first() else { return Ok(None) };
    let (_, row) = keyspace::split_keyed(bucket, row_key)
        .ok_or_else(|| MetaError::Corrupt { what: "version row", why: format!("key {}", hex::encode(row_key)) })?;
    Ok(Some((VersionId(row), VersionRow::read(row_key, value)?)))
}

/// The row of a version that is named by its id; None if there is no such version.
pub(crate) async fn named(
    tx: &mut Tx,
    bucket: &str,
    key: &str,
    id: VersionId,
) -> Outcome<Option<(VersionId, VersionRow)>> {
    let row = if id.is_null() {
        let head = tx.get::<HeadRow>(&keyspace::head(bucket, key)).await?;
        match head.and_then(|head| head.null_row) {
            Some(row) => row,
            None => return Ok(None),
        }
    } else {
        id
    };
    let stored = tx.get::<VersionRow>(&keyspace::version(bucket, key, row)).await?;
    // A null version's row is not its name.
    Ok(stored.filter(|stored| stored.version.id == id).map(|stored| (row, stored)))
}

/// The object that a selector names, for reading.
pub(crate) async fn object(
    tx: &mut Tx,
    bucket: &str,
    key: &str,
    selector: VersionSelector,
) -> Outcome<(VersionId, VersionRow)> {
    let row = if key.len() > MAX_KEY_BYTES {
        None
    } else {
        match selector {
            VersionSelector::Current => newest(tx, bucket, key).await?,
            VersionSelector::Id(id) => named(tx, bucket, key, id).await?,
        }
    };
    let key = key.to_owned();
    match (row, selector) {
        (Some(object), _) if object.1.version.kind == VersionKind::Object => Ok(object),
        (Some((_, marker)), VersionSelector::Id(_)) => {
            let (version, modified_ms) = (marker.version.id, marker.version.modified_ms);
            Err(MetaError::IsDeleteMarker { key, version, modified_ms }.into())
        }
        (Some((_, marker)), VersionSelector::Current) => {
            Err(MetaError::KeyDeleted { key, marker: marker.version.id }.into())
        }
        (None, VersionSelector::Current) => {
            tx.bucket(bucket).await?;
            Err(MetaError::NoSuchKey(key).into())
        }
        (None, VersionSelector::Id(id)) => {
            tx.bucket(bucket).await?;
            Err(MetaError::NoSuchVersion { key, version: id.to_string() }.into())
        }
    }
}

/// The entity tag of the current object, if there is one.
pub(crate) fn current_etag(head: Option<&HeadRow>) -> Option<String> {
    head.filter(|head| head.kind == VersionKind::Object).map(|head| head.etag.to_string())
}

/// Whether a change or a copy may go ahead. `None` is no current object.
pub(crate) fn check(precondition: &Precondition, etag: Option<&str>) -> Result<()> {
    let matches = |wanted: &EtagMatch| match (wanted, etag) {
        (_, None) => false,
        (EtagMatch::Any, Some(_)) => true,
        (EtagMatch::OneOf(tags), Some(etag)) => tags.iter().any(|tag| tag == etag),
    };
    if precondition.if_match.as_ref().is_some_and(|wanted| !matches(wanted)) {
        return Err(MetaError::PreconditionFailed("If-Match"));
    }
    if precondition.if_none_match.as_ref().is_some_and(matches) {
        return Err(MetaError::PreconditionFailed("If-None-Match"));
    }
    Ok(())
}

/// [`check`] for a write, where If-Match on a key that does not exist is S3's NoSuchKey.
pub(crate) fn check_write(precondition: &Precondition, key: &str, head: Option<&HeadRow>) -> Result<()> {
    let etag = current_etag(head);
    if precondition.if_match.is_some() && etag.is_none() {
        return Err(MetaError::NoSuchKey(key.to_owned()));
    }
    check(precondition, etag.as_deref())
}

//! Objects: whole PUTs, deletes, copies, tags.

use crate::{
    error::{MetaError, Result},
    ids::{AttemptId, VersionId},
    keyspace,
    record::{
        Attributes, Bucket, Cause, Etag, EventKind, Lock, NewBlob, NewVersion, Version, VersionKind, Versioning,
        rows::{AttemptRow, BlobRef, HeadRow, PartList, PartRow, VersionRow},
        stored_length,
    },
    verbs::{
        CommitObject, Committed, CopyObject, DeleteObject, Deleted, Meta, Verb, VersionSelector, attempts, blobs,
        outbox,
        tx::{Outcome, Tx, transact},
        version_rows::{self, Draft},
    },
};

impl Meta {
    pub fn commit_object(&self, request: CommitObject) -> Verb<'_, Committed> {
        Box::pin(async move {
            version_rows::check_key(&request.key)?;
            transact!(self, "commit_object", |tx| commit(tx, &request))
        })
    }

    pub fn delete_object(&self, request: DeleteObject) -> Verb<'_, Deleted> {
        Box::pin(async move { transact!(self, "delete_object", |tx| delete(tx, &request)) })
    }

    pub fn copy_object(&self, request: CopyObject) -> Verb<'_, Committed> {
        Box::pin(async move {
            version_rows::check_key(&request.key)?;
            transact!(self, "copy_object", |tx| copy(tx, &request))
        })
    }

    /// Replaces the tags of a version in place; returns its id. `cause`: of the event that tells of it.
    pub fn set_tags<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        selector: VersionSelector,
        tags: Vec<(String, String)>,
        cause: Cause,
    ) -> Verb<'a, VersionId> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "set_tags", |tx| set_tags(tx, attempt, (bucket, key, selector), &tags, &cause))
        })
    }
}

/// Answers an attempt that has been committed.
pub(crate) fn committed(row: Option<AttemptRow>) -> Option<Committed> {
    match row {
        Some(AttemptRow::Committed { version, versioned }) => Some(Committed { version: *version, versioned }),
        _ => None,
    }
}

async fn commit(tx: &mut Tx, request: &CommitObject) -> Outcome<Committed> {
    let head_key = keyspace::head(&request.bucket, &request.key);
    let mut ahead = vec![keyspace::attempt(request.attempt), keyspace::bucket(&request.bucket), head_key.clone()];
    ahead.extend(request.blob.iter().flat_map(blobs::read_ahead));
    tx.prefetch(&ahead).await?;
    if let Some(done) = committed(attempts::earlier(tx, request.attempt).await?) {
        return Ok(done);
    }
    let bucket = tx.bucket(&request.bucket).await?;
    let head = tx.get::<HeadRow>(&head_key).await?;
    version_rows::check_write(&request.precondition, &request.key, head.as_ref())?;
    if let Some(blob) = &request.blob {
        blobs::register(tx, blob).await?;
    }
    let parts = one_part(&request.version, request.blob.as_ref(), tx.now_ms)?;
    let draft = Draft { version: drafted(&request.version), parts };
    let version = version_rows::insert(tx, &bucket, &request.key, head, draft).await?;
    outbox::note(tx, &bucket, &request.key, request.cause.kind, &request.cause.origin, &version).await?;
    finish(tx, request.attempt, &bucket, version)
}

/// Remembers and answers.
fn finish(tx: &mut Tx, attempt: AttemptId, bucket: &Bucket, version: Version) -> Outcome<Committed> {
    let versioned = bucket.versioning == Versioning::Enabled;
    attempts::remember(tx, attempt, &AttemptRow::Committed { version: Box::new(version.clone()), versioned });
    Ok(Committed { version, versioned })
}

/// The single part of an object put whole.
fn one_part(version: &NewVersion, blob: Option<&NewBlob>, now_ms: u64) -> Result<PartList> {
    let stored = blob.map_or(0, |new| new.blob.length);
    if stored_length(version.encryption.as_ref(), version.size) != Some(stored) {
        let why = format!("object of {} bytes with a blob of {stored}", version.size);
        return Err(MetaError::Invalid { what: "blob", why });
    }
    let part = |new: &NewBlob| PartRow {
        number: 1,
        length: version.size,
        md5: version.etag.md5,
        checksum: None,
        modified_ms: now_ms,
        blob_offset: 0,
        blob: Some(BlobRef::new(&new.blob)),
    };
    Ok(PartList::Inline(blob.map(part).into_iter().collect()))
}

fn drafted(new: &NewVersion) -> Version {
    Version {
        id: VersionId::NULL,
        kind: VersionKind::Object,
        etag: new.etag,
        size: new.size,
        modified_ms: 0,
        owner: new.owner.clone(),
        attributes: new.attributes.clone(),
        checksum: new.checksum.clone(),
        part_count: None,
        encryption: new.encryption.clone(),
    }
}

fn delete_marker() -> Draft {
    let version = Version {
        id: VersionId::NULL,
        kind: VersionKind::DeleteMarker,
        etag: Etag { md5: [0; 16], parts: None },
        size: 0,
        modified_ms: 0,
        owner: String::new(),
        attributes: Attributes::default(),
        checksum: None,
        part_count: None,
        encryption: None,
    };
    Draft { version, parts: PartList::Inline(Vec::new()) }
}

pub(crate) async fn delete(tx: &mut Tx, request: &DeleteObject) -> Outcome<Deleted> {
    let nothing = Deleted { version: None, delete_marker: false };
    let head_key = keyspace::head(&request.bucket, &request.key);
    tx.prefetch(&[keyspace::attempt(request.attempt), keyspace::bucket(&request.bucket), head_key.clone()]).await?;
    if let Some(AttemptRow::Deleted { version, delete_marker }) = attempts::earlier(tx, request.attempt).await? {
        return Ok(Deleted { version, delete_marker });
    }
    let bucket = tx.bucket(&request.bucket).await?;
    if request.key.is_empty() || request.key.len() > version_rows::MAX_KEY_BYTES {
        return Ok(nothing);
    }
    let head = tx.get::<HeadRow>(&head_key).await?;
    let deleted = match request.selector {
        VersionSelector::Current => {
            version_rows::check(&request.precondition, version_rows::current_etag(head.as_ref()).as_deref())?;
            delete_current(tx, &bucket, request, head, DELETED).await?
        }
        VersionSelector::Id(id) => delete_version(tx, &bucket, request, head, id).await?,
    };
    let Some(deleted) = deleted else { return Ok(nothing) };
    let row = AttemptRow::Deleted { version: deleted.version, delete_marker: deleted.delete_marker };
    attempts::remember(tx, request.attempt, &row);
    Ok(deleted)
}

/// What is told of a delete: of a version that is gone, and of one that a marker hides.
const DELETED: [EventKind; 2] = [EventKind::Removed, EventKind::Marked];

pub(crate) async fn delete_current(
    tx: &mut Tx,
    bucket: &Bucket,
    request: &DeleteObject,
    head: Option<HeadRow>,
    [removed_event, marked_event]: [EventKind; 2],
) -> Outcome<Option<Deleted>> {
    let key = &request.key;
    if bucket.versioning == Versioning::Off {
        let Some(head) = head else { return Ok(None) };
        let row = head.row;
        let removed = version_rows::remove(tx, bucket, key, head, row, request.bypass_governance).await?;
        outbox::note(tx, bucket, key, removed_event, &request.origin, &removed).await?;
        return Ok(Some(Deleted { version: Some(removed.id), delete_marker: false }));
    }
    version_rows::check_key(key)?;
    let marker = version_rows::insert(tx, bucket, key, head, delete_marker()).await?;
    outbox::note(tx, bucket, key, marked_event, &request.origin, &marker).await?;
    Ok(Some(Deleted { version: Some(marker.id), delete_marker: true }))
}

async fn delete_version(
    tx: &mut Tx,
    bucket: &Bucket,
    request: &DeleteObject,
    head: Option<HeadRow>,
    id: VersionId,
) -> Outcome<Option<Deleted>> {
    let named_row = version_rows::named(tx, &bucket.name, &request.key, id).await?;
    let etag = named_row.as_ref().filter(|(_, stored)| stored.version.kind == VersionKind::Object);
    let etag = etag.map(|(_, stored)| stored.version.etag.to_string());
    version_rows::check(&request.precondition, etag.as_deref())?;
    let (Some((row, _)), Some(head)) = (named_row, head) else { return Ok(None) };
    let removed = version_rows::remove(tx, bucket, &request.key, head, row, request.bypass_governance).await?;
    outbox::note(tx, bucket, &request.key, EventKind::Removed, &request.origin, &removed).await?;
    let delete_marker = removed.kind == VersionKind::DeleteMarker;
    Ok(Some(Deleted { version: Some(removed.id), delete_marker }))
}

async fn copy(tx: &mut Tx, request: &CopyObject) -> Outcome<Committed> {
    let (source_bucket, source_key, selector) = &request.source;
    let head_key = keyspace::head(&request.bucket, &request.key);
    let ahead = [
        keyspace::attempt(request.attempt),
        keyspace::bucket(&request.bucket),
        keyspace::bucket(source_bucket),
        head_key.clone(),
    ];
    tx.prefetch(&ahead).await?;
    if let Some(done) = committed(attempts::earlier(tx, request.attempt).await?) {
        return Ok(done);
    }
    tx.bucket(source_bucket).await?;
    let bucket = tx.bucket(&request.bucket).await?;
    let (_, source) = version_rows::object(tx, source_bucket, source_key, *selector).await?;
    let etag = source.version.etag.to_string();
    version_rows::check(&request.source_precondition, Some(&etag))?;
    if source.version.encryption != request.encryption {
        return Err(MetaError::Stale("copy source").into());
    }
    let head = tx.get::<HeadRow>(&head_key).await?;
    version_rows::check_write(&request.precondition, &request.key, head.as_ref())?;
    // The references are taken before those of the version that this one may replace are released: it may be the source
    // itself.
    blobs::share(tx, &source.parts);
    let VersionRow { version, parts } = source;
    let inherited = || Attributes { lock: Lock::default(), ..version.attributes };
    let attributes = request.attributes.clone().unwrap_or_else(inherited);
    let version = Version { owner: request.owner.clone(), attributes, ..version };
    let version = version_rows::insert(tx, &bucket, &request.key, head, Draft { version, parts }).await?;
    outbox::note(tx, &bucket, &request.key, EventKind::CreatedByCopy, &request.origin, &version).await?;
    finish(tx, request.attempt, &bucket, version)
}

async fn set_tags(
    tx: &mut Tx,
    attempt: AttemptId,
    (bucket, key, selector): (&str, &str, VersionSelector),
    tags: &[(String, String)],
    cause: &Cause,
) -> Outcome<VersionId> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(bucket)]).await?;
    if let Some(AttemptRow::Tagged(id)) = attempts::earlier(tx, attempt).await? {
        return Ok(id);
    }
    let (row, mut stored) = version_rows::object(tx, bucket, key, selector).await?;
    stored.version.attributes.tags = tags.to_vec();
    tx.set(keyspace::version(bucket, key, row), &stored);
    let bucket = tx.bucket(bucket).await?;
    outbox::note(tx, &bucket, key, cause.kind, &cause.origin, &stored.version).await?;
    attempts::remember(tx, attempt, &AttemptRow::Tagged(stored.version.id));
    Ok(stored.version.id)
}

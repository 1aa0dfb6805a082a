//! Multipart uploads. Their parts stay where they were written: Complete writes one row that points at them.

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    ids::{AttemptId, UploadId, VersionId},
    keyspace,
    kv::{RangeQuery, Row, key_after, prefix_end},
    record::{
        CompletedPart, Etag, EventKind, Slice, Upload, UploadedPart, Version, VersionKind, Versioning,
        rows::{AttemptRow, BlobRef, CompletedRow, HeadRow, PartFacts, PartList, PartRow, PartRun},
        stored_length,
    },
    verbs::{
        Committed, CompleteUpload, CopyPart, Meta, PartsPage, PutPart, RangeRequest, Verb, attempts, blobs, locate,
        outbox,
        tx::{Outcome, Tx, transact},
        version_rows::{self, Draft},
    },
};

/// S3's limit, and the highest part number.
pub const MAX_PARTS: u16 = 10_000;
/// A part that is copied may share so many slices of blobs: more would make its row too large.
pub const MAX_SLICES: usize = 64;
/// References to blobs of one object: whoever reads it holds them all. Twice what parts that were uploaded can have,
/// which have one each; only copies of copies have more.
pub const MAX_REFERENCES: usize = 2 * MAX_PARTS as usize;
/// Lists of at most so many parts, with at most so many slices in all, move into the version's row.
const INLINE_PARTS: usize = 16;
const INLINE_SLICES: usize = 64;
/// References that a Complete takes from parts it does not name.
const MAX_UNUSED: usize = 20_000;
/// With more than this many one of the two bounds is passed, whichever parts are named.
const MAX_STORED: usize = MAX_REFERENCES + MAX_UNUSED;
/// S3's limit.
const MAX_OBJECT_BYTES: u64 = 5 << 40;
const PAGE: usize = 2500;
/// Parts of one page of ListParts.
const MAX_LISTED: usize = 1000;

impl Meta {
    pub fn create_upload(&self, upload: Upload) -> Verb<'_, ()> {
        Box::pin(async move {
            version_rows::check_key(&upload.key)?;
            let attempt = AttemptId::random();
            transact!(self, "create_upload", |tx| create(tx, attempt, &upload))
        })
    }

    pub fn upload<'a>(&'a self, bucket: &'a str, key: &'a str, id: UploadId) -> Verb<'a, Upload> {
        Box::pin(async move { transact!(self, "upload", |tx| read(tx, bucket, key, id)) })
    }

    /// A part uploaded again replaces the one before, whose blob is reclaimed.
    pub fn put_part(&self, request: PutPart) -> Verb<'_, UploadedPart> {
        Box::pin(async move {
            check_number(request.number)?;
            transact!(self, "put_part", |tx| put_part(tx, &request))
        })
    }

    /// A part of bytes that other objects have: it shares their blobs.
    ///
    /// # Errors
    /// Stale when the source's bytes are not those of `slices` any more, TooLarge for more than [`MAX_SLICES`].
    pub fn copy_part(&self, request: CopyPart) -> Verb<'_, UploadedPart> {
        Box::pin(async move {
            check_number(request.number)?;
            if request.slices.len() > MAX_SLICES {
                let (actual, limit) = (request.slices.len() as u64, MAX_SLICES as u64);
                return Err(MetaError::TooLarge { what: "slices of a part", actual, limit });
            }
            transact!(self, "copy_part", |tx| copy_part(tx, &request))
        })
    }

    pub fn list_parts<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        id: UploadId,
        after: u16,
        limit: usize,
    ) -> Verb<'a, PartsPage> {
        Box::pin(async move {
            transact!(self, "list_parts", |tx| list_parts(tx, bucket, key, id, after, limit.min(MAX_LISTED)))
        })
    }

    /// One transaction. Repeating it after success answers the same.
    ///
    /// # Errors
    /// Beside what the request or the parts may have wrong: TooManyPieces for an object of more than
    /// [`MAX_REFERENCES`].
    pub fn complete_upload(&self, request: CompleteUpload) -> Verb<'_, Committed> {
        Box::pin(async move { transact!(self, "complete_upload", |tx| complete(tx, &request)) })
    }

    pub fn abort_upload<'a>(&'a self, bucket: &'a str, key: &'a str, id: UploadId) -> Verb<'a, ()> {
        Box::pin(async move {
            let attempt = AttemptId::random();
            transact!(self, "abort_upload", |tx| abort(tx, attempt, bucket, key, id))
        })
    }
}

fn check_number(number: u16) -> Result<()> {
    if number == 0 || number > MAX_PARTS {
        let why = format!("{number} is not between 1 and {MAX_PARTS}");
        return Err(MetaError::Invalid { what: "part number", why });
    }
    Ok(())
}

async fn create(tx: &mut Tx, attempt: AttemptId, upload: &Upload) -> Outcome<()> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::bucket(&upload.bucket)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    // What could never be completed is not begun.
    tx.bucket(&upload.bucket).await?.lock_of_new(upload.attributes.lock, tx.now_ms)?;
    tx.set(keyspace::upload(&upload.bucket, &upload.key, upload.id), upload);
    attempts::remember(tx, attempt, &AttemptRow::Done);
    Ok(())
}

async fn read(tx: &mut Tx, bucket: &str, key: &str, id: UploadId) -> Outcome<Upload> {
    if let Some(upload) = tx.get(&keyspace::upload(bucket, key, id)).await? {
        return Ok(upload);
    }
    tx.bucket(bucket).await?;
    Err(MetaError::NoSuchUpload(id).into())
}

async fn put_part(tx: &mut Tx, request: &PutPart) -> Outcome<UploadedPart> {
    let part_key = keyspace::part(request.upload, request.number);
    let mut ahead = vec![
        keyspace::attempt(request.attempt),
        keyspace::upload(&request.bucket, &request.key, request.upload),
        part_key.clone(),
    ];
    ahead.extend(request.blob.iter().flat_map(blobs::read_ahead));
    tx.prefetch(&ahead).await?;
    if let Some(AttemptRow::Part(row)) = attempts::earlier(tx, request.attempt).await? {
        return Ok(uploaded(row));
    }
    // Read, so that a Complete or an Abort beside this one conflicts.
    let upload = read(tx, &request.bucket, &request.key, request.upload).await?;
    // Whether there is room is not asked here: a refusal must follow from what the commit depends on, or a try whose
    // commit is unknown could be done after the bytes were given up.
    let stored = request.blob.as_ref().map_or(0, |new| new.blob.length);
    if stored_length(upload.encryption.as_ref(), request.length) != Some(stored) {
        let why = format!("part of {} bytes with a blob of {stored}", request.length);
        return Err(MetaError::Invalid { what: "blob", why }.into());
    }
    if let Some(replaced) = tx.get::<PartRow>(&part_key).await? {
        blobs::release_parts(tx, &[replaced], tx.now_ms).await?;
    }
    if let Some(new) = &request.blob {
        blobs::register(tx, new).await?;
    }
    let row = PartRow {
        number: request.number,
        length: request.length,
        md5: request.md5,
        checksum: request.checksum.clone(),
        modified_ms: tx.now_ms,
        blob_offset: 0,
        blob: request.blob.as_ref().map(|new| BlobRef::new(&new.blob)),
    };
    Ok(keep_part(tx, request.attempt, part_key, row))
}

fn keep_part(tx: &mut Tx, attempt: AttemptId, key: Bytes, row: PartRow) -> UploadedPart {
    tx.set(key, &row);
    attempts::remember(tx, attempt, &AttemptRow::Part(row.clone()));
    uploaded(row)
}

fn uploaded(row: PartRow) -> UploadedPart {
    PartFacts::from(row).into()
}

async fn copy_part(tx: &mut Tx, request: &CopyPart) -> Outcome<UploadedPart> {
    let part_key = keyspace::part(request.upload, request.number);
    let upload_key = keyspace::upload(&request.bucket, &request.key, request.upload);
    tx.prefetch(&[keyspace::attempt(request.attempt), upload_key, part_key.clone()]).await?;
    if let Some(AttemptRow::Part(row)) = attempts::earlier(tx, request.attempt).await? {
        return Ok(uploaded(row));
    }
    let upload = read(tx, &request.bucket, &request.key, request.upload).await?;
    // The source is read here, so whoever takes its references away beside this conflicts.
    let (bucket, key, selector) = &request.source;
    let range = match (request.range.start, request.range.end) {
        (start, end) if start < end => RangeRequest::Inclusive(start, end - 1),
        _ => RangeRequest::Nothing,
    };
    let source = locate::locate(tx, bucket, key, *selector, range).await?;
    let slices = source.slices();
    // Keys of blobs are derived from that of their version, so sealed ones are of no use to another.
    let sealed = source.version.encryption.is_some() || upload.encryption.is_some();
    if sealed || !slices.iter().map(Slice::name).eq(request.slices.iter().copied()) {
        return Err(MetaError::Stale("copy source").into());
    }
    // The references are taken before those of the part that this one may replace are released: it may have the same
    // blobs.
    blobs::share_slices(tx, &slices);
    if let Some(replaced) = tx.get::<PartRow>(&part_key).await? {
        blobs::release_parts(tx, &[replaced], tx.now_ms).await?;
    }
    let (blob_offset, blob) = match &slices[..] {
        [] => (0, None),
        [slice] => (slice.blob_offset, Some(BlobRef::new(&slice.blob))),
        slices => (0, Some(BlobRef::Slices(slices.iter().map(Slice::name).collect()))),
    };
    let row = PartRow {
        number: request.number,
        length: slices.iter().map(|slice| slice.length).sum(),
        md5: request.md5,
        checksum: request.checksum.clone(),
        modified_ms: tx.now_ms,
        blob_offset,
        blob,
    };
    Ok(keep_part(tx, request.attempt, part_key, row))
}

async fn list_parts(
    tx: &mut Tx,
    bucket: &str,
    key: &str,
    id: UploadId,
    after: u16,
    limit: usize,
) -> Outcome<PartsPage> {
    let upload = read(tx, bucket, key, id).await?;
    let begin = key_after(&keyspace::part(id, after));
    let end = prefix_end(&keyspace::parts(id));
    let page = tx.range(RangeQuery::new(begin, end, limit + 1).snapshot()).await?;
    let facts = page.rows.iter().take(limit).map(|(key, value)| PartFacts::read(key, value));
    let parts: Vec<UploadedPart> = facts.map(|facts| facts.map(Into::into)).collect::<Result<_>>()?;
    let next = parts.last().filter(|_| page.rows.len() > limit).map(|part| part.number);
    Ok(PartsPage { upload, parts, next })
}

/// A part that was uploaded: what decides, and its row.
struct Uploaded {
    facts: PartFacts,
    row: Row,
}

impl Uploaded {
    fn read(&self) -> Result<PartRow> {
        PartRow::read(&self.row.0, &self.row.1)
    }
}

fn check_references(references: usize, limit: usize) -> Result<()> {
    if references > limit {
        return Err(MetaError::TooManyPieces { actual: references as u64, limit: MAX_REFERENCES as u64 });
    }
    Ok(())
}

/// In order of number. Stops reading when there is more than any Complete may have.
async fn all_parts(tx: &mut Tx, id: UploadId) -> Outcome<Vec<Uploaded>> {
    let mut begin = keyspace::parts(id);
    let end = prefix_end(&begin);
    let mut parts = Vec::new();
    let mut references = 0;
    loop {
        let page = tx.range(RangeQuery::new(begin, end.clone(), PAGE)).await?;
        begin = match page.rows.last().filter(|_| page.more) {
            Some((last, _)) => key_after(last),
            None => end.clone(),
        };
        for row in page.rows {
            let facts = PartFacts::read(&row.0, &row.1)?;
            references += facts.references;
            parts.push(Uploaded { facts, row });
        }
        check_references(references, MAX_STORED)?;
        if begin == end {
            return Ok(parts);
        }
    }
}

async fn complete(tx: &mut Tx, request: &CompleteUpload) -> Outcome<Committed> {
    let upload_key = keyspace::upload(&request.bucket, &request.key, request.upload);
    let completed_key = keyspace::completed(request.upload);
    let head_key = keyspace::head(&request.bucket, &request.key);
    let ahead = [upload_key.clone(), completed_key.clone(), head_key.clone(), keyspace::bucket(&request.bucket)];
    tx.prefetch(&ahead).await?;
    if let Some(done) = tx.get::<CompletedRow>(&completed_key).await?
        && done.bucket == request.bucket
        && done.key == request.key
    {
        return Ok(Committed { version: done.version, versioned: done.versioned });
    }
    let upload = read(tx, &request.bucket, &request.key, request.upload).await?;
    let bucket = tx.bucket(&request.bucket).await?;
    let head = tx.get::<HeadRow>(&head_key).await?;
    version_rows::check_write(&request.precondition, &request.key, head.as_ref())?;
    let stored = all_parts(tx, request.upload).await?;
    let (parts, unused) = chosen(&request.parts, stored, request.min_part_bytes)?;
    check_references(parts.iter().map(|part| part.facts.references).sum(), MAX_REFERENCES)?;
    let references = unused.iter().map(|part| part.references().len()).sum::<usize>();
    if references > MAX_UNUSED {
        let (actual, limit) = (references as u64, MAX_UNUSED as u64);
        return Err(MetaError::TooLarge { what: "blobs of parts that are not named", actual, limit }.into());
    }
    let version = version_of(upload, request, &parts)?;
    blobs::release_parts(tx, &unused, tx.now_ms).await?;
    let parts = part_list(tx, request.upload, parts, &unused)?;
    tx.clear(upload_key);
    let version = version_rows::insert(tx, &bucket, &request.key, head, Draft { version, parts }).await?;
    outbox::note(tx, &bucket, &request.key, EventKind::CreatedByUpload, &request.origin, &version).await?;
    let versioned = bucket.versioning == Versioning::Enabled;
    let done = CompletedRow {
        bucket: request.bucket.clone(),
        key: request.key.clone(),
        completed_ms: tx.now_ms,
        version: version.clone(),
        versioned,
    };
    tx.set(completed_key, &done);
    tx.set_raw(keyspace::completed_time(tx.now_ms, request.upload), Bytes::new());
    Ok(Committed { version, versioned })
}

/// Divides the parts that were uploaded into those that the request names and the others.
fn chosen(named: &[CompletedPart], stored: Vec<Uploaded>, min_bytes: u64) -> Result<(Vec<Uploaded>, Vec<PartRow>)> {
    if named.is_empty() {
        return Err(MetaError::Invalid { what: "part list", why: "empty".to_owned() });
    }
    if let Some(pair) = named.windows(2).find(|pair| pair[0].number >= pair[1].number) {
        return Err(MetaError::InvalidPartOrder { number: pair[1].number });
    }
    let mut parts = Vec::with_capacity(named.len());
    let mut unused = Vec::new();
    // Both are in order of number.
    let mut wanted = named.iter().peekable();
    for part in stored {
        match wanted.next_if(|named| named.number <= part.facts.number) {
            Some(named) if agrees(named, &part.facts) => parts.push(part),
            Some(named) => return Err(MetaError::InvalidPart { number: named.number }),
            None => unused.push(part.read()?),
        }
    }
    if let Some(missing) = wanted.next() {
        return Err(MetaError::InvalidPart { number: missing.number });
    }
    let all_but_last = &parts[..parts.len() - 1];
    if let Some(Uploaded { facts, .. }) = all_but_last.iter().find(|part| part.facts.length < min_bytes) {
        return Err(MetaError::PartTooSmall { number: facts.number, length: facts.length, min: min_bytes });
    }
    Ok((parts, unused))
}

fn agrees(named: &CompletedPart, part: &PartFacts) -> bool {
    let checksum_agrees = named.checksum.as_ref().is_none_or(|named| {
        part.checksum.as_ref().is_some_and(|stored| stored.algorithm == named.algorithm && stored.value == named.value)
    });
    part.number == named.number && part.md5 == named.md5 && checksum_agrees
}

fn version_of(upload: Upload, request: &CompleteUpload, parts: &[Uploaded]) -> Result<Version> {
    let size = parts.iter().try_fold(0u64, |size, part| size.checked_add(part.facts.length));
    let size = size
        .filter(|size| *size <= MAX_OBJECT_BYTES)
        .ok_or_else(|| MetaError::ObjectTooLarge { bytes: size.unwrap_or(u64::MAX), limit: MAX_OBJECT_BYTES })?;
    let digests: Vec<u8> = parts.iter().flat_map(|part| part.facts.md5).collect();
    let count = u16::try_from(parts.len()).unwrap_or(u16::MAX);
    Ok(Version {
        id: VersionId::NULL,
        kind: VersionKind::Object,
        etag: Etag { md5: md5_simd::digest(&digests), parts: Some(count) },
        size,
        modified_ms: 0,
        owner: upload.owner,
        attributes: upload.attributes,
        checksum: request.checksum.clone(),
        part_count: Some(count),
        encryption: upload.encryption,
    })
}

/// A few parts move into the version's row; many stay in the rows of the upload, from which the unused ones are
/// removed.
fn part_list(tx: &mut Tx, list: UploadId, parts: Vec<Uploaded>, unused: &[PartRow]) -> Result<PartList> {
    if parts.len() <= INLINE_PARTS {
        let rows: Vec<PartRow> = parts.iter().map(Uploaded::read).collect::<Result<_>>()?;
        if rows.iter().map(|row| row.references().len()).sum::<usize>() <= INLINE_SLICES {
            let begin = keyspace::parts(list);
            let end = prefix_end(&begin);
            tx.clear_range(begin, end);
            return Ok(PartList::Inline(rows));
        }
    }
    for part in unused {
        tx.clear(keyspace::part(list, part.number));
    }
    let mut runs: Vec<PartRun> = Vec::new();
    for Uploaded { facts: part, .. } in &parts {
        match runs.last_mut() {
            Some(run) if run.length == part.length && run.first + run.count == part.number => run.count += 1,
            _ => runs.push(PartRun { first: part.number, count: 1, length: part.length }),
        }
    }
    Ok(PartList::Listed { list, runs })
}

async fn abort(tx: &mut Tx, attempt: AttemptId, bucket: &str, key: &str, id: UploadId) -> Outcome<()> {
    tx.prefetch(&[keyspace::attempt(attempt), keyspace::upload(bucket, key, id)]).await?;
    if attempts::done_before(tx, attempt).await? {
        return Ok(());
    }
    read(tx, bucket, key, id).await?;
    attempts::remember(tx, attempt, &AttemptRow::Done);
    clear(tx, keyspace::upload(bucket, key, id), id).await
}

/// Takes away an upload that is there, and hands its parts to reclaim.
pub(crate) async fn clear(tx: &mut Tx, row_key: Bytes, id: UploadId) -> Outcome<()> {
    tx.clear(row_key);
    if !tx.range(RangeQuery::prefix(keyspace::parts(id), 1)).await?.rows.is_empty() {
        blobs::release_list(tx, id).await?;
    }
    Ok(())
}

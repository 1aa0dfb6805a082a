//! Where an object's bytes are.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    ids::{BlobId, UploadId},
    keyspace,
    kv::{RangeQuery, key_after},
    record::{
        Blob, Part, Slice, SliceName, UploadedPart, Version,
        rows::{BlobRef, PartFacts, PartList, PartRow, PartRun},
    },
    verbs::{
        Located, Meta, ObjectParts, RangeRequest, Verb, VersionSelector,
        tx::{Outcome, Tx, transact},
        version_rows,
    },
};

/// Part rows read at a time.
const PAGE: usize = 1000;

impl Meta {
    /// A delete marker as the current version gives KeyDeleted; named by id gives IsDeleteMarker.
    pub fn locate<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        selector: VersionSelector,
        range: RangeRequest,
    ) -> Verb<'a, Located> {
        Box::pin(async move { transact!(self, "locate", |tx| locate(tx, bucket, key, selector, range)) })
    }

    /// Up to `limit` parts of a multipart object after the first `after` ones. An object that was put whole has none.
    pub fn object_parts<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        selector: VersionSelector,
        after: u16,
        limit: usize,
    ) -> Verb<'a, ObjectParts> {
        Box::pin(
            async move { transact!(self, "object_parts", |tx| object_parts(tx, bucket, key, selector, after, limit)) },
        )
    }
}

async fn object_parts(
    tx: &mut Tx,
    bucket: &str,
    key: &str,
    selector: VersionSelector,
    after: u16,
    limit: usize,
) -> Outcome<ObjectParts> {
    let (_, stored) = version_rows::object(tx, bucket, key, selector).await?;
    let (version, after) = (stored.version, usize::from(after));
    let Some(count) = version.part_count else {
        return Ok(ObjectParts { version, parts: Vec::new(), more: false });
    };
    let rows: Vec<PartRow> = match stored.parts {
        PartList::Inline(parts) => parts.into_iter().skip(after).take(limit).collect(),
        PartList::Listed { list, runs } => {
            let numbers = runs.iter().flat_map(|run| u64::from(run.first)..u64::from(run.first) + u64::from(run.count));
            let numbers: Vec<u64> = numbers.skip(after).take(limit).collect();
            match (numbers.first(), numbers.last()) {
                (Some(first), Some(last)) => read_numbers(tx, list, *first..last + 1, numbers.len() as u64).await?,
                _ => Vec::new(),
            }
        }
    };
    let more = after + rows.len() < usize::from(count);
    let places = (1..=u16::MAX).skip(after);
    let parts = places.zip(rows).map(|(number, row)| UploadedPart { number, ..PartFacts::from(row).into() }).collect();
    Ok(ObjectParts { version, parts, more })
}

pub(crate) async fn locate(
    tx: &mut Tx,
    bucket: &str,
    key: &str,
    selector: VersionSelector,
    range: RangeRequest,
) -> Outcome<Located> {
    let (_, stored) = version_rows::object(tx, bucket, key, selector).await?;
    let (version, parts) = (stored.version, stored.parts);
    let range = match range {
        RangeRequest::Part(number) => part_range(&version, &parts, number)?,
        other => byte_range(version.size, other)?,
    };
    if range.is_empty() {
        return Ok(Located { version, parts_offset: range.start, range, parts: Vec::new() });
    }
    let (parts_offset, rows) = match parts {
        PartList::Inline(parts) => overlapping(parts, &range),
        PartList::Listed { list, runs } => listed(tx, list, &runs, &range).await?,
    };
    let parts = with_blobs(tx, rows).await?;
    Ok(Located { version, range, parts_offset, parts })
}

fn byte_range(size: u64, request: RangeRequest) -> Result<Range<u64>> {
    let unsatisfiable = Err(MetaError::InvalidRange { size });
    match request {
        RangeRequest::Nothing | RangeRequest::Part(_) => Ok(0..0),
        RangeRequest::All => Ok(0..size),
        RangeRequest::Inclusive(first, last) if first <= last && first < size => {
            Ok(first..last.saturating_add(1).min(size))
        }
        RangeRequest::From(first) if first < size => Ok(first..size),
        RangeRequest::Suffix(bytes) if bytes > 0 && size > 0 => Ok(size.saturating_sub(bytes)..size),
        RangeRequest::Inclusive(..) | RangeRequest::From(_) | RangeRequest::Suffix(_) => unsatisfiable,
    }
}

/// Parts are counted as S3 does: by their place in the object, from 1.
fn part_range(version: &Version, parts: &PartList, number: u16) -> Result<Range<u64>> {
    let no_part = || MetaError::InvalidPart { number };
    if version.part_count.is_none() {
        return if number == 1 { Ok(0..version.size) } else { Err(no_part()) };
    }
    let mut left = u64::from(number.checked_sub(1).ok_or_else(no_part)?);
    let runs: Vec<(u64, u64)> = match parts {
        PartList::Inline(parts) => parts.iter().map(|part| (1, part.length)).collect(),
        PartList::Listed { runs, .. } => runs.iter().map(|run| (run.count.into(), run.length)).collect(),
    };
    let mut offset = 0;
    for (count, length) in runs {
        if left < count {
            let start = offset + left * length;
            return Ok(start..start + length);
        }
        left -= count;
        offset += count * length;
    }
    Err(no_part())
}

/// The parts that hold bytes of a range, and where the first of them starts in the object.
fn overlapping(parts: Vec<PartRow>, range: &Range<u64>) -> (u64, Vec<PartRow>) {
    let mut inside = Vec::new();
    let (mut offset, mut first) = (0, 0);
    for part in parts {
        let end = offset + part.length;
        if offset < range.end && end > range.start && part.length > 0 {
            if inside.is_empty() {
                first = offset;
            }
            inside.push(part);
        }
        offset = end;
    }
    (first, inside)
}

/// The same for parts in rows of their own. The rows are read as one range, because a version may have as many runs as
/// parts, if no two parts have the same length.
async fn listed(tx: &mut Tx, list: UploadId, runs: &[PartRun], range: &Range<u64>) -> Outcome<(u64, Vec<PartRow>)> {
    let mut numbers: Option<Range<u64>> = None;
    let (mut offset, mut first) = (0, 0);
    for run in runs {
        let end = offset + u64::from(run.count) * run.length;
        if offset < range.end && end > range.start && run.length > 0 {
            let skipped = range.start.saturating_sub(offset) / run.length;
            let until = u64::from(run.first) + (range.end.min(end) - offset).div_ceil(run.length);
            numbers = Some(match numbers {
                Some(numbers) => numbers.start..until,
                None => {
                    first = offset + skipped * run.length;
                    u64::from(run.first) + skipped..until
                }
            });
        }
        offset = end;
    }
    let Some(numbers) = numbers else { return Ok((0, Vec::new())) };
    let within = |run: &PartRun| {
        let end = u64::from(run.first) + u64::from(run.count);
        end.min(numbers.end).saturating_sub(numbers.start.max(run.first.into()))
    };
    let wanted = runs.iter().map(within).sum();
    let mut parts = read_numbers(tx, list, numbers, wanted).await?;
    parts.retain(|part| part.length > 0);
    Ok((first, parts))
}

/// The parts with these numbers, of which the list has so many.
async fn read_numbers(tx: &mut Tx, list: UploadId, numbers: Range<u64>, wanted: u64) -> Outcome<Vec<PartRow>> {
    let damaged = |why: String| MetaError::Corrupt { what: "part list", why };
    let number = |n: u64| u16::try_from(n).map_err(|_| damaged(format!("part {n}")));
    let mut begin = keyspace::part(list, number(numbers.start)?);
    let end = key_after(&keyspace::part(list, number(numbers.end - 1)?));
    let mut parts = Vec::new();
    loop {
        let page = tx.range(RangeQuery::new(begin, end.clone(), PAGE).snapshot()).await?;
        for (key, value) in &page.rows {
            parts.push(PartRow::read(key, value)?);
        }
        match page.rows.last().filter(|_| page.more) {
            Some((last, _)) => begin = key_after(last),
            None => break,
        }
    }
    if parts.len() as u64 != wanted {
        return Err(damaged(format!(
            "list {list} has {} of {wanted} parts with the numbers {} to {}",
            parts.len(),
            numbers.start,
            numbers.end - 1
        ))
        .into());
    }
    Ok(parts)
}

/// The parts with their blobs, of which some are not in the parts' rows.
async fn with_blobs(tx: &mut Tx, rows: Vec<PartRow>) -> Outcome<Vec<Part>> {
    // Each blob once: an object may have many slices of few.
    let elsewhere: BTreeSet<BlobId> =
        rows.iter().filter(|row| !matches!(row.blob, Some(BlobRef::Inline(_)))).flat_map(PartRow::references).collect();
    let keys: Vec<Bytes> = elsewhere.iter().copied().map(keyspace::blob).collect();
    let read = elsewhere.into_iter().zip(tx.get_many::<Blob>(&keys).await?);
    let blobs: HashMap<BlobId, Arc<Blob>> = read.filter_map(|(id, blob)| Some((id, Arc::new(blob?)))).collect();
    Ok(rows.into_iter().map(|row| with_slices(row, &blobs)).collect::<Result<_>>()?)
}

fn with_slices(row: PartRow, blobs: &HashMap<BlobId, Arc<Blob>>) -> Result<Part> {
    let PartRow { number, length, md5, checksum, blob_offset, blob, .. } = row;
    let known = |id: BlobId| {
        let why = || format!("blob {id} of part {number} has no row");
        blobs.get(&id).cloned().ok_or_else(|| MetaError::Corrupt { what: "part row", why: why() })
    };
    let slices = match blob {
        None => Vec::new(),
        Some(BlobRef::Inline(blob)) => vec![Slice { blob_offset, length, blob: Arc::new(blob) }],
        Some(BlobRef::Row(id)) => vec![Slice { blob_offset, length, blob: known(id)? }],
        Some(BlobRef::Slices(names)) => {
            let slice = |name: SliceName| {
                Ok(Slice { blob_offset: name.blob_offset, length: name.length, blob: known(name.blob)? })
            };
            names.into_iter().map(slice).collect::<Result<_>>()?
        }
    };
    Ok(Part { number, length, md5, checksum, slices })
}

impl Located {
    /// The bytes asked for as slices of blobs, in order; what goes on in the same blob is one slice.
    pub fn slices(&self) -> Vec<Slice> {
        let mut slices: Vec<Slice> = Vec::new();
        let mut offset = self.parts_offset;
        for slice in self.parts.iter().flat_map(|part| &part.slices) {
            let end = offset + slice.length;
            let (from, to) = (self.range.start.max(offset), self.range.end.min(end));
            if from < to {
                let blob_offset = slice.blob_offset + (from - offset);
                match slices.last_mut() {
                    Some(last) if last.blob.id == slice.blob.id && last.blob_offset + last.length == blob_offset => {
                        last.length += to - from;
                    }
                    _ => slices.push(Slice { blob_offset, length: to - from, blob: slice.blob.clone() }),
                }
            }
            offset = end;
        }
        slices
    }

    /// The part whose bytes are exactly those asked for, so that its digests are theirs as well.
    pub fn whole_part(&self) -> Option<&Part> {
        match &self.parts[..] {
            [part] if self.parts_offset == self.range.start && self.range.end - self.range.start == part.length => {
                Some(part)
            }
            _ => None,
        }
    }
}

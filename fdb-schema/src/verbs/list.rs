//! ListObjects: one scan over head rows. A delimiter jumps over what shares a common prefix, so the cost grows with
//! what is listed, not with the keys below it.

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    keyspace,
    kv::{RangeQuery, Row, key_after, prefix_end},
    record::{VersionKind, rows::HeadRow},
    verbs::{
        ListEntry, ListPage, ListQuery, ListedObject, Meta, Verb,
        tx::{Outcome, Tx, transact},
        version_rows::MAX_KEY_BYTES,
    },
};

/// S3's limit of one page.
pub(crate) const MAX_ENTRIES: usize = 1000;
/// Where rows can be very long, a page ends after so many bytes of them even if it is not full.
pub(crate) const PAGE_BYTES: usize = 8 << 20;
/// Rows read in one transaction, so that it ends in time however many delete markers it passes.
const MAX_EXAMINED: usize = 20_000;
const FEWEST_ROWS: usize = 16;
/// A whole page of a listing and the row that says whether another comes: one read, where a thousand rows would be
/// followed by a second thousand for the sake of that one.
const MOST_ROWS: usize = MAX_ENTRIES + 1;
/// The first page of a scan is small: with a delimiter, most of a large one would be jumped over.
const FIRST_ROWS: usize = 64;
/// The most rows of a page where each may have 100 kB, the limit of the store: how long earlier rows were says nothing
/// of later ones.
const MOST_LONG_ROWS: usize = 128;

impl Meta {
    pub fn list_objects<'a>(&'a self, query: &'a ListQuery) -> Verb<'a, ListPage> {
        Box::pin(async move {
            let limit = query.limit.min(MAX_ENTRIES);
            let mut listing = Listing { page: ListPage::default(), at: start(query, limit), last: None };
            let deadline = tokio::time::Instant::now() + self.deadline;
            loop {
                listing = transact!(self, "list_objects", |tx| list(tx, query, limit, &listing))?;
                if listing.at.is_none() {
                    return Ok(listing.page);
                }
                if tokio::time::Instant::now() >= deadline {
                    return Err(MetaError::Timeout("list_objects: too many delete markers".into()));
                }
            }
        })
    }
}

/// The common prefix that a key is rolled up into.
pub(crate) fn common_prefix<'k>(key: &'k str, prefix: &str, delimiter: Option<&str>) -> Option<&'k str> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let at = key.strip_prefix(prefix)?.find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// Rows of a range, read in pages that grow while they are used up and shrink when most of one was jumped over.
pub(crate) struct Scan {
    begin: Bytes,
    end: Bytes,
    page: std::vec::IntoIter<Row>,
    more: bool,
    page_rows: usize,
    most_rows: usize,
    examined: usize,
}

impl Scan {
    /// Of so many rows, if none is jumped over.
    pub(super) fn new(begin: Bytes, end: Bytes, expected: usize, delimiter: Option<&str>) -> Self {
        let most = if delimiter.is_some_and(|delimiter| !delimiter.is_empty()) { FIRST_ROWS } else { MOST_ROWS };
        let page_rows = expected.clamp(FEWEST_ROWS, most);
        Self { begin, end, page: Vec::new().into_iter(), more: true, page_rows, most_rows: MOST_ROWS, examined: 0 }
    }

    /// Of rows that may be very long.
    pub(super) fn of_long_rows(self) -> Self {
        Self { page_rows: self.page_rows.min(MOST_LONG_ROWS), most_rows: MOST_LONG_ROWS, ..self }
    }

    /// What has not been returned.
    pub(super) fn rest(self) -> (Bytes, Bytes) {
        (self.begin, self.end)
    }

    pub(super) async fn next(&mut self, tx: &mut Tx) -> Outcome<Option<Row>> {
        loop {
            if let Some(row) = self.page.next() {
                if row.0 < self.begin {
                    // Jumped over.
                    continue;
                }
                self.begin = key_after(&row.0);
                self.examined += 1;
                return Ok(Some(row));
            }
            if !self.more || self.begin >= self.end {
                return Ok(None);
            }
            let query = RangeQuery::new(self.begin.clone(), self.end.clone(), self.page_rows);
            let page = tx.range(query.snapshot()).await?;
            self.page_rows = (self.page_rows * 2).min(self.most_rows);
            self.more = page.more;
            self.page = page.rows.into_iter();
        }
    }

    /// Goes on after everything that starts with `prefix`.
    pub(super) fn skip_prefix(&mut self, prefix: &[u8]) {
        self.begin = prefix_end(prefix);
        if self.page.as_slice().last().is_some_and(|(key, _)| *key < self.begin) {
            // The rest of the page lies below the prefix: the next one probably will, too.
            self.page = Vec::new().into_iter();
            self.page_rows = FEWEST_ROWS;
        }
    }
}

/// A page being made, over one transaction or, past very many delete markers, several.
#[derive(Clone)]
struct Listing {
    page: ListPage,
    /// Where to go on; None when the page is done.
    at: Option<(Bytes, Bytes)>,
    /// The last entry's key or common prefix.
    last: Option<String>,
}

async fn list(tx: &mut Tx, query: &ListQuery, limit: usize, so_far: &Listing) -> Outcome<Listing> {
    tx.bucket(&query.bucket).await?;
    let mut listing = so_far.clone();
    let Some((begin, end)) = listing.at.take() else { return Ok(listing) };
    let delimiter = query.delimiter.as_deref();
    let mut scan = Scan::new(begin, end, limit + 1, delimiter);
    let entries = &mut listing.page.entries;
    while let Some((row_key, value)) = scan.next(tx).await? {
        let key = keyspace::head_object_key(&query.bucket, &row_key)
            .ok_or_else(|| MetaError::Corrupt { what: "head row", why: format!("key {}", hex::encode(&row_key)) })?;
        let head = HeadRow::read(&row_key, &value)?;
        // A common prefix of nothing but delete markers is not listed, so markers are passed one by one.
        if head.kind == VersionKind::Object {
            if entries.len() == limit {
                listing.page.next = listing.last.take();
                return Ok(listing);
            }
            let common = common_prefix(key, &query.prefix, delimiter);
            listing.last = Some(common.unwrap_or(key).to_owned());
            entries.push(match common {
                Some(common) => {
                    scan.skip_prefix(&keyspace::heads(&query.bucket, common));
                    ListEntry::CommonPrefix(common.to_owned())
                }
                None => ListEntry::Object(listed(key, head)),
            });
        }
        if scan.examined >= MAX_EXAMINED {
            listing.at = Some(scan.rest());
            return Ok(listing);
        }
    }
    Ok(listing)
}

/// The rows to scan; None if nothing can be listed.
fn start(query: &ListQuery, limit: usize) -> Option<(Bytes, Bytes)> {
    if limit == 0 || query.prefix.len() > MAX_KEY_BYTES {
        return None;
    }
    let first = keyspace::heads(&query.bucket, &query.prefix);
    let end = prefix_end(&first);
    let begin = match query.after.as_deref() {
        None => first,
        Some(after) => match common_prefix(after, &query.prefix, query.delimiter.as_deref()) {
            // The common prefix that `after` is or lies in comes before it: done with.
            Some(common) => prefix_end(&keyspace::heads(&query.bucket, common)),
            None => key_after(&keyspace::head(&query.bucket, after)).max(first),
        },
    };
    (begin < end).then_some((begin, end))
}

fn listed(key: &str, head: HeadRow) -> ListedObject {
    ListedObject {
        key: key.to_owned(),
        size: head.size,
        etag: head.etag,
        modified_ms: head.modified_ms,
        storage_class: head.storage_class,
        owner: head.owner,
        checksum: head.checksum,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn bnd_1_long_rows_are_read_few_at_a_time_and_short_ones_many() {
        let meta = Meta::in_memory();
        let mut tx = meta.attempts("list_objects").begin().await.unwrap();
        let key = |row: u32| Bytes::copy_from_slice(&[&[1][..], &row.to_be_bytes()].concat());
        (0..3000).for_each(|row| tx.set_raw(key(row), Bytes::new()));
        let scan = |limit| Scan::new(key(0), key(3000), limit, None);
        for (mut scan, most) in [
            (scan(1001), MOST_ROWS),
            (scan(2), MOST_ROWS),
            (scan(1001).of_long_rows(), MOST_LONG_ROWS),
            (scan(2).of_long_rows(), MOST_LONG_ROWS),
        ] {
            let (mut objects, mut at_once) = (0, 0);
            while scan.next(&mut tx).await.unwrap().is_some() {
                objects += 1;
                at_once = at_once.max(1 + scan.page.len());
            }
            assert_eq!((objects, at_once), (3000, most));
        }
    }
}

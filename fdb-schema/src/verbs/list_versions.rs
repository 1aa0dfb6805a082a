//! ListObjectVersions: one scan over version rows.

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::MetaError,
    error::Result,
    ids::VersionId,
    keyspace,
    kv::{key_after, prefix_end},
    record::rows::{HeadRow, VersionRow},
    verbs::{
        ListVersionsEntry, ListVersionsPage, ListVersionsQuery, Meta, Verb,
        list::{MAX_ENTRIES, PAGE_BYTES, Scan, common_prefix},
        tx::{Outcome, Tx, transact},
        version_rows::MAX_KEY_BYTES,
    },
};

impl Meta {
    /// Keys in order, the versions of each newest first. The markers are exclusive; a version marker that is gone still
    /// says where to go on, unless it was the null version, whose key then is listed from its newest. A page of
    /// versions with very much metadata may have fewer than asked for and yet a next one.
    pub fn list_versions<'a>(&'a self, query: &'a ListVersionsQuery) -> Verb<'a, ListVersionsPage> {
        Box::pin(async move { transact!(self, "list_versions", |tx| list(tx, query)) })
    }
}

async fn list(tx: &mut Tx, query: &ListVersionsQuery) -> Outcome<ListVersionsPage> {
    tx.bucket(&query.bucket).await?;
    let limit = query.limit.min(MAX_ENTRIES);
    let mut page = ListVersionsPage::default();
    let Some(begin) = begin(tx, query, limit).await? else { return Ok(page) };
    let end = prefix_end(&keyspace::versions_prefix(&query.bucket, &query.prefix));
    let mut scan = Scan::new(begin, end, limit + 1, query.delimiter.as_deref()).of_long_rows();
    // The key of the row before, whose newest version has been seen.
    let mut previous: Option<String> = None;
    let (mut last, mut bytes) = (None, 0);
    while let Some((row_key, value)) = scan.next(tx).await? {
        if page.entries.len() == limit || bytes >= PAGE_BYTES {
            page.next = last;
            return Ok(page);
        }
        bytes += row_key.len() + value.len();
        let (key, row) = keyspace::split_keyed(&query.bucket, &row_key)
            .ok_or_else(|| MetaError::Corrupt { what: "version row", why: format!("key {}", hex::encode(&row_key)) })?;
        if let Some(common) = common_prefix(&key, &query.prefix, query.delimiter.as_deref()) {
            scan.skip_prefix(&keyspace::versions_prefix(&query.bucket, common));
            last = Some((common.to_owned(), None));
            page.entries.push(ListVersionsEntry::CommonPrefix(common.to_owned()));
            continue;
        }
        let version = VersionRow::read(&row_key, &value)?.version;
        let latest = match &previous {
            Some(previous) => *previous != key,
            // The scan may have begun in the middle of a key.
            None => {
                let head = tx.get::<HeadRow>(&keyspace::head(&query.bucket, &key)).await?;
                head.is_some_and(|head| head.row == VersionId(row))
            }
        };
        previous = Some(key.clone());
        last = Some((key.clone(), Some(version.id)));
        page.entries.push(ListVersionsEntry::Version { key, version, latest });
    }
    Ok(page)
}

/// Where to start; None if nothing can be listed.
async fn begin(tx: &mut Tx, query: &ListVersionsQuery, limit: usize) -> Outcome<Option<Bytes>> {
    if limit == 0 || query.prefix.len() > MAX_KEY_BYTES {
        return Ok(None);
    }
    let bucket = &query.bucket;
    let first = keyspace::versions_prefix(bucket, &query.prefix);
    let Some(after) = &query.key_marker else { return Ok(Some(first)) };
    if let Some(common) = common_prefix(after, &query.prefix, query.delimiter.as_deref()) {
        return Ok(Some(prefix_end(&keyspace::versions_prefix(bucket, common))));
    }
    let begin = match query.version_marker {
        None => prefix_end(&keyspace::versions(bucket, after)),
        Some(VersionId::NULL) => {
            let head = tx.get::<HeadRow>(&keyspace::head(bucket, after)).await?;
            match head.and_then(|head| head.null_row) {
                Some(row) => key_after(&keyspace::version(bucket, after, row)),
                None => keyspace::versions(bucket, after),
            }
        }
        Some(id) => key_after(&keyspace::version(bucket, after, id)),
    };
    Ok(Some(begin.max(first)))
}

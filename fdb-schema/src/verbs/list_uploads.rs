//! ListMultipartUploads: one scan over upload rows.

use bytes::Bytes;

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    keyspace,
    kv::{key_after, prefix_end},
    record::Upload,
    verbs::{
        ListUploadsPage, ListUploadsQuery, Meta, Verb,
        list::{MAX_ENTRIES, PAGE_BYTES, Scan, common_prefix},
        tx::{Outcome, Tx, transact},
        version_rows::MAX_KEY_BYTES,
    },
};

impl Meta {
    /// In order of key, then of upload id.
    pub fn list_uploads<'a>(&'a self, query: &'a ListUploadsQuery) -> Verb<'a, ListUploadsPage> {
        Box::pin(async move { transact!(self, "list_uploads", |tx| list(tx, query)) })
    }
}

async fn list(tx: &mut Tx, query: &ListUploadsQuery) -> Outcome<ListUploadsPage> {
    tx.bucket(&query.bucket).await?;
    let limit = query.limit.min(MAX_ENTRIES);
    let mut page = ListUploadsPage::default();
    if limit == 0 || query.prefix.len() > MAX_KEY_BYTES {
        return Ok(page);
    }
    let end = prefix_end(&keyspace::uploads_prefix(&query.bucket, &query.prefix));
    let mut scan = Scan::new(begin(query), end, limit + 1, query.delimiter.as_deref()).of_long_rows();
    let (mut last, mut bytes) = (None, 0);
    while let Some((row_key, value)) = scan.next(tx).await? {
        if page.uploads.len() + page.common_prefixes.len() == limit || bytes >= PAGE_BYTES {
            page.next = last;
            return Ok(page);
        }
        bytes += row_key.len() + value.len();
        let (key, _) = keyspace::split_keyed(&query.bucket, &row_key)
            .ok_or_else(|| MetaError::Corrupt { what: "upload row", why: format!("key {}", hex::encode(&row_key)) })?;
        if let Some(common) = common_prefix(&key, &query.prefix, query.delimiter.as_deref()) {
            scan.skip_prefix(&keyspace::uploads_prefix(&query.bucket, common));
            last = Some((common.to_owned(), None));
            page.common_prefixes.push(common.to_owned());
            continue;
        }
        let upload = Upload::read(&row_key, &value)?;
        last = Some((key, Some(upload.id)));
        page.uploads.push(upload);
    }
    Ok(page)
}

fn begin(query: &ListUploadsQuery) -> Bytes {
    let bucket = &query.bucket;
    let first = keyspace::uploads_prefix(bucket, &query.prefix);
    let Some(after) = &query.key_marker else { return first };
    if let Some(common) = common_prefix(after, &query.prefix, query.delimiter.as_deref()) {
        return prefix_end(&keyspace::uploads_prefix(bucket, common));
    }
    let begin = match query.upload_marker {
        None => prefix_end(&keyspace::uploads(bucket, after)),
        Some(id) => key_after(&keyspace::upload(bucket, after, id)),
    };
    begin.max(first)
}

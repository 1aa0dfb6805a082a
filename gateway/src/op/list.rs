//! ListObjects in both versions.

use bytes::Bytes;
use cairn_schema::{
    record::{ChecksumAlgorithm, ChecksumKind},
    verbs::{ListEntry, ListPage, ListQuery, ListedObject},
};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output},
};

use super::{
    Api,
    encoding::{KeyEncoding, parse_token, token},
    names::page_limit,
};
use crate::{
    answer::documented,
    checksum,
    error::from_meta,
    shown::{iso_time, quoted, write_owner},
    xml::Writer,
};

impl Api {
    pub(super) async fn do_list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
        let limit = page_limit(input.max_keys, "max-keys")?;
        let query = query(&input.bucket, input.prefix.as_ref(), input.delimiter.as_ref(), input.marker.as_ref(), limit);
        let page = self.list_page(&query).await?;
        let marker = input.marker.unwrap_or_default();
        Ok(documented(write_page(&query, &page, encoding, true, |xml| {
            xml.text("Marker", &encoding.encode(&marker));
            xml.optional("NextMarker", page.next.as_deref().map(|next| encoding.encode(next)));
        })))
    }

    pub(super) async fn do_list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
        let limit = page_limit(input.max_keys, "max-keys")?;
        let after = match &input.continuation_token {
            // An empty token, as some clients send for the first page, is told but means none.
            Some(token) if !token.is_empty() => Some(parse_token(token)?),
            _ => input.start_after.clone(),
        };
        let query = query(&input.bucket, input.prefix.as_ref(), input.delimiter.as_ref(), after.as_ref(), limit);
        let page = self.list_page(&query).await?;
        let with_owner = input.fetch_owner == Some(true);
        Ok(documented(write_page(&query, &page, encoding, with_owner, |xml| {
            xml.optional("ContinuationToken", input.continuation_token.as_deref());
            xml.optional("NextContinuationToken", page.next.as_deref().map(token));
            xml.optional("StartAfter", input.start_after.as_deref().map(|after| encoding.encode(after)));
            xml.shown("KeyCount", page.entries.len());
        })))
    }

    async fn list_page(&self, query: &ListQuery) -> S3Result<ListPage> {
        if query.limit == 0 {
            // Nothing is wanted, but the bucket must exist.
            self.meta().bucket(&query.bucket).await.map_err(from_meta)?;
            return Ok(ListPage::default());
        }
        self.meta().list_objects(query).await.map_err(from_meta)
    }
}

fn query(
    bucket: &str,
    prefix: Option<&String>,
    delimiter: Option<&String>,
    after: Option<&String>,
    limit: usize,
) -> ListQuery {
    ListQuery {
        bucket: bucket.to_owned(),
        prefix: prefix.cloned().unwrap_or_default(),
        delimiter: delimiter.filter(|delimiter| !delimiter.is_empty()).cloned(),
        after: after.filter(|after| !after.is_empty()).cloned(),
        limit,
    }
}

/// A page as both versions show it; `position` writes where it begins and where the next one does.
fn write_page(
    query: &ListQuery,
    page: &ListPage,
    encoding: KeyEncoding,
    with_owner: bool,
    position: impl FnOnce(&mut Writer),
) -> Bytes {
    Writer::document("ListBucketResult", |xml| {
        xml.text("Name", &query.bucket);
        xml.text("Prefix", &encoding.encode(&query.prefix));
        position(xml);
        xml.shown("MaxKeys", query.limit);
        xml.optional("Delimiter", query.delimiter.as_deref().map(|delimiter| encoding.encode(delimiter)));
        xml.optional("EncodingType", encoding.answer());
        xml.shown("IsTruncated", page.next.is_some());
        for entry in &page.entries {
            if let ListEntry::Object(object) = entry {
                write_object(xml, object, encoding, with_owner);
            }
        }
        for entry in &page.entries {
            if let ListEntry::CommonPrefix(prefix) = entry {
                write_common_prefix(xml, prefix, encoding);
            }
        }
    })
}

fn write_object(xml: &mut Writer, object: &ListedObject, encoding: KeyEncoding, with_owner: bool) {
    xml.element("Contents", |xml| {
        xml.text("Key", &encoding.encode(&object.key));
        xml.text("LastModified", &iso_time(object.modified_ms));
        xml.text("ETag", &quoted(&object.etag.to_string()));
        write_checksum_names(xml, object.checksum);
        xml.shown("Size", object.size);
        if with_owner {
            write_owner(xml, "Owner", &object.owner);
        }
        xml.text("StorageClass", &object.storage_class);
    });
}

pub(super) fn write_common_prefix(xml: &mut Writer, prefix: &str, encoding: KeyEncoding) {
    xml.element("CommonPrefixes", |xml| xml.text("Prefix", &encoding.encode(prefix)));
}

/// Which checksum an object has, without its value.
pub(super) fn write_checksum_names(xml: &mut Writer, checksum: Option<(ChecksumAlgorithm, ChecksumKind)>) {
    if let Some((algorithm, kind)) = checksum {
        xml.text("ChecksumAlgorithm", checksum::name(algorithm));
        xml.text("ChecksumType", checksum::kind_name(kind));
    }
}

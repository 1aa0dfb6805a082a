//! ListObjects in both versions.

use cairn_schema::{
    record::{ChecksumAlgorithm as Algorithm, ChecksumKind},
    verbs::{ListEntry, ListPage, ListQuery, ListedObject},
};
use s3s::{S3Request, S3Response, S3Result, dto::*};

use super::{
    Api,
    encoding::{KeyEncoding, parse_token, token},
    names::{etag, owner, page_limit, signed, timestamp},
};
use crate::{checksum, error::from_meta};

/// A page, written the way both versions do.
struct Page {
    contents: Vec<Object>,
    common_prefixes: Vec<CommonPrefix>,
    next: Option<String>,
}

impl Api {
    pub(super) async fn do_list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
        let limit = page_limit(input.max_keys, "max-keys")?;
        let query = query(&input.bucket, input.prefix.as_ref(), input.delimiter.as_ref(), input.marker.as_ref(), limit);
        let page = self.list_page(&query, encoding, true).await?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encoding.encode(query.prefix)),
            marker: Some(encoding.encode(input.marker.unwrap_or_default())),
            max_keys: Some(input.max_keys.unwrap_or(1000).min(1000)),
            is_truncated: Some(page.next.is_some()),
            contents: Some(page.contents),
            common_prefixes: Some(page.common_prefixes),
            delimiter: query.delimiter.map(|delimiter| encoding.encode(delimiter)),
            next_marker: page.next.map(|next| encoding.encode(next)),
            encoding_type: encoding.answer(),
            request_charged: None,
        }))
    }

    pub(super) async fn do_list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let encoding = KeyEncoding::parse(input.encoding_type.as_ref())?;
        let limit = page_limit(input.max_keys, "max-keys")?;
        let after = match &input.continuation_token {
            Some(token) => Some(parse_token(token)?),
            None => input.start_after.clone(),
        };
        let query = query(&input.bucket, input.prefix.as_ref(), input.delimiter.as_ref(), after.as_ref(), limit);
        let page = self.list_page(&query, encoding, input.fetch_owner == Some(true)).await?;
        let key_count = page.contents.len() + page.common_prefixes.len();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(encoding.encode(query.prefix)),
            max_keys: Some(input.max_keys.unwrap_or(1000).min(1000)),
            key_count: i32::try_from(key_count).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_deref().map(token),
            contents: Some(page.contents),
            common_prefixes: Some(page.common_prefixes),
            delimiter: query.delimiter.map(|delimiter| encoding.encode(delimiter)),
            encoding_type: encoding.answer(),
            start_after: input.start_after.map(|after| encoding.encode(after)),
            request_charged: None,
        }))
    }

    async fn list_page(&self, query: &ListQuery, encoding: KeyEncoding, with_owner: bool) -> S3Result<Page> {
        if query.limit == 0 {
            // Nothing is wanted, but the bucket must exist.
            self.meta().bucket(&query.bucket).await.map_err(from_meta)?;
            return Ok(Page { contents: Vec::new(), common_prefixes: Vec::new(), next: None });
        }
        let ListPage { entries, next } = self.meta().list_objects(query).await.map_err(from_meta)?;
        let mut page = Page { contents: Vec::with_capacity(entries.len()), common_prefixes: Vec::new(), next };
        for entry in entries {
            match entry {
                ListEntry::Object(object) => page.contents.push(listed(object, encoding, with_owner)),
                ListEntry::CommonPrefix(prefix) => {
                    page.common_prefixes.push(CommonPrefix { prefix: Some(encoding.encode(prefix)) });
                }
            }
        }
        Ok(page)
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

fn listed(object: ListedObject, encoding: KeyEncoding, with_owner: bool) -> Object {
    let (checksum_algorithm, checksum_type) = checksum_names(object.checksum);
    Object {
        checksum_algorithm,
        checksum_type,
        e_tag: Some(etag(&object.etag)),
        key: Some(encoding.encode(object.key)),
        last_modified: Some(timestamp(object.modified_ms)),
        owner: with_owner.then(|| owner(&object.owner)),
        restore_status: None,
        size: Some(signed(object.size)),
        storage_class: Some(ObjectStorageClass::from(object.storage_class)),
    }
}

pub(super) fn checksum_names(
    checksum: Option<(Algorithm, ChecksumKind)>,
) -> (Option<ChecksumAlgorithmList>, Option<ChecksumType>) {
    checksum.map_or((None, None), |(algorithm, kind)| {
        (
            Some(vec![ChecksumAlgorithm::from_static(checksum::name(algorithm))]),
            Some(ChecksumType::from_static(checksum::kind_name(kind))),
        )
    })
}

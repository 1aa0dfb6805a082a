//! PutObject, GetObject, HeadObject.

use std::ops;

use cairn_actors::store::PutObject;
use cairn_schema::{
    record::{EventKind, StoredChecksum, Version},
    verbs::{Located, RangeRequest, VersionSelector},
};
use http::{HeaderMap, HeaderValue, Uri, header};
use s3s::{S3Error, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Api,
    attributes::{is_header_value, is_metadata_name, said},
    conditions::write_precondition,
    encryption_headers::{Asked, CustomerKey, told},
    incoming::incoming,
    inspect::{Found, wanted_range},
    lock_headers::{asked_lock, demand_digest, hold_name, mode_name},
    names::{check_key, etag, selector, shown_version, signed, timestamp},
};
use crate::{
    body::ObjectBody,
    checksum::{BodyChecks, put_checksum, put_typed_checksum, sent_fields},
    error::{from_meta, from_store, invalid_argument},
    query::Query,
};

const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

impl Api {
    pub(super) async fn do_put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let (owner, requester) = (Self::owner(), Self::requester(&request));
        let cause = Self::cause(EventKind::CreatedByPut, &request);
        let asked = Asked::of(&request.headers, self.is_secure(&request))?;
        let customer = asked.customer().cloned();
        let S3Request { mut input, headers, trailing_headers, .. } = request;
        check_key(&input.key)?;
        if input.write_offset_bytes.is_some() {
            return Err(s3_error!(NotImplemented, "Appending to objects is not implemented."));
        }
        let sent = sent_fields!(input).parse()?;
        let checks = BodyChecks::declared(&headers, sent, input.content_md5.as_deref(), None)?;
        let digests = checks.plan();
        let lock = asked_lock(&headers, self.meta().now_ms())?;
        let attributes = said!(input, lock).into_attributes()?;
        let precondition = write_precondition(&headers)?;
        // Before the body is asked for: nobody should send 5 GiB to hear that the bucket does not exist.
        let bucket = self.meta().bucket(&input.bucket).await.map_err(from_meta)?;
        demand_digest(&bucket, lock, &checks)?;
        let sealing = self.sealing_asked(&input.bucket, asked).await?;
        let incoming = incoming(input.body, input.content_length, checks, trailing_headers)?;
        self.expect_room(&bucket, &input.key, incoming.length).await?;
        let put = PutObject {
            requester,
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            length: Some(incoming.length),
            body: incoming.body,
            digests,
            verify: incoming.verify,
            owner: owner.to_string(),
            attributes,
            precondition,
            cause,
            sealing,
        };
        let committed = self.store.put(put).await.map_err(from_store)?;
        let version = committed.version;
        let mut output = PutObjectOutput {
            e_tag: Some(etag(&version.etag)),
            version_id: committed.versioned.then(|| version.id.to_string()),
            expiration: self.expiration_of(&input.bucket, &input.key, &version).await,
            ..Default::default()
        };
        if let Some(checksum) = &version.checksum {
            put_typed_checksum!(output, checksum, version.part_count);
        }
        Ok(S3Response::with_headers(output, told(version.encryption.as_ref(), customer.as_ref())))
    }

    pub(super) async fn do_get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let requester = Self::requester(&request);
        let customer = CustomerKey::of(&request.headers, self.is_secure(&request))?;
        let S3Request { input, headers, uri, .. } = request;
        let mut overrides = response_overrides(&uri)?;
        let wanted = wanted_range(&headers, input.part_number)?;
        let selector = selector(input.version_id.as_deref())?;
        let object = (input.bucket.as_str(), input.key.as_str());
        let Found { located, part } = self.locate_if(object, selector, wanted, RangeRequest::All, &headers).await?;
        let checksum = wants_checksum(input.checksum_mode.as_ref()).then(|| checksum_of(&located, part)).flatten();
        let expiration = self.expiration_if_current(object, selector, &located.version).await;
        let encryption = located.version.encryption.as_ref();
        let opener = self.opener(encryption, customer.as_ref()).await?;
        overrides.extend(told(encryption, customer.as_ref()));
        let got = self.store.open_sealed(&requester, located, opener).await.map_err(from_store)?;
        let length = got.range.end - got.range.start;
        let body = s3s::Body::http_body_unsync(ObjectBody::new(got.body, length));
        let mut output = GetObjectOutput {
            body: Some(StreamingBlob::from(body)),
            content_length: Some(signed(length)),
            content_range: content_range(part, &got.range, got.version.size),
            expiration,
            ..Default::default()
        };
        describe!(output, got.version, checksum, part);
        Ok(S3Response::with_headers(output, overrides))
    }

    pub(super) async fn do_head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let customer = CustomerKey::of(&request.headers, self.is_secure(&request))?;
        let S3Request { input, headers, uri, .. } = request;
        let mut overrides = response_overrides(&uri)?;
        let wanted = wanted_range(&headers, input.part_number)?;
        let selector = selector(input.version_id.as_deref())?;
        let object = (input.bucket.as_str(), input.key.as_str());
        // The parts of a large object need not be read to say how long it is.
        let whole = RangeRequest::Nothing;
        let Found { mut located, part } = self.locate_if(object, selector, wanted, whole, &headers).await?;
        let encryption = located.version.encryption.as_ref();
        self.check_told(encryption, customer.as_ref())?;
        overrides.extend(told(encryption, customer.as_ref()));
        if part.is_none() {
            located.range = 0..located.version.size;
        }
        let checksum = wants_checksum(input.checksum_mode.as_ref()).then(|| checksum_of(&located, part)).flatten();
        let content_range = content_range(part, &located.range, located.version.size);
        let expiration = self.expiration_if_current(object, selector, &located.version).await;
        let mut output = HeadObjectOutput {
            expiration,
            content_length: Some(signed(located.range.end - located.range.start)),
            content_range,
            ..Default::default()
        };
        describe!(output, located.version, checksum, part);
        Ok(S3Response::with_headers(output, overrides))
    }

    /// A version that is named by its id may not be the one that ends.
    async fn expiration_if_current(
        &self,
        (bucket, key): (&str, &str),
        selector: VersionSelector,
        version: &Version,
    ) -> Option<String> {
        match selector {
            VersionSelector::Current => self.expiration_of(bucket, key, version).await,
            VersionSelector::Id(_) => None,
        }
    }
}

/// Fills what GetObject and HeadObject say alike about a version.
macro_rules! describe {
    ($output:expr, $version:expr, $checksum:expr, $part:expr) => {{
        let version: Version = $version;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.e_tag = Some(etag(&version.etag));
        $output.last_modified = Some(timestamp(version.modified_ms));
        $output.version_id = shown_version(&version);
        $output.parts_count =
            version.part_count.filter(|_| matches!($part, Some(RangeRequest::Part(_)))).map(i32::from);
        if let Some((checksum, part_count)) = $checksum {
            put_checksum!($output, &checksum, part_count);
            // Of a part it is told how the object's is made of it.
            let kind = version.checksum.as_ref().map_or(checksum.kind, |whole| whole.kind);
            $output.checksum_type = Some(ChecksumType::from_static(crate::checksum::kind_name(kind)));
        }
        // A record of before these were checked is read without what no header can have.
        let showable = |value: Option<String>| value.filter(|value| is_header_value(value));
        let attributes = version.attributes;
        $output.tag_count = i32::try_from(attributes.tags.len()).ok().filter(|&count| count > 0);
        $output.content_type =
            Some(showable(attributes.content_type).unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned()));
        $output.content_encoding = showable(attributes.content_encoding);
        $output.content_language = showable(attributes.content_language);
        $output.content_disposition = showable(attributes.content_disposition);
        $output.cache_control = showable(attributes.cache_control);
        $output.expires = showable(attributes.expires);
        $output.website_redirect_location = showable(attributes.website_redirect);
        let (metadata, missing): (Vec<_>, Vec<_>) =
            attributes.user_metadata.into_iter().partition(|(name, _)| is_metadata_name(name));
        $output.missing_meta = i32::try_from(missing.len()).ok().filter(|&count| count > 0);
        $output.metadata = Some(metadata.into_iter().collect());
        if let Some(retention) = attributes.lock.retention {
            $output.object_lock_mode = Some(ObjectLockMode::from_static(mode_name(retention.mode)));
            $output.object_lock_retain_until_date = Some(timestamp(retention.until_ms));
        }
        $output.object_lock_legal_hold_status =
            attributes.lock.legal_hold.map(|held| ObjectLockLegalHoldStatus::from_static(hold_name(held)));
        // AWS leaves the default class out.
        $output.storage_class = Some(attributes.storage_class)
            .filter(|class| !class.is_empty() && class != StorageClass::STANDARD)
            .map(StorageClass::from);
    }};
}
use describe;

fn wants_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

/// A checksum describes a whole object or a whole part, so an arbitrary range has none.
fn checksum_of(located: &Located, part: Option<RangeRequest>) -> Option<(StoredChecksum, Option<u16>)> {
    match part {
        Some(RangeRequest::Part(_)) if located.version.part_count.is_some() => {
            Some((located.parts.first()?.checksum.clone()?, None))
        }
        None | Some(RangeRequest::Part(_)) => Some((located.version.checksum.clone()?, located.version.part_count)),
        Some(_) => None,
    }
}

fn content_range(part: Option<RangeRequest>, range: &ops::Range<u64>, size: u64) -> Option<String> {
    (part.is_some() && range.start < range.end).then(|| format!("bytes {}-{}/{size}", range.start, range.end - 1))
}

/// What the `response-*` parameters put in the place of an object's own headers.
fn response_overrides(uri: &Uri) -> S3Result<HeaderMap> {
    let query = Query::of(uri)?;
    let mut headers = HeaderMap::new();
    for name in [
        header::CACHE_CONTROL,
        header::CONTENT_DISPOSITION,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_TYPE,
        header::EXPIRES,
    ] {
        let parameter = format!("response-{name}");
        if let Some(text) = query.get(&parameter)?.filter(|text| !text.is_empty()) {
            headers.insert(name, latin1(text).ok_or_else(|| not_a_header(&parameter, text))?);
        }
    }
    Ok(headers)
}

/// Headers have no more characters than ISO-8859-1.
fn latin1(text: &str) -> Option<HeaderValue> {
    let bytes: Vec<u8> = text.chars().map(|char| u8::try_from(char).ok()).collect::<Option<_>>()?;
    HeaderValue::from_bytes(&bytes).ok()
}

fn not_a_header(parameter: &str, value: &str) -> S3Error {
    invalid_argument(parameter, value, "Header value cannot be represented using ISO-8859-1.")
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_named_inclusively_and_only_when_asked_for() {
        assert_eq!(content_range(None, &(0..10), 10), None);
        assert_eq!(content_range(Some(RangeRequest::Suffix(4)), &(6..10), 10).as_deref(), Some("bytes 6-9/10"));
        assert_eq!(content_range(Some(RangeRequest::Inclusive(0, 99)), &(0..10), 10).as_deref(), Some("bytes 0-9/10"));
        assert_eq!(content_range(Some(RangeRequest::Part(1)), &(0..0), 0), None);
    }
}
